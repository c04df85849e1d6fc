//! Parts of a record by which resets are grouped (`--group-by`), and the table that comes of it.

use clap::ValueEnum;
use serde::Serialize;

use super::{Direction, Reset, Role};
use crate::util::serde_variant_name;

/// A part of a record by which resets are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GroupField {
    /// Name of the owner of the socket
    Process,
    /// PID of the owner
    Pid,
    /// Code of the cause
    Cause,
    /// Side that has something to change
    Fault,
    /// The peer's name, or its address where it has none
    Peer,
    /// The peer's port
    PeerPort,
    /// This host's port
    LocalPort,
    /// Address and port that the client connected to
    Server,
    /// Sent or received
    Direction,
    /// State of the socket
    State,
    /// Container of the owner, by name or id
    Container,
    /// Pod of the owner
    Pod,
    /// Systemd unit of the owner
    Unit,
    /// Network namespace, by inode number
    Netns,
}

impl GroupField {
    /// This part of a record; `None` where the record has none. Untrusted.
    pub fn of(self, reset: &Reset) -> Option<String> {
        match self {
            Self::Process => Some(reset.process.as_ref()?.comm.to_string()),
            Self::Pid => Some(reset.process.as_ref()?.pid.to_string()),
            Self::Cause => Some(reset.cause.code.to_owned()),
            Self::Fault => Some(serde_variant_name(&reset.cause.fault)),
            Self::Peer => {
                Some(reset.peer.name.as_deref().map_or_else(|| reset.peer.address.to_string(), str::to_owned))
            }
            Self::PeerPort => Some(reset.peer.port.to_string()),
            Self::LocalPort => Some(reset.local.port.to_string()),
            Self::Server => Some(server(reset)),
            Self::Direction => Some(serde_variant_name(&reset.direction)),
            Self::State => Some(reset.socket.as_ref()?.state.to_string()),
            Self::Container => {
                let container = reset.container.as_ref()?;
                Some(container.name.as_deref().unwrap_or(&container.id).to_owned())
            }
            Self::Pod => Some(reset.pod.as_ref()?.to_string()),
            Self::Unit => Some(reset.unit.as_deref()?.to_owned()),
            Self::Netns => Some(reset.netns?.inode.to_string()),
        }
    }
}

/// The end that the client connected to: without a role, the one that the reset came from.
fn server(reset: &Reset) -> String {
    let is_peer = match reset.role() {
        Some(Role::Client) => true,
        Some(Role::Server | Role::Listener) => false,
        None => reset.direction == Direction::Received,
    };
    if is_peer { reset.peer.end().to_string() } else { reset.local.to_string() }
}

/// Resets by group, those with the most first.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GroupTable {
    /// What the values of a row are.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub by: Vec<GroupField>,
    /// The hundred groups with the most resets.
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    pub rows: Vec<GroupRow>,
    /// Number of groups beyond those; `None` where there were too many to count.
    pub further: Option<usize>,
    /// Largest amount by which a count may be too small, and most resets of a group that is left out because there were too
    /// many; 0 where all were counted.
    pub error: u64,
}

/// Resets of one group.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GroupRow {
    /// Values in the order of `by`; `None` where the records have none. Untrusted.
    pub values: Vec<Option<String>>,
    /// Number of resets.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
}
