//! Per-reset state that the stages share. Recordings hold it as the record's `facts`, so that the diagnosis can be repeated;
//! other formats leave it out.

use std::sync::Arc;

use rsttrace_common::event::{ROLE_CLIENT, ROLE_SERVER};

use serde::{Deserialize, Serialize};

use super::{
    RelayedReset, Role,
    translation::{ConntrackEntry, ConntrackState},
};

/// State of one reset beyond its record: raw figures of the event, and what later stages have found out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Internals {
    /// Time of the event on `CLOCK_MONOTONIC`, nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub ktime_ns: u64,
    /// Cookie of the network namespace; 0 where the kernel has none.
    #[serde(skip_serializing_if = "is_default")]
    pub netns_cookie: u64,
    /// Owner as the kernel side knows it.
    #[serde(skip_serializing_if = "is_default")]
    pub owner: Option<KernelTask>,
    /// How the kernel side knows the owner (`PROVENANCE_*`).
    #[serde(skip_serializing_if = "is_default")]
    pub provenance: u8,
    /// Whether several processes hold the socket.
    #[serde(skip_serializing_if = "is_default")]
    pub shared: bool,
    /// Task that held the socket's lock.
    #[serde(skip_serializing_if = "is_default")]
    pub holder: Option<KernelTask>,
    /// Whether that task was exiting.
    #[serde(skip_serializing_if = "is_default")]
    pub holder_exiting: bool,
    /// Sub-state of a TIME_WAIT mini-socket; `None` for any other socket.
    #[serde(skip_serializing_if = "is_default")]
    pub time_wait_substate: Option<u8>,
    /// State of the socket at the event: CLOSE where `socket.state` is the state before it.
    #[serde(skip_serializing_if = "is_default")]
    pub raw_state: u8,
    /// Whether the socket belonged to no file any more.
    #[serde(skip_serializing_if = "is_default")]
    pub orphan: bool,
    /// Whether the socket was dead (`SOCK_DEAD`): its last descriptor had been closed.
    #[serde(skip_serializing_if = "is_default")]
    pub dead: bool,
    /// `sk_shutdown`.
    #[serde(skip_serializing_if = "is_default")]
    pub shutdown: u8,
    /// Whether `SO_LINGER` was on with a time of zero.
    #[serde(skip_serializing_if = "is_default")]
    pub linger_zero: bool,
    /// Whether `SO_KEEPALIVE` was on.
    #[serde(skip_serializing_if = "is_default")]
    pub keepalive: bool,
    /// Unanswered keep-alive or zero-window probes.
    #[serde(skip_serializing_if = "is_default")]
    pub probes_out: u8,
    /// `TCP_USER_TIMEOUT`, milliseconds; 0 when unset.
    #[serde(skip_serializing_if = "is_default")]
    pub user_timeout_ms: u32,
    /// Whether the kernel side had the history of the connection.
    #[serde(skip_serializing_if = "is_default")]
    pub has_history: bool,
    /// Netfilter hook at which a rule rejected a packet (`abi::netfilter`); 0 for any other reset.
    #[serde(skip_serializing_if = "is_default")]
    pub netfilter_hook: u8,
    /// Segments of handshakes that the listener has dropped since it began to listen, at most `u16::MAX`; 0 for any other socket.
    #[serde(skip_serializing_if = "is_default")]
    pub listener_drops: u16,
    /// Whether the received reset arrived on the loopback interface; `None` where the kernel does not show it.
    #[serde(skip_serializing_if = "is_default")]
    pub via_loopback: Option<bool>,
    /// Exit code of that task (`task_struct.exit_code`); `None` unless it was exiting.
    #[serde(skip_serializing_if = "is_default")]
    pub exit_code: Option<u32>,
    /// Whether the socket is a subflow of an MPTCP connection; `None` where the kernel does not show it.
    #[serde(skip_serializing_if = "is_default")]
    pub is_mptcp: Option<bool>,
    /// Whether the ends have agreed on TCP timestamps; `None` where that is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub timestamps: Option<bool>,
    /// Time between the peer's last accepted segment and its reset on the peer's clock, in the unit of its timestamps
    /// (milliseconds on Linux); `None` for a reset without timestamp.
    #[serde(skip_serializing_if = "is_default")]
    pub peer_clock_delta: Option<u32>,
    /// Time since this host sent the last segment that the peer had received, milliseconds, by the echoed timestamp;
    /// `None` for a reset without timestamp.
    #[serde(skip_serializing_if = "is_default")]
    pub echo_age_ms: Option<u32>,
    /// End of the last connection between these ends; `None` where none is known, and for a reset of a connection that was
    /// still open.
    #[serde(skip_serializing_if = "is_default")]
    pub ending: Option<Ending>,
    /// Time since the end of the handshake, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub established_ms: Option<f64>,
    /// Time since the first segment of this host's last burst of data, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub burst_ms: Option<f64>,
    /// Time since the peer last acknowledged data, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub since_ack_ms: Option<f64>,
    /// The kernel's clock tick, milliseconds: the resolution of the times that it keeps in ticks.
    #[serde(skip_serializing_if = "is_default")]
    pub tick_ms: Option<f64>,
    /// Relation to other resets shortly before.
    #[serde(skip_serializing_if = "is_default")]
    pub correlation: Correlation,
    /// References to the socket's file: 0 while the last descriptor is being closed; `None` when they were not counted.
    #[serde(skip_serializing_if = "is_default")]
    pub file_refcount: Option<u16>,
    /// Id of the pending lookup of the socket's holder; `None` when no process holds the socket.
    #[serde(skip)]
    pub lookup_id: Option<u64>,
    /// Result of that lookup so far.
    #[serde(skip_serializing_if = "is_default")]
    pub holder_findings: HolderFindings,
    /// Whether the process in `owner` has exited.
    #[serde(skip_serializing_if = "is_default")]
    pub owner_ended: bool,
    /// Whether the process that the record names had served other connections before this one, and has ended soon after it
    /// had closed this one. Asked only of resets that answer data after a close.
    #[serde(skip_serializing_if = "is_default")]
    pub closed_by_leaving: bool,
    /// Sequence number that this end expected next (`rcv_nxt`) when it received the reset, which is the reset's own where
    /// the kernel accepts no other; `None` for a sent reset, and without a socket.
    #[serde(skip_serializing_if = "is_default")]
    pub expected_seq: Option<u32>,
    /// Number of the record in the order of events, from 1 on; 0 before its diagnosis.
    #[serde(skip_serializing_if = "is_default")]
    pub record: u64,
    /// Number of the first record of its incident, in the numbering of `record`.
    #[serde(skip)]
    pub incident: u64,
    /// Number of the other end's record, in the numbering of `record`; 0 without one.
    #[serde(skip)]
    pub other_record: u64,
    /// The reset of another connection that this one passes on.
    #[serde(skip)]
    pub relayed: Option<RelayedReset>,
    /// When it was output after it had waited for the other end of its connection, nanoseconds of `CLOCK_MONOTONIC`; 0 where it
    /// was output with another record, or at the end of the run.
    #[serde(skip_serializing_if = "is_default")]
    pub released_ns: u64,
    /// Entry of the connection in conntrack, where it was asked for and found.
    #[serde(skip_serializing_if = "is_default")]
    pub conntrack: Option<ConntrackEntry>,
    /// When the record was joined with others: its owner was known, or no longer looked for. Nanoseconds of `CLOCK_MONOTONIC`.
    #[serde(skip_serializing_if = "is_default")]
    pub finished_ns: u64,
    /// State in conntrack of the connection that a segment belongs to which was not translated.
    #[serde(skip)]
    pub conntrack_state: Option<ConntrackState>,
    /// Advice of the other end's record, where it is not that of its code.
    #[serde(skip)]
    pub advice_of_sender: Option<&'static str>,
    /// Whether the cause follows from another record: its rule need not hold of this one.
    #[serde(skip)]
    pub is_cause_of_another: bool,
}

