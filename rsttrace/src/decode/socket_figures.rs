//! Figures that are derived from several fields of a socket: times from ticks, and byte counters without the SYN and FIN, which
//! take a sequence number each and which the kernel counts as bytes.

use rsttrace_common::{
    abi::{sock_flag, tcp},
    event::{EVENT_HAS_TIMES, ROLE_CLIENT, ROLE_SERVER, ResetEvent},
};

use super::clock::Ticks;

/// Payload counters in bytes: retransmitted bytes count once, SYN and FIN do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) received: u64,
    pub(super) unacked: u64,
    pub(super) unsent: u64,
    pub(super) unread: u64,
    /// `ROLE_*`; derived from the counters when the connection has no recorded history; 0 when they do not show it either.
    pub(super) role: u8,
}

/// Computes the payload counters. `state` is the state before the reset closed the socket.
pub(super) fn payload(event: &ResetEvent, state: u8) -> Payload {
    let sent = event.bytes_sent.saturating_sub(event.bytes_retrans);
    let fin_received = u64::from(event.socket_flags & sock_flag::DONE != 0);
    let mut unacked = u64::from(event.unacked_bytes);
    let mut unsent = u64::from(event.unsent_bytes);
    match state {
        // The SYN is in flight.
        tcp::SYN_SENT | tcp::SYN_RECV => unacked = unacked.saturating_sub(1),
        // Our FIN follows the last byte that was written: in flight once nothing is unsent.
        tcp::FIN_WAIT1 | tcp::LAST_ACK | tcp::CLOSING => {
            let last = if unsent > 0 { &mut unsent } else { &mut unacked };
            *last = last.saturating_sub(1);
        }
        _ => {}
    }
    // `bytes_acked` includes our FIN, and our SYN on the client only.
    let fin_acked = u64::from(state == tcp::FIN_WAIT2);
    let surplus = event.bytes_acked.saturating_sub(sent.saturating_sub(unacked)).saturating_sub(fin_acked);
    let role = match (event.role, surplus) {
        (0, 1) => ROLE_CLIENT,
        (0, 0) if state != tcp::SYN_SENT && state != tcp::CLOSE => ROLE_SERVER,
        (known, _) => known,
    };
    let syn_acked = u64::from(role == ROLE_CLIENT && state != tcp::SYN_SENT);
    Payload {
        sent,
        acked: event.bytes_acked.saturating_sub(syn_acked + fin_acked),
        received: event.bytes_received.saturating_sub(fin_received),
        unacked,
        unsent,
        unread: u64::from(event.unread_bytes).saturating_sub(fin_received),
        role,
    }
}

/// Times before the reset, in milliseconds, as fine as a tick; `None` for what never happened or is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "every name of a time carries its unit")]
pub(super) struct Times {
    pub(super) since_send_ms: Option<f64>,
    pub(super) since_receive_ms: Option<f64>,
    /// Silence before the last burst of sending.
    pub(super) idle_before_send_ms: Option<f64>,
    /// Age of the first segment of the last burst of sending.
    pub(super) burst_ms: Option<f64>,
    /// Age of the last acknowledgement of sent data.
    pub(super) since_ack_ms: Option<f64>,
}

