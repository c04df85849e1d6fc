//! One [`ResetEvent`] to one [`Reset`].

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
        Address, EVENT_EXITING, EVENT_HAS_HISTORY, EVENT_HAS_PACKET, EVENT_HAS_REASON, EVENT_HAS_SOCKET, EVENT_ORPHAN,
        EVENT_OWNED_BY_USER, EVENT_SHARED, EVENT_TIME_WAIT, FILE_REFCOUNT_UNKNOWN, KIND_IGNORED, KIND_RECEIVED,
        KIND_REJECTED, PacketHeader, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent, Task, UID_UNKNOWN,
    },
    holder_lookup::HolderLookup,
};

use super::{
    clock::{Ticks, WallClock},
    timing,
};
use crate::{
    diagnose,
    facts::{Facts, Found, KernelTask},
    model::{
        Cgroup, Direction, Endpoint, Family, Forwarded, Hook, Interface, Netns, Packet, ProvokingPacket, Reset, Role,
        RstOrigin, Socket, State, TcpFlags,
    },
};

/// The running kernel's names of its reasons, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    /// `enum sk_rst_reason`: why a reset is sent.
    pub reset: BTreeMap<u32, Arc<str>>,
    /// `enum skb_drop_reason`: why a packet is thrown away.
    pub drop: BTreeMap<u32, Arc<str>>,
}

/// Makes records of events.
pub struct Decoder {
    host: Arc<str>,
    reasons: Reasons,
    chrono_shift: Option<u32>,
    ticks: Option<Ticks>,
    names: Names,
}

/// Names of processes, of which a flood of events has few.
#[derive(Default)]
struct Names(HashMap<[u8; 16], Arc<str>>);

impl Names {
    /// How many are remembered; whoever may start processes may name them.
    const MAX: usize = 256;

    fn of(&mut self, comm: [u8; 16]) -> Arc<str> {
        if self.0.len() >= Self::MAX && !self.0.contains_key(&comm) {
            self.0.clear();
        }
        Arc::clone(self.0.entry(comm).or_insert_with(|| name(comm)))
    }
}

impl Decoder {
    /// The name of this host.
    pub const fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// `chrono_shift` is where two bits of a field are (see `Kernel::chrono_shift`); without `ticks`, times that the kernel
    /// keeps in them are unknown.
    pub fn new(host: Arc<str>, reasons: Reasons, chrono_shift: Option<u32>, ticks: Option<Ticks>) -> Self {
        Self { host, reasons, chrono_shift, ticks, names: Names::default() }
    }

