//! Decoder of [`ResetEvent`]s to [`Reset`]s.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use foldhash::HashMap;
use rsttrace_common::{
    abi::{AF_INET6, sock_flag, tcp},
    event::{
        Address, ConnectionEnding, EVENT_EXITING, EVENT_HAS_HISTORY, EVENT_HAS_PACKET, EVENT_HAS_REASON,
        EVENT_HAS_SOCKET, EVENT_ORPHAN, EVENT_OWNED_BY_USER, EVENT_SHARED, EVENT_TIME_WAIT, FILE_REFCOUNT_UNKNOWN,
        KIND_IGNORED, KIND_RECEIVED, KIND_REJECTED, PacketHeader, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent,
        Task, UID_UNKNOWN,
    },
    holder_lookup::HolderLookup,
};

use super::{
    clock::{Ticks, WallClock},
    reset_segment::{BitFields, bit, has_timestamps, segment},
    socket_figures,
};
use crate::{
    model::internals::{Ending, HolderFindings, Internals, KernelTask},
    model::{
        Cause, Cgroup, Direction, Endpoint, Family, Forwarded, Hook, IncidentRole, Interface, Netns, Packet,
        ProvokingPacket, Reset, Role, RstOrigin, Socket, State, TcpFlags,
    },
};

/// The running kernel's names of reasons by number.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    /// `enum sk_rst_reason`, for sent resets; empty before 6.10.
    pub reset: BTreeMap<u32, Arc<str>>,
    /// `enum skb_drop_reason`, for discarded packets; empty before 5.17.
    pub drop: BTreeMap<u32, Arc<str>>,
}

/// Decoder of events.
pub struct Decoder {
    host: Arc<str>,
    reasons: Reasons,
    bit_fields: BitFields,
    ticks: Option<Ticks>,
    comms: CommInterner,
}

/// Interner of process names (`comm`): even a flood of events has few different ones.
#[derive(Default)]
struct CommInterner(HashMap<[u8; 16], Arc<str>>);

impl CommInterner {
    /// Capacity. Bounded, since every process chooses its own name.
    const MAX: usize = 256;

    /// The name as text, shared with earlier events. Forgets all names when it is full.
    fn intern(&mut self, comm: [u8; 16]) -> Arc<str> {
        if self.0.len() >= Self::MAX && !self.0.contains_key(&comm) {
            self.0.clear();
        }
        Arc::clone(self.0.entry(comm).or_insert_with(|| comm_text(comm)))
    }
}

impl Decoder {
    /// Name of this host, in every record.
    pub const fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// A decoder for this host and kernel. `bit_fields` is that of `KernelInfo::bit_fields`; without `ticks`, times that the
    /// kernel keeps in ticks are `None`.
    pub fn new(host: Arc<str>, reasons: Reasons, bit_fields: BitFields, ticks: Option<Ticks>) -> Self {
        Self { host, reasons, bit_fields, ticks, comms: CommInterner::default() }
    }

    /// Decodes an event other than a forwarded reset. Owner, process, cause and number of the record are left to later stages.
    pub fn reset(&mut self, event: &ResetEvent, clock: &WallClock) -> Reset {
        let mut internals = internals(event, &mut self.comms);
        internals.tick_ms = self.ticks.map(|ticks| ticks.ms(1));
        internals.ending = ending(event, self.ticks);
        internals.expected_seq =
            (event.kind == KIND_RECEIVED && event.flags & EVENT_HAS_SOCKET != 0).then_some(event.rcv_nxt);
        let state = decided_state(event);
        let segment = segment(event, state, self.bit_fields);
        internals.is_mptcp =
            bit(event.is_mptcp, self.bit_fields.is_mptcp).filter(|_| event.flags & EVENT_HAS_SOCKET != 0);
        internals.timestamps = has_timestamps(event, state, self.bit_fields);
        if segment.timestamp == Some(true) && event.kind == KIND_RECEIVED {
            internals.peer_clock_delta = Some(event.timestamp_value.wrapping_sub(event.timestamp_recent));
            internals.echo_age_ms = echo_age_ms(event);
        }
        let received = matches!(event.kind, KIND_RECEIVED | KIND_IGNORED);
        let direction = if received { Direction::Received } else { Direction::Sent };
        let has_packet = event.flags & EVENT_HAS_PACKET != 0;
        let family = family(event);
        Reset {
            time: clock.at(event.ktime_ns),
            host: Arc::clone(&self.host),
            seq: 0,
            count: 1,
            direction,
            hook: hook(event, family),
            family,
            local: Endpoint { address: address(event.local_address), port: event.local_port },
            peer: Endpoint { address: address(event.peer_address), port: event.peer_port }.into(),
            netns: (event.netns != 0).then_some(Netns { inode: event.netns }),
            process: None,
            actor: None,
            cgroup: (event.cgroup_id != 0).then_some(Cgroup { id: event.cgroup_id, path: None }),
            unit: None,
            container: None,
            pod: None,
            socket: self.socket(event, &mut internals),
            segment,
            packet: (has_packet && direction == Direction::Received).then(|| packet(event)),
            provoked_by: (has_packet && direction == Direction::Sent).then(|| provoking_packet(&event.packet)),
            translated: None,
            reason: self.reason(event),
            cause: Cause::undiagnosed(),
            incident: 0,
            incident_role: IncidentRole::First,
            other_end: None,
            internals,
        }
    }

