//! The kernel side's counters of resets to closed ports.

use anyhow::Result;
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use rsttrace_common::{
    flood::{Aggregates, FloodProgress},
    limits::AGGREGATES_PER_CPU,
};

use super::take_map;

/// The maps.
pub(super) struct Counters {
    folds: Array<MapData, Aggregates>,
    seen: Array<MapData, [u64; AGGREGATES_PER_CPU]>,
    pace: Array<MapData, FloodProgress>,
}

impl Counters {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            folds: Array::try_from(take_map(ebpf, "AGGREGATES")?)?,
            seen: Array::try_from(take_map(ebpf, "AGGREGATES_SEEN")?)?,
            pace: Array::try_from(take_map(ebpf, "FLOOD_PROGRESS")?)?,
        })
    }
}

impl super::Loaded {
    /// How many CPUs count.
    pub fn counting_cpus(&self) -> u32 {
        self.counters.folds.len()
    }

    /// What a CPU has counted.
    pub fn folds(&self, cpu: u32) -> Result<Aggregates> {
        Ok(self.counters.folds.get(&cpu, 0)?)
    }

    /// Gives those of a CPU's places back of which no more has been counted.
    pub fn have_seen(&mut self, cpu: u32, totals: [u64; AGGREGATES_PER_CPU]) -> Result<()> {
        Ok(self.counters.seen.set(cpu, totals, 0)?)
    }

    /// Tells the kernel side how far this side has come.
    pub fn keep_pace(&mut self, pace: FloodProgress) -> Result<()> {
        Ok(self.counters.pace.set(0, pace, 0)?)
    }

    /// Resets to closed ports that one CPU's buffer may hold.
    pub const fn noise_limit(&self) -> u32 {
        self.noise_limit
    }
}
