//! Connections that are made up segment by segment, and what is told of their resets.

use rsttrace_common::abi::{tcp, tcp_flag};

use super::{Captured, FollowedCounts, Follower, Perspective, TcpOptions, TcpSegment};
use crate::model::{Direction, Endpoint, Family, Reset, Role};

const SYN: u8 = tcp_flag::SYN;
const ACK: u8 = tcp_flag::ACK;
const FIN: u8 = tcp_flag::FIN;
const RST: u8 = tcp_flag::RST;
const MS: u64 = 1_000_000;

/// A capture that is made up.
struct Wire {
    follower: Follower,
    /// Time of the next segment, nanoseconds since 1970.
    now_ns: u64,
    id: u16,
    /// Copies of each segment.
    copies: u32,
    records: Vec<Captured>,
}

fn end(host: u8, port: u16) -> Endpoint {
    Endpoint { address: [10, 0, 0, host].into(), port }
}

fn client() -> Endpoint {
    end(1, 40_000)
}

fn server() -> Endpoint {
    end(2, 80)
}

/// A segment from one end to the other; numbers count from 1000 at the client and from 5000 at the server.
struct Sketch {
    from: Endpoint,
    to: Endpoint,
    flags: u8,
    seq: u32,
    ack: u32,
    length: u32,
}

fn up(flags: u8, seq: u32, ack: u32, length: u32) -> Sketch {
    Sketch {
        from: client(),
        to: server(),
        flags,
        seq: 1000 + seq,
        ack: if flags & ACK == 0 { 0 } else { 5000 + ack },
        length,
    }
}

fn down(flags: u8, seq: u32, ack: u32, length: u32) -> Sketch {
    Sketch {
        from: server(),
        to: client(),
        flags,
        seq: 5000 + seq,
        ack: if flags & ACK == 0 { 0 } else { 1000 + ack },
        length,
    }
}

impl Wire {
    /// A capture seen from these hosts.
    fn seen_from(hosts: &[u8]) -> Self {
        let networks = hosts.iter().map(|host| std::net::IpAddr::from([10, 0, 0, *host]).into()).collect();
        let follower = Follower::new(Perspective::Given(networks), 1);
        Self { follower, now_ns: 1_790_000_000_000 * MS, id: 1, copies: 0, records: Vec::new() }
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.now_ns += ms * MS;
        self
    }

    /// Captures a segment, a tenth of a millisecond after the one before.
    fn send(&mut self, sketch: Sketch) -> &mut Self {
        self.send_as(sketch, |_| {})
    }

    fn send_as(&mut self, sketch: Sketch, change: impl FnOnce(&mut TcpSegment)) -> &mut Self {
        let Sketch { from, to, flags, seq, ack, length } = sketch;
        self.now_ns += MS / 10;
        self.id += 1;
        let is_stateless = flags & RST != 0 && (flags & ACK == 0 || seq == 0);
        let timestamp = (!is_stateless).then(|| (u32::try_from(self.now_ns / MS % 1_000_000).expect("small"), 1));
        let mut segment = TcpSegment {
            time_ns: self.now_ns,
            from,
            to,
            family: Family::Ipv4,
            ttl: 60,
            id: Some(if is_stateless { 0 } else { self.id }),
            ip_length: 52,
            seq,
            ack,
            flags,
            window: if is_stateless { 0 } else { 512 },
            length,
            header_length: 32,
            options: Some(TcpOptions { timestamp, window_scale: (flags & SYN != 0).then_some(7), sack_end: None }),
            is_outgoing: None,
        };
        change(&mut segment);
        for _ in 0..=self.copies {
            self.follower.follow(&segment, &mut |record| self.records.push(record));
            segment.time_ns += 10_000;
            segment.ttl -= 1;
        }
        self
    }

    fn handshake(&mut self) -> &mut Self {
        self.send(up(SYN, 0, 0, 0)).send(down(SYN | ACK, 0, 1, 0)).send(up(ACK, 1, 1, 0))
    }

    /// A request of 100 bytes and its answer of 200.
    fn exchange(&mut self) -> &mut Self {
        self.send(up(ACK, 1, 1, 100)).send(down(ACK, 1, 101, 0)).send(down(ACK, 1, 101, 200)).send(up(ACK, 101, 201, 0))
    }

