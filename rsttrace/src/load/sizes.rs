//! How much the kernel side remembers.

use anyhow::{Context as _, Result};
use aya::{
    EbpfLoader,
    util::{nr_cpus, online_cpus},
};
use rsttrace_common::{event::ResetEvent, limits};

use super::{Object, Options};
use crate::transport::{PERF_BYTES, RING_BYTES, buffer_bytes};

/// What resets to closed ports may take of a buffer at once. Between two readings they may take it twice and a little more;
/// the rest is for the resets of connections.
const NOISE_SHARE: u32 = 4;

/// How many places each map has. The programs have the same figures as constants.
pub(super) struct Sizes {
    connection_sets: u32,
    listener_sets: u32,
    departed_of_cpu: u32,
    departed_ends: u32,
    findings_of_cpu: u32,
    /// Bytes of the BPF ring buffer; `None` where events go through perf ring buffers, which have their size elsewhere.
    ring_bytes: Option<u32>,
    /// Resets to closed ports that may be in one CPU's buffer.
    pub(super) noise_limit: u32,
    cpus: u32,
}

impl Sizes {
    /// The usual ones, or as the options say.
    pub(super) fn of(options: &Options<'_>) -> Result<Self> {
        let cannot = "the CPUs of this host cannot be counted";
        let possible = u32::try_from(nr_cpus().map_err(|(_, error)| error).context(cannot)?)?;
        // Their numbers may have gaps.
        let last = online_cpus().map_err(|(_, error)| error).context(cannot)?.into_iter().max().unwrap_or(0);
        let cpus = possible.max(last + 1);
        let remember = options.remember;
        let ring_bytes =
            (options.object != Object::Perf).then(|| buffer_bytes(options.buffer_bytes.unwrap_or(RING_BYTES)));
        let bytes_of_cpu =
            ring_bytes.map_or_else(|| buffer_bytes(options.buffer_bytes.unwrap_or(PERF_BYTES)), |bytes| bytes / cpus);
        let events_of_cpu = bytes_of_cpu / u32::try_from(size_of::<ResetEvent>())?;
        let findings = remember.unwrap_or(limits::HOLDER_LOOKUP_SLOTS);
        let departed = remember.unwrap_or(limits::CLOSED_SLOTS);
        let sets = remember.map(|connections| (connections / limits::WAYS).max(1));
        Ok(Self {
            connection_sets: sets.unwrap_or(limits::CONNECTION_SETS),
            listener_sets: sets.unwrap_or(limits::LISTENER_SETS),
            departed_of_cpu: (departed / cpus).max(1),
            departed_ends: remember.unwrap_or(limits::CLOSED_INDEX_SLOTS),
            findings_of_cpu: (findings / cpus).max(1),
            ring_bytes,
            noise_limit: (events_of_cpu / NOISE_SHARE).max(1),
            cpus,
        })
    }

    /// Tells the loader.
    pub(super) fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (global, value) in [
            ("CONNECTION_SETS", &self.connection_sets),
            ("LISTENER_SETS", &self.listener_sets),
            ("CLOSED_PER_CPU", &self.departed_of_cpu),
            ("CLOSED_INDEX_SLOTS", &self.departed_ends),
            ("HOLDER_LOOKUPS_PER_CPU", &self.findings_of_cpu),
            ("FLOOD_BUDGET", &self.noise_limit),
        ] {
            loader.override_global(global, value, true);
        }
        let sets = self.connection_sets + self.listener_sets;
        for (map, entries) in [
            ("TAGS", sets),
            ("HISTORIES", sets * limits::WAYS + 1 + self.cpus),
            ("CLOSED", self.departed_of_cpu * self.cpus),
            ("CLOSED_BY_TUPLE", self.departed_ends),
            ("HOLDER_LOOKUPS", self.findings_of_cpu * self.cpus),
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