/// End of an earlier connection between the same ends.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ending {
    /// Time since this host closed it, milliseconds.
    pub closed_ms: f64,
    /// Time from its opening to its close, milliseconds; `None` if it was opened before the start of the trace.
    pub lifetime_ms: Option<f64>,
    /// Time between the last data in either direction and the close, milliseconds; `None` where the clock tick is not known.
    pub idle_ms: Option<f64>,
    /// Whether this host's process aborted it, with data unread or with `SO_LINGER` at 0.
    pub was_aborted: bool,
    /// Whose data were the last before the close (`LAST_DATA_*`).
    pub last_data: u8,
    /// Bytes received, the peer's FIN included.
    pub bytes_received: u32,
    /// Bytes sent.
    pub bytes_sent: u32,
    /// Error of the socket at the close (`sk_err`), positive `errno`; 0 when the process or both sides had closed.
    pub error: u16,
    /// The peer's last window, bytes.
    pub window: u32,
    /// State before the close (`TCP_*`).
    pub state: u8,
    /// Role of this host's end (`ROLE_*`).
    pub role: u8,
    /// Smoothed round trip time, microseconds; `None` if it was not measured.
    #[serde(default)]
    pub rtt_us: Option<u32>,
}

impl Ending {
    /// Role of this host's end; `None` where it is not known.
    pub const fn role(&self) -> Option<Role> {
        match self.role {
            ROLE_CLIENT => Some(Role::Client),
            ROLE_SERVER => Some(Role::Server),
            _ => None,
        }
    }
}

