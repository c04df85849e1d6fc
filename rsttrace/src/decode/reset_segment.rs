//! Sequence number, acknowledgement number and timestamp of the reset's own segment.

use rsttrace_common::{
    abi::{tcp, tcp_flag},
    event::{EVENT_HAS_PACKET, EVENT_HAS_SOCKET, KIND_IGNORED, KIND_RECEIVED, PacketHeader, ResetEvent},
};

use crate::model::Segment;

/// Positions of bit fields in their bytes, in the running kernel. `None` for a field that it does not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct BitFields {
    /// `tcp_sock.chrono_type`, two bits.
    pub chrono_type: Option<u32>,
    /// `tcp_sock.rx_opt.saw_tstamp`.
    pub saw_timestamp: Option<u32>,
    /// `tcp_sock.rx_opt.tstamp_ok`.
    pub timestamps_ok: Option<u32>,
    /// `tcp_sock.is_mptcp`.
    pub is_mptcp: Option<u32>,
}

impl BitFields {
    /// Every field in the lowest bits of its byte, for tests.
    pub const LOWEST: Self =
        Self { chrono_type: Some(0), saw_timestamp: Some(0), timestamps_ok: Some(0), is_mptcp: Some(0) };
}

/// The bit of a byte; `None` where the kernel has no such field.
pub(super) fn bit(byte: u8, shift: Option<u32>) -> Option<bool> {
    shift.map(|shift| byte >> shift & 1 != 0)
}

/// Whether the socket's connection has timestamps; `None` without a full socket, and before the handshake has agreed on
/// them.
pub(super) fn has_timestamps(event: &ResetEvent, state: u8, fields: BitFields) -> Option<bool> {
    let is_connected = event.flags & EVENT_HAS_SOCKET != 0 && !matches!(state, tcp::SYN_SENT | tcp::LISTEN);
    bit(event.timestamps_ok, fields.timestamps_ok).filter(|_| is_connected)
}

/// What is known of the segment. `state` is the state in which the reset was decided.
pub(super) fn segment(event: &ResetEvent, state: u8, fields: BitFields) -> Segment {
    match event.kind {
        KIND_RECEIVED => received(event, state, fields),
        KIND_IGNORED => header(event).map(|packet| of_header(&packet)).unwrap_or_default(),
        _ => sent(event, state, fields),
    }
}

/// Of a received reset: its header where that was seen, otherwise what the kernel has checked before it accepted the reset.
fn received(event: &ResetEvent, state: u8, fields: BitFields) -> Segment {
    let mut segment = match header(event) {
        Some(packet) => of_header(&packet),
        None => Segment { seq: accepted_seq(event, state), ack: accepted_ack(event, state), ..Segment::default() },
    };
    // `tcp_validate_incoming` has parsed the options of this segment by now.
    if has_timestamps(event, state, fields) == Some(true) {
        segment.timestamp = bit(event.saw_timestamp, fields.saw_timestamp);
    }
    if segment.timestamp == Some(true) {
        segment.timestamp_value = Some(event.timestamp_value);
        segment.timestamp_echo = Some(event.timestamp_echo.wrapping_add(event.timestamp_offset));
    }
    segment
}

/// Sequence number of a reset that the kernel has accepted without its header being seen. It is the next one that was
/// expected (RFC 5961, 3.2; `tcp_validate_incoming`). After a FIN it may be the FIN's own, and with data out of order the
/// end of those: `None`.
fn accepted_seq(event: &ResetEvent, state: u8) -> Option<u32> {
    let is_open = matches!(state, tcp::ESTABLISHED | tcp::FIN_WAIT1 | tcp::FIN_WAIT2);
    (event.flags & EVENT_HAS_SOCKET != 0 && is_open && event.sack_blocks == 0).then_some(event.rcv_nxt)
}

/// Acknowledgement number of a refusal that the kernel has accepted without its header being seen: it acknowledges the SYN
/// (`tcp_rcv_synsent_state_process`), and nothing else where no data went with that.
fn accepted_ack(event: &ResetEvent, state: u8) -> Option<u32> {
    let sent_a_syn = event.flags & EVENT_HAS_SOCKET != 0 && state == tcp::SYN_SENT && event.unacked_bytes <= 1;
    sent_a_syn.then_some(event.snd_nxt)
}

/// Of a sent reset: numbers of the socket, or those that follow from the packet that it answers (RFC 9293, 3.10.7.1).
fn sent(event: &ResetEvent, state: u8, fields: BitFields) -> Segment {
    let timestamps = has_timestamps(event, state, fields);
    if let Some(packet) = header(event) {
        // `tcp_v4_send_reset` writes no timestamp.
        return Segment { timestamp: timestamps.and_then(|ok| ok.then_some(false)), ..answer(&packet) };
    }
    if event.flags & EVENT_HAS_SOCKET == 0 {
        return Segment::default();
    }
    // `tcp_acceptable_seq`: a window that has shrunk holds the sequence number back.
    let unacknowledged = event.snd_nxt.wrapping_sub(event.unacked_bytes);
    let is_in_window = event.unacked_bytes <= event.send_window;
    Segment {
        seq: Some(if is_in_window { event.snd_nxt } else { unacknowledged.wrapping_add(event.send_window) }),
        ack: Some(event.rcv_nxt),
        timestamp: timestamps.and_then(|ok| ok.then_some(true)),
        timestamp_value: None,
        timestamp_echo: None,
    }
}

