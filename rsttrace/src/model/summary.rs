//! The summary record and its parts.

#[cfg(feature = "schema")]
use std::num::NonZeroU64;
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    net::IpAddr,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Direction, Fault, GroupTable, timestamp};

/// Summary of the run: its last record, and with `--summary-interval` one at each interval.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Summary {
    /// Time when the summary was made, UTC.
    #[serde(serialize_with = "timestamp::serialize")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Duration of the run so far, seconds. Every count is since its start.
    pub duration_s: f64,
    /// Whether the run had ended.
    pub r#final: bool,
    /// Resets that passed the filters: the sum of `count` over all records.
    pub resets: u64,
    /// Resets that this host sent.
    pub sent: u64,
    /// Resets that this host received.
    pub received: u64,
    /// Resets that the kernel reported and that were lost before they became records.
    pub lost: u64,
    /// Resets of rsttrace's own connections, to its sinks and of its metrics, which are left out of everything else;
    /// 0 with `--own-connections`, and in a replay.
    pub own_resets: u64,
    /// Resets by the code of their cause, as their records have it.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, NonZeroU64>"))]
    pub by_cause: BTreeMap<&'static str, u64>,
    /// Resets by the side that has something to change.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, NonZeroU64>"))]
    pub by_fault: BTreeMap<Fault, u64>,
    /// Incidents: resets that are neither the other end, nor the aftermath, nor passed on from an earlier one.
    pub incidents: u64,
    /// Incidents by the code of their first record's cause.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, NonZeroU64>"))]
    pub incidents_by_cause: BTreeMap<&'static str, u64>,
    /// Incidents by the side that has something to change.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, NonZeroU64>"))]
    pub incidents_by_fault: BTreeMap<Fault, u64>,
    /// The ten peers with the most resets.
    #[cfg_attr(feature = "schema", schemars(length(max = 10)))]
    pub by_peer: Vec<PeerCount>,
    /// Whether there were too many peers to count each exactly: the counts are lower bounds then.
    pub by_peer_approximate: bool,
    /// The ten owners with the most resets, by process name.
    #[cfg_attr(feature = "schema", schemars(length(max = 10)))]
    pub by_process: Vec<ProcessCount>,
    /// Whether there were too many owners to count each exactly: the counts are lower bounds then.
    pub by_process_approximate: bool,
    /// The ten addresses with ports that this host had opened connections to which were reset in use, those with the
    /// most first.
    #[cfg_attr(feature = "schema", schemars(length(max = 10)))]
    pub backends: Vec<BackendCount>,
    /// Number of different backends.
    pub backend_count: usize,
    /// Resets by the fields of `--group-by`; `None` without that option.
    pub groups: Option<GroupTable>,
    /// Order of the peer's FIN and this host's next data, over the resets of `backends`.
    pub order: FinOrderCounts,
    /// Patterns over many resets, one sentence each.
    pub patterns: Vec<String>,
    /// Times of the bursts among `patterns`, which are told in UTC, with their places. For text.
    #[serde(skip)]
    pub burst_times: Vec<(usize, Timestamp)>,
    /// Clusters of idle times, the largest first.
    pub idle_clusters: Vec<IdleCluster>,
    /// Resets by the code of their cause, as later records have shown it, for text.
    #[serde(skip)]
    pub settled_by_cause: BTreeMap<&'static str, u64>,
    /// The run in one paragraph.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub verdict: String,
    /// Sentences of the verdict with the names of their rows, for text.
    #[serde(skip)]
    pub verdict_lines: Vec<(&'static str, String)>,
    /// Incidents by the side that has something to change, as the verdict counts them: each by what later records have shown
    /// of it. For reports.
    #[serde(skip)]
    pub settled_faults: BTreeMap<Fault, u64>,
    /// Causes that the verdict names, the one to look at first in front. For reports.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// Causes that recur at regular intervals, the most frequent first. For reports.
    #[serde(skip)]
    pub rhythms: Vec<Rhythm>,
    /// The host's own counters beside the observed resets.
    pub coverage: Coverage,
    /// What worked less well than it could, one sentence each.
    pub degraded: Vec<String>,
    /// Names of the parts that work less well, for the metrics.
    #[serde(skip)]
    pub degraded_parts: Vec<String>,
    /// What is missing because of that, for text.
    #[serde(skip)]
    pub limits: String,
    /// What came in the interval before, one line, for text; empty at the end.
    #[serde(skip)]
    pub heading: String,
    /// Counts of each output; empty where standard output is the only one.
    pub sinks: Vec<SinkCount>,
}

