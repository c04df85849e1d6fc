//! Causes of received resets of connections that this host serves: what their clients did.

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CauseSpec, GUESS, LIKELY},
    connection_view::ReceivedReset,
    evidence::before_reset,
    received::idle_time,
    sent::{CHECKS_MIN, regular_checks},
    timeouts::Timeouts,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Longest age of a health check's connection.
const PROBE_MAX_MS: f64 = 5_000.0;
/// Waiting time of a request from which on its client may have lost patience, milliseconds.
pub(super) const WAITED_MIN_MS: f64 = 500.0;
/// Longest time from the handshake to the end of a client's first request, milliseconds.
const FIRST_REQUEST_MS: f64 = 100.0;
/// Longest time after our last data in which the client may still be taking our answer, milliseconds.
const ANSWERING_MS: f64 = 1_000.0;
/// Shortest time for which a process keeps a connection after its client's FIN that is no delay, milliseconds.
const LEAKED_MIN_MS: f64 = 1_000.0;

pub(super) static HEALTH_PROBE: CauseSpec = CauseSpec {
    code: "health-probe",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::None,
    rule: health_probe,
    evidence: probed_again,
    summary: "A health check connected and reset at once.",
    advice: "Nothing; it is harmless. To keep it out of the output: --no-benign.",
    shows_by: "We are the server, no byte went either way, and the same source has done so before at a distance; or the same source has ended at least three connections of equal size before, at equal intervals.",
};

fn health_probe(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = ReceivedReset::of(reset).filter(|view| view.has_role(Role::Server))?;
    if reset.internals.correlation.checks >= CHECKS_MIN {
        return LIKELY;
    }
    if !view.in_use() || !view.exchanged_no_data() || view.is_of_unknown_connection() {
        return None;
    }
    let short = reset.internals.established_ms.or(view.socket.age_ms).is_none_or(|since| since <= PROBE_MAX_MS);
    (short && reset.internals.correlation.probes >= 1).then_some(CauseConfidence::Likely)
}

fn probed_again(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    if reset.internals.correlation.checks >= CHECKS_MIN {
        return regular_checks(reset, timeouts, evidence);
    }
    let earlier = &reset.internals.correlation;
    let last = human_duration(earlier.probe_gap_ms);
    match earlier.probes {
        1 => evidence.push(format_args!("the same source has done so once, last {last} before")),
        probes => evidence.push(format_args!("the same source has done so {probes} times, last {last} before")),
    }
}

pub(super) static LEAKED_SOCKET: CauseSpec = CauseSpec {
    code: "leaked-socket",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Local,
    rule: leaked_socket,
    evidence: held_since_fin,
    summary: "Our process had kept the connection open after the client's FIN, and the client began anew.",
    advice: "Make the process close a connection at its end of stream; it leaks sockets in CLOSE_WAIT.",
    shows_by: "We are the server, in CLOSE_WAIT for at least a second with nothing to send, and the reset has no timestamp, or the connection has none: it answers for a connection that the client no longer has, often a new one on the same ports.",
};

fn leaked_socket(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view =
        ReceivedReset::of(reset).filter(|view| view.has_role(Role::Server) && view.state() == tcp::CLOSE_WAIT)?;
    let held = view.socket.fin_received_ms.is_none_or(|fin| fin >= LEAKED_MIN_MS);
    match view.timestamp() {
        _ if !held || view.is_sending() => None,
        Some(true) => None,
        Some(false) => LIKELY,
        None => GUESS,
    }
}

fn held_since_fin(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    match reset.socket.as_ref().and_then(|socket| socket.fin_received_ms) {
        Some(fin) => evidence.push(format_args!(
            "the process has held the connection for {} since the client's FIN without closing it",
            human_duration(fin)
        )),
        None => {
            evidence.push("the client's FIN had come before rsttrace was started, and the process has not closed it");
        }
    }
}

pub(super) static CLIENT_GAVE_UP: CauseSpec = CauseSpec {
    code: "client-gave-up",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Local,
    rule: client_gave_up,
    evidence: waiting_time,
    summary: "The client ended the connection before our answer.",
    advice: "Answer faster, or raise the client's timeout.",
    shows_by: "We are the server, the client had waited half a second or more for our first byte, and reset, or had closed when our answer came.",
};

fn client_gave_up(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let waited = waited_for_answer_ms(reset)?;
    (waited >= WAITED_MIN_MS).then_some(CauseConfidence::Likely)
}