    /// Decodes a forwarded reset. It came in by the interface with the index in the event, in a network namespace that may be
    /// unknown.
    pub fn forwarded(
        &self,
        event: &ResetEvent,
        clock: &WallClock,
        (interface, netns): (Interface, Option<Netns>),
    ) -> Forwarded {
        let family = family(event);
        let packet = packet(event);
        Forwarded {
            time: clock.at(event.ktime_ns),
            ktime_ns: event.ktime_ns,
            host: Arc::clone(&self.host),
            family,
            interface,
            netns,
            from: Endpoint { address: address(event.peer_address), port: event.peer_port },
            to: Endpoint { address: address(event.local_address), port: event.local_port },
            origin: RstOrigin::of(&packet, family),
            packet,
        }
    }

    /// The kernel's reason; `REASON_` and the number for one that its BTF does not have; `None` when the hook gives none.
    fn reason(&self, event: &ResetEvent) -> Option<Arc<str>> {
        let reasons = if event.kind == KIND_IGNORED { &self.reasons.drop } else { &self.reasons.reset };
        (event.flags & EVENT_HAS_REASON != 0).then(|| {
            reasons.get(&event.reason).cloned().unwrap_or_else(|| Arc::from(format!("REASON_{}", event.reason)))
        })
    }

    /// The socket of the event; `None` when it has none. Figures that are not serialized go to `internals`.
    fn socket(&self, event: &ResetEvent, internals: &mut Internals) -> Option<Socket> {
        let cookie = (event.cookie != 0).then_some(event.cookie);
        if event.flags & EVENT_TIME_WAIT != 0 {
            return Some(Socket { cookie, state: State(event.state), ..Socket::default() });
        }
        if event.flags & EVENT_HAS_SOCKET == 0 {
            return None;
        }
        let state = decided_state(event);
        if state == tcp::LISTEN {
            return Some(Socket {
                cookie,
                state: State(state),
                role: Some(Role::Listener),
                accept_queue: Some(event.accept_queue),
                accept_queue_limit: Some(event.accept_queue_limit),
                ..Socket::default()
            });
        }
        let payload = socket_figures::payload(event, state);
        let times = socket_figures::times(event, &payload, self.ticks, self.bit_fields.chrono_type);
        internals.burst_ms = times.burst_ms;
        internals.since_ack_ms = times.since_ack_ms;
        internals.established_ms = before(event, event.established_ns);
        let age_ms = before(event, event.opened_ns);
        // A time that is known to the tick may seem earlier than the connection.
        let tick_ms = self.ticks.map_or(0.0, |ticks| ticks.ms(1));
        let within_age =
            |ms: Option<f64>| ms.map(|ms| age_ms.filter(|&age| age < ms && ms <= age + tick_ms).unwrap_or(ms));
        Some(Socket {
            cookie,
            state: State(state),
            role: role(payload.role),
            age_ms,
            idle_before_send_ms: within_age(times.idle_before_send_ms),
            since_send_ms: within_age(times.since_send_ms),
            since_receive_ms: within_age(times.since_receive_ms),
            fin_received_ms: before(event, event.fin_received_ns),
            fin_sent_ms: before(event, event.fin_sent_ns),
            bytes_sent: Some(payload.sent),
            bytes_acked: Some(payload.acked),
            bytes_received: Some(payload.received),
            unacked_bytes: Some(payload.unacked),
            unsent_bytes: Some(payload.unsent),
            unread_bytes: Some(payload.unread),
            rtt_us: (event.rtt_us != 0).then_some(event.rtt_us),
            retransmits: Some(event.retransmits),
            accept_queue: None,
            accept_queue_limit: None,
        })
    }
}

const fn family(event: &ResetEvent) -> Family {
    if event.family == AF_INET6 { Family::Ipv6 } else { Family::Ipv4 }
}

