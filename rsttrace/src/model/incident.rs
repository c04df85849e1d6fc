//! What a record has to do with others: its incident, and the other end of its connection on this host.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    CauseConfidence, Container, Endpoint, Fault, Netns,
    code::{self, Code},
};

/// Code of the cause of a further reset of a connection.
pub const AFTERMATH: &str = "aftermath";

/// Beginning of the line of evidence on the other end.
pub const OTHER_END_HERE: &str = "the other end is on this host: ";

/// Beginning of that line where both ends were captured, whichever hosts they are on.
pub const OTHER_END_CAPTURED: &str = "the other end was captured too: ";

/// Part that a reset has in its incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IncidentRole {
    /// The incident began with it, as far as records tell.
    #[default]
    First,
    /// This reset as the other end of the connection, on this host, saw it.
    OtherEnd,
    /// A further reset of a connection that this incident had ended.
    Aftermath,
    /// A process passed on what had happened to another of its connections, or ended together with the process of the first
    /// record.
    Relayed,
}

impl IncidentRole {
    /// Description for people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::First => "its first record",
            Self::OtherEnd => "its other end",
            Self::Aftermath => "what came after it on the connection",
            Self::Relayed => "what a process passed on",
        }
    }
}

/// The other end of the connection, which is on this host, with the record of the same reset there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OtherEnd {
    /// `seq` of the record of that end; `None` where that record comes later in the output, or not at all.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub seq: Option<u64>,
    /// Owner of the socket there; `None` where there is no socket, or its owner is not known.
    pub process: Option<OtherProcess>,
    /// Container of that owner.
    pub container: Option<Container>,
    /// Network namespace of that end.
    pub netns: Option<Netns>,
    /// Code of the cause there.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9-]+$")))]
    #[serde(deserialize_with = "code::deserialize")]
    pub cause: Code,
}

/// A process at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OtherProcess {
    /// PID (thread group id) in the initial PID namespace.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub pid: u32,
    /// Name of the process. Untrusted.
    pub comm: Arc<str>,
}

/// Reset of another connection of this process, which it passed on. Not serialized: the incident refers to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayedReset {
    /// Peer of the other connection.
    pub peer: Endpoint,
    /// Whether that belonged to a process that was forked for this one.
    pub is_of_child: bool,
    /// Code of its cause.
    pub code: &'static str,
    /// Fault of its cause.
    pub fault: Fault,
    /// Confidence of its cause.
    pub confidence: CauseConfidence,
    /// Time from that reset to this one, milliseconds.
    pub before_ms: f64,
}
