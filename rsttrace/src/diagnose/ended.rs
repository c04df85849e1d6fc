//! Sent resets for connections that this host had ended before: their aftermath, and what came too late.

use rsttrace_common::{
    abi::{ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT, tcp, tcp_flag},
    event::{LAST_DATA_RECEIVED, LAST_DATA_SENT},
};

use super::{
    catalogue::{CauseSpec, LIKELY},
    sent_view::{is_after_close, meets_no_connection},
    serving::WAITED_MIN_MS,
    timeouts::Timeouts,
};
use crate::{
    model::{
        CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender,
        internals::{Correlation, Ending},
    },
    util::human_duration,
};

/// Longest time, beyond two round trips, in which segments that were on their way when a reset was sent may still come,
/// milliseconds.
const AFTERMATH_MS: f64 = 5.0;
/// The longest such time after a reset that answered a segment or left data unread: the peer was sending, and sends again what the reset, if it
/// was lost, did not stop (`TCP_RTO_MIN` is 200 ms), milliseconds.
const AFTERMATH_SENDING_MS: f64 = 250.0;
/// Longest time in which they may still come where no round trip was measured, milliseconds.
const AFTERMATH_UNMEASURED_MS: f64 = 200.0;

pub(super) static AFTERMATH: CauseSpec = CauseSpec {
    code: "aftermath",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::None,
    rule: aftermath,
    evidence: other_reset,
    summary: "A late segment of a connection that had just been reset.",
    advice: "Nothing by itself; see the other reset of the same connection at this moment.",
    shows_by: "A segment came for a connection that this host does not know, so soon after another reset of it (two round trips and some milliseconds) that it was on its way then. The kernel may report the two in either order.",
};

fn aftermath(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if !meets_no_connection(reset) {
        return None;
    }
    if let Some(since) = reset.internals.correlation.same_connection_ms {
        let Correlation { same_connection_rtt_ms: rtt, same_connection_was_sending, .. } = reset.internals.correlation;
        let slack = if same_connection_was_sending { AFTERMATH_SENDING_MS } else { AFTERMATH_MS };
        let limit = if rtt > 0.0 { 2.0 * rtt + slack } else { AFTERMATH_UNMEASURED_MS };
        return (since <= limit).then_some(CauseConfidence::Certain);
    }
    // The other reset is yet to be reported, or was filtered out, or lost.
    let ending = reset.internals.ending.as_ref().filter(|ending| ending.closed_ms <= AFTERMATH_SENDING_MS)?;
    let by_reset = ending.was_aborted || matches!(ending.error, ECONNRESET | EPIPE | ECONNREFUSED);
    by_reset.then_some(CauseConfidence::Likely)
}

fn other_reset(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(since) = reset.internals.correlation.same_connection_ms {
        evidence.push(format_args!("this connection was reset {} before", human_duration(since)));
    } else if let Some(ending) = &reset.internals.ending {
        evidence
            .push(format_args!("this connection had ended {} before, by a reset", human_duration(ending.closed_ms)));
    }
}

pub(super) static GIVEN_UP_EARLIER: CauseSpec = CauseSpec {
    code: "given-up-earlier",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Path,
    rule: given_up_earlier,
    evidence: given_up,
    summary: "The peer sent on a connection that this host had given up because nothing was acknowledged.",
    advice: "Look for an outage of the path or of the peer at the time of the evidence; this reset only tells that the peer is back.",
    shows_by: "The last connection between these ends was closed by a timer (ETIMEDOUT: retransmissions, TCP_USER_TIMEOUT, keep-alive), without a reset.",
};

fn given_up_earlier(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    timed_out(reset).filter(|ending| ending.window > 0 || ending.state == tcp::SYN_SENT).and(LIKELY)
}

/// The end of the connection, if a timer made it.
fn timed_out(reset: &Reset) -> Option<&Ending> {
    reset.internals.ending.as_ref().filter(|ending| meets_no_connection(reset) && ending.error == ETIMEDOUT)
}

fn given_up(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(ending) = &reset.internals.ending else { return };
    let closed = human_duration(ending.closed_ms);
    evidence.push(format_args!("this host gave the connection up {closed} before, without an answer of the peer"));
    if let Some(idle) = ending.idle_ms {
        evidence.push(format_args!("it had last sent or received data {} before that", human_duration(idle)));
    }
    if ending.window == 0 && ending.state != tcp::SYN_SENT {
        evidence.push("the peer's window was 0: it had stopped reading");
    }
}