/// Hook that reported an event. A sent reset with neither socket nor reason is from `tcp_v4_send_reset` or `tcp_v6_send_reset`:
/// those are probed on kernels whose tracepoint `tcp_send_reset` is for full sockets only, and has no reason.
fn hook(event: &ResetEvent, family: Family) -> Hook {
    let from_function = event.flags & (EVENT_HAS_REASON | EVENT_HAS_SOCKET) == 0;
    match (event.kind, family) {
        (KIND_RECEIVED, _) => Hook::TcpReceiveReset,
        (KIND_IGNORED, _) => Hook::KfreeSkb,
        (KIND_REJECTED, Family::Ipv4) => Hook::NfSendReset,
        (KIND_REJECTED, Family::Ipv6) => Hook::NfSendReset6,
        (_, Family::Ipv4) if from_function => Hook::TcpV4SendReset,
        (_, Family::Ipv6) if from_function => Hook::TcpV6SendReset,
        _ => Hook::TcpSendReset,
    }
}

/// Header of the reset itself, which was received, ignored or forwarded.
fn packet(event: &ResetEvent) -> Packet {
    let header = &event.packet;
    Packet {
        ttl: header.ttl,
        handshake_ttl: (event.handshake_ttl != 0).then_some(event.handshake_ttl),
        flags: TcpFlags(header.flags),
        seq: header.seq,
        ack: header.ack,
        window: header.window,
        id: (event.family != AF_INET6).then_some(header.id),
        length: header.length,
    }
}

/// Header of the packet that a sent reset answers.
const fn provoking_packet(header: &PacketHeader) -> ProvokingPacket {
    ProvokingPacket {
        ttl: header.ttl,
        flags: TcpFlags(header.flags),
        seq: header.seq,
        ack: header.ack,
        window: header.window,
        length: header.payload,
    }
}

/// Time since this host sent the segment that the reset echoes; `None` where the echo is no time of this host's clock of
/// milliseconds, or lies in the future.
fn echo_age_ms(event: &ResetEvent) -> Option<u32> {
    /// Longest age that is told: a larger one is an echo of nothing.
    const MAX_MS: u32 = 1 << 30;
    #[expect(clippy::cast_possible_truncation, reason = "timestamps have the low 32 bits of the clock")]
    let now = (event.ktime_ns / 1_000_000) as u32;
    (event.timestamp_echo != 0).then(|| now.wrapping_sub(event.timestamp_echo)).filter(|&age| age < MAX_MS)
}

/// The end of the last connection between these ends.
fn ending(event: &ResetEvent, ticks: Option<Ticks>) -> Option<Ending> {
    let ConnectionEnding {
        closed_ns,
        bytes_received,
        bytes_sent,
        idle_jiffies,
        window,
        error,
        state,
        role,
        last_data,
        was_aborted,
        closing_ms,
        rtt_us,
        ..
    } = event.ending;
    let span_ms = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from)).as_secs_f64() * 1000.0;
    (closed_ns != 0).then(|| Ending {
        // This host had closed when it sent its FIN.
        closed_ms: span_ms(closed_ns, event.ktime_ns) + f64::from(closing_ms),
        lifetime_ms: (event.opened_ns != 0).then(|| span_ms(event.opened_ns, closed_ns)),
        idle_ms: ticks.map(|ticks| (ticks.ms(idle_jiffies) - f64::from(closing_ms)).max(0.0)),
        last_data,
        was_aborted: was_aborted != 0,
        bytes_received,
        bytes_sent,
        error,
        window,
        state,
        role,
        rtt_us: (rtt_us != 0).then_some(rtt_us),
    })
}

/// State in which the reset was decided: the kernel sets CLOSE before it reports most resets that it sends.
fn decided_state(event: &ResetEvent) -> u8 {
    match (event.state, event.previous_state) {
        (tcp::CLOSE, 0) => state_before_close(event).unwrap_or(tcp::CLOSE),
        (tcp::CLOSE, previous) => previous,
        (state, _) => state,
    }
}

/// State before CLOSE, derived from the socket and its history when the last change of state was missed: the kernel skips a
/// program that is already running on the CPU (a recursion miss). `None` when it cannot be derived.
fn state_before_close(event: &ResetEvent) -> Option<u8> {
    let (fin_sent, fin_received) = (event.fin_sent_ns, event.fin_received_ns);
    let has_received_fin = fin_received != 0 || event.socket_flags & sock_flag::DONE != 0;
    match (fin_sent != 0, has_received_fin) {
        (true, true) => (0 < fin_received && fin_received < fin_sent).then_some(tcp::LAST_ACK),
        (true, false) if event.unacked_bytes == 0 => Some(tcp::FIN_WAIT2),
        (true, false) => Some(tcp::FIN_WAIT1),
        (false, true) => Some(tcp::CLOSE_WAIT),
        (false, false) => {
            let was_established = event.established_ns != 0 || event.bytes_received != 0 || event.bytes_acked != 0;
            was_established.then_some(tcp::ESTABLISHED)
        }
    }
}

