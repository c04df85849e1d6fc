//! Answers that this host's process, a client, did not await to the end.

use super::{
    catalogue::{CauseSpec, GUESS, LIKELY},
    ended::{LastData, closing_times, last_data_at_close},
    sent::{is_after_close, is_by_close},
    serving::WAITED_MIN_MS,
    timeouts::Timeouts,
    tls::is_closing_alert,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Longest gap between the segments of a transfer that goes on, milliseconds.
const TRANSFER_GAP_MS: f64 = 200.0;
/// Payload of an Ethernet segment, bytes: a whole answer of a small service fits into one.
const SEGMENT_BYTES: u64 = 1_460;
/// Least payload of a segment in the middle of a transfer, bytes: no host has a smaller full segment (RFC 9293, 3.7.1).
const FULL_SEGMENT_BYTES: u16 = 536;

pub(super) static STOPPED: CauseSpec = CauseSpec {
    code: "client-cancelled",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::None,
    rule: stopped,
    evidence: rest_came,
    summary: "The process, a client, ended the connection before it had the whole answer.",
    advice: "Nothing; it did not want the rest (a closed tab, a full pipe, a limit of its own).",
    shows_by: "We are the client, nothing of ours was lost, and the process closed while the answer still came in: with more than a segment of it unread, or the next full segment came within 200 ms. Or, as a guess, it closed less than half a second after a request.",
};

fn stopped(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    match () {
        () if is_stopped_with_data_unread(reset) || is_stopped_between_segments(reset) => LIKELY,
        () if is_stopped_before_answer(reset) => GUESS,
        () => None,
    }
}

/// Returns whether the process had closed soon after a request: it had not lost patience.
fn is_stopped_before_answer(reset: &Reset) -> bool {
    let is_asked = last_data_at_close(reset)
        .is_some_and(|(role, last)| role == Role::Client && last != LastData::Received && is_after_close(reset));
    is_asked && closing_times(reset).1.is_some_and(|silence| silence < WAITED_MIN_MS)
}

fn is_stopped_with_data_unread(reset: &Reset) -> bool {
    let Some(socket) = &reset.socket else { return false };
    // The process may have said goodbye before it closed.
    let lost = socket.unacked_bytes.unwrap_or(0) + socket.unsent_bytes.unwrap_or(0);
    let is_in_transfer = socket.role == Some(Role::Client)
        && socket.state.0 == rsttrace_common::abi::tcp::ESTABLISHED
        && (lost == 0 || is_closing_alert(lost))
        && socket.since_receive_ms.is_some_and(|since| since <= TRANSFER_GAP_MS);
    let is_much_unread = socket.unread_bytes.is_some_and(|bytes| bytes > SEGMENT_BYTES);
    is_by_close(reset) && !reset.internals.holder_exiting && is_in_transfer && is_much_unread
}

/// Returns whether the process had read all that had come when it closed, and the transfer went on.
fn is_stopped_between_segments(reset: &Reset) -> bool {
    let is_full = reset.provoked_by.is_some_and(|packet| packet.length >= FULL_SEGMENT_BYTES);
    let (Some(closed), Some(silence)) = closing_times(reset) else { return false };
    let received = match (&reset.internals.ending, &reset.socket) {
        (Some(ending), _) => Some(ending.bytes_received.into()),
        (None, socket) => socket.as_ref().and_then(|socket| socket.bytes_received),
    };
    is_after_close(reset)
        && is_full
        && last_data_at_close(reset).is_some_and(|(role, last)| role == Role::Client && last == LastData::Received)
        && received.is_some_and(|bytes: u64| bytes > SEGMENT_BYTES)
        && closed.max(silence) <= TRANSFER_GAP_MS
}

fn rest_came(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let (true, (Some(closed), _), Some(packet)) =
        (is_stopped_between_segments(reset), closing_times(reset), reset.provoked_by)
    {
        let (closed, bytes) = (human_duration(closed), packet.length);
        evidence
            .push(format_args!("the process closed, and {bytes} bytes more of the answer came {closed} after that"));
    }
}
