//! Clients that end, or drop all of their connections: at the client's host and at the server's.
//!
//! The end of a load generator, a scanner, a page or a pod breaks dozens of connections in one moment. It is told by that: the
//! connections were open together and ended together, whatever each of them had been doing. Requests that have waited for
//! equally long ended by a timeout, which is the server's concern.

use rsttrace_common::abi::tcp;

use super::{
    burst::ConnectionEnd,
    catalogue::{CERTAIN, CauseSpec, GUESS, LIKELY},
    connection_view::ReceivedReset,
    correlation::before,
    ended::{LastData, last_data_at_close},
    evidence::pluralize,
    lost_bytes,
    process_end::{exit_code, exit_signal},
    sent_view::{is_after_close, is_by_close},
    serving::{self, WAITED_MIN_MS, served, waited_for_answer_ms},
    timeouts::Timeouts,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Connections that ended before in a burst from which on it is one.
const BURST_MIN: u32 = 2;

/// Signals that end a process on purpose: SIGHUP, SIGINT, SIGPIPE, SIGTERM.
const ORDINARY_SIGNALS: [u32; 4] = [1, 2, 13, 15];

const ADVICE: &str =
    "Nothing, if a program, a test or a page of the client ended then; otherwise find out what ended it.";

pub(super) static CLIENT_ENDED_RECEIVED: CauseSpec = CauseSpec {
    code: "client-ended",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::None,
    rule: peer_ended,
    evidence: with_others,
    summary: "The client ended, or dropped connections that it no longer used.",
    advice: ADVICE,
    shows_by: "We are the server, and connections of one client that were open together ended within a tenth of a second of each other, not all after the same waiting time; or, as a guess, a process of the client reset one connection on which nothing was outstanding.",
};

/// End of the connection of a client that this host serves.
pub(super) fn peers_end(reset: &Reset) -> Option<ConnectionEnd> {
    let view = served(reset).filter(|view| view.has_foreign_ttl() != Some(true))?;
    let now = reset.internals.ktime_ns;
    Some(ConnectionEnd {
        at: before(now, view.socket.fin_received_ms.unwrap_or(0.0)),
        opened: view.socket.age_ms.map(|age| before(now, age)),
        waited: waited_for_answer_ms(reset),
    })
}

fn peer_ended(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let view = served(reset).filter(|view| view.has_foreign_ttl() != Some(true))?;
    // Without a FIN or a timestamp it may have been something between.
    let is_clients = view.timestamp() == Some(true) || view.socket.fin_received_ms.is_some();
    match reset.internals.correlation.ended_before {
        _ if ended_by_timeout(reset, waited_for_answer_ms(reset)) => None,
        BURST_MIN.. if is_clients => LIKELY,
        1.. => GUESS,
        0 => (view.timestamp() == Some(true) && is_unused(view) && !serving::is_about_answer(reset, timeouts))
            .then_some(CauseConfidence::Guess),
    }
}

/// Returns whether a connection was idle: the last request had been answered, and the client had the answer.
fn is_unused(view: ReceivedReset<'_>) -> bool {
    view.state() == tcp::ESTABLISHED && !view.is_sending() && !view.request_outstanding() && !view.has_unread()
}

/// Returns whether a connection whose request had waited for this time, milliseconds, may have ended by a timeout of the client:
/// the others of its burst had waited for equally long.
fn ended_by_timeout(reset: &Reset, waited: Option<f64>) -> bool {
    let earlier = &reset.internals.correlation;
    let is_different = earlier.ended_otherwise > 0 && 2 * earlier.ended_otherwise >= earlier.ended_before.min(16);
    waited.is_some_and(|waited| waited >= WAITED_MIN_MS) && !is_different
}

pub(super) static CLIENT_ENDED_SENT: CauseSpec = CauseSpec {
    code: "client-ended",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::None,
    rule: own_client_ended,
    evidence: with_others,
    summary: "The process, a client, ended or dropped its connections at once.",
    advice: ADVICE,
    shows_by: "We are the client, nothing of ours was lost, and the process exited, by itself or by a signal such as SIGTERM; or it closed connections that were open together within a tenth of a second of each other, not all after the same waiting time.",
};

/// End of a connection that this host's process had opened and closed.
pub(super) fn own_end(reset: &Reset) -> Option<ConnectionEnd> {
    let now = reset.internals.ktime_ns;
    if is_by_close(reset) {
        let socket = reset.socket.as_ref().filter(|socket| socket.role == Some(Role::Client))?;
        let is_waiting = match (socket.since_send_ms, socket.since_receive_ms) {
            (Some(sent), Some(received)) => sent < received,
            (sent, _) => sent.is_some(),
        };
        let waited = socket.since_send_ms.filter(|_| is_waiting);
        return Some(ConnectionEnd { at: now, opened: socket.age_ms.map(|age| before(now, age)), waited });
    }
    let (role, last) = last_data_at_close(reset).filter(|_| is_after_close(reset))?;
    let (closed, silence) = reset.closing_times();
    let at = before(now, closed?);
    let lifetime = reset.internals.ending.as_ref().map(|ending| ending.lifetime_ms);
    let opened = match lifetime {
        Some(lifetime) => lifetime.map(|lifetime| before(at, lifetime)),
        None => reset.socket.as_ref().and_then(|socket| socket.age_ms).map(|age| before(now, age)),
    };
    let waited = silence.filter(|_| last == LastData::Sent);
    (role == Role::Client).then_some(ConnectionEnd { at, opened, waited })
}

fn own_client_ended(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let end = own_end(reset).filter(|_| lost_bytes(reset).is_none())?;
    if is_by_close(reset) && reset.internals.holder_exiting {
        return match exit_signal(reset) {
            None => CERTAIN,
            Some(signal) if ORDINARY_SIGNALS.contains(&signal) => CERTAIN,
            Some(_) => None,
        };
    }
    match reset.internals.correlation.ended_before {
        _ if ended_by_timeout(reset, end.waited) => None,
        BURST_MIN.. => LIKELY,
        1 if !is_by_close(reset) => GUESS,
        _ => None,
    }
}

/// Advice where nothing was lost.
pub(super) const NOTHING_LOST: &str = "Nothing; the process did not want more from this connection.";

/// Returns whether a client of this host aborted a connection of which it wanted no more: nothing of its own was lost, and no
/// answer was awaited.
pub(super) fn is_harmless_abort(reset: &Reset, code: &str) -> bool {
    matches!(code, "aborted" | "closed-with-unread-data" | "linger-zero")
        && lost_bytes(reset).is_none()
        && reset.internals.is_mptcp != Some(true)
        && own_end(reset).is_some_and(|end| end.waited.is_none())
        && reset.socket.as_ref().is_some_and(|socket| socket.bytes_sent == Some(0) || socket.since_receive_ms.is_some())
}

pub(super) fn nothing_lost(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if reset.cause.fault == Fault::None {
        evidence.push("nothing of this side's was lost, and it awaited no answer");
    }
}

fn with_others(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    exit_code(reset, evidence);
    let earlier = &reset.internals.correlation;
    if earlier.ended_before > 0 {
        let since = human_duration(earlier.ended_since_ms);
        let whose =
            if reset.direction == Direction::Sent { "connection of this process" } else { "connection of this client" };
        let ended = std::fmt::from_fn(|formatter| match earlier.ended_since_ms {
            0.0 => formatter.write_str("ended at this moment"),
            _ => write!(formatter, "ended in the {since} before"),
        });
        evidence.push(pluralize(earlier.ended_before.into(), &format!("other {whose}"), &ended, &ended));
    } else if reset.direction == Direction::Received {
        evidence.push("the reset carries the client's timestamp: a process there ended the connection, and nothing was outstanding");
    }
}