/// Time for which the client of a served connection had waited for the first byte of our answer when it ended the
/// connection, milliseconds. `None` if it had not waited, or not for us.
pub(super) fn waited_for_answer_ms(reset: &Reset) -> Option<f64> {
    let view = served(reset)?;
    let asked = view.socket.since_receive_ms?;
    if let Some(fin) = view.socket.fin_received_ms {
        // Nothing of the answer had reached the client when it closed.
        let began = reset.internals.burst_ms.or(view.socket.since_send_ms)?;
        let has_arrived = began > fin + view.rtt_ms().unwrap_or(0.0) + view.tick_ms();
        let late = view.is_sending() && !has_arrived && !has_begun_first_answer(view);
        return late.then_some((asked - fin).max(0.0));
    }
    view.request_outstanding().then_some(asked)
}

/// Returns whether the client's first request has been answered in part: nothing else was asked, and the client has
/// acknowledged data.
fn has_begun_first_answer(view: ReceivedReset<'_>) -> bool {
    let is_first = view
        .socket
        .since_receive_ms
        .zip(view.reset.internals.established_ms)
        .is_some_and(|(asked, established)| established - asked <= FIRST_REQUEST_MS + view.rtt_ms().unwrap_or(0.0));
    is_first && view.socket.bytes_acked.is_some_and(|bytes| bytes > 0)
}

/// The view of a reset of a connection that this host serves, made by something that knew the connection, or after its FIN.
pub(super) fn served(reset: &Reset) -> Option<ReceivedReset<'_>> {
    let view = ReceivedReset::of(reset).filter(|view| view.has_role(Role::Server))?;
    let answered_last = matches!(view.state(), tcp::LAST_ACK | tcp::CLOSING) && view.is_sending();
    ((view.in_use() || answered_last) && !view.is_of_unknown_connection()).then_some(view)
}

pub(super) static CLIENT_CANCELLED: CauseSpec = CauseSpec {
    code: "client-cancelled",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::None,
    rule: client_cancelled,
    evidence: answer_under_way,
    summary: "The client ended the connection while our answer was on its way.",
    advice: "Nothing; the client had stopped the transfer (a closed tab, a full pipe, a limit of its own).",
    shows_by: "We are the server, had begun to answer, and the client reset the connection, or had closed it, in the middle of our answer or within a second after; or it had asked less than half a second before.",
};

fn client_cancelled(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = served(reset)?;
    if view.is_sending() {
        return LIKELY;
    }
    if view.state() == tcp::CLOSE_WAIT {
        return None;
    }
    let answered_lately = view.has_sent() && view.socket.since_send_ms.is_some_and(|since| since <= ANSWERING_MS);
    match view.timestamp() {
        _ if !view.has_received() => None,
        Some(true) if answered_lately || view.request_outstanding() => LIKELY,
        _ if answered_lately || view.request_outstanding() => GUESS,
        _ => None,
    }
}

/// Returns whether the reset is about an answer of this side: one that was under way, or that the client no longer awaited.
pub(super) fn is_about_answer(reset: &Reset, timeouts: &Timeouts) -> bool {
    client_gave_up(reset, timeouts).or_else(|| client_cancelled(reset, timeouts)).is_some()
}

fn answer_under_way(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    if let Some(acknowledged) = reset.internals.since_ack_ms {
        evidence.push(format_args!("the client had acknowledged data {}", before_reset(acknowledged)));
    }
    if reset.segment.timestamp == Some(true) {
        evidence.push("the reset carries the client's timestamp: a process there ended the connection");
    }
    waiting_time(reset, timeouts, evidence);
}

/// Tells how long the last request had waited for its response; otherwise how long the connection was idle.
pub(super) fn waiting_time(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(view) = ReceivedReset::of(reset) else { return };
    let asked = match view.socket.role {
        Some(Role::Server) => view.socket.since_receive_ms,
        _ => view.socket.since_send_ms,
    };
    match asked.filter(|&asked| view.request_outstanding() && asked >= WAITED_MIN_MS) {
        Some(asked) => {
            let round = if is_round(asked) { ", a round figure, as timeouts have" } else { "" };
            let asked = human_duration(asked);
            evidence.push(format_args!("the last request had waited {asked} for an answer{round}"));
        }
        None => idle_time(reset, timeouts, evidence),
    }
}

/// Returns whether a time is close to one that is commonly configured as a timeout: within 2 %, and within half a
/// second.
fn is_round(ms: f64) -> bool {
    [1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0]
        .iter()
        .any(|seconds| (ms / 1000.0 - seconds).abs() <= (seconds / 50.0).min(0.5))
}
