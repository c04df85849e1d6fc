//! Events as the kernel side makes them: one case at least for each cause that is recognised.

use rsttrace_common::{
    event::{
        Address, EVENT_EXITING, EVENT_HAS_PACKET, EVENT_HAS_REASON, EVENT_HAS_SOCKET, EVENT_HAS_STORY, EVENT_HAS_TIMES,
        EVENT_ORPHAN, EVENT_OWNED, EVENT_TIME_WAIT, KIND_RECEIVED, KIND_SENT, PROVENANCE_CONNECT, PROVENANCE_LISTEN,
        PROVENANCE_SNAPSHOT, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent, Task,
    },
    names::{sock_flag, tcp, tcp_flag},
};

/// The monotonic clock at the events: an hour and a bit.
pub(crate) const NOW_NS: u64 = 4_000_000_000_000;
/// The tick counter at that moment, at 250 Hz.
const NOW_JIFFIES: u32 = (4000 - 300) * 250;

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) count: u64,
    /// Whether `/proc` would have told more of the process.
    pub(crate) details: bool,
    change: fn(&mut ResetEvent),
}

impl Case {
    /// The event: what all have in common, and what this one changes.
    pub(crate) fn event(&self) -> ResetEvent {
        let mut event = ResetEvent {
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
        };
        (self.change)(&mut event);
        event
    }
}

const fn case(name: &'static str, cause: &'static str, change: fn(&mut ResetEvent)) -> Case {
    Case { name, cause, count: 1, details: false, change }
}

/// Every case, in the order of the stored output.
pub(crate) const CASES: &[Case] = &[
    case("closed port", "port-closed", |event| {
        without_socket(event, tcp_flag::SYN);
    }),
    Case {
        count: 4711,
        ..case("flood of closed ports", "port-closed", |event| {
            without_socket(event, tcp_flag::SYN);
            (event.local_port, event.peer_port) = (23, 60000);
        })
    },
    case("stray segment", "no-connection", |event| {
        without_socket(event, tcp_flag::ACK | tcp_flag::PSH);
    }),
    case("late segment", "time-wait", |event| {
        time_wait(event, tcp::TIME_WAIT);
    }),
    case("data after our close, the rest of the socket gone", "data-after-close", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        owner(event, "nginx", 812, PROVENANCE_LISTEN);
    }),
    case("data after our close", "data-after-close", |event| {
        sent(event, 8, tcp::FIN_WAIT2);
        answers(event, tcp_flag::ACK | tcp_flag::PSH);
        event.flags |= EVENT_ORPHAN;
        event.socket_flags = sock_flag::DEAD;
        event.fin_sent_ns = NOW_NS - 1_500_000;
        owner(event, "nginx", 812, PROVENANCE_LISTEN);
    }),
    case("ss -K", "socket-destroyed", |event| {
        sent(event, 14, tcp::ESTABLISHED);
        event.state = tcp::ESTABLISHED;
        owner(event, "java", 1234, PROVENANCE_CONNECT);
        held_by(event, "ss", 77);
    }),
    case("TCP_USER_TIMEOUT", "user-timeout", |event| {
        sent(event, 15, tcp::ESTABLISHED);
        event.state = tcp::ESTABLISHED;
        event.user_timeout_ms = 30_000;
        (event.socket_flags, event.probes_out) = (sock_flag::KEEPALIVE, 3);
    }),
    case("keep-alive, on a kernel without reasons", "keepalive-timeout", |event| {
        sent(event, 15, tcp::ESTABLISHED);
        event.flags &= !EVENT_HAS_REASON;
        event.state = tcp::ESTABLISHED;
        (event.socket_flags, event.probes_out) = (sock_flag::KEEPALIVE, 9);
        owner(event, "postgres", 98_765, PROVENANCE_SNAPSHOT);
    }),
    case("orphan limit", "out-of-memory", |event| sent(event, 13, tcp::FIN_WAIT1)),
    case("TCP_LINGER2", "linger2-expired", |event| sent(event, 12, tcp::FIN_WAIT2)),
    case("listener closed with a queue", "listener-closed", |event| {
        sent(event, 14, tcp::ESTABLISHED);
        event.flags |= EVENT_ORPHAN;
        event.role = ROLE_SERVER;
        owner(event, "gunicorn", 555, PROVENANCE_LISTEN);
    }),
    case("killed", "process-died", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_EXITING;
        event.unread_bytes = 17;
        owner(event, "node", 31_000, PROVENANCE_LISTEN);
        held_by(event, "node", 31_000);
    }),
    Case {
        details: true,
        ..case("closed with unread data", "closed-with-unread-data", |event| {
            sent(event, 11, tcp::CLOSE_WAIT);
            event.flags |= EVENT_HAS_TIMES;
            event.socket_flags = sock_flag::DONE;
            (event.unread_bytes, event.bytes_received) = (6 + 1, 1893 + 1);
            event.fin_received_ns = NOW_NS - 12_000_000;
            event.last_receive_jiffies = NOW_JIFFIES - 3;
            owner(event, "java", 1234, PROVENANCE_CONNECT);
            event.role = ROLE_CLIENT;
            held_by(event, "java", 1234);
        })
    },
    case("SO_LINGER 0, by a child that closed last", "linger-zero", |event| {
        sent(event, 14, tcp::ESTABLISHED);
        (event.socket_flags, event.shutdown) = (sock_flag::LINGER, 3);
        owner(event, "parent", 100, PROVENANCE_CONNECT);
        held_by(event, "child", 101);
    }),
    case("connect(AF_UNSPEC)", "linger-zero", |event| {
        sent(event, 14, tcp::ESTABLISHED);
        owner(event, "python3", 9, PROVENANCE_CONNECT);
        held_by(event, "python3", 9);
    }),
    case("accept queue full", "listen-overflow", |event| {
        listener(event, 10);
        answers(event, tcp_flag::ACK);
        (event.accept_queue, event.accept_queue_limit) = (129, 128);
    }),
    case("stray acknowledgement to a listener", "bad-segment", |event| {
        listener(event, 6);
        answers(event, tcp_flag::ACK);
        (event.accept_queue, event.accept_queue_limit) = (0, 128);
    }),
    case("refused, both addresses long", "connection-refused", |event| {
        received(event, tcp::SYN_SENT);
        owner(event, "curl", 4_194_303, PROVENANCE_CONNECT);
        event.role = ROLE_CLIENT;
        event.local_address = v6([0x2001, 0xdb8, 0x85a3, 0x8d3, 0x1319, 0x8a2e, 0x370, 0x7348]);
        event.peer_address = v6([0x2001, 0xdb8, 0x85a3, 0x8d3, 0x1319, 0x8a2e, 0x370, 0x7349]);
        event.family = 10;
        event.peer_port = 65_535;
    }),
    case("the peer discards after our close", "after-close", |event| {
        received(event, tcp::FIN_WAIT2);
        event.fin_sent_ns = NOW_NS - 3_000_000;
    }),
    Case {
        details: true,
        ..case("a request after a minute of silence", "unknown", |event| {
            received(event, tcp::ESTABLISHED);
            event.flags |= EVENT_HAS_TIMES;
            event.role = ROLE_CLIENT;
            owner(event, "java", 1234, PROVENANCE_CONNECT);
            event.opened_ns = NOW_NS - 65_012_400_000;
            (event.bytes_sent, event.bytes_acked, event.bytes_received) = (812, 402, 1893);
            (event.unacked_bytes, event.rtt_us) = (411, 310);
            (event.chrono_type, event.chrono_start_jiffies) = (1, NOW_JIFFIES - 1);
            event.last_send_jiffies = NOW_JIFFIES;
            event.last_receive_jiffies = NOW_JIFFIES - 15_001;
            event.last_ack_jiffies = NOW_JIFFIES - 15_001;
        })
    },
    case("a process that calls itself names", "unknown", |event| {
        received(event, tcp::ESTABLISHED);
        owner(event, "\u{1b}[2Jevil\n\u{202e}", 666, PROVENANCE_CONNECT);
    }),
];

