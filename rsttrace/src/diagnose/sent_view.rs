//! View of a sent reset: questions that several rules ask.

use rsttrace_common::abi::{tcp, tcp_flag};

use crate::model::{Direction, Reset};

/// Returns whether data came for a connection that this side had closed and the peer had not.
pub(super) fn is_after_close(reset: &Reset) -> bool {
    // The state FIN_WAIT2 lives on as a sub-state of TIME_WAIT.
    if reset.internals.time_wait_substate == Some(tcp::FIN_WAIT2) {
        return true;
    }
    // A socket that the kernel closed because data came (`tcp_rcv_state_process`), before it answered them.
    if reset.provoked_by.is_some() && reset.internals.raw_state == tcp::CLOSE {
        return true;
    }
    // The socket has gone since: nothing, or a listener, answers.
    meets_no_connection(reset)
        && reset
            .internals
            .ending
            .as_ref()
            .is_some_and(|ending| ending.error == 0 && matches!(ending.state, tcp::FIN_WAIT1 | tcp::FIN_WAIT2))
}

/// Returns whether the reset answers a segment, other than a SYN, for which this host had no connection: it met no socket,
/// or a listener. What the listener says of it does not depend on the connection, so neither does the cause.
pub(super) fn meets_no_connection(reset: &Reset) -> bool {
    let Some(packet) = reset.provoked_by else { return false };
    let opens = packet.flags.0 & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
    reset.internals.netfilter_hook == 0 && !opens && (reset.socket.is_none() || is_by_listener(reset))
}

/// Returns whether a listener sent the reset.
pub(super) fn is_by_listener(reset: &Reset) -> bool {
    reset.internals.raw_state == tcp::LISTEN
}

/// Returns whether the kernel gave no reason for the reset: it has none for answers to packets before 6.10, and none
/// for other resets before 6.12.
pub(super) fn has_no_reason(reset: &Reset) -> bool {
    reset.reason.as_deref().is_none_or(|given| given == "NOT_SPECIFIED")
}

pub(super) fn reason_is(reset: &Reset, reason: &str) -> bool {
    reset.reason.as_deref() == Some(reason)
}

/// Returns whether the kernel gave this reason, or none.
pub(super) fn reason_allows(reset: &Reset, reason: &str) -> bool {
    has_no_reason(reset) || reason_is(reset, reason)
}

/// Returns whether the kernel sent the reset for a socket and in answer to no packet (`tcp_send_active_reset`).
pub(super) fn is_active(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.provoked_by.is_none() && reset.socket.is_some()
}

/// Returns whether the reset was active and the connection open: no process was closing the socket.
pub(super) fn is_while_open(reset: &Reset) -> bool {
    is_active(reset) && reset.internals.raw_state != tcp::CLOSE
}

/// Returns whether a task aborted an open connection: neither a timer nor a close, which both go without one.
pub(super) fn is_by_another_task(reset: &Reset) -> bool {
    is_while_open(reset) && reset.internals.holder.is_some()
}

/// Returns whether the reset was active and came from the close of the socket.
pub(super) fn is_by_close(reset: &Reset) -> bool {
    is_active(reset) && reset.internals.raw_state == tcp::CLOSE
}

/// Returns whether the reset was active and the last descriptor of the socket had been closed before.
pub(super) fn is_orphan(reset: &Reset) -> bool {
    is_active(reset) && reset.internals.dead
}
