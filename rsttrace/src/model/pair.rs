//! Resets as the recordings of two hosts show them together: the result of `rsttrace join`.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use super::{CauseConfidence, Endpoint, Fault, OtherProcess, State, code::Code, timestamp};

/// One reset, with what the recordings of its two ends tell of it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pair {
    /// Time of the receiver's record, by that host's clock; without one, of the sender's.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Who sent it, and whether it arrived.
    pub verdict: PairVerdict,
    /// How certain the verdict is.
    pub confidence: CauseConfidence,
    /// The verdict in one sentence, with the names of the hosts.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub summary: String,
    /// What the verdict rests on, or why there is none.
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub reasons: Vec<String>,
    /// Numbers of the reset's own segment, by which its records are joined.
    pub reset: PairNumbers,
    /// Name of the host that sent it, or that would have, where it is known.
    pub sender_host: Option<Arc<str>>,
    /// Name of the host that received it, or that would have, where it is known.
    pub receiver_host: Option<Arc<str>>,
    /// The cause, from the sender's record; `None` where the sender is not known to be one of the hosts.
    pub cause: Option<PairCause>,
    /// Record of the host that sent it; `None` without one.
    pub sender: Option<PairEnd>,
    /// Record of the host that received it; `None` without one.
    pub receiver: Option<PairEnd>,
    /// Difference of the two hosts' clocks; `None` where no reset of both is matched.
    pub clock: Option<PairClock>,
    /// Captures between the hosts that show the connection or the reset.
    pub captures: Vec<PairCapture>,
}

/// Verdict on a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PairVerdict {
    /// The peer's host sent it, or a packet filter in its name: the sender's own record has the cause
    Sent,
    /// The peer's host did not send it: something between the hosts did, or a packet filter that is not ruled out
    NotSent,
    /// A host sent it, and it never arrived at the other, or was ignored there
    NeverArrived,
    /// The inputs do not tell
    CannotBeTold,
    /// Something on the path rewrites the numbers by which resets are joined
    NotJoinable,
}

impl PairVerdict {
    /// All of them, in the order of the output.
    pub const ALL: [Self; 5] = [Self::NotSent, Self::Sent, Self::NeverArrived, Self::NotJoinable, Self::CannotBeTold];

    /// Description for people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Sent => "sent by the peer",
            Self::NotSent => "not sent by the peer",
            Self::NeverArrived => "sent, lost or ignored",
            Self::CannotBeTold => "cannot be told",
            Self::NotJoinable => "not joinable",
        }
    }
}

/// Numbers of a reset's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PairNumbers {
    /// Sequence number; `None` where it is not known.
    pub seq: Option<u32>,
    /// Acknowledgement number; `None` where the segment has none, or it is not known.
    pub ack: Option<u32>,
}

/// Cause of a reset, by its sender's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PairCause {
    /// Stable code, see `rsttrace explain`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9-]+$")))]
    pub code: Code,
    /// Side that has something to change, as the sender's host sees it: `local` is that host.
    pub fault: Fault,
    /// How certain the cause is.
    pub confidence: CauseConfidence,
    /// Summary in one sentence.
    pub summary: Arc<str>,
}

/// Record of one end.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PairEnd {
    /// Name of the host, or of the capture.
    pub host: Arc<str>,
    /// Time of the record, by that host's clock.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// `seq` of the record in its input; `None` where it has none.
    pub seq: Option<u64>,
    /// Number of resets that the record stands for.
    pub count: u64,
    /// That host's end of the connection.
    pub local: Endpoint,
    /// The other end, as that host sees it.
    pub peer: Endpoint,
    /// Owner of the socket there.
    pub process: Option<OtherProcess>,
    /// State of the socket there.
    pub state: Option<State>,
    /// Code of the cause in the record; `None` for an ignored reset.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9-]+$")))]
    pub cause: Option<Code>,
    /// Why the host ignored it; `None` where it did not.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9-]+$")))]
    pub ignored_because: Option<Code>,
    /// TTL or hop limit of the reset there; `None` where it was not seen.
    pub ttl: Option<u8>,
    /// That of the packet with which the sender finished the handshake.
    pub handshake_ttl: Option<u8>,
}

/// Difference of two clocks, from the matched resets of their hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PairClock {
    /// The sending host's clock less the receiving host's, microseconds: the median over the matches.
    pub skew_us: i64,
    /// Smallest difference of a match, microseconds.
    pub least_us: i64,
    /// Largest difference of a match, microseconds.
    pub most_us: i64,
    /// Number of matches.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub matches: u64,
}

impl PairClock {
    /// The difference as the other host sees it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { skew_us: -self.skew_us, least_us: -self.most_us, most_us: -self.least_us, matches: self.matches }
    }
}

/// A capture between the hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PairCapture {
    /// Name of the capture.
    pub capture: Arc<str>,
    /// Whether the reset passed it; where not, the connection did, in both directions.
    pub passed: bool,
    /// TTL or hop limit of the reset there.
    pub ttl: Option<u8>,
    /// That of the sender's packets there.
    pub handshake_ttl: Option<u8>,
}

/// What was joined: the last line of `rsttrace join --output json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinSummary {
    /// Time of the last record, UTC.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// The hosts and captures.
    pub hosts: Vec<JoinedHost>,
    /// Differences of their clocks.
    pub clocks: Vec<HostClocks>,
    /// Number of pairs by verdict.
    pub verdicts: Vec<VerdictCount>,
    /// Resets of which both ends are on one host; they are no pairs.
    pub within_hosts: u64,
    /// Resets whose peer's host is none of the inputs'; pairs that cannot be told have them.
    pub with_others: u64,
}

/// A host whose recording was joined.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinedHost {
    /// Name of the host, or of the capture.
    pub name: Arc<str>,
    /// The inputs, as they were given.
    pub inputs: Vec<String>,
    /// What was read.
    pub kind: JoinedKind,
    /// Time of its first sign, by its own clock; `None` without one.
    #[serde(serialize_with = "optional_time")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub from: Option<Timestamp>,
    /// Time of its last sign.
    #[serde(serialize_with = "optional_time")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub to: Option<Timestamp>,
    /// Resets sent by it, by its records.
    pub sent: u64,
    /// Resets received by it.
    pub received: u64,
    /// Resets that it ignored.
    pub ignored: u64,
    /// What limits conclusions from what is not there, one sentence each.
    pub limits: Vec<String>,
}

/// Kind of what was read of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum JoinedKind {
    /// A recording, whose headers and marks show what it covers.
    Recording,
    /// Records without headers and marks.
    Records,
    /// A packet capture.
    Capture,
}

impl fmt::Display for JoinedKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Recording => "recording",
            Self::Records => "records without marks",
            Self::Capture => "capture",
        })
    }
}

/// Difference of the clocks of two hosts.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostClocks {
    /// The one host.
    pub host: Arc<str>,
    /// The other host.
    pub other: Arc<str>,
    /// The clock of `other` less that of `host`.
    pub clock: PairClock,
}

/// Number of pairs with a verdict.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerdictCount {
    /// The verdict.
    pub verdict: PairVerdict,
    /// Number of pairs.
    pub count: u64,
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn optional_time<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => timestamp::serialize(time, serializer),
        None => serializer.serialize_none(),
    }
}
