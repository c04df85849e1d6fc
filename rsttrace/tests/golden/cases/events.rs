//! Base event of the golden cases, and the changes that cases are composed of.

use std::time::Duration;

use rsttrace::decode::clock::Ticks;
use rsttrace_common::{
    abi::{sock_flag, tcp, tcp_flag},
    event::{
        Address, ConnectionEnding, EVENT_HAS_HISTORY, EVENT_HAS_PACKET, EVENT_HAS_REASON, EVENT_HAS_SOCKET,
        EVENT_HAS_TIMES, EVENT_ORPHAN, EVENT_OWNED_BY_USER, EVENT_TIME_WAIT, KIND_RECEIVED, KIND_SENT,
        LAST_DATA_RECEIVED, PROVENANCE_CONNECT, PROVENANCE_LISTEN, PacketHeader, ROLE_CLIENT, ROLE_LISTENER,
        ROLE_SERVER, ResetEvent, Task,
    },
};

/// Monotonic clock at the events: a little more than eight days, so that every known timeout can have expired.
pub(crate) const NOW_NS: u64 = 700_000_000_000_000;
/// Ticks per second.
const HZ: u32 = 250;
/// [`HZ`] as the decoder takes it.
pub(crate) fn tick_rate() -> Option<Ticks> {
    Ticks::of_resolution(Duration::from_secs(1) / HZ)
}
/// Tick counter at [`NOW_NS`].
pub(crate) const NOW_JIFFIES: u32 = (700_000 - 300) * HZ;

pub(crate) fn common() -> ResetEvent {
    ResetEvent {
        ktime_ns: NOW_NS,
        sk: 0xffff_8881_0000_1234,
        cgroup_id: 4242,
        netns: 4_026_531_840,
        now_jiffies: NOW_JIFFIES,
        local_address: v4([10, 0, 0, 5]),
        peer_address: v4([10, 0, 1, 9]),
        local_port: 43210,
        peer_port: 443,
        family: 2,
        ..ResetEvent::default()
    }
}

/// Moves an event this many milliseconds into the past.
pub(crate) fn earlier(mut event: ResetEvent, ms: u64) -> ResetEvent {
    let ns = ms * 1_000_000;
    event.ktime_ns -= ns;
    for tick in [
        &mut event.now_jiffies,
        &mut event.last_send_jiffies,
        &mut event.last_receive_jiffies,
        &mut event.last_ack_jiffies,
        &mut event.chrono_start_jiffies,
    ] {
        *tick = tick.wrapping_sub(u32::try_from(ms * u64::from(HZ) / 1000).unwrap_or(0));
    }
    for moment in [
        &mut event.opened_ns,
        &mut event.established_ns,
        &mut event.fin_received_ns,
        &mut event.fin_sent_ns,
        &mut event.ending.closed_ns,
    ] {
        *moment = moment.saturating_sub(ns);
    }
    event
}

/// An IPv4 address in the encoding of the kernel side.
pub(crate) fn v4([a, b, c, d]: [u8; 4]) -> Address {
    [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([a, b, c, d])]
}

pub(crate) fn v6(words: [u16; 8]) -> Address {
    let word = |index: usize| (u32::from(words[index]) << 16 | u32::from(words[index + 1])).to_be();
    [word(0), word(2), word(4), word(6)]
}

pub(crate) fn without_socket(event: &mut ResetEvent, flags: u8) {
    event.kind = KIND_SENT;
    event.flags |= EVENT_HAS_REASON;
    (event.sk, event.cgroup_id, event.reason) = (0, 0, 1);
    answers(event, flags);
}

pub(crate) fn time_wait(event: &mut ResetEvent, substate: u8) {
    event.kind = KIND_SENT;
    event.flags |= EVENT_TIME_WAIT | EVENT_HAS_REASON;
    (event.cgroup_id, event.reason, event.state, event.substate) = (0, 9, tcp::TIME_WAIT, substate);
    answers(event, tcp_flag::ACK | tcp_flag::PSH);
}

/// A sent reset of a socket that the kernel has closed from this state, for this reason.
pub(crate) fn sent(event: &mut ResetEvent, reason: u32, state: u8) {
    event.kind = KIND_SENT;
    event.flags |= EVENT_HAS_SOCKET | EVENT_HAS_REASON;
    (event.reason, event.state, event.previous_state) = (reason, tcp::CLOSE, state);
}

pub(crate) fn received(event: &mut ResetEvent, state: u8) {
    event.kind = KIND_RECEIVED;
    event.flags |= EVENT_HAS_SOCKET;
    event.state = state;
}

pub(crate) fn listener(event: &mut ResetEvent, reason: u32) {
    sent(event, reason, tcp::CLOSE);
    (event.state, event.role) = (tcp::LISTEN, ROLE_LISTENER);
    owner(event, "redis-server", 6379, PROVENANCE_LISTEN);
}

pub(crate) fn answers(event: &mut ResetEvent, flags: u8) {
    event.flags |= EVENT_HAS_PACKET;
    event.packet = PacketHeader {
        seq: 1_000_000,
        ack: 2_000_000,
        window: 64240,
        id: 0,
        length: 60,
        ttl: 63,
        flags,
        ..PacketHeader::default()
    };
}

