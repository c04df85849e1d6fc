//! Idle connections of pools: the end that keeps them for longer uses them when the other end closes them.
//!
//! Either end has its record of the same incident, and both name the client's side as the one that has something to change.

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CauseSpec, GUESS, LIKELY},
    connection_view::{FinOrder, ReceivedReset},
    ended::{LastData, last_data_at_close},
    received::{AT_WORK_MS, BUSY_MS, closed_by_end_of_peer, idle_time},
    sent_view::{is_after_close, is_by_close},
    timeouts::{TimeoutKind, TimeoutOwner, Timeouts},
    wire::is_captured,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Shortest silence before a request that an idle timeout of the peer ends, milliseconds.
const RACE_IDLE_MIN_MS: f64 = 1_000.0;
/// Shortest silence before a close that an idle timeout makes, milliseconds.
const IDLE_MIN_MS: f64 = 500.0;
/// Longest time between the arrival of a request and the close that leaves it unread, milliseconds: a process that stands
/// still for so long has its timers go off before it reads.
const UNREAD_MS: f64 = 1_000.0;

/// Time beyond two round trips in which data that crossed this side's FIN still come, where they were lost and sent again,
/// milliseconds: the shortest retransmission timeout (`TCP_RTO_MIN`), and the delay of a busy host.
const SENT_AGAIN_MS: f64 = 250.0;
/// Longest time in which they come where no round trip was measured, milliseconds: one of nearly 400 ms. It is the limit, whatever
/// the round trip is, where the close followed data at once.
const CROSSED_UNMEASURED_MS: f64 = 1_000.0;

/// References to a socket's file from which on more than one process may hold the connection.
const SHARED_MIN: u16 = 2;

pub(super) static REUSED_CLOSED_CONNECTION: CauseSpec = CauseSpec {
    code: "reused-closed-connection",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Local,
    rule: reused_closed_connection,
    evidence: sent_after_fin,
    summary: "The peer had closed the connection, and our side used it again.",
    advice: "Make the client's connection pool check that a connection is still open before reusing it, or keep idle connections for a shorter time than the server does.",
    shows_by: "We are the client, the peer's FIN had come, then we sent, and the reset answers that. A FIN that came after our data were sent does not count, nor one in the middle of an upload that the peer has answered early.",
};

