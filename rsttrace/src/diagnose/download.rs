//! Answers that this host's process, a client, did not await to the end.

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CauseSpec, GUESS, LIKELY},
    ended::{LastData, last_data_at_close},
    sent_view::{is_after_close, is_by_close},
    serving::WAITED_MIN_MS,
    timeouts::Timeouts,
    tls_alerts::is_closing_alert,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Longest gap between the segments of a transfer that goes on, milliseconds.
const TRANSFER_GAP_MS: f64 = 200.0;
/// Payload of an Ethernet segment, bytes: a whole answer of a small service fits into one.
const SEGMENT_BYTES: u64 = 1_460;
/// Least payload of a full segment, bytes: on a path with the least MTU of IPv6 (1,280) behind the headers of IPv6 and TCP with
/// timestamps. One that is full is seldom the last of an answer.
const FULL_SEGMENT_BYTES: u64 = 1_280 - 40 - 20 - 12;
/// Payload that a peer sends without an acknowledgement at first, ten segments (RFC 6928), bytes: an answer that is longer comes
/// in a transfer.
const FLIGHT_BYTES: u64 = 10 * SEGMENT_BYTES;
/// Longest gap between the parts of an answer without an end, such as a stream of events, milliseconds.
const STREAM_GAP_MS: f64 = 30_000.0;

pub(super) static STOPPED: CauseSpec = CauseSpec {
    code: "client-cancelled",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::None,
    rule: stopped,
    evidence: left_before,
    summary: "The process, a client, ended the connection before it had the whole answer.",
    advice: "Nothing; it did not want the rest (a closed tab, a full pipe, a limit of its own).",
    shows_by: "We are the client, nothing of ours was lost, and the process closed while the answer still came in: with a part of it unread (more than a segment, a full one, or the last of a longer transfer), or more of it came after the close. Or, as a guess, it closed less than half a second after a request.",
};

fn stopped(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if is_after_close(reset) {
        return left_answer(reset).or_else(|| is_stopped_before_answer(reset).then_some(CauseConfidence::Guess));
    }
    let socket = reset.socket.as_ref().filter(|socket| socket.role == Some(Role::Client) && is_by_close(reset))?;
    // The process may have sent a closing alert before it closed.
    let lost = socket.unacked_bytes.unwrap_or(0) + socket.unsent_bytes.unwrap_or(0);
    let in_transfer = socket.state.0 == tcp::ESTABLISHED
        && !reset.internals.holder_exiting
        && (lost == 0 || is_closing_alert(lost))
        // A receive buffer that a process leaves full stops the transfer until it reads on.
        && (socket.since_receive_ms.is_some_and(|since| since <= TRANSFER_GAP_MS)
            || socket.unread_bytes > Some(FLIGHT_BYTES));
    match socket.unread_bytes {
        Some(unread) if !in_transfer || unread == 0 => None,
        Some(unread) if unread > SEGMENT_BYTES => LIKELY,
        // How much is unread at that moment is by chance.
        Some(_) if socket.bytes_received > Some(FLIGHT_BYTES) => GUESS,
        Some(FULL_SEGMENT_BYTES..) if socket.bytes_received > Some(2 * SEGMENT_BYTES) => GUESS,
        _ => None,
    }
}

/// Returns whether the process had closed soon after a request: it had not lost patience.
fn is_stopped_before_answer(reset: &Reset) -> bool {
    let is_asked =
        last_data_at_close(reset).is_some_and(|(role, last)| role == Role::Client && last != LastData::Received);
    is_asked && reset.closing_times().1.is_some_and(|silence| silence < WAITED_MIN_MS)
}

/// The close found nothing unread, which is a matter of microseconds: the next part of the answer came after it.
fn left_answer(reset: &Reset) -> Option<CauseConfidence> {
    let (role, last) = last_data_at_close(reset)?;
    // A FIN counts as a byte, and none has come.
    let has_received = match &reset.internals.ending {
        Some(ending) => ending.bytes_received > 0,
        None => reset.socket.as_ref().is_some_and(|socket| socket.bytes_received > Some(0)),
    };
    let silence = reset.closing_times().1?;
    if role != Role::Client || !has_received {
        return None;
    }
    match last {
        LastData::Received if silence <= STREAM_GAP_MS => LIKELY,
        LastData::Received => GUESS,
        // A request and the beginning of its answer within a tick: the process did not wait for either.
        LastData::Unclear if silence <= TRANSFER_GAP_MS => GUESS,
        LastData::Unclear | LastData::Sent => None,
    }
}

fn left_before(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if !is_after_close(reset) {
        return;
    }
    let (closed, silence) = reset.closing_times();
    if let Some((closed, silence)) = closed.zip(silence) {
        let (closed, silence) = (human_duration(closed), human_duration(silence));
        evidence
            .push(format_args!("the process had closed the connection {closed} before, {silence} after the last data"));
    }
}