/// Header of the reset, as a hook sees it; a `handshake_ttl` of 0 means that the handshake was not seen.
pub(super) fn headed(event: &mut ResetEvent, ttl: u8, handshake_ttl: u8, ack: u32, window: u16) {
    let flags = if ack == 0 { tcp_flag::RST } else { tcp_flag::RST | tcp_flag::ACK };
    event.flags |= EVENT_HAS_PACKET;
    event.packet = PacketHeader { seq: 1, ack, window, id: 0, length: 40, ttl, flags, ..PacketHeader::default() };
    event.handshake_ttl = handshake_ttl;
}

pub(crate) fn owner(event: &mut ResetEvent, comm: &str, tgid: u32, provenance: u8) {
    event.flags |= EVENT_HAS_HISTORY;
    event.provenance = provenance;
    event.owner = task(comm, tgid);
}

pub(crate) fn held_by(event: &mut ResetEvent, comm: &str, tgid: u32) {
    event.flags |= EVENT_OWNED_BY_USER;
    event.actor = task(comm, tgid);
}

fn task(comm: &str, tgid: u32) -> Task {
    let mut task = Task { start_boottime_ns: u64::from(tgid), tgid, uid: 1000, comm: [0; 16] };
    for (to, from) in task.comm.iter_mut().zip(comm.bytes()) {
        *to = from;
    }
    task
}

/// Time this many milliseconds ago.
pub(crate) fn ago(ms: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive times")]
    let ns = (ms * 1e6) as u64;
    NOW_NS - ns
}

/// Tick this many milliseconds ago.
pub(crate) fn ticks(ms: u32) -> u32 {
    NOW_JIFFIES.wrapping_sub(u32::try_from(u64::from(ms) * u64::from(HZ) / 1000).unwrap_or(u32::MAX))
}

/// A reset on a connection that this host opened a minute and a half ago, in this state.
pub(crate) fn client(event: &mut ResetEvent, state: u8) {
    received(event, state);
    event.flags |= EVENT_HAS_TIMES | EVENT_HAS_HISTORY;
    event.role = ROLE_CLIENT;
    owner(event, "java", 1234, PROVENANCE_CONNECT);
    established(event, 90_000.0);
    event.rtt_us = 310;
    // The SYN.
    event.bytes_acked = 1;
}

/// Sets the end of the handshake, this many milliseconds ago.
pub(crate) fn established(event: &mut ResetEvent, ms: f64) {
    (event.opened_ns, event.established_ns) = (ago(ms + 0.32), ago(ms));
    // Timestamps start at the handshake.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive times")]
    let start = ticks(ms as u32);
    (event.last_send_jiffies, event.last_receive_jiffies, event.last_ack_jiffies) = (start, start, start);
}

/// A reset on a connection that this host accepted.
pub(crate) fn server(event: &mut ResetEvent, state: u8) {
    client(event, state);
    event.role = ROLE_SERVER;
    event.bytes_acked = 0;
    owner(event, "gunicorn", 555, PROVENANCE_LISTEN);
    (event.local_port, event.peer_port) = (8080, 50_000);
}

/// A finished exchange: this many bytes sent and acknowledged, and received, the last of them this many milliseconds
/// ago.
pub(crate) fn exchanged(event: &mut ResetEvent, sent: u64, received: u64, ms: u32) {
    event.bytes_sent += sent;
    event.bytes_acked += sent;
    event.bytes_received += received;
    (event.last_send_jiffies, event.last_receive_jiffies, event.last_ack_jiffies) = (ticks(ms), ticks(ms), ticks(ms));
}

/// This many bytes in flight, in one burst that began this many milliseconds ago.
pub(crate) fn in_flight(event: &mut ResetEvent, bytes: u32, ms: u32) {
    event.bytes_sent += u64::from(bytes);
    event.unacked_bytes = bytes;
    (event.chrono_type, event.chrono_start_jiffies, event.last_send_jiffies) = (1, ticks(ms), ticks(ms));
}

/// The connection has timestamps, and the reset has one or not.
pub(crate) fn timestamps(event: &mut ResetEvent, in_reset: bool) {
    (event.timestamps_ok, event.saw_timestamp) = (1, in_reset.into());
    (event.timestamp_recent, event.timestamp_value) = (1_000_000, 1_000_200);
    #[expect(clippy::cast_possible_truncation, reason = "timestamps have the low 32 bits of the clock")]
    let now = (NOW_NS / 1_000_000) as u32;
    event.timestamp_echo = now - 40;
}

/// This side closed this many milliseconds ago.
pub(crate) fn closed(event: &mut ResetEvent, ms: f64) {
    event.fin_sent_ns = ago(ms);
    event.shutdown = 3;
    event.socket_flags |= sock_flag::DEAD;
    event.flags |= EVENT_ORPHAN;
}

/// A connection between these ends was closed in this state, this many milliseconds ago, after an exchange.
pub(crate) fn ended(event: &mut ResetEvent, ms: f64, state: u8, role: u8) {
    event.ending = ConnectionEnding {
        closed_ns: ago(ms),
        bytes_received: 1893,
        bytes_sent: 401,
        idle_jiffies: NOW_JIFFIES - ticks(2000),
        window: 0,
        error: 0,
        state,
        role,
        last_data: LAST_DATA_RECEIVED,
        was_aborted: 0,
        closing_ms: 0,
        rtt_us: 0,
        padding: 0,
    };
    event.opened_ns = ago(ms + 3000.0);
}

/// The peer's FIN arrived this many milliseconds ago.
pub(crate) fn fin(event: &mut ResetEvent, ms: f64) {
    event.fin_received_ns = ago(ms);
    event.bytes_received += 1;
    event.socket_flags |= sock_flag::DONE;
}