fn reused_closed_connection(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view =
        ReceivedReset::of(reset).filter(|view| view.has_role(Role::Client) && !view.sends_despite_unread_response())?;
    let is_closed = matches!(view.state(), tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
    if !is_closed || view.fin_order() != FinOrder::BeforeSend || !view.has_unacked() || closed_by_end_of_peer(view) {
        return None;
    }
    let is_answer = view.answers_our_send() || view.answers_before_rto();
    match view.has_foreign_ttl() {
        Some(true) => None,
        // A closing alert to a peer that had closed.
        _ if is_answer && !view.may_be_closing_alert() => LIKELY,
        _ if is_answer || view.state() != tcp::CLOSE_WAIT => GUESS,
        _ => None,
    }
}

fn sent_after_fin(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(view) = ReceivedReset::of(reset) else { return };
    let bytes = view.socket.unacked_bytes.unwrap_or(0);
    match view.socket.fin_received_ms {
        Some(fin) => evidence.push(format_args!(
            "the peer's FIN had come {} before the reset, and only then were {bytes} bytes sent",
            human_duration(fin)
        )),
        None => evidence.push(format_args!(
            "the peer's FIN had come before rsttrace was started, and {bytes} bytes were sent since"
        )),
    }
    if let Some(silence) = view.silence_before_fin_ms().filter(|&silence| silence >= AT_WORK_MS) {
        let (time, known) = (human_duration(silence), timeouts.describe(silence, TimeoutOwner::of_peer(reset)));
        evidence.push(format_args!("the peer had closed after {time} of silence ({known})"));
    }
    if let Some(references) = reset.internals.file_refcount.filter(|&references| references >= SHARED_MIN) {
        evidence.push(format_args!(
            "{references} references to its file: other processes hold the connection (after a fork), or threads wait on it"
        ));
    }
    if view.may_be_closing_alert() {
        evidence.push(format_args!("{bytes} bytes may be a TLS closing alert, with which nothing is lost"));
    }
}

pub(super) static RACE_RECEIVED: CauseSpec = CauseSpec {
    code: "keepalive-race",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Local,
    rule: race_received,
    evidence: crossed,
    summary: "Our request and the peer's idle timeout crossed.",
    advice: "Keep idle connections in the client's pool for a shorter time than the server does, and retry such requests where that is safe.",
    shows_by: "We are the client, had exchanged data before, and nothing of an answer came to our last request. Either the peer's FIN crossed it on the path (they set out within one round trip), whatever our process did then; or no FIN came, the reset came at once, and the silence before matches a known timeout, or the reset has the peer's timestamp; or it has that, and came within a second to a request that had arrived.",
};

fn race_received(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let view = ReceivedReset::of(reset)
        .filter(|view| view.has_role(Role::Client) && view.has_received() && view.has_no_response())?;
    if view.has_foreign_ttl() == Some(true) || view.sends_despite_unread_response() {
        return None;
    }
    // The peer's kernel may have acknowledged a request that its process never read.
    let is_answer = view.answers_our_send() || view.answers_before_rto() || view.is_prompt();
    // The process may have read the end of the stream and closed in turn; the reset answers its request all the same.
    if matches!(view.state(), tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING) {
        // Or the request was sent again, because the answer took longer than usual.
        let is_lost = is_answer || view.has_unacked() && !view.has_unsent();
        let is_race = is_lost && view.crossed_with_fin() && !closed_by_end_of_peer(view);
        // No idle timeout is that short: a limit of requests, a reload, or the first victim of the peer's end.
        let is_busy = view.relevant_idle_ms().is_some_and(|idle| idle < BUSY_MS);
        return is_race.then_some(if is_busy { CauseConfidence::Guess } else { CauseConfidence::Likely });
    }
    let is_soon = is_answer || view.socket.since_send_ms.is_some_and(|since| since <= AT_WORK_MS);
    // Connections with other silences that broke within the second point to the end of the peer's process.
    let is_alone = reset.internals.correlation.broken_otherwise_idle == 0;
    if !is_soon || !view.in_use() || view.timestamp() == Some(false) || !is_alone {
        return None;
    }
    // A response that lies unread belongs to an upload that goes on, however long ago it came.
    if view.has_unread() {
        return None;
    }
    // On a fast network the request lay in the peer's queue when its timer went off, and no FIN came.
    let idle = view.socket.idle_before_send_ms.filter(|&idle| idle >= RACE_IDLE_MIN_MS)?;
    let is_known = timeouts.matches(idle, &[TimeoutKind::Server, TimeoutKind::Client]);
    match view.timestamp() {
        _ if is_known && is_answer => LIKELY,
        // Its process stood still: what a process has read of a request leaves a FIN when it closes, and no reset.
        Some(true) if is_known || is_answer || !view.is_sending() => GUESS,
        _ => None,
    }
}

fn crossed(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    idle_time(reset, timeouts, evidence);
    let Some(view) = ReceivedReset::of(reset) else { return };
    if let Some(fin) = view.socket.fin_received_ms {
        let (fin, bytes) = (human_duration(fin), view.socket.unacked_bytes.unwrap_or(0));
        evidence.push(format_args!(
            "the peer's FIN came {fin} before the reset, after {bytes} bytes of ours had been sent"
        ));
    }
    if view.timestamp() == Some(true) {
        evidence
            .push("the reset carries the peer's timestamp: a process there ended the connection, and had not answered");
    }
}

pub(super) static RACE_SENT: CauseSpec = CauseSpec {
    code: "keepalive-race",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: race_sent,
    evidence: closed_idle,
    summary: "This side closed an idle connection at about the time at which the peer used it again.",
    advice: "Keep idle connections for longer than the peers' pools do, or make those drop idle connections sooner and retry such requests.",
    shows_by: "We are the server, had answered everything, and had closed after at least half a second of silence; then the peer's next request came so soon that it may have crossed our FIN, or lay unread at the close. A guess where the peer had acknowledged the FIN more than 250 ms before, and the round trip is not known.",
};

fn race_sent(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let idle = idle_close_ms(reset).filter(|&idle| idle >= IDLE_MIN_MS)?;
    if is_captured(reset) && is_by_close(reset) {
        // The process may have read the request, and aborted for another reason.
        let is_known = timeouts.matches(idle, &[TimeoutKind::Server, TimeoutKind::Client]);
        return is_known.then_some(CauseConfidence::Guess);
    }
    if reused_after_ms(reset).is_some() {
        return None;
    }
    let knew = !is_by_close(reset) && !is_fin_unacked(reset);
    let is_late = knew && reset.closing_times().0.is_some_and(|closed| closed > SENT_AGAIN_MS);
    if is_late && rtt_ms(reset).is_none() { GUESS } else { LIKELY }
}

pub(super) static REUSED_SENT: CauseSpec = CauseSpec {
    code: "reused-closed-connection",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: reused_sent,
    evidence: closed_idle,
    summary: "The peer, a client, used a connection again that this side had closed before.",
    advice: "Make the pools of the peers check that a connection is still open before they reuse it, or keep idle connections for a shorter time than this side does.",
    shows_by: "We are the server, had answered everything, and had closed; the peer had acknowledged our FIN, and its next data came later than data that crossed it can: more than a second after the close or, where the round trip is known, than two of them and 250 ms. Where the connection had not been silent for half a second before the close, that may have been an early answer to an upload: then more than a second after it, and a guess.",
};

fn reused_sent(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let after = reused_after_ms(reset)?;
    match idle_close_ms(reset)? {
        idle if idle >= IDLE_MIN_MS => LIKELY,
        _ if after > CROSSED_UNMEASURED_MS => GUESS,
        _ => None,
    }
}

/// Time since this side's close in which the peer had learned of it before it sent, milliseconds; `None` where its data may have
/// crossed the FIN.
fn reused_after_ms(reset: &Reset) -> Option<f64> {
    if is_by_close(reset) || is_fin_unacked(reset) {
        return None;
    }
    let limit = rtt_ms(reset).map_or(CROSSED_UNMEASURED_MS, |rtt| 2.0 * rtt + SENT_AGAIN_MS);
    reset.closing_times().0.filter(|&closed| closed > limit)
}

/// Returns whether the peer had not acknowledged this side's FIN when its data came. Data and acknowledgements keep their order on
/// the path, so data that were sent before the FIN had arrived come before its acknowledgement, unless they are lost.
fn is_fin_unacked(reset: &Reset) -> bool {
    if reset.internals.time_wait_substate.is_some() {
        return false;
    }
    let of_socket = reset.socket.as_ref().filter(|socket| socket.bytes_sent.is_some()).map(|socket| socket.state.0);
    let state = of_socket.or_else(|| reset.internals.ending.as_ref().map(|ending| ending.state));
    matches!(state, Some(tcp::FIN_WAIT1 | tcp::CLOSING))
}

/// Round trip of the connection, milliseconds; `None` if it was not measured, or is not known any more.
fn rtt_ms(reset: &Reset) -> Option<f64> {
    let of_socket = reset.socket.as_ref().and_then(|socket| socket.rtt_us);
    let of_ending = || reset.internals.ending.as_ref().and_then(|ending| ending.rtt_us);
    of_socket.or_else(of_ending).map(|rtt| f64::from(rtt) / 1000.0)
}

pub(super) static PROCESS_ENDED: CauseSpec = CauseSpec {
    code: "process-ended",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Local,
    // Found after the owner is known.
    rule: |_, _| None,
    evidence: closed_idle,
    summary: "The process closed its connections and ended while the peer was using this one.",
    advice: "Drain the process (take it out of its clients' sight) before a reload or stop; if it was not stopped on purpose, find out what ended it (its log, dmesg).",
    shows_by: "We are the server, had answered everything, and had closed; the process has ended since, and its end or a stop is the reason of the close, however short the silence before was. Whether by a signal is not known: the kernel closed the socket in order.",
};

/// Makes a reset that answers data after the close of a connection in order one of the end of the process, where that has ended
/// since: it did not close because of a timeout, nor without reading.
pub(crate) fn leave(sent: &mut Reset) {
    let is_close = matches!(sent.cause.code, "data-after-close" | "keepalive-race");
    if is_close && sent.internals.closed_by_leaving && idle_close_ms(sent).is_some() {
        let lost_bytes = sent.cause.lost_bytes;
        sent.cause = super::cause(&PROCESS_ENDED, CauseConfidence::Likely);
        sent.cause.lost_bytes = lost_bytes;
    }
}

/// Silence on a connection that this side, a server, closed after it had answered everything, milliseconds; `None` for any
/// other reset.
fn idle_close_ms(reset: &Reset) -> Option<f64> {
    if is_by_close(reset) {
        // The next request lay in the queue when the timer went off.
        let socket = reset.socket.as_ref()?;
        let came = socket.since_receive_ms.filter(|&came| came <= UNREAD_MS)?;
        let answered = socket.since_send_ms?;
        let is_unread = match socket.unread_bytes {
            Some(bytes) => bytes > 0 && Some(bytes) < socket.bytes_received,
            // A capture does not show what was read.
            None => is_captured(reset),
        };
        let is_server = socket.role == Some(Role::Server) && !reset.internals.holder_exiting;
        // A process that had ended its sending before had closed then, as far as its peer saw.
        let closed = socket.fin_sent_ms.map_or(came, |fin| fin.max(came));
        return (is_unread && is_server).then_some(answered - closed);
    }
    let (role, last) = last_data_at_close(reset)?;
    let answered = match &reset.internals.ending {
        Some(ending) => ending.bytes_received > 1 && ending.bytes_sent > 0,
        None => reset.socket.as_ref().is_some_and(|socket| socket.bytes_received > Some(0)),
    };
    let silence = reset.closing_times().1?;
    (is_after_close(reset) && role == Role::Server && last != LastData::Received && answered).then_some(silence)
}

fn closed_idle(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(idle) = idle_close_ms(reset) else { return };
    if let Some(closed) = reset.closing_times().0.filter(|_| reset.internals.closed_by_leaving) {
        let (closed, idle) = (human_duration(closed), human_duration(idle));
        evidence.push(format_args!(
            "the process closed it {closed} before, after {idle} of silence, and has ended since: a reload or stop, unless a signal killed it"
        ));
        return;
    }
    let time = human_duration(idle);
    if idle < IDLE_MIN_MS {
        evidence.push(format_args!("this side closed {time} after the last data"));
    } else {
        let known = timeouts.describe(idle, TimeoutOwner::of_socket(reset));
        evidence.push(format_args!("this side closed after {time} of silence ({known})"));
    }
    let Some(closed) = reset.closing_times().0.filter(|_| !is_by_close(reset)) else {
        evidence.push(if is_captured(reset) {
            "the peer's next data had come just before"
        } else {
            "the peer's next data had come and were not read"
        });
        return;
    };
    let known = if is_fin_unacked(reset) {
        "it had not acknowledged our FIN by then"
    } else {
        "it had acknowledged our FIN before"
    };
    let closed = human_duration(closed);
    match rtt_ms(reset) {
        Some(rtt) => evidence.push(format_args!(
            "the peer's next data came {closed} after that, over a round trip of {}; {known}",
            human_duration(rtt)
        )),
        None => evidence.push(format_args!("the peer's next data came {closed} after that; {known}")),
    }
}