    fn resets(&self) -> Vec<&Reset> {
        let mut resets = Vec::new();
        for record in &self.records {
            if let Captured::Reset(reset) = record {
                resets.push(&**reset);
            }
        }
        resets
    }

    fn only_reset(&self) -> &Reset {
        let resets = self.resets();
        assert_eq!(resets.len(), 1, "{:#?}", self.records);
        resets[0]
    }

    fn counts(&self) -> &FollowedCounts {
        self.follower.counts()
    }
}

#[test]
fn a_refused_connection_is_told_at_either_end() {
    let mut wire = Wire::seen_from(&[1]);
    wire.send(up(SYN, 0, 0, 0)).send_as(down(RST | ACK, 0, 1, 0), |reset| reset.seq = 0);
    let reset = wire.only_reset();
    let socket = reset.socket.as_ref().expect("one");
    assert_eq!(
        (reset.direction, socket.state.0, socket.role),
        (Direction::Received, tcp::SYN_SENT, Some(Role::Client))
    );
    assert_eq!((reset.segment.seq, reset.segment.ack), (Some(0), Some(1001)));

    let mut wire = Wire::seen_from(&[2]);
    wire.send(up(SYN, 0, 0, 0)).send_as(down(RST | ACK, 0, 1, 0), |reset| reset.seq = 0);
    let reset = wire.only_reset();
    assert_eq!((reset.direction, reset.socket.is_none()), (Direction::Sent, true));
    assert_eq!(reset.provoked_by.map(|packet| packet.flags.0), Some(SYN));
}

#[test]
fn a_request_after_the_peers_close_has_its_silence_and_order() {
    let mut wire = Wire::seen_from(&[1]);
    wire.handshake().exchange().wait(5_000).send(down(FIN | ACK, 201, 101, 0)).send(up(ACK, 101, 202, 0));
    wire.wait(2_000).send(up(ACK, 101, 202, 30)).send(down(RST, 202, 0, 0));
    let reset = wire.only_reset();
    let socket = reset.socket.as_ref().expect("one");
    assert_eq!(socket.state.0, tcp::CLOSE_WAIT);
    assert_eq!((socket.bytes_sent, socket.bytes_received, socket.unacked_bytes), (Some(130), Some(200), Some(30)));
    let about = |ms: Option<f64>, expected: f64| assert!(ms.is_some_and(|ms| (ms - expected).abs() < 1.0), "{ms:?}");
    about(socket.fin_received_ms, 2_000.0);
    about(socket.since_receive_ms, 7_000.0);
    about(socket.idle_before_send_ms, 7_000.0);
    assert_eq!(reset.segment.timestamp, Some(false));
}

#[test]
fn the_server_of_it_answers_after_its_close() {
    let mut wire = Wire::seen_from(&[2]);
    wire.handshake().exchange().wait(5_000).send(down(FIN | ACK, 201, 101, 0)).send(up(ACK, 101, 202, 0));
    wire.wait(2_000).send(up(ACK, 101, 202, 30)).send(down(RST, 202, 0, 0));
    let reset = wire.only_reset();
    let socket = reset.socket.as_ref().expect("one");
    assert_eq!((reset.direction, socket.state.0, socket.role), (Direction::Sent, tcp::FIN_WAIT2, Some(Role::Server)));
    assert_eq!((socket.bytes_received, reset.provoked_by.map(|packet| packet.length)), (Some(100), Some(30)));
    assert_eq!(reset.internals.raw_state, tcp::CLOSE);
}

#[test]
fn what_crosses_a_fin_has_crossed_it_wherever_it_was_captured() {
    // The request and the FIN were both on their way, and acknowledge nothing of each other.
    for is_near_client in [false, true] {
        let mut wire = Wire::seen_from(&[1, 2]);
        wire.handshake().exchange().wait(5_000);
        let (fin, request) = (down(FIN | ACK, 201, 101, 0), up(ACK, 101, 201, 30));
        let (first, second) = if is_near_client { (request, fin) } else { (fin, request) };
        wire.send(first).send(second).send(down(RST, 201, 0, 0));
        let [sent, received] = wire.resets()[..] else { panic!("{:#?}", wire.records) };
        let (server, client) = (sent.socket.as_ref().expect("one"), received.socket.as_ref().expect("one"));
        assert_eq!(server.bytes_received, Some(100), "the request had not arrived");
        assert!(server.since_receive_ms > Some(5_000.0), "{server:?}");
        assert!(client.fin_received_ms < received.internals.burst_ms, "{client:?}");
    }
}

