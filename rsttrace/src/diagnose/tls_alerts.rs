//! TLS closing alerts (`close_notify`) that meet a closed connection: nothing is lost with them.
//!
//! The bytes are not seen, so an alert is recognised by its length, and by the port or the place in the connection.

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CauseSpec, GUESS, LIKELY, no_evidence},
    connection_view::{FinOrder, PAUSE_MIN_MS, ReceivedReset},
    timeouts::Timeouts,
};
use crate::model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender};

/// Lengths of a record with an encrypted alert, bytes: a header of 5 bytes and the alert's 2, with the cipher's own.
/// TLS 1.3 has 24 (RFC 8446, 5.2); TLS 1.2 has 31 with AES-GCM, 23 with ChaCha20-Poly1305, and 53 to 85 with CBC.
const CLOSING_ALERT_BYTES: [u64; 6] = [23, 24, 31, 53, 69, 85];

/// Ports of services that speak TLS from the first byte (IANA): HTTPS, SMTP, NNTP, LDAP, FTP, IMAP, POP3, SIP, AMQP,
/// MQTT, syslog, DNS.
const TLS_PORTS: [u16; 17] =
    [443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995, 4433, 5061, 5671, 6514, 8443, 8883];

/// Payload of the shortest TLS handshake in either direction, bytes: a resumed session's.
const HANDSHAKE_MIN_BYTES: u64 = 120;

/// Returns whether a TLS closing alert has this length, bytes.
pub(super) fn is_closing_alert(bytes: u64) -> bool {
    CLOSING_ALERT_BYTES.contains(&bytes)
}

/// Returns whether one of the ends has the port of a service that speaks TLS. The client's port is an ephemeral one, above
/// all of these.
fn has_tls_port(reset: &Reset) -> bool {
    [reset.local.port, reset.peer.port].iter().any(|port| TLS_PORTS.contains(port))
}

/// A received reset that answers a closing alert of this side.
pub(super) static GOODBYE_RECEIVED: CauseSpec = CauseSpec {
    code: "tls-goodbye",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::None,
    rule: goodbye_received,
    evidence: alert_unacknowledged,
    summary: "The peer had closed the connection before our TLS closing alert came; nothing is lost.",
    advice: "Nothing; it is harmless.",
    shows_by: "What was not acknowledged has the length of a TLS closing alert (24 or 31 bytes), on the port of a TLS service, or sent together with this side's own close after the peer's FIN, or by a client less than half a second after the peer's last data and FIN; those two after an exchange as long as a TLS handshake.",
};

fn goodbye_received(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = ReceivedReset::of(reset).filter(|view| view.may_be_closing_alert() && view.has_received())?;
    if view.is_of_unknown_connection() && view.in_use() {
        return None;
    }
    if has_tls_port(reset) {
        return LIKELY;
    }
    // Sent with the close, after the peer's: the process did not wait for any response to it.
    let sent_with_close = view
        .socket
        .fin_sent_ms
        .zip(view.socket.since_send_ms)
        .is_some_and(|(fin, send)| (send - fin).abs() <= view.tick_ms());
    let is_last = view.state() == tcp::LAST_ACK && view.fin_order() == FinOrder::BeforeSend && sent_with_close;
    // Sent when the peer closed with its last answer, and not after an idle time.
    let answers_close = view
        .socket
        .since_receive_ms
        .zip(view.socket.fin_received_ms)
        .is_some_and(|(received, fin)| received - fin < PAUSE_MIN_MS && fin < PAUSE_MIN_MS);
    let is_goodbye = is_last || view.has_role(Role::Client) && answers_close;
    (is_goodbye && has_handshake(view.socket.bytes_sent, view.socket.bytes_received)).then_some(CauseConfidence::Guess)
}

fn alert_unacknowledged(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let bytes = reset.socket.as_ref().and_then(|socket| socket.unacked_bytes).unwrap_or(0);
    evidence.push(format_args!("the {bytes} bytes that were not acknowledged have the length of a TLS closing alert"));
}

fn has_handshake(sent: Option<u64>, received: Option<u64>) -> bool {
    [sent, received].iter().all(|bytes| bytes.is_some_and(|bytes| bytes >= HANDSHAKE_MIN_BYTES))
}

/// A sent reset that answers the peer's closing alert, or that was sent because the alert lay unread at the close.
pub(super) static GOODBYE_SENT: CauseSpec = CauseSpec {
    code: "tls-goodbye",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::None,
    rule: goodbye_sent,
    evidence: alert_received,
    summary: "The peer's TLS closing alert came after this side had closed, or lay unread as it closed; nothing else of the peer's is lost.",
    advice: "Nothing; it is harmless.",
    shows_by: "The segment that was answered, or the bytes that were unread at the close, have the length of a TLS closing alert (24 or 31 bytes), on the port of a TLS service, or, after an exchange as long as a TLS handshake, in a client, or in a server that had closed, or ended its sending, with its last data less than half a second before.",
};

fn goodbye_sent(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let alert = alert_length(reset)?;
    if !is_closing_alert(alert) {
        return None;
    }
    let (role, sent, received) = exchange(reset);
    match () {
        () if has_tls_port(reset) => LIKELY,
        () if !has_handshake(sent, received) => None,
        () if role == Some(Role::Client) || answers_our_close(reset) => GUESS,
        () => None,
    }
}

/// Returns whether this side closed with its last data, and not after an idle time, and the alert came soon after that.
fn answers_our_close(reset: &Reset) -> bool {
    let (closed, silence) = reset.closing_times();
    // An alert that lies unread came last: what counts is how long after the last data sent the FIN was.
    let silence = match (&reset.provoked_by, &reset.socket) {
        (None, Some(socket)) => socket.since_send_ms.zip(closed).map(|(sent, closed)| sent - closed),
        _ => silence,
    };
    let is_soon = |ms: Option<f64>| ms.is_some_and(|ms| ms < PAUSE_MIN_MS);
    is_soon(closed) && is_soon(silence)
}

/// Length of what may be an alert: the payload that met the closed connection, or the bytes that were unread at the close.
fn alert_length(reset: &Reset) -> Option<u64> {
    match reset.provoked_by {
        Some(packet) => super::sent_view::is_after_close(reset).then_some(packet.length.into()),
        None => {
            reset
                .socket
                .as_ref()
                .filter(|_| super::sent_view::is_by_close(reset) && !reset.internals.holder_exiting)?
                .unread_bytes
        }
    }
}

/// Role of this end, and the payload sent and received, as far as the socket or the closed connection shows them.
fn exchange(reset: &Reset) -> (Option<Role>, Option<u64>, Option<u64>) {
    if let Some(socket) = reset.socket.as_ref().filter(|socket| socket.bytes_sent.is_some()) {
        return (socket.role, socket.bytes_sent, socket.bytes_received);
    }
    reset.internals.ending.as_ref().map_or((None, None, None), |ending| {
        (ending.role(), Some(ending.bytes_sent.into()), Some(ending.bytes_received.into()))
    })
}

fn alert_received(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(bytes) = alert_length(reset) else { return no_evidence(reset, timeouts, evidence) };
    let what = if reset.provoked_by.is_some() { "it answers" } else { "unread at the close were" };
    evidence.push(format_args!("{what} {bytes} bytes, the length of a TLS closing alert"));
}