/// A cause that the verdict names, with the harm that it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Code of the cause.
    pub code: &'static str,
    /// Direction of its resets.
    pub direction: Direction,
    /// Side that has something to change.
    pub fault: Fault,
    /// Summary of the catalogue, one sentence.
    pub summary: &'static str,
    /// Remedy of the catalogue.
    pub advice: &'static str,
    /// Resets that begin incidents.
    pub resets: u64,
    /// Bursts of resets.
    pub bursts: u64,
    /// Whether the resets are a steady stream rather than bursts.
    pub is_steady: bool,
    /// Resets of which the cause is certain, likely and a guess.
    pub confidences: [u64; 3],
    /// Time of the first reset, UTC.
    pub first: Timestamp,
    /// Time of the last reset, UTC.
    pub last: Timestamp,
    /// Process and place, as `python3 → 10.77.2.2:7999`; empty where neither is known. Untrusted.
    pub place: String,
}

/// A cause that recurs at regular intervals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    /// Code of the cause.
    pub code: &'static str,
    /// The only peer that it recurs with; `None` where the cause as a whole is regular.
    pub peer: Option<IpAddr>,
    /// Mean interval, seconds.
    pub period_s: f64,
    /// Number of occurrences.
    pub occurrences: u64,
}

/// Records of one output.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SinkCount {
    /// Kind and destination of the sink, or `stdout`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub sink: Arc<str>,
    /// Records that are at their destination.
    pub delivered: u64,
    /// Records that were rejected, or did not fit into the queue.
    pub undelivered: u64,
    /// Records that are queued or being delivered.
    pub waiting: u64,
}

/// Resets of one peer.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerCount {
    /// Address of the peer.
    pub address: IpAddr,
    /// Its name in the last record that had one; `None` without one. Untrusted.
    pub name: Option<Arc<str>>,
    /// Number of resets.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
}

/// Resets of the processes of one name.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessCount {
    /// Name of the processes. Untrusted.
    pub comm: Arc<str>,
    /// PIDs with the most resets, up to ten.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 10), inner(range(min = 1))))]
    pub pids: Vec<u32>,
    /// Number of resets.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
}

/// Resets of connections to one address and port.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackendCount {
    /// Address of the backend.
    pub address: IpAddr,
    /// Port of the backend.
    pub port: u16,
    /// Name of its address in the last record that had one; `None` without one. Untrusted.
    pub name: Option<Arc<str>>,
    /// Number of resets.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
}

/// Resets of connections that this host had opened, by the order of the peer's FIN and this host's next data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FinOrderCounts {
    /// The FIN had arrived before the data were sent.
    pub fin_first: u64,
    /// The data were on the wire when the FIN arrived.
    pub send_first: u64,
    /// No FIN arrived before the reset.
    pub no_fin: u64,
}

/// Kind of the idle time before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IdleKind {
    /// Idle before this host's last send, to which the reset is the answer.
    BeforeSend,
    /// Idle before the reset, with nothing in flight.
    Idle,
    /// Idle before the reset, with a request outstanding.
    Waiting,
}

/// Resets after idle times of about one length.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdleCluster {
    /// Kind of the idle times.
    pub kind: IdleKind,
    /// Number of resets.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
    /// Shortest idle time, seconds.
    pub from_s: f64,
    /// Longest idle time, seconds.
    pub to_s: f64,
    /// Owners of the known timeouts that the cluster matches.
    pub matches: Vec<String>,
}

/// The host's own counters beside the observed resets.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Coverage {
    /// The namespace that rsttrace runs in.
    pub netns: Option<u32>,
    /// Its counters, one by one.
    pub counters: Vec<CounterCoverage>,
    /// Other namespaces in which resets were seen and whose counters could be read, those with the most resets first.
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub others: Vec<NamespaceCoverage>,
}

/// Says in text that counters are those of the namespace that rsttrace runs in.
pub const OWN_NAMESPACE: &str = "rsttrace's own namespace: ";

/// The counters of another namespace.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamespaceCoverage {
    /// Inode number of the namespace.
    pub netns: u32,
    /// Its counters.
    pub counters: Vec<CounterCoverage>,
}

/// One counter of the host beside the observed resets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CounterCoverage {
    /// Name of the counter in `nstat`.
    pub name: String,
    /// Increase of the counter during the run.
    pub delta: u64,
    /// Observed resets that the counter counts; `None` where filters make the comparison meaningless.
    pub observed: Option<u64>,
    /// Why both differ; `None` where they agree, or are not compared.
    pub explanation: Option<String>,
}

impl Display for CounterCoverage {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, delta, observed, explanation } = self;
        write!(formatter, "{name} +{delta}")?;
        observed.map_or(Ok(()), |observed| write!(formatter, ", {observed} observed"))?;
        explanation.as_ref().map_or(Ok(()), |explanation| write!(formatter, " ({explanation})"))
    }
}
