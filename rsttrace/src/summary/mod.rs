//! What a run comes to, at its end and as often as it is asked for.

pub mod coverage;
pub mod patterns;
mod show;
mod top;
mod verdict;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    degraded::{self, Degraded},
    diagnose::timeouts::Timeouts,
    moment::timestamp,
    reset::{Direction, Fault, Reset},
    summary::{
        coverage::Coverage,
        patterns::{Cluster, Orders, Patterns},
        top::Top,
    },
};

/// Peers, processes and backends that the summary shows.
const SHOWN: usize = 10;

/// Counts while the run goes on.
#[derive(Debug, Default)]
pub struct Tally {
    resets: u64,
    sent: u64,
    lost: u64,
    by_cause: BTreeMap<&'static str, u64>,
    by_fault: BTreeMap<Fault, u64>,
    by_peer: Top<IpAddr>,
    by_process: Top<(Arc<str>, u32)>,
    patterns: Patterns,
}

/// What of a summary others know.
pub struct Circumstances<'a> {
    /// Now.
    pub time: Timestamp,
    /// Since the start.
    pub duration: Duration,
    /// The run has ended.
    pub last: bool,
    /// To name silences by.
    pub timeouts: &'a Timeouts,
    /// The host's counters.
    pub coverage: Coverage,
    /// What works less well than it could.
    pub degraded: &'a [Degraded],
    /// The ways out, where there are several.
    pub sinks: Vec<SinkCount>,
}

impl Tally {
    /// Resets that were lost since the last time.
    pub fn lose(&mut self, count: u64) {
        self.lost += count;
    }

    /// Whether any were lost.
    pub const fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// Counts a record that was let out.
    pub fn count(&mut self, reset: &Reset) {
        self.resets += reset.count;
        if reset.direction == Direction::Sent {
            self.sent += reset.count;
        }
        *self.by_cause.entry(reset.cause.code).or_default() += reset.count;
        *self.by_fault.entry(reset.cause.fault).or_default() += reset.count;
        self.by_peer.count(reset.peer.address, reset.count);
        if let Some(process) = &reset.process {
            self.by_process.count((Arc::clone(&process.comm), process.pid), reset.count);
        }
        self.patterns.see(reset);
    }

    /// The summary of the run up to now.
    pub fn summary(&self, circumstances: Circumstances<'_>) -> Summary {
        let Circumstances { time, duration, last, timeouts, coverage, degraded, sinks } = circumstances;
        let idle_clusters = self.patterns.clusters(timeouts);
        let peer = |(address, count)| PeerCount { address, count };
        let backends = self.patterns.backends.rows();
        let mut summary = Summary {
            time,
            duration_s: duration.as_secs_f64(),
            r#final: last,
            resets: self.resets,
            sent: self.sent,
            received: self.resets - self.sent,
            lost: self.lost,
            by_cause: self.by_cause.clone(),
            by_fault: self.by_fault.clone(),
            by_peer: self.by_peer.rows().into_iter().take(SHOWN).map(peer).collect(),
            by_peer_approximate: self.by_peer.error() > 0,
            by_process: processes(&self.by_process),
            by_process_approximate: self.by_process.error() > 0,
            backend_count: backends.len(),
            backends: backends
                .into_iter()
                .take(SHOWN)
                .map(|(end, count)| BackendCount { address: end.address, port: end.port, count })
                .collect(),
            order: self.patterns.orders,
            patterns: self.patterns.sentences(&idle_clusters),
            idle_clusters,
            verdict: String::new(),
            coverage,
            degraded: degraded::grouped(degraded).iter().map(ToString::to_string).collect(),
            sinks,
        };
        summary.verdict = verdict::of(&summary);
        summary
    }
}

/// Processes of one name together.
fn processes(top: &Top<(Arc<str>, u32)>) -> Vec<ProcessCount> {
    let mut processes: Vec<ProcessCount> = Vec::new();
    for ((comm, pid), count) in top.rows() {
        match processes.iter_mut().find(|process| process.comm == comm) {
            Some(process) => {
                process.count += count;
                if process.pids.len() < SHOWN {
                    process.pids.push(pid);
                }
            }
            None => processes.push(ProcessCount { comm, pids: vec![pid], count }),
        }
    }
    processes.sort_by_key(|process| std::cmp::Reverse(process.count));
    processes.truncate(SHOWN);
    processes
}

/// What a run comes to: its last record, and with `--summary-interval` one every so often.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// When it was made.
    #[serde(serialize_with = "timestamp")]
    pub time: Timestamp,
    /// How long the run had been going on; every count is since its start.
    pub duration_s: f64,
    /// The run had ended.
    pub r#final: bool,
    /// Resets that were let out: the sum of the counts of all records.
    pub resets: u64,
    /// Of these, sent by this host.
    pub sent: u64,
    /// Of these, received.
    pub received: u64,
    /// Resets that the kernel reported and that were lost on the way.
    pub lost: u64,
    /// Resets by the code of their cause.
    pub by_cause: BTreeMap<&'static str, u64>,
    /// Resets by who has something to change.
    pub by_fault: BTreeMap<Fault, u64>,
    /// The peers with the most resets.
    pub by_peer: Vec<PeerCount>,
    /// There were more peers than could be counted one by one; the counts are what they have at least.
    pub by_peer_approximate: bool,
    /// The owners with the most resets, by name.
    pub by_process: Vec<ProcessCount>,
    /// The same of owners.
    pub by_process_approximate: bool,
    /// Addresses and ports to which this host had opened connections that were reset in use, those with the most first.
    pub backends: Vec<BackendCount>,
    /// How many different ones there were.
    pub backend_count: usize,
    /// On these connections: was the peer's FIN there before our next data?
    pub order: Orders,
    /// Patterns over many resets, in words.
    pub patterns: Vec<String>,
    /// Silences that cluster.
    pub idle_clusters: Vec<Cluster>,
    /// The run in one paragraph.
    pub verdict: String,
    /// The host's own counters beside what was seen.
    pub coverage: Coverage,
    /// What worked less well than it could.
    pub degraded: Vec<String>,
    /// What each way out has delivered, and what not; empty where standard output is the only one.
    pub sinks: Vec<SinkCount>,
}

/// What one way out has come to.
#[derive(Clone, Debug, Serialize)]
pub struct SinkCount {
    /// As the command line names it, or `stdout`.
    pub sink: Arc<str>,
    /// Records that are where they were meant to go.
    pub delivered: u64,
    /// Records that were refused or did not fit into the queue.
    pub undelivered: u64,
    /// Records that are still on their way.
    pub waiting: u64,
}

/// Resets of one peer.
#[derive(Clone, Debug, Serialize)]
pub struct PeerCount {
    /// Its address.
    pub address: IpAddr,
    /// Its resets.
    pub count: u64,
}

/// Resets of the sockets of one program.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessCount {
    /// Its name.
    pub comm: Arc<str>,
    /// Its processes with the most resets, up to ten.
    pub pids: Vec<u32>,
    /// Their resets.
    pub count: u64,
}

/// Resets of connections to one place.
#[derive(Clone, Debug, Serialize)]
pub struct BackendCount {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its resets.
    pub count: u64,
}
