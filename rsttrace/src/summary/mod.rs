//! The summary of a run, at its end and at intervals: counts, patterns, and the host's own counters beside them.

mod both_ends;
pub mod coverage;
mod display;
mod first_victims;
mod groups;
mod harm;
pub(crate) mod heavy_hitters;
pub mod patterns;
mod silences;
mod verdict;

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use jiff::Timestamp;
use lru::LruCache;

use crate::{
    diagnose::{PATH_LOST_STATE_CODE, timeouts::Timeouts},
    model::{BackendCount, Coverage, Direction, Fault, GroupField, PeerCount, ProcessCount, Reset, SinkCount, Summary},
    summary::{
        both_ends::{BothEnds, FirstEnd},
        first_victims::FirstVictims,
        groups::Groups,
        harm::{HarmByCause, Harmed},
        heavy_hitters::HeavyHitters,
        patterns::Patterns,
    },
    util::degraded::{self, Degraded},
};

/// Most peers, processes and backends in a summary.
const MAX_LISTED: usize = 10;
/// Peers whose names are remembered.
const PEER_NAMES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Counts of a run while it goes on. The memory is bounded.
#[derive(Debug, Default)]
pub struct Tally {
    resets: u64,
    sent: u64,
    lost: u64,
    by_cause: BTreeMap<&'static str, u64>,
    by_fault: BTreeMap<Fault, u64>,
    incidents: u64,
    incidents_by_cause: BTreeMap<&'static str, u64>,
    incidents_by_fault: BTreeMap<Fault, u64>,
    /// As `by_cause` and `incidents_by_fault`, with each reset by what later records have shown of it.
    settled: Settled,
    by_peer: HeavyHitters<IpAddr>,
    peer_names: PeerNames,
    by_process: HeavyHitters<(Arc<str>, u32)>,
    harm: HarmByCause,
    both_ends: BothEnds,
    first_victims: FirstVictims,
    patterns: Patterns,
    groups: Option<Groups>,
    own: u64,
}

/// Counts by what later records have shown.
#[derive(Clone, Debug, Default)]
struct Settled {
    by_cause: BTreeMap<&'static str, u64>,
    incidents_by_fault: BTreeMap<Fault, u64>,
    /// Resets of each cause whose own record has another one.
    first_victims: BTreeMap<&'static str, u64>,
}

impl Settled {
    /// Moves what was counted for resets to another cause and fault.
    fn settle(&mut self, harmed: &Harmed, code: &'static str, fault: Fault) {
        if let Some(count) = self.by_cause.get_mut(harmed.code()) {
            *count = count.saturating_sub(harmed.resets);
        }
        *self.by_cause.entry(code).or_default() += harmed.resets;
        *self.first_victims.entry(code).or_default() += harmed.resets;
        self.settle_fault(harmed, fault);
    }

    /// Moves the incidents of resets to another fault.
    fn settle_fault(&mut self, harmed: &Harmed, fault: Fault) {
        if let Some(count) = self.incidents_by_fault.get_mut(&harmed.fault) {
            *count = count.saturating_sub(harmed.resets);
        }
        *self.incidents_by_fault.entry(fault).or_default() += harmed.resets;
    }

    /// A sentence for each cause that has resets whose own record has another one.
    fn sentences(&self) -> impl Iterator<Item = String> {
        self.first_victims.iter().map(|(code, &first)| {
            let all = self.by_cause.get(code).copied().unwrap_or(first);
            let (has, records) = if first == 1 { ("has", "its record") } else { ("have", "their records") };
            format!("{first} of the {all} {code} {has} another cause in {records}, made before that was clear")
        })
    }
}

/// Names of peers as in the last record of each that had one.
#[derive(Debug)]
struct PeerNames(LruCache<IpAddr, Arc<str>>);

impl Default for PeerNames {
    fn default() -> Self {
        Self(LruCache::new(PEER_NAMES))
    }
}

