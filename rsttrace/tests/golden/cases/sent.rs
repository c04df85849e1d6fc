//! Resets that this host sends.

use rsttrace_common::{
    abi::{netfilter, sock_flag, tcp, tcp_flag},
    event::{
        EVENT_EXITING, EVENT_HAS_REASON, EVENT_HAS_TIMES, EVENT_ORPHAN, KIND_REJECTED, PROVENANCE_CONNECT,
        PROVENANCE_LISTEN, PROVENANCE_SNAPSHOT, ROLE_CLIENT, ROLE_SERVER, ResetEvent,
    },
};

use super::{
    Case, case,
    events::{NOW_JIFFIES, NOW_NS, answers, held_by, listener, owner, sent, time_wait, without_socket},
};

pub(super) const CASES: &[Case] = &[
    case("rejected by a rule", "firewall-reject", |event| {
        event.kind = KIND_REJECTED;
        event.netfilter_hook = netfilter::LOCAL_IN;
        answers(event, tcp_flag::SYN);
    }),
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
    Case {
        before: &[
            (900, |event| syn_to_closed_port(event, 1)),
            (800, |event| syn_to_closed_port(event, 2)),
            (700, |event| syn_to_closed_port(event, 3)),
            (600, |event| syn_to_closed_port(event, 4)),
            (500, |event| syn_to_closed_port(event, 5)),
            (400, |event| syn_to_closed_port(event, 6)),
            (300, |event| syn_to_closed_port(event, 7)),
            (200, |event| syn_to_closed_port(event, 8)),
            (100, |event| syn_to_closed_port(event, 9)),
        ],
        ..case("the tenth closed port", "port-scan", |event| syn_to_closed_port(event, 10))
    },
    Case {
        before: &[
            (900, |event| syn_to_closed_port(event, 1)),
            (800, |event| syn_to_closed_port(event, 1)),
            (700, |event| syn_to_closed_port(event, 1)),
            (600, |event| syn_to_closed_port(event, 1)),
            (500, |event| syn_to_closed_port(event, 1)),
            (400, |event| syn_to_closed_port(event, 1)),
            (300, |event| syn_to_closed_port(event, 1)),
            (200, |event| syn_to_closed_port(event, 1)),
            (100, |event| syn_to_closed_port(event, 1)),
        ],
        ..case("the same closed port for the tenth time", "port-closed", |event| syn_to_closed_port(event, 1))
    },
    Case {
        before: &[
            (900, |event| syn_to_closed_port_elsewhere(event, 1)),
            (800, |event| syn_to_closed_port_elsewhere(event, 2)),
            (700, |event| syn_to_closed_port_elsewhere(event, 3)),
            (600, |event| syn_to_closed_port_elsewhere(event, 4)),
            (500, |event| syn_to_closed_port_elsewhere(event, 5)),
            (400, |event| syn_to_closed_port_elsewhere(event, 6)),
            (300, |event| syn_to_closed_port_elsewhere(event, 7)),
            (200, |event| syn_to_closed_port_elsewhere(event, 8)),
            (100, |event| syn_to_closed_port_elsewhere(event, 9)),
        ],
        ..case("the first closed port, where another namespace had the number", "port-closed", |event| {
            syn_to_closed_port(event, 10);
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
    case("orphan limit", "out-of-memory", |event| {
        sent(event, 13, tcp::FIN_WAIT1);
        event.socket_flags = sock_flag::DEAD;
    }),
    case("TCP_LINGER2", "linger2-expired", |event| {
        sent(event, 12, tcp::FIN_WAIT2);
        event.socket_flags = sock_flag::DEAD;
        held_by(event, "java", 1234);
    }),
    case("the timer of an orphan", "linger2-expired", |event| {
        sent(event, 14, tcp::FIN_WAIT2);
        event.state = tcp::FIN_WAIT2;
        event.socket_flags = sock_flag::DEAD;
    }),
    case("keep-alive before TCP_USER_TIMEOUT", "keepalive-timeout", |event| {
        sent(event, 15, tcp::ESTABLISHED);
        event.state = tcp::ESTABLISHED;
        event.flags |= EVENT_HAS_TIMES;
        (event.socket_flags, event.probes_out, event.user_timeout_ms) = (sock_flag::KEEPALIVE, 3, 600_000);
        (event.bytes_received, event.last_receive_jiffies) = (5, NOW_JIFFIES - 15_000);
    }),
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
];

/// A SYN to a closed port.
fn syn_to_closed_port(event: &mut ResetEvent, port: u16) {
    without_socket(event, tcp_flag::SYN);
    event.local_port = port;
}

/// A SYN to a closed port in a network namespace that no longer exists, whose number is reused.
fn syn_to_closed_port_elsewhere(event: &mut ResetEvent, port: u16) {
    syn_to_closed_port(event, port);
    event.netns_cookie = 1;
}
