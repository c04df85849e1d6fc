//! Maps and iterator of holder lookups: the scan of open files, its results, and command lines of processes.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::Iter,
};
use rsttrace_common::{cmdline::CommandLine, holder_lookup::HolderLookup};

use super::take_map;
use crate::load::{LoadError, Loaded, probes};

/// Program that scans open files.
const SCAN_PROGRAM: &str = "task_file_lookup";

/// `HOLDER_LOOKUPS`, `SCAN` and `COMMAND_LINES`.
pub(in super::super) struct HolderLookupMaps {
    lookups: Array<MapData, HolderLookup>,
    scan: Array<MapData, u32>,
    command_lines: Array<MapData, CommandLine>,
}

impl HolderLookupMaps {
    /// Takes the maps out of the object. Fails when it has none of these names.
    pub(in super::super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            lookups: Array::try_from(take_map(ebpf, "HOLDER_LOOKUPS")?)?,
            scan: Array::try_from(take_map(ebpf, "SCAN")?)?,
            command_lines: Array::try_from(take_map(ebpf, "COMMAND_LINES")?)?,
        })
    }
}

impl Loaded {
    /// Whether open files can be scanned. That needs the hook of destroyed sockets, too: without it a scan could take another
    /// socket for the one that was reset, since its address may have been reused by then.
    pub fn can_scan(&self) -> bool {
        self.attach_option(probes::LOOKUP).is_some() && self.attach_option(probes::DESTROY).is_some()
    }

    /// Scans every open file of every process under this number; the kernel side stores the holders of the sockets of pending
    /// lookups. Blocks for half a microsecond per file. Fails when the iterator cannot be attached or read.
    pub fn scan_open_files(&mut self, scan: u32) -> Result<()> {
        self.holder_lookup.scan.set(0, scan, 0)?;
        let ebpf = self.ebpf.as_mut().ok_or(LoadError::Detached)?;
        let program: &mut Iter =
            ebpf.program_mut(SCAN_PROGRAM).context("the object has no program for it")?.try_into()?;
        let id = program.attach()?;
        let mut file = program.take_link(id)?.into_file()?;
        // The iterator runs while its file is read; it writes nothing to it.
        file.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// Result of the lookup of this id. `None` when its slot has been reused, since more lookups were pending than there are
    /// slots.
    pub fn holder_lookup(&self, id: u64) -> Option<HolderLookup> {
        let lookup = self.holder_lookup.lookups.get(&HolderLookup::slot(id), 0).ok()?;
        (lookup.id == id).then_some(lookup)
    }

    /// Beginning of the command line of a process that has opened connections, each argument terminated by a NUL. `None` when
    /// it was not stored, or its slot belongs to another process by now.
    pub fn command_line(&self, tgid: u32, start_boottime_ns: u64) -> Option<Vec<u8>> {
        let stored = self.holder_lookup.command_lines.get(&CommandLine::slot(tgid), 0).ok()?;
        let matches = stored.tgid == tgid && stored.start_boottime_ns == start_boottime_ns && stored.is_consistent();
        let mut bytes = stored.bytes.map(u64::to_ne_bytes).concat();
        bytes.truncate(stored.length.try_into().ok()?);
        matches.then_some(bytes)
    }
}
