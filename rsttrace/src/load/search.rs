//! The search for who holds a socket that was reset: the walk of open files, and what it and closing sockets leave.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
    programs::Iter,
};
use rsttrace_common::event::Awaited;

use super::{probes, take_map};

/// Program of the walk.
const PROGRAM: &str = "task_file_awaited";

/// The kernel side's end of the search.
pub(super) struct Search {
    awaited: HashMap<MapData, u64, Awaited>,
    walk: Array<MapData, u32>,
}

impl Search {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            awaited: HashMap::try_from(take_map(ebpf, "AWAITED")?)?,
            walk: Array::try_from(take_map(ebpf, "WALK")?)?,
        })
    }
}

impl super::Loaded {
    /// Whether open files can be walked.
    pub fn can_walk(&self) -> bool {
        self.way(probes::LOOKUP).is_some()
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

    /// What has been found of the holder of the socket at this address.
    pub fn awaited(&self, sk: u64) -> Option<Awaited> {
        self.search.awaited.get(&sk, 0).ok()
    }
}
