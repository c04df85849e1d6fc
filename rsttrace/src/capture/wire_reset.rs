//! The record of a reset in a capture, as one end of the connection sees it.
//!
//! It has what the packets show, and `None` for what only a kernel or a process knows: who owns the socket, what was written and
//! not sent, what was received and not read.

use std::sync::Arc;

use jiff::Timestamp;
use rsttrace_common::{
    abi::{ECONNRESET, tcp, tcp_flag},
    event::{LAST_DATA_RECEIVED, LAST_DATA_SENT, LAST_DATA_UNKNOWN, ROLE_CLIENT, ROLE_SERVER},
};

use super::{
    followed::{End, Followed},
    half::{Half, SentSegment, is_after},
    tcp_segment::TcpSegment,
};
use crate::model::{
    Cause, Direction, Hook, IncidentRole, Packet, ProvokingPacket, Reset, Role, Segment, Socket, State, TcpFlags,
    internals::{Ending, Internals},
};

/// Shortest time from an unanswered keep-alive probe to the reset of the timer, beyond two round trips, nanoseconds.
const PROBE_WAIT_NS: u64 = 200_000_000;
/// Resolution of a capture's times, milliseconds.
const TICK_MS: f64 = 0.001;
/// That resolution, nanoseconds.
const TICK_NS: u64 = 1_000;
/// Receives are closed for the process (`RCV_SHUTDOWN`).
const RCV_SHUTDOWN: u8 = 1;
/// Sends are closed (`SEND_SHUTDOWN`).
const SEND_SHUTDOWN: u8 = 2;

/// How an end came to send a reset.
pub(super) enum Sent {
    /// A socket of it did.
    Active,
    /// In answer to a segment, which may not have been captured.
    Answer(Option<SentSegment>),
}

/// Makes records of one reset.
pub(super) struct WireReset<'a> {
    pub(super) connection: &'a Followed,
    pub(super) segment: &'a TcpSegment,
    /// The end whose record it is.
    pub(super) end: End,
    /// Number of the capture, which keeps connections of several apart.
    pub(super) capture: u64,
}