/// Relation of a reset to those shortly before it, from a bounded memory. Counts are 0 where nothing was remembered.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Correlation {
    /// Other connections to the peer's address and port that broke within the second before.
    #[serde(skip_serializing_if = "is_default")]
    pub broken: u32,
    /// Those of them that broke within a tenth of a second.
    #[serde(skip_serializing_if = "is_default")]
    pub broken_at_once: u32,
    /// Those of the latter whose idle time differs from this connection's: no timeout ends these together.
    #[serde(skip_serializing_if = "is_default")]
    pub silent_otherwise: u32,
    /// Those of them whose idle time differs from this connection's.
    #[serde(skip_serializing_if = "is_default")]
    pub broken_otherwise_idle: u32,
    /// Time since the first of them broke, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub broken_since_ms: f64,
    /// Those that broke within a tenth of a second of this one's end, a reset or the peer's FIN, without any FIN.
    #[serde(skip_serializing_if = "is_default")]
    pub aborted_at_once: u32,
    /// Those of the latter whose idle time differs from this connection's.
    #[serde(skip_serializing_if = "is_default")]
    pub aborted_otherwise: u32,
    /// Time since the peer's address and port last refused a connection, or, for a refused connection, since connections
    /// to it last broke. Milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub refused_ms: Option<f64>,
    /// Connections to the peer's address and port that broke right after their handshake within the second before.
    #[serde(skip_serializing_if = "is_default")]
    pub newborn: u32,
    /// Consecutive earlier connections to the peer's address and port that broke on their first data.
    #[serde(skip_serializing_if = "is_default")]
    pub first_data: u32,
    /// Time since the first of them, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub first_data_since_ms: f64,
    /// Earlier connections that this peer opened to this port and reset without data, not all at once.
    #[serde(skip_serializing_if = "is_default")]
    pub probes: u32,
    /// Time since the last of them, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub probe_gap_ms: f64,
    /// Earlier connections of equal size, at equal intervals, between these hosts and on this service's port.
    #[serde(skip_serializing_if = "is_default")]
    pub checks: u32,
    /// That interval, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub check_interval_ms: f64,
    /// Record of the last reset between these two ends, of this connection or of one before; 0 without one.
    #[serde(skip_serializing_if = "is_default")]
    pub same_connection_record: u64,
    /// Time since another reset of the same connection, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub same_connection_ms: Option<f64>,
    /// Round trip of that connection, milliseconds; 0 where it was not measured.
    #[serde(skip_serializing_if = "is_default")]
    pub same_connection_rtt_ms: f64,
    /// Whether that reset answered a segment of the peer's.
    #[serde(skip_serializing_if = "is_default")]
    pub same_connection_was_sending: bool,
    /// Different closed ports that the peer has tried within a minute, including this one.
    #[serde(skip_serializing_if = "is_default")]
    pub closed_ports: u32,
    /// Sockets that this process reset within the tenth of a second before.
    #[serde(skip_serializing_if = "is_default")]
    pub same_process: u32,
    /// Connections of the same client, or of this process to its servers, that ended before this one in the same burst.
    #[serde(skip_serializing_if = "is_default")]
    pub ended_before: u32,
    /// Those of the newest of them whose requests had waited for another time.
    #[serde(skip_serializing_if = "is_default")]
    pub ended_otherwise: u32,
    /// Time since the first of them ended, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub ended_since_ms: f64,
    /// The end of the owner's process, where another reset has shown that.
    #[serde(skip_serializing_if = "is_default")]
    pub owner_exited: Option<OwnerExit>,
    /// Time since a listener on this local port closed or its process died, milliseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub listener_gone_ms: Option<f64>,
    /// TTL of an earlier packet that is known to be the peer's own.
    #[serde(skip_serializing_if = "is_default")]
    pub peer_ttl: Option<u8>,
    /// Shortest observed round trip to the peer's address, microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub peer_rtt_us: Option<u32>,
}

/// The end of a process before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct OwnerExit {
    /// Time since it ended, milliseconds.
    pub since_ms: f64,
    /// Its exit code (`task_struct.exit_code`); `None` where it was not seen.
    pub code: Option<u32>,
}

/// Processes that were found with a socket after its reset.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct HolderFindings {
    /// First process that a scan of all open files found with the socket.
    #[serde(skip_serializing_if = "is_default")]
    pub holder: Option<KernelTask>,
    /// Whether that scan found another process with the socket as well.
    #[serde(skip_serializing_if = "is_default")]
    pub multiple_holders: bool,
    /// Descriptors of the socket that that scan found.
    #[serde(skip_serializing_if = "is_default")]
    pub descriptors: u32,
    /// Whether that scan found the remembered owner among the holders.
    #[serde(skip_serializing_if = "is_default")]
    pub owner_holds: bool,
    /// Process that closed the socket for the last time.
    #[serde(skip_serializing_if = "is_default")]
    pub closer: Option<KernelTask>,
    /// Whether the socket has been destroyed: nothing more will be found.
    #[serde(skip_serializing_if = "is_default")]
    pub gone: bool,
}

/// A process as the kernel side describes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KernelTask {
    /// PID (thread group id).
    pub tgid: u32,
    /// Start time on the boot clock, nanoseconds. With the PID it identifies a process until the next boot.
    pub start_boottime_ns: u64,
    /// Real user id; `None` when it was not read.
    pub uid: Option<u32>,
    /// `comm`, with invalid UTF-8 replaced. Untrusted.
    pub comm: Arc<str>,
}

/// Whether a field has the value that it has in a recording without it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