/// An IPv4 address as the kernel side writes it.
fn v4([a, b, c, d]: [u8; 4]) -> Address {
    [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([a, b, c, d])]
}

fn v6(words: [u16; 8]) -> Address {
    let word = |index: usize| (u32::from(words[index]) << 16 | u32::from(words[index + 1])).to_be();
    [word(0), word(2), word(4), word(6)]
}

fn without_socket(event: &mut ResetEvent, flags: u8) {
    event.kind = KIND_SENT;
    event.flags |= EVENT_HAS_REASON;
    (event.sk, event.cgroup_id, event.reason) = (0, 0, 1);
    answers(event, flags);
}

fn time_wait(event: &mut ResetEvent, substate: u8) {
    event.kind = KIND_SENT;
    event.flags |= EVENT_TIME_WAIT | EVENT_HAS_REASON;
    (event.cgroup_id, event.reason, event.state, event.substate) = (0, 9, tcp::TIME_WAIT, substate);
    answers(event, tcp_flag::ACK | tcp_flag::PSH);
}

/// A sent reset of a socket that the kernel has closed, for this reason, out of this state.
fn sent(event: &mut ResetEvent, reason: u32, state: u8) {
    event.kind = KIND_SENT;
    event.flags |= EVENT_HAS_SOCKET | EVENT_HAS_REASON;
    (event.reason, event.state, event.previous_state) = (reason, tcp::CLOSE, state);
}

fn received(event: &mut ResetEvent, state: u8) {
    event.kind = KIND_RECEIVED;
    event.flags |= EVENT_HAS_SOCKET;
    event.state = state;
}

fn listener(event: &mut ResetEvent, reason: u32) {
    sent(event, reason, tcp::CLOSE);
    (event.state, event.role) = (tcp::LISTEN, ROLE_LISTENER);
    owner(event, "redis-server", 6379, PROVENANCE_LISTEN);
}

fn answers(event: &mut ResetEvent, flags: u8) {
    event.flags |= EVENT_HAS_PACKET;
    (event.packet_flags, event.packet_ttl, event.packet_window) = (flags, 63, 64240);
    (event.packet_seq, event.packet_ack) = (1_000_000, 2_000_000);
}

fn owner(event: &mut ResetEvent, comm: &str, tgid: u32, provenance: u8) {
    event.flags |= EVENT_HAS_STORY;
    event.provenance = provenance;
    event.owner = task(comm, tgid);
}

fn held_by(event: &mut ResetEvent, comm: &str, tgid: u32) {
    event.flags |= EVENT_OWNED;
    event.actor = task(comm, tgid);
}

fn task(comm: &str, tgid: u32) -> Task {
    let mut task = Task { start_boottime_ns: u64::from(tgid), tgid, uid: 1000, comm: [0; 16] };
    for (to, from) in task.comm.iter_mut().zip(comm.bytes()) {
        *to = from;
    }
    task
}
