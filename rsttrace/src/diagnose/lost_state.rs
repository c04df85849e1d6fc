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
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Sender},
    util::human_duration,
};

/// Shortest silence that a known timeout of a device on the path explains, milliseconds.
const SILENCE_MIN_MS: f64 = 10_000.0;

/// The view of a reset of a connection in use, made by something that did not know the connection.
fn of_unknown_connection(reset: &Reset) -> Option<ReceivedReset<'_>> {
    ReceivedReset::of(reset).filter(|view| view.in_use() && view.is_of_unknown_connection())
}

pub(super) static PATH_LOST_STATE: CauseSpec = CauseSpec {
    code: "path-lost-state",
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
pub(super) fn is_unprovoked(reset: &Reset) -> bool {
    of_unknown_connection(reset).is_some_and(|view| !view.may_have_provoked())
}

pub(super) static PEER_LOST_STATE: CauseSpec = CauseSpec {
    code: "peer-lost-state",
    direction: Some(Direction::Received),
    sender: Sender::Unknown,
    fault: Fault::Unknown,
    rule: peer_lost_state,
    evidence: no_timestamp,
    summary: "What answers under the peer's address no longer knew the connection.",
    advice: "Look for a restart or failover of the peer's host, or of a NAT, load balancer or firewall between; the peer's process did not do it, and may still have the connection.",
    shows_by: "The reset has no timestamp, though the connection has them, and no FIN had come.",
};

fn peer_lost_state(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    of_unknown_connection(reset).and(LIKELY)
}