fn address(words: Address) -> IpAddr {
    // The words are in memory as the kernel has them: bytes in network order.
    let v6 = Ipv6Addr::from_bits(u128::from_be_bytes(zerocopy::transmute!(words)));
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

const fn role(role: u8) -> Option<Role> {
    match role {
        ROLE_CLIENT => Some(Role::Client),
        ROLE_SERVER => Some(Role::Server),
        ROLE_LISTENER => Some(Role::Listener),
        _ => None,
    }
}

/// Milliseconds from `moment_ns` to the event, to the microsecond; `None` for 0, a moment that was not observed.
fn before(event: &ResetEvent, moment_ns: u64) -> Option<f64> {
    let micros = event.ktime_ns.saturating_sub(moment_ns).saturating_add(500) / 1000;
    #[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
    (moment_ns != 0).then_some(micros as f64 / 1e3)
}

/// Index of the loopback interface in each network namespace (`LOOPBACK_IFINDEX` of `include/net/flow.h`).
const LOOPBACK_INDEX: u32 = 1;

fn internals(event: &ResetEvent, comms: &mut CommInterner) -> Internals {
    let has = |flag: u32| event.flags & flag != 0;
    Internals {
        ktime_ns: event.ktime_ns,
        netns_cookie: event.netns_cookie,
        owner: task(&event.owner, |comm| comms.intern(comm)),
        provenance: event.provenance,
        shared: has(EVENT_SHARED),
        holder: if has(EVENT_OWNED_BY_USER) { task(&event.actor, |comm| comms.intern(comm)) } else { None },
        holder_exiting: has(EVENT_EXITING),
        exit_code: has(EVENT_EXITING).then_some(event.exit_code),
        time_wait_substate: has(EVENT_TIME_WAIT).then_some(event.substate),
        raw_state: event.state,
        orphan: has(EVENT_ORPHAN),
        dead: event.socket_flags & sock_flag::DEAD != 0,
        shutdown: event.shutdown,
        linger_zero: event.socket_flags & sock_flag::LINGER != 0 && event.linger_jiffies == 0,
        keepalive: event.socket_flags & sock_flag::KEEPALIVE != 0,
        probes_out: event.probes_out,
        user_timeout_ms: event.user_timeout_ms,
        has_history: has(EVENT_HAS_HISTORY),
        file_refcount: (event.file_refcount != FILE_REFCOUNT_UNKNOWN).then_some(event.file_refcount),
        lookup_id: (event.lookup_id != 0).then_some(event.lookup_id),
        netfilter_hook: event.netfilter_hook,
        listener_drops: event.listener_drops,
        via_loopback: (event.kind == KIND_RECEIVED && event.interface != 0)
            .then_some(event.interface == LOOPBACK_INDEX),
        ..Internals::default()
    }
}

/// Findings of a holder lookup. Results of scans before number `first_scan` are left out: the lookup may have begun with an
/// earlier reset of that socket.
pub fn holder_findings(lookup: &HolderLookup, first_scan: u32) -> HolderFindings {
    let is_scanned = lookup.scan >= first_scan;
    HolderFindings {
        holder: if is_scanned { task(&lookup.holder, comm_text) } else { None },
        multiple_holders: is_scanned && lookup.multiple_holders != 0,
        descriptors: if is_scanned { lookup.descriptors } else { 0 },
        owner_holds: is_scanned && lookup.expected_holds != 0,
        closer: task(&lookup.closer, comm_text),
        gone: lookup.destroyed_ns != 0,
    }
}

/// A task; `None` for `tgid` 0, no task.
fn task(task: &Task, to_text: impl FnOnce([u8; 16]) -> Arc<str>) -> Option<KernelTask> {
    (task.tgid != 0).then(|| KernelTask {
        tgid: task.tgid,
        start_boottime_ns: task.start_boottime_ns,
        uid: (task.uid != UID_UNKNOWN).then_some(task.uid),
        comm: to_text(task.comm),
    })
}

/// A `comm` up to its terminating NUL, with invalid UTF-8 replaced.
fn comm_text(comm: [u8; 16]) -> Arc<str> {
    let end = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(comm.get(..end).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rsttrace_common::event::KIND_SENT;
    use zerocopy::FromBytes as _;

    use super::*;

    fn decoder() -> Decoder {
        let reasons = Reasons { reset: BTreeMap::from([(14, "TCP_STATE".into())]), ..Reasons::default() };
        Decoder::new("gw-1".into(), reasons, BitFields::LOWEST, None)
    }

    const CLOCK: WallClock = WallClock { monotonic_ns: 1_000_000_000, wall: Timestamp::UNIX_EPOCH };

    #[test]
    fn a_closed_socket_shows_the_state_before() {
        let event = ResetEvent {
            kind: KIND_SENT,
            flags: EVENT_HAS_SOCKET | EVENT_HAS_REASON,
            state: tcp::CLOSE,
            previous_state: tcp::ESTABLISHED,
            reason: 14,
            ..ResetEvent::default()
        };
        let reset = decoder().reset(&event, &CLOCK);
        assert_eq!(reset.socket.map(|socket| socket.state), Some(State(tcp::ESTABLISHED)));
        assert_eq!(reset.reason.as_deref(), Some("TCP_STATE"));
    }

    #[test]
    fn derives_the_state_before_close_when_the_change_was_missed() {
        let closed = ResetEvent {
            kind: KIND_SENT,
            flags: EVENT_HAS_SOCKET,
            state: tcp::CLOSE,
            established_ns: 1,
            ..ResetEvent::default()
        };
        let state = |change: fn(&mut ResetEvent)| {
            let mut event = closed;
            change(&mut event);
            decoder().reset(&event, &CLOCK).socket.map(|socket| socket.state.0)
        };
        assert_eq!(state(|_| {}), Some(tcp::ESTABLISHED));
        assert_eq!(state(|event| event.socket_flags = sock_flag::DONE), Some(tcp::CLOSE_WAIT));
        assert_eq!(state(|event| (event.fin_sent_ns, event.unacked_bytes) = (2, 1)), Some(tcp::FIN_WAIT1));
        assert_eq!(state(|event| event.fin_sent_ns = 2), Some(tcp::FIN_WAIT2));
        assert_eq!(state(|event| (event.fin_received_ns, event.fin_sent_ns) = (2, 3)), Some(tcp::LAST_ACK));
        // Our FIN was the first; the states between it and CLOSE are unknown.
        assert_eq!(state(|event| (event.fin_sent_ns, event.fin_received_ns) = (2, 3)), Some(tcp::CLOSE));
        assert_eq!(state(|event| event.established_ns = 0), Some(tcp::CLOSE));
    }

    #[test]
    fn unknown_numbers_survive_as_numbers() {
        let event = ResetEvent {
            kind: KIND_SENT,
            flags: EVENT_HAS_SOCKET | EVENT_HAS_REASON,
            state: 99,
            reason: 1234,
            ..ResetEvent::default()
        };
        let reset = decoder().reset(&event, &CLOCK);
        assert_eq!(reset.reason.as_deref(), Some("REASON_1234"));
        assert_eq!(reset.socket.map(|socket| socket.state.to_string()), Some("STATE_99".to_owned()));
    }

    #[test]
    fn an_event_without_socket_has_no_figures_of_one() {
        let reset = decoder().reset(&ResetEvent { kind: KIND_SENT, ..ResetEvent::default() }, &CLOCK);
        assert!(reset.socket.is_none() && reset.reason.is_none() && reset.provoked_by.is_none());
        assert!(reset.netns.is_none() && reset.cgroup.is_none() && reset.internals.owner.is_none());
    }

    #[test]
    fn findings_of_earlier_scans_are_ignored() {
        let lookup = HolderLookup {
            holder: Task { tgid: 7, ..Task::default() },
            scan: 3,
            multiple_holders: 1,
            expected_holds: 1,
            ..HolderLookup::default()
        };
        let all = holder_findings(&lookup, 3);
        assert!(all.holder.is_some() && all.multiple_holders && all.owner_holds);
        assert_eq!(holder_findings(&lookup, 4), HolderFindings::default());
        assert_eq!(holder_findings(&HolderLookup::default(), 1), HolderFindings::default());
    }

    #[test]
    fn any_bytes_make_a_record() {
        // A linear congruential generator: no value of any field may cause a panic.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut decoder = decoder();
        for _ in 0..20_000 {
            let mut bytes = [0_u8; size_of::<ResetEvent>()];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
            let event = ResetEvent::read_from_bytes(&bytes).expect("the size of an event");
            drop(decoder.reset(&event, &CLOCK));
        }
    }
}
