//! Connections that a server closes at once, without reading from them: at a limit, or because of a list of addresses.

use rsttrace_common::{abi::tcp, event::LAST_DATA_SENT};

use super::{
    catalogue::{CauseSpec, LIKELY},
    connection_view::{FinOrder, ReceivedReset},
    sent_view::{is_after_close, is_by_close},
    timeouts::Timeouts,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender, internals::Ending},
    util::human_duration,
};

/// Longest time from the handshake, or from the line, to the close of a connection that was turned away, milliseconds.
const AT_ONCE_MS: f64 = 10.0;
/// Most data of a client that are its first message, and no upload that is answered early, bytes.
const FIRST_MESSAGE_BYTES: u64 = 1_460;
/// Longest line that a server says when it turns a connection away, bytes.
const LINE_BYTES: u64 = 512;
/// Longest time from the handshake to the FIN of a peer that turned the connection away in silence, beyond a round trip,
/// milliseconds.
const SILENT_FIN_MS: f64 = 100.0;
/// The longest such time for a peer that said a line: a busy one accepts late, milliseconds.
const FIN_MS: f64 = 1_000.0;

pub(super) static TURNED_AWAY_SENT: CauseSpec = CauseSpec {
    code: "turned-away",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: turned_away_sent,
    evidence: closed_early,
    summary: "The process accepted the connection, sent a line and closed, without reading from it.",
    advice: "Look for a limit that was reached (connections, clients, workers, descriptors), or a list of allowed addresses.",
    shows_by: "We are the server, had read nothing, and sent a line and closed, within 10 ms of the handshake, or of the line where no more than a first message lay unread; and the peer's data came.",
};

fn turned_away_sent(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let times = closing(reset)?;
    let is_early = times.lifetime_ms.is_some_and(|lifetime| lifetime <= AT_ONCE_MS);
    let is_last_word = times.since_line_ms.is_some_and(|since| since <= AT_ONCE_MS);
    ((is_early || is_last_word) && !reset.internals.holder_exiting).then_some(CauseConfidence::Likely)
}

/// Times at the close of a connection of which this side, a server, had read nothing.
struct Closing {
    /// From the opening to the close, milliseconds.
    lifetime_ms: Option<f64>,
    /// From the last data, which were this side's line, to the close, milliseconds.
    since_line_ms: Option<f64>,
}

/// Times at the close of a connection that this side, a server, closed after a line, and of which it had read nothing.
fn closing(reset: &Reset) -> Option<Closing> {
    if let Some(ending) = &reset.internals.ending {
        // A FIN counts as a byte.
        let unread = ending.bytes_received == 0 && is_line(ending.bytes_sent.into());
        let is_it = is_after_close(reset) && ending.role() == Some(Role::Server) && unread;
        let &Ending { lifetime_ms, idle_ms, last_data, .. } = ending;
        let since_line_ms = idle_ms.filter(|_| last_data == LAST_DATA_SENT);
        return is_it.then_some(Closing { lifetime_ms, since_line_ms });
    }
    let socket = reset.socket.as_ref().filter(|socket| socket.role == Some(Role::Server))?;
    let said_a_line = socket.bytes_sent.is_some_and(is_line);
    let nothing_read = if is_by_close(reset) {
        socket.unread_bytes.is_some_and(|bytes| bytes > 0) && socket.unread_bytes == socket.bytes_received
    } else {
        is_after_close(reset) && socket.bytes_received == Some(0)
    };
    let closed_ms = if is_by_close(reset) { Some(0.0) } else { socket.fin_sent_ms };
    let is_first_message = socket.unread_bytes.is_none_or(|bytes| bytes <= FIRST_MESSAGE_BYTES);
    let until_close = |since: Option<f64>| since.zip(closed_ms).map(|(since, closed)| since - closed);
    let times = Closing {
        lifetime_ms: until_close(socket.age_ms),
        since_line_ms: until_close(socket.since_send_ms).filter(|_| is_first_message),
    };
    (said_a_line && nothing_read).then_some(times)
}

/// Returns whether a server that turns a connection away has said why, and no more than that.
fn is_line(bytes: u64) -> bool {
    (1..=LINE_BYTES).contains(&bytes)
}

fn closed_early(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(lifetime) = closing(reset).and_then(|times| times.lifetime_ms) {
        let lifetime = human_duration(lifetime);
        evidence.push(format_args!("the process closed it {lifetime} after it came, and had read nothing"));
    } else {
        evidence.push("the process closed it right after its only line, and had read nothing");
    }
}

pub(super) static TURNED_AWAY_RECEIVED: CauseSpec = CauseSpec {
    code: "turned-away",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Peer,
    rule: turned_away_received,
    evidence: closed_before_us,
    summary: "The peer closed the new connection before it had read anything from it.",
    advice: "Look for a limit of the peer that was reached (connections, clients, workers), a list of allowed addresses, or, if it is a proxy, a backend that is down.",
    shows_by: "We are the client, the peer's FIN came right after the handshake, behind a line at most, and then our first data were sent, which the reset answers.",
};

fn turned_away_received(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = ReceivedReset::of(reset).filter(|view| view.has_role(Role::Client))?;
    let is_closed = matches!(view.state(), tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
    let is_first = view.socket.bytes_acked == Some(0) && view.has_unacked() && !view.may_be_closing_alert();
    if !is_closed || !is_first || view.fin_order() != FinOrder::BeforeSend || view.has_foreign_ttl() == Some(true) {
        return None;
    }
    let open = fin_after_handshake_ms(view)?;
    let is_soon = match view.socket.bytes_received? {
        // A FIN may count as a byte.
        0 | 1 => open <= SILENT_FIN_MS + view.rtt_ms().unwrap_or(0.0),
        bytes => bytes <= LINE_BYTES + 1 && open <= FIN_MS,
    };
    if is_soon && view.answers_before_rto() { LIKELY } else { None }
}

/// Time from the handshake to the peer's FIN, milliseconds.
fn fin_after_handshake_ms(view: ReceivedReset<'_>) -> Option<f64> {
    let established = view.reset.internals.established_ms?;
    Some((established - view.socket.fin_received_ms?).max(0.0))
}

fn closed_before_us(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(view) = ReceivedReset::of(reset) else { return };
    if let Some(open) = fin_after_handshake_ms(view) {
        let open = human_duration(open);
        evidence.push(format_args!("the peer closed it {open} after the handshake, before our first data"));
    }
}