#[test]
fn an_abort_is_a_sockets_and_ends_the_connection() {
    let mut wire = Wire::seen_from(&[1, 2]);
    wire.handshake().exchange().send(up(ACK, 101, 201, 50)).send(down(RST | ACK, 201, 101, 0));
    let [sent, received] = wire.resets()[..] else { panic!("{:#?}", wire.records) };
    assert_eq!((sent.direction, received.direction), (Direction::Sent, Direction::Received));
    assert_eq!((sent.local, received.local), (server(), client()));
    assert!(sent.provoked_by.is_none() && received.segment.timestamp == Some(true));
    // What was on its way meets nothing any more.
    wire.send(up(ACK, 151, 201, 50)).send(down(RST, 201, 0, 0));
    let resets = wire.resets();
    let answer = resets[2];
    assert_eq!((resets.len(), answer.direction, answer.socket.is_none()), (3, Direction::Sent, true));
    assert!(answer.internals.ending.is_some_and(|ending| ending.was_aborted));
    assert_eq!(wire.counts().ignored, 1, "the client has no such connection any more");
}

#[test]
fn every_packet_twice_is_every_reset_once() {
    let mut wire = Wire::seen_from(&[1, 2]);
    wire.copies = 1;
    wire.handshake().exchange().send(down(FIN | ACK, 201, 101, 0));
    wire.send(up(ACK, 101, 202, 10)).send(up(ACK, 111, 202, 10)).send(down(RST, 202, 0, 0)).send(down(RST, 202, 0, 0));
    assert_eq!((wire.counts().resets, wire.counts().copies), (2, 12));

    let mut wire = Wire::seen_from(&[2]);
    wire.handshake().exchange().send(down(FIN | ACK, 201, 101, 0));
    wire.send(up(ACK, 101, 202, 10)).send(up(ACK, 111, 202, 10)).send(down(RST, 202, 0, 0)).send(down(RST, 202, 0, 0));
    assert_eq!((wire.counts().resets, wire.counts().copies), (2, 0), "two segments have two answers");
}

#[test]
fn resets_that_no_system_takes_end_nothing() {
    let mut wire = Wire::seen_from(&[1]);
    wire.handshake().exchange();
    wire.send(down(RST, 100_000, 0, 0)).send(down(RST, 300, 0, 0)).send(down(RST, 100, 0, 0));
    let codes: Vec<&str> = wire
        .records
        .iter()
        .filter_map(|record| match record {
            Captured::Ignored(ignored) => Some(ignored.ignored_because.code),
            Captured::Reset(_) => None,
        })
        .collect();
    assert_eq!(codes, ["out-of-window", "challenged", "out-of-window"]);
    // The connection goes on, and the next one ends it.
    wire.send(up(ACK, 101, 201, 5)).send(down(RST, 201, 0, 0));
    assert_eq!(wire.only_reset().socket.as_ref().and_then(|socket| socket.unacked_bytes), Some(5));
}

#[test]
fn a_capture_that_begins_later_knows_less_and_nothing_wrong() {
    let mut wire = Wire::seen_from(&[1]);
    wire.exchange().wait(1_000).send(up(ACK, 101, 201, 5)).send(down(RST, 201, 0, 0));
    let reset = wire.only_reset();
    let socket = reset.socket.as_ref().expect("one");
    assert_eq!((socket.state.0, socket.role, socket.age_ms), (tcp::ESTABLISHED, None, None));
    assert_eq!((socket.bytes_sent, socket.unacked_bytes), (Some(105), Some(5)));

    let mut wire = Wire::seen_from(&[1]);
    wire.send(down(RST, 201, 0, 0));
    assert!(wire.only_reset().socket.is_none(), "nothing is known of it");
}

#[test]
fn of_one_direction_what_is_in_flight_is_not_known() {
    let mut wire = Wire::seen_from(&[1]);
    wire.send(down(SYN | ACK, 0, 1, 0)).send(down(ACK, 1, 101, 200)).send(down(RST | ACK, 201, 151, 0));
    let socket = wire.only_reset().socket.as_ref().expect("one");
    assert_eq!((socket.role, socket.unacked_bytes, socket.bytes_sent), (Some(Role::Client), None, None));
    assert_eq!(wire.counts().one_sided, 1);
}

