//! The search for who holds a socket that was reset: the walk of open files, and what it and closing sockets leave.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::Iter,
};
use rsttrace_common::{cmdline::CommandLine, holder_lookup::HolderLookup};

use super::{probes, take_map};

/// Program of the walk.
const PROGRAM: &str = "task_file_lookup";

/// The kernel side's end of the search.
pub(super) struct Search {
    findings: Array<MapData, HolderLookup>,
    walk: Array<MapData, u32>,
    arguments: Array<MapData, CommandLine>,
}

impl Search {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            findings: Array::try_from(take_map(ebpf, "HOLDER_LOOKUPS")?)?,
            walk: Array::try_from(take_map(ebpf, "SCAN")?)?,
            arguments: Array::try_from(take_map(ebpf, "COMMAND_LINES")?)?,
        })
    }
}

impl super::Loaded {
    /// Whether open files can be walked. Only where the end of a socket is seen: its address may be another's by the time
    /// of the walk.
    pub fn can_walk(&self) -> bool {
        self.way(probes::LOOKUP).is_some() && self.way(probes::DESTROY).is_some()
    }

    /// Walks every open file of every process under this number; the kernel side notes who holds what is awaited.
    pub fn walk(&mut self, number: u32) -> Result<()> {
        self.search.walk.set(0, number, 0)?;
        let ebpf = self.ebpf.as_mut().context("the programs are gone")?;
        let program: &mut Iter = ebpf.program_mut(PROGRAM).context("the object has no program for it")?.try_into()?;
        let id = program.attach()?;
        let mut file = program.take_link(id)?.into_file()?;
        // Reading is what makes it walk; it prints nothing.
        file.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// What has been gathered under this number of the holder of a socket.
    pub fn findings(&self, number: u64) -> Option<HolderLookup> {
        let findings = self.search.findings.get(&HolderLookup::slot(number), 0).ok()?;
        // Another's, if more sockets are looked for at once than there is room for.
        (findings.id == number).then_some(findings)
    }

    /// The beginning of the command line of a process that has opened connections, each argument with a zero behind it.
    pub fn arguments(&self, tgid: u32, start_boottime_ns: u64) -> Option<Vec<u8>> {
        let known = self.search.arguments.get(&CommandLine::slot(tgid), 0).ok()?;
        let is_its = known.tgid == tgid && known.start_boottime_ns == start_boottime_ns && known.is_consistent();
        let mut bytes = known.bytes.map(u64::to_ne_bytes).concat();
        bytes.truncate(known.length.try_into().ok()?);
        is_its.then_some(bytes)
    }
}
