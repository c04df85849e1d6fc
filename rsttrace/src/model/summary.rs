//! The summary record and its parts.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    net::IpAddr,
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{Fault, timestamp};

/// What a run comes to: its last record, and with `--summary-interval` one every so often.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// When it was made.
    #[serde(serialize_with = "timestamp::serialize")]
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
    pub order: FinOrderCounts,
    /// Patterns over many resets, in words.
    pub patterns: Vec<String>,
    /// Silences that cluster.
    pub idle_clusters: Vec<IdleCluster>,
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

/// Which came first on connections that this host had opened, the peer's FIN or our next data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FinOrderCounts {
    /// The FIN had come before the data were sent.
    pub fin_first: u64,
    /// The data were on their way when the FIN came.
    pub send_first: u64,
    /// No FIN came: the reset was the first word.
    pub no_fin: u64,
}

/// What kind of silence there was before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleKind {
    /// Before our last send, which the reset answers.
    BeforeSend,
    /// Before the reset, nothing being under way.
    Idle,
    /// Before the reset, a request waiting for its answer.
    Waiting,
}

/// Resets after silences of about the same length.
#[derive(Clone, Debug, Serialize)]
pub struct IdleCluster {
    /// What kind of silence.
    pub kind: IdleKind,
    /// How many resets.
    pub count: u64,
    /// The shortest, in seconds.
    pub from_s: f64,
    /// The longest, in seconds.
    pub to_s: f64,
    /// Owners of known timeouts that it matches.
    pub matches: Vec<String>,
}

/// Counters beside what was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// The namespace that rsttrace runs in.
    pub netns: Option<u32>,
    /// Its counters, one by one.
    pub counters: Vec<CounterCoverage>,
    /// Other namespaces in which resets were seen and whose counters could be read, those with the most resets first.
    pub others: Vec<NamespaceCoverage>,
}

/// The counters of another namespace.
#[derive(Clone, Debug, Serialize)]
pub struct NamespaceCoverage {
    /// Which.
    pub netns: u32,
    /// One by one.
    pub counters: Vec<CounterCoverage>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CounterCoverage {
    /// As `nstat` has it.
    pub name: String,
    /// How far it moved during the run.
    pub delta: u64,
    /// How many of these were seen; `None` where filters kept the kernel side from reporting all.
    pub observed: Option<u64>,
    /// Why the two differ.
    pub explanation: Option<String>,
}

impl Display for CounterCoverage {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, delta, observed, explanation } = self;
        write!(formatter, "{name} moved by {delta}")?;
        observed.map_or(Ok(()), |observed| write!(formatter, ", {observed} seen"))?;
        explanation.as_ref().map_or(Ok(()), |explanation| write!(formatter, " ({explanation})"))
    }
}
