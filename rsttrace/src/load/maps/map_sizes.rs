//! Sizes of the kernel side's maps.

use anyhow::{Context as _, Result};
use aya::{
    EbpfLoader,
    util::{nr_cpus, online_cpus},
};
use rsttrace_common::{event::ResetEvent, limits};

use crate::{
    load::{LoadOptions, Object},
    util::buffer_size::{PERF_BYTES, RING_BYTES, buffer_bytes},
};

/// Inverse of the fraction of a buffer that is the budget for resets to closed ports. Between two readings they may use up the
/// budget twice and a little more; the rest is for the resets of connections.
const FLOOD_BUDGET_DIVISOR: u32 = 4;

/// Entries of each map. The programs have these figures as constants as well.
pub(in super::super) struct MapSizes {
    connection_sets: u32,
    listener_sets: u32,
    closed_per_cpu: u32,
    closed_index_slots: u32,
    holder_lookups_per_cpu: u32,
    /// Bytes of the BPF ring buffer; `None` for perf ring buffers, which get their size when they are opened.
    ring_bytes: Option<u32>,
    /// Resets to closed ports that may be in one CPU's buffer; at least 1.
    pub(in super::super) flood_budget: u32,
    cpus: u32,
}

impl MapSizes {
    /// The default sizes, as changed by the options. Fails when the CPUs of the host cannot be counted.
    pub(in super::super) fn new(object: Object, options: &LoadOptions<'_>) -> Result<Self> {
        let cannot = "the CPUs of this host cannot be counted";
        let possible = u32::try_from(nr_cpus().map_err(|(_, error)| error).context(cannot)?)?;
        // The numbers of CPUs may have gaps.
        let last = online_cpus().map_err(|(_, error)| error).context(cannot)?.into_iter().max().unwrap_or(0);
        let cpus = possible.max(last + 1);
        let remember = options.remember;
        let ring_bytes = (object != Object::Perf).then(|| buffer_bytes(options.buffer_bytes.unwrap_or(RING_BYTES)));
        let bytes_per_cpu =
            ring_bytes.map_or_else(|| buffer_bytes(options.buffer_bytes.unwrap_or(PERF_BYTES)), |bytes| bytes / cpus);
        let events_per_cpu = bytes_per_cpu / u32::try_from(size_of::<ResetEvent>())?;
        let holder_lookups = remember.unwrap_or(limits::HOLDER_LOOKUP_SLOTS);
        let closed = remember.unwrap_or(limits::CLOSED_SLOTS);
        let sets = remember.map(|connections| (connections / limits::WAYS).max(1));
        Ok(Self {
            connection_sets: sets.unwrap_or(limits::CONNECTION_SETS),
            listener_sets: sets.unwrap_or(limits::LISTENER_SETS),
            closed_per_cpu: (closed / cpus).max(1),
            closed_index_slots: remember.unwrap_or(limits::CLOSED_INDEX_SLOTS),
            holder_lookups_per_cpu: (holder_lookups / cpus).max(1),
            ring_bytes,
            flood_budget: (events_per_cpu / FLOOD_BUDGET_DIVISOR).max(1),
            cpus,
        })
    }

    /// Sets the entries of the maps, and the constants of the programs.
    pub(in super::super) fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (global, value) in [
            ("CONNECTION_SETS", &self.connection_sets),
            ("LISTENER_SETS", &self.listener_sets),
            ("CLOSED_PER_CPU", &self.closed_per_cpu),
            ("CLOSED_INDEX_SLOTS", &self.closed_index_slots),
            ("HOLDER_LOOKUPS_PER_CPU", &self.holder_lookups_per_cpu),
            ("FLOOD_BUDGET", &self.flood_budget),
        ] {
            loader.override_global(global, value, true);
        }
        let sets = self.connection_sets + self.listener_sets;
        for (map, entries) in [
            ("TAGS", sets),
            ("HISTORIES", sets * limits::WAYS + 1 + self.cpus),
            ("CLOSED", self.closed_per_cpu * self.cpus),
            ("CLOSED_BY_TUPLE", self.closed_index_slots),
            ("HOLDER_LOOKUPS", self.holder_lookups_per_cpu * self.cpus),
            ("AGGREGATES", self.cpus),
            ("AGGREGATES_SEEN", self.cpus),
        ] {
            loader.map_max_entries(map, entries);
        }
        if let Some(bytes) = self.ring_bytes {
            loader.map_max_entries("EVENTS", bytes);
        }
    }
}