/// Computes the times from the tick stamps of the socket. `chrono_shift` is the position of the two bits of `chrono_type` in the
/// byte that was read. All are `None` without `ticks`, or when the event has no stamps.
pub(super) fn times(event: &ResetEvent, payload: &Payload, ticks: Option<Ticks>, chrono_shift: Option<u32>) -> Times {
    let (Some(ticks), true) = (ticks, event.flags & EVENT_HAS_TIMES != 0) else { return Times::default() };
    let age = |at: u32| event.now_jiffies.wrapping_sub(at);
    // Both stamps are initialised at the handshake, and mean nothing without payload.
    let send = (payload.sent > 0).then(|| age(event.last_send_jiffies));
    let receive = (payload.received > 0).then(|| age(event.last_receive_jiffies));
    let ack = age(event.last_ack_jiffies);

    // Begin of the last burst of sending: the kernel stamps the time since which data has been in flight without a break
    // (`tcp_chrono_start`), so a request of many segments, or one that is retransmitted, is one burst.
    let busy = chrono_shift.is_some_and(|shift| event.chrono_type >> shift & 0b11 != 0);
    let began = send.map(|send| if busy { age(event.chrono_start_jiffies).max(send) } else { send });
    let idle = began.and_then(|began| {
        // The last activity before the burst: data received, or an acknowledgement of earlier data. Once the burst itself has
        // been acknowledged, the stamp of the acknowledgement before it has been overwritten.
        [receive, busy.then_some(ack)].into_iter().flatten().filter(|&age| age >= began).min().map(|age| age - began)
    });
    Times {
        since_send_ms: send.map(|age| ticks.ms(age)),
        since_receive_ms: receive.map(|age| ticks.ms(age)),
        idle_before_send_ms: idle.map(|age| ticks.ms(age)),
        burst_ms: began.map(|age| ticks.ms(age)),
        // The handshake initialises the stamp.
        since_ack_ms: (payload.acked > 0).then(|| ticks.ms(ack)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `CONFIG_HZ` 250.
    fn ticks() -> Option<Ticks> {
        Ticks::of_resolution(Duration::from_millis(4))
    }

    fn event() -> ResetEvent {
        ResetEvent {
            flags: EVENT_HAS_TIMES,
            now_jiffies: 5, // just wrapped
            bytes_sent: 812,
            bytes_acked: 402,
            bytes_received: 1893,
            unacked_bytes: 411,
            ..ResetEvent::default()
        }
    }

    fn before(event: &ResetEvent, ticks: u32) -> u32 {
        event.now_jiffies.wrapping_sub(ticks)
    }

    #[test]
    fn the_syn_of_a_client_is_no_payload_and_shows_its_role() {
        let client = payload(&event(), tcp::ESTABLISHED);
        assert_eq!((client.sent, client.acked, client.unacked, client.role), (812, 401, 411, ROLE_CLIENT));
        let server = payload(&ResetEvent { bytes_acked: 401, ..event() }, tcp::ESTABLISHED);
        assert_eq!((server.acked, server.role), (401, ROLE_SERVER));
    }

    #[test]
    fn retransmissions_count_once() {
        let event = ResetEvent { bytes_sent: 812 + 411, bytes_retrans: 411, ..event() };
        assert_eq!(payload(&event, tcp::ESTABLISHED).sent, 812);
    }

    #[test]
    fn fins_are_no_payload() {
        let event = ResetEvent {
            socket_flags: sock_flag::DONE,
            bytes_received: 11,
            unread_bytes: 11,
            bytes_sent: 5,
            bytes_acked: 5 + 1,
            unacked_bytes: 1,
            role: ROLE_CLIENT,
            ..ResetEvent::default()
        };
        let payload = payload(&event, tcp::LAST_ACK);
        assert_eq!((payload.received, payload.unread, payload.unacked, payload.acked), (10, 10, 0, 5));
    }

    #[test]
    fn measures_silence_before_a_request_on_a_kept_connection() {
        let base = event();
        let event = ResetEvent {
            chrono_type: 1,
            chrono_start_jiffies: before(&base, 2),
            last_send_jiffies: before(&base, 1),
            last_receive_jiffies: before(&base, 15_002),
            last_ack_jiffies: before(&base, 15_002),
            ..base
        };
        let times = times(&event, &payload(&event, tcp::ESTABLISHED), ticks(), Some(0));
        assert_eq!(times.idle_before_send_ms, Some(60_000.0));
        assert_eq!(times.since_send_ms, Some(4.0));
        assert_eq!(times.since_receive_ms, Some(60_008.0));
    }

    #[test]
    fn a_long_upload_is_no_silence() {
        let base = event();
        let event = ResetEvent {
            chrono_type: 1,
            chrono_start_jiffies: before(&base, 15_000),
            last_send_jiffies: before(&base, 1),
            last_receive_jiffies: before(&base, 15_001),
            last_ack_jiffies: before(&base, 2),
            ..base
        };
        let times = times(&event, &payload(&event, tcp::ESTABLISHED), ticks(), Some(0));
        assert_eq!(times.idle_before_send_ms, Some(4.0));
    }

    #[test]
    fn absent_events_have_no_time() {
        let event = ResetEvent { flags: EVENT_HAS_TIMES, now_jiffies: 1000, ..ResetEvent::default() };
        assert_eq!(times(&event, &payload(&event, tcp::ESTABLISHED), ticks(), Some(0)), Times::default());
    }
}