#[test]
fn new_connections_on_the_same_ports_are_new() {
    let mut wire = Wire::seen_from(&[2]);
    wire.handshake().exchange().send(up(RST | ACK, 101, 201, 0));
    // A SYN to a connection that is gone.
    wire.wait(10).send(up(SYN, 70_000, 0, 0)).send_as(down(RST | ACK, 0, 70_001, 0), |reset| reset.seq = 0);
    let resets = wire.resets();
    assert_eq!((resets.len(), resets[1].direction), (2, Direction::Sent));
    assert!(resets[1].internals.ending.is_none() && resets[1].socket.is_none());

    // A SYN to one that the server still has: it answers with its numbers, and the client clears it.
    let mut wire = Wire::seen_from(&[1, 2]);
    wire.handshake().exchange().send(up(FIN | ACK, 101, 201, 0)).send(down(ACK, 201, 102, 0));
    wire.wait(2_000).send(up(SYN, 70_000, 0, 0)).send(down(ACK, 201, 102, 0)).send(up(RST, 102, 0, 0));
    let [sent, received] = wire.resets()[..] else { panic!("{:#?}", wire.records) };
    assert_eq!(sent.socket.as_ref().map(|socket| socket.state.0), Some(tcp::SYN_SENT));
    assert_eq!(received.socket.as_ref().map(|socket| socket.state.0), Some(tcp::CLOSE_WAIT));
    // The next SYN connects.
    wire.send(up(SYN, 70_000, 0, 0)).send(down(SYN | ACK, 90_000, 70_001, 0)).send(up(ACK, 70_001, 90_001, 0));
    wire.send(up(RST | ACK, 70_001, 90_001, 0));
    let last = wire.resets()[3];
    assert_eq!(
        last.socket.as_ref().map(|socket| (socket.state.0, socket.bytes_sent)),
        Some((tcp::ESTABLISHED, Some(0)))
    );
}

#[test]
fn what_is_far_ahead_is_not_of_the_connection() {
    let mut wire = Wire::seen_from(&[2]);
    wire.handshake().exchange().send(down(ACK, 201 + (1 << 29), 101, 0)).send(up(RST, 101, 0, 0));
    let socket = wire.only_reset().socket.as_ref().expect("one");
    assert_eq!((socket.bytes_sent, socket.unacked_bytes), (Some(200), Some(0)));
}

#[test]
fn keep_alive_probes_are_no_data() {
    let mut wire = Wire::seen_from(&[1]);
    wire.handshake().exchange();
    for _ in 0..3 {
        wire.wait(1_000).send(up(ACK, 100, 201, 0));
    }
    wire.wait(1_000).send(up(RST | ACK, 101, 201, 0));
    let reset = wire.only_reset();
    assert_eq!((reset.internals.probes_out, reset.internals.raw_state), (3, tcp::ESTABLISHED));
    assert_eq!(reset.socket.as_ref().and_then(|socket| socket.retransmits), Some(0));
    // One that is answered is none that is out.
    let mut wire = Wire::seen_from(&[1]);
    wire.handshake().exchange().wait(1_000).send(up(ACK, 100, 201, 0)).send(down(ACK, 201, 101, 0));
    wire.wait(1_000).send(up(RST | ACK, 101, 201, 0));
    let reset = wire.only_reset();
    assert_eq!((reset.internals.probes_out, reset.internals.raw_state), (0, tcp::CLOSE));
}

#[test]
fn sequence_numbers_wrap() {
    let near = u32::MAX - 1_050;
    let mut wire = Wire::seen_from(&[1]);
    let shift = |segment: &mut TcpSegment| {
        if segment.from == client() {
            segment.seq = segment.seq.wrapping_add(near);
        } else {
            segment.ack = segment.ack.wrapping_add(near);
        }
    };
    wire.send_as(up(SYN, 0, 0, 0), shift).send_as(down(SYN | ACK, 0, 1, 0), shift).send_as(up(ACK, 1, 1, 0), shift);
    wire.send_as(up(ACK, 1, 1, 100), shift).send_as(down(ACK, 1, 101, 0), shift).send_as(up(ACK, 101, 1, 7), shift);
    wire.send(down(RST, 1, 0, 0));
    let socket = wire.only_reset().socket.as_ref().expect("one");
    assert_eq!((socket.bytes_sent, socket.bytes_acked, socket.unacked_bytes), (Some(107), Some(100), Some(7)));
}