pub(super) static PEER_STOPPED_READING: CauseSpec = CauseSpec {
    code: "peer-stopped-reading",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: peer_stopped_reading,
    evidence: given_up,
    summary: "The peer sent on a connection that this host had given up because the peer had stopped reading.",
    advice: "Look for what kept the peer's process from reading (blocked, stopped, overloaded) at the time of the evidence.",
    shows_by: "As given-up-earlier, and the peer's window was 0.",
};

fn peer_stopped_reading(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    timed_out(reset).filter(|ending| ending.window == 0 && ending.state != tcp::SYN_SENT).and(LIKELY)
}

pub(super) static GAVE_UP_WAITING: CauseSpec = CauseSpec {
    code: "gave-up-waiting",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Local,
    rule: gave_up_waiting,
    evidence: gave_up,
    summary: "The answer came after this side's process had stopped waiting for it.",
    advice: "Make the process wait longer, or find out why the peer answers late.",
    shows_by: "We are the client, and had closed the connection, or given up connecting, with a request unanswered for half a second or more; then the answer (data, or a SYN-ACK) came.",
};

fn gave_up_waiting(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if let Some(ending) = connect_given_up(reset) {
        // Without an error it was the process that ended the attempt.
        return (ending.error == 0).then_some(CauseConfidence::Certain);
    }
    let (role, last) = last_data_at_close(reset)?;
    // One that ends sooner has not lost patience.
    let has_waited = reset.closing_times().1.is_none_or(|waited| waited >= WAITED_MIN_MS);
    let is_unanswered = role == Role::Client && last == LastData::Sent && is_after_close(reset);
    (is_unanswered && has_waited).then_some(CauseConfidence::Likely)
}

/// The end of an attempt to connect, answered too late.
fn connect_given_up(reset: &Reset) -> Option<&Ending> {
    let answers_syn = reset.provoked_by?.flags.0 & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN | tcp_flag::ACK;
    let ending = reset.internals.ending.as_ref()?;
    (answers_syn && meets_no_connection(reset) && ending.state == tcp::SYN_SENT).then_some(ending)
}

/// Whose data were the last before this side closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LastData {
    /// This side's.
    Sent,
    /// The peer's.
    Received,
    /// Both sent within one tick of the clock, or neither.
    Unclear,
}

/// Role of this end, and whose data were the last before it closed. `None` where that is not known.
pub(super) fn last_data_at_close(reset: &Reset) -> Option<(Role, LastData)> {
    if let Some(ending) = &reset.internals.ending {
        let last = match ending.last_data {
            LAST_DATA_SENT => LastData::Sent,
            LAST_DATA_RECEIVED => LastData::Received,
            _ => LastData::Unclear,
        };
        return Some((ending.role()?, last));
    }
    let socket = reset.socket.as_ref()?;
    let last = match (socket.since_send_ms, socket.since_receive_ms) {
        (Some(send), Some(receive)) if send < receive => LastData::Sent,
        (Some(send), Some(receive)) if receive < send => LastData::Received,
        (Some(_), None) => LastData::Sent,
        (None, Some(_)) => LastData::Received,
        _ => LastData::Unclear,
    };
    Some((socket.role?, last))
}

fn gave_up(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(ending) = connect_given_up(reset) {
        let closed = human_duration(ending.closed_ms);
        match ending.lifetime_ms {
            Some(lifetime) => evidence.push(format_args!(
                "the process had given up this attempt to connect {closed} before, {} after its first SYN",
                human_duration(lifetime)
            )),
            None => evidence.push(format_args!("the process had given up this attempt to connect {closed} before")),
        }
        return;
    }
    let (closed, waited) = reset.closing_times();
    if let Some(closed) = closed {
        evidence.push(format_args!("the process had closed the connection {} before", human_duration(closed)));
    }
    if let Some(waited) = waited {
        evidence.push(format_args!("it had waited {} for an answer by then", human_duration(waited)));
    }
}

pub(super) static CLEARED_OLD_CONNECTION: CauseSpec = CauseSpec {
    code: "cleared-old-connection",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::None,
    rule: cleared_old_connection,
    evidence: super::catalogue::no_evidence,
    summary: "Our SYN met an old connection at the peer; this reset clears it, and the next SYN connects.",
    advice: "Nothing here; a process at the peer may not have closed the old connection.",
    shows_by: "The connection was in SYN_SENT, and an acknowledgement that belongs to an older connection came in place of the SYN's answer (RFC 5961, 4.2).",
};

fn cleared_old_connection(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let flags = reset.provoked_by?.flags.0;
    let acknowledges = flags & (tcp_flag::SYN | tcp_flag::RST | tcp_flag::ACK) == tcp_flag::ACK;
    if reset.internals.raw_state == tcp::SYN_SENT && acknowledges { LIKELY } else { None }
}