impl WireReset<'_> {
    fn own(&self) -> &Half {
        self.connection.half(self.end)
    }

    fn other(&self) -> &Half {
        self.connection.half(self.end.other())
    }

    /// The record of the end that received it.
    pub(super) fn received(&self) -> Reset {
        let state = self.connection.state(self.end);
        let mut reset = self.record(Direction::Received, state);
        reset.socket = self.connection.is_known().then(|| self.socket(state));
        reset.internals.raw_state = state;
        reset.internals.expected_seq = self.other().is_seen.then_some(self.other().next);
        if let Some((value, echo)) = self.segment.timestamp() {
            let last = self.other().timestamp;
            reset.internals.peer_clock_delta = last.map(|(last, _)| value.wrapping_sub(last));
            // The unit of this end's timestamps is taken for a millisecond, as on Linux.
            let age = |(last, at_ns): (u32, u64)| {
                let since = u32::try_from(self.segment.time_ns.saturating_sub(at_ns) / 1_000_000).ok()?;
                since.checked_add(last.wrapping_sub(echo)).filter(|&age| age < 1 << 30)
            };
            reset.internals.echo_age_ms = self.own().timestamp.and_then(age);
        }
        reset
    }

    /// The record of the end that sent it.
    pub(super) fn sent(&self, sent: &Sent) -> Reset {
        let state = self.connection.state(self.end);
        let mut reset = self.record(Direction::Sent, state);
        match sent {
            Sent::Active => {
                reset.socket = self.connection.is_known().then(|| self.socket(state));
                // A process closes, but for a timer's reset of an open connection.
                reset.internals.raw_state = if self.is_of_probe_timer() { state } else { tcp::CLOSE };
                reset.internals.shutdown = SEND_SHUTDOWN | RCV_SHUTDOWN;
            }
            Sent::Answer(provoking) => {
                reset.provoked_by = provoking.as_ref().map(|segment| ProvokingPacket {
                    ttl: segment.ttl,
                    flags: TcpFlags(segment.flags),
                    seq: segment.seq,
                    ack: segment.ack,
                    window: segment.window,
                    length: u16::try_from(segment.length).unwrap_or(u16::MAX),
                });
                self.answer(&mut reset, state);
            }
        }
        reset
    }

    /// Fills in the socket that answered a segment, if there was one.
    fn answer(&self, reset: &mut Reset, state: u8) {
        if self.connection.ended.is_some() {
            reset.internals.ending = self.ending();
            return;
        }
        match state {
            // The kernel closes an orphan when data come, and answers them.
            tcp::FIN_WAIT1 | tcp::FIN_WAIT2 | tcp::CLOSING => {
                reset.socket = Some(self.socket(state));
                reset.internals.raw_state = tcp::CLOSE;
            }
            tcp::TIME_WAIT => {
                reset.socket = Some(Socket { state: State(state), ..Socket::default() });
                reset.internals.time_wait_substate = Some(state);
                reset.internals.raw_state = state;
            }
            tcp::SYN_SENT | tcp::SYN_RECV => {
                reset.socket = Some(self.socket(state));
                reset.internals.raw_state = state;
            }
            // This end does not know the connection, or not any more.
            _ => {}
        }
    }

    /// What both directions have in common.
    fn record(&self, direction: Direction, state: u8) -> Reset {
        let segment = self.segment;
        let local = self.connection.endpoint(self.end);
        let has_timestamps = self.has_timestamps();
        Reset {
            time: Timestamp::from_nanosecond(segment.time_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH),
            host: Arc::from(local.address.to_string()),
            seq: 0,
            count: 1,
            direction,
            hook: Hook::Capture,
            family: segment.family,
            local,
            peer: self.connection.endpoint(self.end.other()).into(),
            netns: None,
            process: None,
            actor: None,
            cgroup: None,
            unit: None,
            container: None,
            pod: None,
            socket: None,
            segment: Segment {
                seq: Some(segment.seq),
                ack: segment.has(tcp_flag::ACK).then_some(segment.ack),
                timestamp: has_timestamps.filter(|has| *has).and_then(|_| segment.has_timestamp()),
                timestamp_value: segment.timestamp().map(|(value, _)| value),
                timestamp_echo: segment.timestamp().map(|(_, echo)| echo),
            },
            packet: Some(self.packet(direction)),
            provoked_by: None,
            translated: None,
            reason: None,
            cause: Cause::undiagnosed(),
            incident: 0,
            incident_role: IncidentRole::First,
            other_end: None,
            internals: self.internals(state, has_timestamps),
        }
    }

    fn packet(&self, direction: Direction) -> Packet {
        let segment = self.segment;
        let sender = if direction == Direction::Received { self.other() } else { self.own() };
        let is_own = direction == Direction::Sent && segment.is_outgoing == Some(true);
        Packet {
            ttl: segment.ttl,
            // A capture that begins later has other segments of it. What the capturing host sent needs no comparison: a router may
            // send in the name of those whose packets it forwards.
            handshake_ttl: sender.handshake_ttl.or(sender.ttl).filter(|_| !is_own),
            flags: TcpFlags(segment.flags),
            seq: segment.seq,
            ack: segment.ack,
            window: segment.window,
            id: segment.id,
            length: segment.ip_length,
        }
    }

    fn internals(&self, state: u8, has_timestamps: Option<bool>) -> Internals {
        let connection = self.connection;
        let is_server = self.role() == Some(Role::Server);
        let established_ns = if is_server { connection.established_ns } else { connection.accepted_ns };
        // After its FIN an end has closed, unless it has taken data since, or waits for an answer.
        let (own, other) = (self.own(), self.other());
        let is_waiting = own.data_ns > other.taken_ns && other.fin_ns.is_none();
        let takes_data = own.fin_ns.is_none_or(|fin| is_waiting || other.taken_ns.is_some_and(|taken| taken > fin));
        let shutdown = match (self.own().fin_ns.is_some(), takes_data) {
            (false, _) => 0,
            (true, true) => SEND_SHUTDOWN,
            (true, false) => SEND_SHUTDOWN | RCV_SHUTDOWN,
        };
        Internals {
            ktime_ns: self.segment.time_ns,
            finished_ns: self.segment.time_ns,
            netns_cookie: self.capture,
            raw_state: state,
            shutdown,
            keepalive: self.own().probes > 0,
            probes_out: self.own().probes,
            has_history: connection.opener.is_some(),
            timestamps: has_timestamps,
            established_ms: self.before(established_ns),
            burst_ms: self.own().burst.and_then(|burst| self.before(Some(burst.began_ns))),
            since_ack_ms: self.before(self.own().acked_ns),
            tick_ms: Some(TICK_MS),
            ..Internals::default()
        }
    }

    /// The socket of this end, as far as it shows on the wire.
    fn socket(&self, state: u8) -> Socket {
        let (own, other) = (self.own(), self.other());
        // Without the other end's packets nothing shows what it has acknowledged.
        let unacked_bytes = own.unacked_bytes().filter(|_| other.is_seen);
        // What is not in flight, and may be sent, has been sent.
        let is_all_sent = own.fin_end.is_some() || unacked_bytes == Some(0) && other.window != Some(0);
        Socket {
            cookie: None,
            state: State(state),
            role: self.role(),
            age_ms: self.age_ms(),
            idle_before_send_ms: own.burst.and_then(|burst| burst.idle_ns).map(milliseconds),
            since_send_ms: self.before(own.data_ns),
            since_receive_ms: self.before(other.taken_ns),
            fin_received_ms: self.before(self.fin_received_ns()),
            fin_sent_ms: self.before(own.fin_ns),
            bytes_sent: own.is_seen.then_some(own.bytes_sent),
            bytes_acked: other.is_seen.then_some(own.bytes_acked),
            bytes_received: other.is_seen.then_some(other.bytes_taken),
            unacked_bytes,
            unsent_bytes: is_all_sent.then_some(0),
            unread_bytes: None,
            rtt_us: self.rtt_us(),
            retransmits: own.is_seen.then_some(own.retransmits),
            accept_queue: None,
            accept_queue_limit: None,
        }
    }

    /// Whether the reset is the keep-alive timer's: a process that aborts a connection does not wait for probes.
    fn is_of_probe_timer(&self) -> bool {
        let round_trips_ns = 2 * 1_000 * u64::from(self.rtt_us().unwrap_or(0));
        let waited_ns = self.own().probe_ns.map(|probe| self.segment.time_ns.saturating_sub(probe));
        self.own().probes > 0 && waited_ns.is_some_and(|waited| waited >= PROBE_WAIT_NS + round_trips_ns)
    }

    fn role(&self) -> Option<Role> {
        let opener = self.connection.opener?;
        Some(if opener == self.end { Role::Client } else { Role::Server })
    }

    /// When this end's socket was made, nanoseconds since 1970: at its SYN, or at the end of the handshake.
    fn opened_ns(&self) -> Option<u64> {
        match self.role()? {
            Role::Client => self.own().syn_ns,
            _ => self.connection.established_ns.or(self.connection.accepted_ns),
        }
    }

    /// When the other end's FIN reached this one, nanoseconds since 1970. Where this end's last data had not acknowledged it, it came
    /// after they were sent, whatever the order at the place of capture.
    fn fin_received_ns(&self) -> Option<u64> {
        let (fin_ns, fin_end) = (self.other().fin_ns?, self.other().fin_end?);
        let crossed = self.own().burst.filter(|burst| burst.began_ns >= fin_ns && is_after(fin_end, burst.ack));
        Some(crossed.map_or(fin_ns, |burst| burst.began_ns + 2 * TICK_NS))
    }

    fn age_ms(&self) -> Option<f64> {
        self.before(self.opened_ns())
    }

    /// Whether the ends have agreed on timestamps; `None` where that was not captured.
    fn has_timestamps(&self) -> Option<bool> {
        if self.own().has_agreed || self.other().has_agreed {
            return Some(true);
        }
        match (self.own().timestamps, self.other().timestamps) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    /// Round trip between the ends, microseconds: from the place of capture to the one and to the other. This end's own part is
    /// its shortest, since it may delay acknowledgements.
    fn rtt_us(&self) -> Option<u32> {
        let (own, other) = (self.own().round_trip, self.other().round_trip);
        let there = own.smoothed_ns?;
        u32::try_from((there + other.shortest_ns.unwrap_or(0)) / 1_000).ok()
    }

    /// How the connection ended for this end, where it had ended before.
    fn ending(&self) -> Option<Ending> {
        let ended = self.connection.ended.as_ref()?;
        let (own, other) = (self.own(), self.other());
        let closed_ns = own.fin_ns.unwrap_or(ended.at_ns);
        let last = own.data_ns.max(other.taken_ns);
        let is_own = ended.by == self.end;
        Some(Ending {
            closed_ms: self.before(Some(closed_ns)).unwrap_or(0.0),
            lifetime_ms: self.opened_ns().map(|opened| milliseconds(closed_ns.saturating_sub(opened))),
            idle_ms: last.map(|last| milliseconds(closed_ns.saturating_sub(last))),
            was_aborted: is_own && ended.is_active,
            last_data: match (own.data_ns, other.taken_ns) {
                (sent, received) if sent > received => LAST_DATA_SENT,
                (sent, received) if sent < received => LAST_DATA_RECEIVED,
                _ => LAST_DATA_UNKNOWN,
            },
            bytes_received: clamped(other.bytes_taken),
            bytes_sent: clamped(own.bytes_sent),
            error: if is_own { 0 } else { ECONNRESET },
            window: other.window.unwrap_or(0),
            state: self.connection.state(self.end),
            role: match self.role() {
                Some(Role::Client) => ROLE_CLIENT,
                Some(_) => ROLE_SERVER,
                None => 0,
            },
            rtt_us: self.rtt_us(),
        })
    }

    /// Milliseconds from a moment to the reset.
    fn before(&self, moment_ns: Option<u64>) -> Option<f64> {
        Some(milliseconds(self.segment.time_ns.saturating_sub(moment_ns?)))
    }
}

/// Nanoseconds as milliseconds, to the microsecond.
fn milliseconds(ns: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
    let micros = (ns.saturating_add(500) / 1_000) as f64;
    micros / 1e3
}

fn clamped(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
