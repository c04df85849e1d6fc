//! Received resets from something that did not know the connection: a peer's kernel that has lost it, or a NAT, load balancer
//! or firewall between.
//!
//! What has no connection answers without its options: the reset has no timestamp on a connection that has them, and no FIN
//! came before it. No process made it.

use super::{
    catalogue::{CauseSpec, LIKELY},
    connection_view::ReceivedReset,
    evidence::before_reset,
    timeouts::{TimeoutKind, Timeouts},
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Least data that lie unread where a process has stopped reading, bytes: less than the smallest default buffer holds.
const STUCK_BYTES: u64 = 32_768;
/// Shortest time for which they lie there, milliseconds.
const STUCK_MS: f64 = 200.0;
/// Shortest silence that a known timeout of a device on the path explains, milliseconds.
const SILENCE_MIN_MS: f64 = 10_000.0;

/// The view of a reset of a connection in use, made by something that did not know the connection.
fn of_unknown_connection(reset: &Reset) -> Option<ReceivedReset<'_>> {
    ReceivedReset::of(reset).filter(|view| view.in_use() && view.is_of_unknown_connection())
}

pub(super) static STOPPED_READING: CauseSpec = CauseSpec {
    code: "stopped-reading",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Local,
    rule: stopped_reading,
    evidence: unread_for,
    summary: "Our process had stopped reading, and the peer had given the connection up or closed it meanwhile.",
    advice: "Find out what kept the process from reading (blocked, stopped, overloaded); a server may also have a limit for clients that do not read.",
    shows_by: "At least 32 KiB had lain unread for 200 ms or longer, so that the peer could send neither data nor its FIN; and the reset has no timestamp, though the connection has them.",
};

fn stopped_reading(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = of_unknown_connection(reset).filter(|view| view.has_foreign_ttl() != Some(true))?;
    let is_full = view.socket.unread_bytes.is_some_and(|bytes| bytes >= STUCK_BYTES);
    let is_stuck = view.socket.since_receive_ms.is_some_and(|since| since >= STUCK_MS);
    if is_full && is_stuck { LIKELY } else { None }
}

fn unread_for(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(socket) = &reset.socket else { return };
    if let (Some(bytes), Some(since)) = (socket.unread_bytes, socket.since_receive_ms) {
        let since = human_duration(since);
        evidence.push(format_args!("{bytes} bytes lay unread, and no data had come for {since}"));
    }
    no_timestamp(reset, timeouts, evidence);
}

/// Code of a reset by something on the path that has forgotten the connection.
pub(crate) const PATH_LOST_STATE_CODE: &str = "path-lost-state";

pub(super) static PATH_LOST_STATE: CauseSpec = CauseSpec {
    code: PATH_LOST_STATE_CODE,
    direction: Some(Direction::Received),
    sender: Sender::Path,
    fault: Fault::Path,
    rule: path_lost_state,
    evidence: no_timestamp,
    summary: "A NAT, load balancer or firewall on the way no longer knew the connection.",
    advice: "Send keep-alive probes more often than its idle timeout; or look for its restart, failover or full table at this moment.",
    shows_by: "The reset has no timestamp, though the connection has them, no FIN had come, and its TTL is not that of the peer's own packets, or the silence before matches a timeout of such a device.",
};

fn path_lost_state(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let view = of_unknown_connection(reset)?;
    // What has lost a connection answers data, or a probe; what injects resets need not wait for any.
    if view.has_foreign_ttl() == Some(true) && (view.has_unacked() || reset.internals.probes_out > 0) {
        return LIKELY;
    }
    let silence = view.relevant_idle_ms().filter(|&idle| idle >= SILENCE_MIN_MS)?;
    if timeouts.matches(silence, &[TimeoutKind::Path]) { LIKELY } else { None }
}

pub(super) fn no_timestamp(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    evidence.push(
        "the reset has no timestamp, though the connection has: it was made by something that did not know the connection",
    );
    let Some(view) = ReceivedReset::of(reset) else { return };
    if let Some(silence) = view.relevant_idle_ms().filter(|&silence| silence >= 1_000.0) {
        evidence.push(format_args!("there had been silence for {}", human_duration(silence)));
    }
    if let Some(acknowledged) = reset.internals.since_ack_ms {
        evidence.push(format_args!("the peer had acknowledged data {}", before_reset(acknowledged)));
    }
}

/// Returns whether something without the connection made the reset, and nothing of this side's can have provoked it: what
/// has no connection only answers.
///
/// A server may have answered a SYN from the ports of the connection, of a client that has lost it and begins anew, with an
/// acknowledgement (RFC 5961, 4.2), which leaves no trace in the socket.
pub(super) fn is_unprovoked(reset: &Reset) -> bool {
    of_unknown_connection(reset).is_some_and(|view| view.has_role(Role::Client) && !view.may_have_provoked())
}

pub(super) static PEER_LOST_STATE: CauseSpec = CauseSpec {
    code: "peer-lost-state",
    direction: Some(Direction::Received),
    sender: Sender::Unknown,
    fault: Fault::Unknown,
    rule: peer_lost_state,
    evidence: no_timestamp,
    summary: "Whatever answers at the peer's address no longer knows the connection.",
    advice: "Look for a restart or failover of the peer's host, or of a NAT, load balancer or firewall between; the peer's process did not do it, and may still have the connection.",
    shows_by: "The reset has no timestamp, though the connection has them, and no FIN had come.",
};

fn peer_lost_state(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    of_unknown_connection(reset).and(LIKELY)
}
