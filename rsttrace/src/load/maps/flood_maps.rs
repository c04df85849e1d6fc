//! Maps of flood aggregation: resets to closed ports that the kernel side counts instead of reporting each.

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
use crate::load::Loaded;

/// `AGGREGATES`, `AGGREGATES_SEEN` and `FLOOD_PROGRESS`.
pub(in super::super) struct FloodMaps {
    aggregates: Array<MapData, Aggregates>,
    seen: Array<MapData, [u64; AGGREGATES_PER_CPU]>,
    progress: Array<MapData, FloodProgress>,
}

impl FloodMaps {
    /// Takes the maps out of the object. Fails when it has none of these names.
    pub(in super::super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            aggregates: Array::try_from(take_map(ebpf, "AGGREGATES")?)?,
            seen: Array::try_from(take_map(ebpf, "AGGREGATES_SEEN")?)?,
            progress: Array::try_from(take_map(ebpf, "FLOOD_PROGRESS")?)?,
        })
    }
}

impl Loaded {
    /// Number of CPUs that aggregate.
    pub fn aggregating_cpus(&self) -> u32 {
        self.flood.aggregates.len()
    }

    /// Aggregates of a CPU. The kernel side may be writing one: see [`Aggregate::is_consistent`]. Fails when there is no such
    /// CPU.
    ///
    /// [`Aggregate::is_consistent`]: rsttrace_common::flood::Aggregate::is_consistent
    pub fn aggregates(&self, cpu: u32) -> Result<Aggregates> {
        Ok(self.flood.aggregates.get(&cpu, 0)?)
    }

    /// Stores the total of each slot that has been drained: a slot whose total is still that one may be reused for another
    /// key. Fails when there is no such CPU.
    pub fn release_aggregates(&mut self, cpu: u32, totals: [u64; AGGREGATES_PER_CPU]) -> Result<()> {
        Ok(self.flood.seen.set(cpu, totals, 0)?)
    }

    /// Publishes the progress of user space to the kernel side. Fails when the kernel refuses the write.
    pub fn publish_progress(&mut self, progress: FloodProgress) -> Result<()> {
        Ok(self.flood.progress.set(0, progress, 0)?)
    }

    /// Resets to closed ports that may be in one CPU's buffer, or in its share of the ring buffer; at least 1.
    pub const fn flood_budget(&self) -> u32 {
        self.flood_budget
    }
}