/// The answer to a packet that meets no connection: it takes its sequence number from the packet's acknowledgement, or
/// acknowledges a packet that has none.
fn answer(packet: &PacketHeader) -> Segment {
    if packet.flags & tcp_flag::ACK != 0 {
        return Segment { seq: Some(packet.ack), ..Segment::default() };
    }
    let in_sequence = u32::from(packet.payload)
        + u32::from(packet.flags & tcp_flag::SYN != 0)
        + u32::from(packet.flags & tcp_flag::FIN != 0);
    Segment { seq: Some(0), ack: Some(packet.seq.wrapping_add(in_sequence)), ..Segment::default() }
}

fn of_header(packet: &PacketHeader) -> Segment {
    Segment {
        seq: Some(packet.seq),
        ack: (packet.flags & tcp_flag::ACK != 0).then_some(packet.ack),
        ..Segment::default()
    }
}

fn header(event: &ResetEvent) -> Option<PacketHeader> {
    (event.flags & EVENT_HAS_PACKET != 0).then_some(event.packet)
}

#[cfg(test)]
mod tests {
    use rsttrace_common::event::KIND_SENT;

    use super::*;

    const OPEN: u8 = tcp::ESTABLISHED;

    fn event(kind: u8) -> ResetEvent {
        ResetEvent {
            kind,
            flags: EVENT_HAS_SOCKET,
            state: OPEN,
            timestamps_ok: 1,
            snd_nxt: 100,
            rcv_nxt: 200,
            send_window: 1000,
            ..ResetEvent::default()
        }
    }

    fn of(event: &ResetEvent) -> Segment {
        segment(event, event.state, BitFields::LOWEST)
    }

    #[test]
    fn a_received_reset_shows_its_timestamp_and_the_echo_as_on_the_wire() {
        let with = of(&ResetEvent {
            saw_timestamp: 1,
            timestamp_value: 7,
            timestamp_echo: 5,
            timestamp_offset: u32::MAX,
            ..event(KIND_RECEIVED)
        });
        assert_eq!((with.timestamp, with.timestamp_value, with.timestamp_echo), (Some(true), Some(7), Some(4)));
        let without = of(&ResetEvent { timestamp_value: 7, ..event(KIND_RECEIVED) });
        assert_eq!((without.timestamp, without.timestamp_value), (Some(false), None));
        assert_eq!(of(&ResetEvent { timestamps_ok: 0, saw_timestamp: 1, ..event(KIND_RECEIVED) }).timestamp, None);
        // A refusal is parsed elsewhere, and never has a timestamp.
        assert_eq!(of(&ResetEvent { state: tcp::SYN_SENT, ..event(KIND_RECEIVED) }).timestamp, None);
        // A kernel without the fields.
        assert_eq!(segment(&event(KIND_RECEIVED), OPEN, BitFields::default()).timestamp, None);
    }

    #[test]
    fn the_sequence_number_of_an_accepted_reset_is_known_where_the_kernel_leaves_no_choice() {
        assert_eq!(of(&event(KIND_RECEIVED)).seq, Some(200));
        assert_eq!(of(&ResetEvent { state: tcp::CLOSE_WAIT, ..event(KIND_RECEIVED) }).seq, None);
        assert_eq!(of(&ResetEvent { sack_blocks: 1, ..event(KIND_RECEIVED) }).seq, None);
    }

    #[test]
    fn a_reset_of_a_socket_has_its_numbers() {
        let active = of(&event(KIND_SENT));
        assert_eq!((active.seq, active.ack, active.timestamp), (Some(100), Some(200), Some(true)));
        let shrunk = of(&ResetEvent { unacked_bytes: 50, send_window: 10, ..event(KIND_SENT) });
        assert_eq!(shrunk.seq, Some(60));
    }

    #[test]
    fn an_answer_takes_its_numbers_from_the_packet() {
        let packet = |flags, payload| PacketHeader { seq: 10, ack: 20, flags, payload, ..PacketHeader::default() };
        let answered = |packet| {
            let flags = EVENT_HAS_PACKET;
            let Segment { seq, ack, timestamp, .. } = of(&ResetEvent { flags, packet, ..event(KIND_SENT) });
            (seq, ack, timestamp)
        };
        assert_eq!(answered(packet(tcp_flag::ACK, 5)), (Some(20), None, None));
        assert_eq!(answered(packet(tcp_flag::SYN, 5)), (Some(0), Some(16), None));
        let of_socket = ResetEvent {
            flags: EVENT_HAS_PACKET | EVENT_HAS_SOCKET,
            packet: packet(tcp_flag::ACK, 5),
            ..event(KIND_SENT)
        };
        assert_eq!(of(&of_socket).timestamp, Some(false));
    }
}