/// Inputs of a summary that the tally does not have.
pub struct SummaryContext<'a> {
    /// Wall-clock time of the summary.
    pub time: Timestamp,
    /// Time since the start of the run.
    pub duration: Duration,
    /// Whether the run has ended.
    pub last: bool,
    /// Known timeouts, for naming idle times.
    pub timeouts: &'a Timeouts,
    /// The host's own counters beside what was observed.
    pub coverage: Coverage,
    /// What works less well than it could.
    pub degraded: &'a [Degraded],
    /// Counts of the outputs; empty where standard output is the only one.
    pub sinks: Vec<SinkCount>,
}

impl Tally {
    /// Counts that also group the resets by these fields; none for no grouping.
    #[must_use]
    pub fn grouped_by(fields: Vec<GroupField>) -> Self {
        Self { groups: (!fields.is_empty()).then(|| Groups::new(fields)), ..Self::default() }
    }

    /// Counts lost resets.
    pub fn count_lost(&mut self, count: u64) {
        self.lost += count;
    }

    /// Counts a reset of one of rsttrace's own connections, which no other count includes.
    pub const fn count_own(&mut self, reset: &Reset) {
        self.own += reset.count;
    }

    /// Resets that were counted, and those that were lost.
    pub const fn totals(&self) -> (u64, u64) {
        (self.resets, self.lost)
    }

    /// Counts a record that passed the filters.
    pub fn count(&mut self, reset: &Reset) {
        self.resets += reset.count;
        if reset.direction == Direction::Sent {
            self.sent += reset.count;
        }
        *self.by_cause.entry(reset.cause.code).or_default() += reset.count;
        *self.settled.by_cause.entry(reset.cause.code).or_default() += reset.count;
        *self.by_fault.entry(reset.cause.fault).or_default() += reset.count;
        self.by_peer.count(reset.peer.address, reset.count);
        if let Some(name) = &reset.peer.name {
            self.peer_names.0.put(reset.peer.address, Arc::clone(name));
        }
        if let Some(process) = &reset.process {
            self.by_process.count((Arc::clone(&process.comm), process.pid), reset.count);
        }
        if let Some(groups) = &mut self.groups {
            groups.count(reset);
        }
        let mut harmed = None;
        if reset.begins_incident() {
            self.incidents += reset.count;
            *self.incidents_by_cause.entry(reset.cause.code).or_default() += reset.count;
            *self.incidents_by_fault.entry(reset.cause.fault).or_default() += reset.count;
            *self.settled.incidents_by_fault.entry(reset.cause.fault).or_default() += reset.count;
            harmed = self.harm.count(reset);
        }
        if let Some(FirstEnd { seq, harmed, keys, .. }) = self.both_ends.observe(reset, harmed.as_ref()) {
            self.settled.settle_fault(&harmed, reset.cause.fault);
            let moved = self.harm.move_to_end(&harmed, reset);
            self.first_victims.replace(&keys, seq, &moved);
        }
        let first = self.first_victims.observe(reset, harmed.as_ref());
        let of_other_host = harmed.as_ref().filter(|_| reset.other_end.is_none());
        self.patterns.observe(reset, of_other_host, first.iter().map(|harmed| harmed.resets).sum());
        for harmed in first {
            self.settled.settle(&harmed, reset.cause.code, reset.cause.fault);
            self.harm.move_to_burst(&harmed, reset);
        }
    }

    /// The peers with the most resets, so many at most.
    pub(crate) fn peers(&self, most: usize) -> Vec<PeerCount> {
        let peer = |(address, count)| PeerCount { address, name: self.peer_name(address), count };
        self.by_peer.rows().into_iter().take(most).map(peer).collect()
    }

    /// The owners with the most resets, by process name, so many at most.
    pub(crate) fn processes(&self, most: usize) -> Vec<ProcessCount> {
        processes(&self.by_process, most)
    }

    fn peer_name(&self, address: IpAddr) -> Option<Arc<str>> {
        self.peer_names.0.peek(&address).cloned()
    }