    /// The record of an event.
    pub fn reset(&mut self, event: &ResetEvent, clock: &WallClock) -> Reset {
        let mut facts = facts(event, &mut self.names);
        facts.tick_ms = self.ticks.map(|ticks| ticks.ms(1));
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
            peer: Endpoint { address: address(event.peer_address), port: event.peer_port },
            netns: (event.netns != 0).then_some(Netns { inode: event.netns }),
            process: None,
            actor: None,
            cgroup: (event.cgroup_id != 0).then_some(Cgroup { id: event.cgroup_id, path: None }),
            unit: None,
            container: None,
            socket: self.socket(event, &mut facts),
            packet: (has_packet && direction == Direction::Received).then(|| packet(event)),
            provoked_by: (has_packet && direction == Direction::Sent).then(|| provoking_packet(&event.packet)),
            reason: self.reason(event),
            cause: diagnose::undiagnosed(),
            facts,
        }
    }

    /// The record of a reset that was only forwarded, through an interface of this name.
    pub fn forwarded(&self, event: &ResetEvent, clock: &WallClock, interface: Option<Arc<str>>) -> Forwarded {
        let family = family(event);
        let packet = packet(event);
        Forwarded {
            time: clock.at(event.ktime_ns),
            ktime_ns: event.ktime_ns,
            host: Arc::clone(&self.host),
            family,
            interface: Interface { index: event.interface, name: interface },
            from: Endpoint { address: address(event.peer_address), port: event.peer_port },
            to: Endpoint { address: address(event.local_address), port: event.local_port },
            origin: RstOrigin::of(&packet, family),
            packet,
        }
    }

    /// The kernel's word; a number that the running kernel's BTF does not know stays a number.
    fn reason(&self, event: &ResetEvent) -> Option<Arc<str>> {
        let reasons = if event.kind == KIND_IGNORED { &self.reasons.drop } else { &self.reasons.reset };
        (event.flags & EVENT_HAS_REASON != 0).then(|| {
            reasons.get(&event.reason).cloned().unwrap_or_else(|| Arc::from(format!("REASON_{}", event.reason)))
        })
    }

    /// The socket; what of it only the rooms inside need goes to `facts`.
    fn socket(&self, event: &ResetEvent, facts: &mut Facts) -> Option<Socket> {
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
        let payload = timing::payload(event, state);
        let times = timing::times(event, &payload, self.ticks, self.chrono_shift);
        facts.burst_ms = times.burst_ms;
        facts.established_ms = before(event, event.established_ns);
        Some(Socket {
            cookie,
            state: State(state),
            role: role(payload.role),
            age_ms: before(event, event.opened_ns),
            idle_before_send_ms: times.idle_before_send_ms,
            since_send_ms: times.since_send_ms,
            since_receive_ms: times.since_receive_ms,
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

/// The hook that an event came from. Kernels whose tracepoint `tcp_send_reset` leaves out what has no full socket give no
/// reasons either, and those come from a function.
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

/// A reset's own header.
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

/// The header of the packet that a reset answers.
const fn provoking_packet(header: &PacketHeader) -> ProvokingPacket {
    ProvokingPacket {
        ttl: header.ttl,
        flags: TcpFlags(header.flags),
        seq: header.seq,
        ack: header.ack,
        window: header.window,
    }
}

/// The state in which the reset was decided: the kernel sets CLOSE before it reports most resets that it sends.
fn decided_state(event: &ResetEvent) -> u8 {
    match (event.state, event.previous_state) {
        (tcp::CLOSE, 0) => state_before_close(event).unwrap_or(tcp::CLOSE),
        (tcp::CLOSE, previous) => previous,
        (state, _) => state,
    }
}

/// The same from what the socket and its story say, where the last change of state was not seen: the kernel does not run a
/// program twice at once on one CPU, so a change in the middle of another is missed. `None` where they do not say.
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
    // Words of the machine's order over bytes of the network's.
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

/// Milliseconds from a moment to the event; `None` for a moment that was not seen.
fn before(event: &ResetEvent, moment_ns: u64) -> Option<f64> {
    (moment_ns != 0).then(|| Duration::from_nanos(event.ktime_ns.saturating_sub(moment_ns)).as_secs_f64() * 1e3)
}

fn facts(event: &ResetEvent, names: &mut Names) -> Facts {
    let has = |flag: u32| event.flags & flag != 0;
    Facts {
        ktime_ns: event.ktime_ns,
        netns_cookie: event.netns_cookie,
        owner: task(&event.owner, |comm| names.of(comm)),
        provenance: event.provenance,
        shared: has(EVENT_SHARED),
        holder: if has(EVENT_OWNED_BY_USER) { task(&event.actor, |comm| names.of(comm)) } else { None },
        holder_exiting: has(EVENT_EXITING),
        time_wait_substate: has(EVENT_TIME_WAIT).then_some(event.substate),
        raw_state: event.state,
        orphan: has(EVENT_ORPHAN),
        dead: event.socket_flags & sock_flag::DEAD != 0,
        shutdown: event.shutdown,
        linger_zero: event.socket_flags & sock_flag::LINGER != 0 && event.linger_jiffies == 0,
        keepalive: event.socket_flags & sock_flag::KEEPALIVE != 0,
        probes_out: event.probes_out,
        user_timeout_ms: event.user_timeout_ms,
        story: has(EVENT_HAS_HISTORY),
        references: (event.file_refcount != FILE_REFCOUNT_UNKNOWN).then_some(event.file_refcount),
        findings: (event.lookup_id != 0).then_some(event.lookup_id),
        netfilter_hook: event.netfilter_hook,
        ..Facts::default()
    }
}

/// What was found of the holder of a socket. Only what a walk from `first_walk` on says is about the reset: findings may
/// have begun with an earlier one.
pub fn found(findings: &HolderLookup, first_walk: u32) -> Found {
    let walked = findings.scan >= first_walk;
    Found {
        holder: if walked { task(&findings.holder, name) } else { None },
        several: walked && findings.multiple_holders != 0,
        descriptors: if walked { findings.descriptors } else { 0 },
        known_holds: walked && findings.expected_holds != 0,
        closer: task(&findings.closer, name),
        gone: findings.destroyed_ns != 0,
    }
}

fn task(task: &Task, name: impl FnOnce([u8; 16]) -> Arc<str>) -> Option<KernelTask> {
    (task.tgid != 0).then(|| KernelTask {
        tgid: task.tgid,
        start_boottime_ns: task.start_boottime_ns,
        uid: (task.uid != UID_UNKNOWN).then_some(task.uid),
        comm: name(task.comm),
    })
}

/// A name up to the zero that ends it.
fn name(comm: [u8; 16]) -> Arc<str> {
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
        Decoder::new("gw-1".into(), reasons, Some(0), None)
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
    fn a_last_change_that_was_not_seen_shows_in_the_rest() {
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
        // Our FIN went first, and what came between it and the end is not known.
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
    fn without_a_socket_nothing_is_made_up() {
        let reset = decoder().reset(&ResetEvent { kind: KIND_SENT, ..ResetEvent::default() }, &CLOCK);
        assert!(reset.socket.is_none() && reset.reason.is_none() && reset.provoked_by.is_none());
        assert!(reset.netns.is_none() && reset.cgroup.is_none() && reset.facts.owner.is_none());
    }

    #[test]
    fn what_was_found_before_the_reset_is_about_another() {
        let somebody = Task { tgid: 7, ..Task::default() };
        let findings = HolderLookup {
            holder: somebody,
            scan: 3,
            multiple_holders: 1,
            expected_holds: 1,
            ..HolderLookup::default()
        };
        let all = found(&findings, 3);
        assert!(all.holder.is_some() && all.several && all.known_holds);
        assert_eq!(found(&findings, 4), Found::default());
        assert_eq!(found(&HolderLookup::default(), 1), Found::default());
    }

    #[test]
    fn any_bytes_make_a_record() {
        // A cheap generator; what matters is that no value of any field can make this panic.
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
