//! Connections that this host's kernel gave up: after a timer, or for want of memory.

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CERTAIN, CauseSpec, no_evidence},
    sent_view::{has_no_reason, is_by_another_task, is_orphan, is_while_open, reason_allows, reason_is},
    timeouts::Timeouts,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Sender},
    util::human_duration,
};

pub(super) static USER_TIMEOUT: CauseSpec = CauseSpec {
    code: "user-timeout",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Path,
    rule: user_timeout,
    evidence: user_timeout_limit,
    summary: "The peer did not answer for as long as TCP_USER_TIMEOUT allows.",
    advice: "Look for a silent peer or a path that drops packets.",
    shows_by: "Like keepalive-timeout, but TCP_USER_TIMEOUT is set, and nothing was received for that long. With data in flight Linux gives up without any reset.",
};

/// Fires if a timer's reset came after a silence as long as `TCP_USER_TIMEOUT`. The timer (`tcp_keepalive_timer`) does
/// not tell which of its two limits was reached.
fn user_timeout(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let limit = reset.internals.user_timeout_ms;
    let heard = reset.socket.as_ref().and_then(|socket| socket.since_receive_ms);
    (is_keepalive_expiry(reset) && limit > 0 && heard.is_none_or(|heard| heard >= f64::from(limit)))
        .then_some(CauseConfidence::Likely)
}

fn user_timeout_limit(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    evidence.push(format_args!("TCP_USER_TIMEOUT was {}", human_duration(f64::from(reset.internals.user_timeout_ms))));
}

pub(super) static KEEPALIVE_TIMEOUT: CauseSpec = CauseSpec {
    code: "keepalive-timeout",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: keepalive_timeout,
    evidence: no_evidence,
    summary: "The peer answered no keep-alive probe.",
    advice: "The peer or something between has gone or forgotten the connection; lower the keep-alive time below its idle limit.",
    shows_by: "A timer's reset while the socket was open, with keep-alive on and probes unanswered.",
};

fn keepalive_timeout(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    is_keepalive_expiry(reset).then_some(CauseConfidence::Certain)
}

/// Returns whether the keep-alive timer reset an open connection.
fn is_keepalive_expiry(reset: &Reset) -> bool {
    is_while_open(reset)
        && reset.internals.holder.is_none()
        && (reason_is(reset, "TCP_KEEPALIVE_TIMEOUT")
            || has_no_reason(reset) && reset.internals.keepalive && reset.internals.probes_out > 0)
}

pub(super) static OUT_OF_MEMORY: CauseSpec = CauseSpec {
    code: "out-of-memory",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Local,
    rule: out_of_memory,
    evidence: no_evidence,
    summary: "The kernel ran out of TCP memory or of orphaned sockets.",
    advice: "Look at net.ipv4.tcp_mem and net.ipv4.tcp_max_orphans, and at what holds so many sockets.",
    shows_by: "An orphan was reset before its timeout; the kernel's reason is TCP_ABORT_ON_MEMORY.",
};

fn out_of_memory(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reason_is(reset, "TCP_ABORT_ON_MEMORY") {
        return CERTAIN;
    }
    let state = reset.socket.as_ref()?.state.0;
    let unfinished = matches!(state, tcp::FIN_WAIT1 | tcp::CLOSING | tcp::LAST_ACK);
    (is_orphan(reset) && unfinished && has_no_reason(reset) && !is_by_another_task(reset))
        .then_some(CauseConfidence::Likely)
}

pub(super) static LINGER2_EXPIRED: CauseSpec = CauseSpec {
    code: "linger2-expired",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::None,
    rule: linger2_expired,
    evidence: no_evidence,
    summary: "The peer did not close in the time that TCP_LINGER2 or net.ipv4.tcp_fin_timeout allows.",
    advice: "Nothing; this side has long closed.",
    shows_by: "An orphan in FIN_WAIT2 was reset by its timer, or immediately where TCP_LINGER2 is negative.",
};

fn linger2_expired(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reason_is(reset, "TCP_ABORT_ON_LINGER") {
        return CERTAIN;
    }
    // The timer gives TCP_STATE; without a reason, a close in FIN_WAIT2 is reset for nothing else.
    let waits = reset.socket.as_ref()?.state.0 == tcp::FIN_WAIT2;
    let by_timer = reset.internals.holder.is_none() && reason_allows(reset, "TCP_STATE");
    (is_orphan(reset) && waits && (by_timer || has_no_reason(reset)) && !is_by_another_task(reset))
        .then_some(CauseConfidence::Likely)
}