    /// The counts by what all records up to now have shown, and the harm by cause.
    fn settled(&self) -> (Settled, HarmByCause) {
        let (mut settled, mut harm) = (self.settled.clone(), self.harm.clone());
        for harmed in self.patterns.settled_by_silence() {
            settled.settle(harmed, PATH_LOST_STATE_CODE, Fault::Path);
            harm.move_to_cause(harmed, PATH_LOST_STATE_CODE, Fault::Path);
        }
        settled.by_cause.retain(|_, count| *count > 0);
        (settled, harm)
    }

    /// The summary of the run up to now.
    pub fn summary(&self, context: SummaryContext<'_>) -> Summary {
        let SummaryContext { time, duration, last, timeouts, coverage, degraded, sinks } = context;
        let idle_clusters = self.patterns.clusters(timeouts);
        let (settled, harm) = self.settled();
        let mut patterns = self.patterns.sentences(&idle_clusters);
        let (bursts, times): (Vec<String>, Vec<Timestamp>) = self.patterns.burst_sentences().into_iter().unzip();
        let burst_times = (patterns.len()..).zip(times).collect();
        patterns.extend(bursts);
        patterns.extend(settled.sentences());
        let backends = self.patterns.backends.rows();
        let mut summary = Summary {
            time,
            duration_s: round_to_ms(duration),
            r#final: last,
            resets: self.resets,
            sent: self.sent,
            received: self.resets - self.sent,
            lost: self.lost,
            own_resets: self.own,
            by_cause: self.by_cause.clone(),
            by_fault: self.by_fault.clone(),
            incidents: self.incidents,
            incidents_by_cause: self.incidents_by_cause.clone(),
            incidents_by_fault: self.incidents_by_fault.clone(),
            by_peer: self.peers(MAX_LISTED),
            by_peer_approximate: self.by_peer.error() > 0,
            by_process: self.processes(MAX_LISTED),
            by_process_approximate: self.by_process.error() > 0,
            backend_count: backends.len(),
            backends: backends
                .into_iter()
                .take(MAX_LISTED)
                .map(|(end, count)| BackendCount {
                    address: end.address,
                    port: end.port,
                    name: self.peer_name(end.address),
                    count,
                })
                .collect(),
            groups: self.groups.as_ref().map(Groups::table),
            order: self.patterns.fin_order,
            patterns,
            burst_times,
            idle_clusters,
            settled_by_cause: settled.by_cause,
            verdict: String::new(),
            verdict_lines: Vec::new(),
            settled_faults: settled.incidents_by_fault,
            findings: harm.worst(),
            rhythms: self.patterns.rhythms(),
            coverage,
            degraded: degraded::grouped(degraded).iter().map(ToString::to_string).collect(),
            degraded_parts: degraded.iter().map(|degraded| degraded.what.clone()).collect(),
            limits: degraded::limits(degraded).unwrap_or_default(),
            heading: String::new(),
            sinks,
        };
        summary.verdict_lines = verdict::lines(&summary, self.patterns.silence_limit());
        summary.verdict = verdict::paragraph(&summary.verdict_lines);
        summary
    }
}

/// A duration in seconds, to the millisecond.
fn round_to_ms(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// Counts by process name, those with the most resets first.
fn processes(counts: &HeavyHitters<(Arc<str>, u32)>, most: usize) -> Vec<ProcessCount> {
    let mut processes: Vec<ProcessCount> = Vec::new();
    for ((comm, pid), count) in counts.rows() {
        match processes.iter_mut().find(|process| process.comm == comm) {
            Some(process) => {
                process.count += count;
                if process.pids.len() < MAX_LISTED {
                    process.pids.push(pid);
                }
            }
            None => processes.push(ProcessCount { comm, pids: vec![pid], count }),
        }
    }
    processes.sort_by_key(|process| std::cmp::Reverse(process.count));
    processes.truncate(most);
    processes
}
