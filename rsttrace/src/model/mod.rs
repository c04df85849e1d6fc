//! Records, the data that the stages hand on and the formatters print, and the filters, which two stages apply.
//!
//! A stage imports this module and [`crate::util`], and no neighbouring stage. The JSON form of the records is the contract
//! of `docs/output.md`.

mod cause;
mod code;
mod filter;
mod group;
mod incident;
pub mod internals;
mod pair;
mod recorded_filters;
mod recording;
mod reset;
mod segment;
mod summary;
pub(crate) mod timestamp;
pub mod translation;
mod unapplied;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    cause::{Cause, CauseConfidence, Evidence, Fault, Sender},
    filter::{FilterOptions, PortRange, names, parse_network},
    group::{GroupField, GroupRow, GroupTable},
    incident::{AFTERMATH, IncidentRole, OTHER_END_CAPTURED, OTHER_END_HERE, OtherEnd, OtherProcess, RelayedReset},
    pair::{
        HostClocks, JoinSummary, JoinedHost, JoinedKind, Pair, PairCapture, PairCause, PairClock, PairEnd, PairNumbers,
        PairVerdict, VerdictCount,
    },
    recorded_filters::RecordedFilters,
    recording::{ClockState, Mark, RECORDING_FORMAT, RecordingContext, RecordingHeader},
    reset::{
        Actor, Cgroup, Container, Direction, Endpoint, Family, Hook, NamespaceId, Netns, OwnerConfidence, Packet, Peer,
        Pod, Process, Provenance, ProvokingPacket, Reset, Role, Socket, State, TcpFlags,
    },
    segment::Segment,
    summary::{
        BackendCount, CounterCoverage, Coverage, FinOrderCounts, Finding, IdleCluster, IdleKind, NamespaceCoverage,
        OWN_NAMESPACE, PeerCount, ProcessCount, Rhythm, SinkCount, Summary,
    },
    translation::{Translated, TranslationSource},
    unapplied::{Forwarded, IGNORE_REASONS, IgnoreReason, Ignored, Interface, RstOrigin},
};

/// One record of the output. Cloning it is cheap: the sinks share the data.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(tag = "type", rename_all = "lowercase"))]
pub enum Record {
    /// A reset that this host sent or received.
    Reset(Arc<Reset>),
    /// A reset that arrived and that the kernel discarded (`--ignored`).
    Ignored(Arc<Ignored>),
    /// A reset that this host forwarded (`--forwarded`).
    Forwarded(Arc<Forwarded>),
    /// Resets that the kernel reported and that were lost before they became records.
    Lost(Lost),
    /// The summary of the run, at its end or at an interval.
    Summary(Arc<Summary>),
}

impl Record {
    /// The `type` of the record in JSON, in the journal, in syslog and in OpenTelemetry.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Reset(_) => "reset",
            Self::Ignored(_) => "ignored",
            Self::Forwarded(_) => "forwarded",
            Self::Lost(_) => "lost",
            Self::Summary(_) => "summary",
        }
    }

    /// Wall-clock time of the occurrence; of a loss, when it was noticed.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Reset(reset) => reset.time,
            Self::Ignored(ignored) => ignored.time,
            Self::Forwarded(forwarded) => forwarded.time,
            Self::Lost(lost) => lost.time,
            Self::Summary(summary) => summary.time,
        }
    }
}

/// Resets that were lost between the kernel hook and the output.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lost {
    /// Time when the loss was noticed, UTC. The resets themselves are older.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Name of the host; `None` in a record of a version that did not write it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub host: Option<Arc<str>>,
    /// Number of lost resets, at least 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
    /// Side on which they were lost.
    pub r#where: LostWhere,
}

/// Side on which resets were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LostWhere {
    /// The buffer between kernel and user space was full, or the kernel skipped the program (`recursion_misses`).
    Kernel,
    /// A sample from the buffer could not be parsed.
    Userspace,
}
