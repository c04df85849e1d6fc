//! How much the kernel side remembers.

use anyhow::{Context as _, Result};
use aya::{EbpfLoader, util::nr_cpus};
use rsttrace_common::config;

/// How many places each map has. The programs have the same figures as constants.
pub(super) struct Sizes {
    connection_sets: u32,
    listener_sets: u32,
    departed_of_cpu: u32,
    departed_ends: u32,
    findings_of_cpu: u32,
    cpus: u32,
}

impl Sizes {
    /// The usual ones, or for so many connections.
    pub(super) fn of(remember: Option<u32>) -> Result<Self> {
        let cpus = nr_cpus().map_err(|(_, error)| error).context("the CPUs of this host cannot be counted")?;
        let cpus = u32::try_from(cpus)?;
        let findings = remember.unwrap_or(config::FINDINGS_PLACES);
        let departed = remember.unwrap_or(config::DEPARTED_PLACES);
        let sets = remember.map(|connections| (connections / config::WAYS).max(1));
        Ok(Self {
            connection_sets: sets.unwrap_or(config::CONNECTION_SETS),
            listener_sets: sets.unwrap_or(config::LISTENER_SETS),
            departed_of_cpu: (departed / cpus).max(1),
            departed_ends: remember.unwrap_or(config::DEPARTED_ENDS),
            findings_of_cpu: (findings / cpus).max(1),
            cpus,
        })
    }

    /// Tells the loader.
    pub(super) fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (global, value) in [
            ("CONNECTION_SETS", &self.connection_sets),
            ("LISTENER_SETS", &self.listener_sets),
            ("DEPARTED_OF_CPU", &self.departed_of_cpu),
            ("DEPARTED_ENDS", &self.departed_ends),
            ("FINDINGS_OF_CPU", &self.findings_of_cpu),
        ] {
            loader.override_global(global, value, true);
        }
        for (map, entries) in [
            ("CONNECTION_TAGS", self.connection_sets),
            ("CONNECTION_PLACES", self.connection_sets * config::WAYS),
            ("LISTENER_TAGS", self.listener_sets),
            ("LISTENER_PLACES", self.listener_sets * config::WAYS),
            ("DEPARTED", self.departed_of_cpu * self.cpus),
            ("DEPARTED_BY_ENDS", self.departed_ends),
            ("FINDINGS", self.findings_of_cpu * self.cpus),
        ] {
            loader.map_max_entries(map, entries);
        }
    }
}
