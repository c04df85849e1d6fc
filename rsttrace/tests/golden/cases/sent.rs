//! Resets that this host sends.

use rsttrace::model::translation::ConntrackState;
use rsttrace_common::{
    abi::{ETIMEDOUT, netfilter, sock_flag, tcp, tcp_flag},
    event::{
        EVENT_EXITING, EVENT_HAS_REASON, EVENT_HAS_TIMES, EVENT_ORPHAN, KIND_REJECTED, LAST_DATA_SENT,
        PROVENANCE_CONNECT, PROVENANCE_LISTEN, PROVENANCE_SNAPSHOT, ROLE_CLIENT, ROLE_SERVER, ResetEvent,
    },
};

use super::{
    Case, case,
    events::{
        NOW_JIFFIES, NOW_NS, ago, answers, client, closed, ended, established, exchanged, held_by, listener, owner,
        sent, server, ticks, time_wait, v4, without_socket,
    },
};

/// State of a living connection in conntrack (`TCP_CONNTRACK_ESTABLISHED`).
const ESTABLISHED: u8 = 3;

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
    Case {
        conntrack: Some(ESTABLISHED),
        ..case("a segment that should have been translated", "conntrack-invalid", |event| {
            without_socket(event, tcp_flag::ACK);
        })
    },
    Case {
        conntrack: Some(ConntrackState::CLOSE.0),
        ..case("a segment of a translated connection that has ended", "no-connection", |event| {
            without_socket(event, tcp_flag::ACK);
        })
    },
    Case {
        conntrack: Some(ESTABLISHED),
        ..case("a SYN to a host that masquerades a connection from its port", "port-closed", |event| {
            without_socket(event, tcp_flag::SYN);
        })
    },
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
    case("ss -K of an orphan that waits for the peer's FIN", "socket-destroyed", |event| {
        sent(event, 14, tcp::FIN_WAIT2);
        (event.state, event.socket_flags) = (tcp::FIN_WAIT2, sock_flag::DEAD);
        held_by(event, "ss", 77);
    }),
    case("ss -K of an orphan with data in flight", "socket-destroyed", |event| {
        sent(event, 14, tcp::FIN_WAIT1);
        (event.state, event.socket_flags) = (tcp::FIN_WAIT1, sock_flag::DEAD);
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
        (event.unread_bytes, event.exit_code) = (17, 9);
        owner(event, "node", 31_000, PROVENANCE_LISTEN);
        held_by(event, "node", 31_000);
    }),
    case("exited with a request unread", "process-exited", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_EXITING;
        (event.unread_bytes, event.exit_code) = (17, 3 << 8);
        owner(event, "node", 31_000, PROVENANCE_LISTEN);
        held_by(event, "node", 31_000);
    }),
    case("a client that exits with an answer unread", "client-ended", |event| exiting_client(event, 0)),
    case("a client that SIGTERM ends", "client-ended", |event| exiting_client(event, 15)),
    case("a client that SIGKILL ends", "process-died", |event| exiting_client(event, 9)),
    case("a client that exits with data on their way", "process-exited", |event| {
        exiting_client(event, 0);
        event.unacked_bytes = 5_000;
    }),
    case("a server that SIGTERM ends", "process-died", |event| {
        exiting_client(event, 15);
        event.role = ROLE_SERVER;
    }),
    Case {
        before: &[(3, dropping_client), (1, dropping_client)],
        ..case("the third connection that a client drops", "client-ended", dropping_client)
    },
    Case {
        before: &[(60, short_client), (30, short_client)],
        ..case("a client that drops short connections all the time", "closed-with-unread-data", short_client)
    },
    case("a client that aborts an idle connection", "linger-zero", |event| {
        sent(event, 14, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.socket_flags, event.shutdown) = (sock_flag::LINGER, 3);
        (event.role, event.bytes_received, event.bytes_sent) = (ROLE_CLIENT, 5_000, 700);
        (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(1900), ticks(1904));
        owner(event, "haproxy", 77, PROVENANCE_CONNECT);
        held_by(event, "haproxy", 77);
    }),
    case("a client that aborts a request", "linger-zero", |event| {
        sent(event, 14, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.socket_flags, event.shutdown) = (sock_flag::LINGER, 3);
        (event.role, event.bytes_received, event.bytes_sent) = (ROLE_CLIENT, 5_000, 700);
        (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(1900), ticks(900));
        owner(event, "haproxy", 77, PROVENANCE_CONNECT);
        held_by(event, "haproxy", 77);
    }),
    case("a client that aborts within its handshake with TLS", "health-probe", |event| tls_check(event, 12.0)),
    case("a client that aborts an older connection right after it has sent", "linger-zero", |event| {
        tls_check(event, 3_000.0);
    }),
    case("an answer to a client that had closed at once", "client-cancelled", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 4.0, tcp::FIN_WAIT2, ROLE_CLIENT);
        (event.ending.last_data, event.ending.idle_jiffies) = (LAST_DATA_SENT, 1);
    }),
    Case {
        before: &[(2, |event| given_up(event, 60_000)), (1, |event| given_up(event, 60_004))],
        ..case("late answers to requests that timed out together", "gave-up-waiting", |event| given_up(event, 60_000))
    },
    Case {
        before: &[(2, |event| given_up(event, 9_000)), (1, |event| given_up(event, 400))],
        ..case("late answers to a client that had ended", "client-ended", |event| given_up(event, 3_000))
    },
    Case {
        before: &[(4, killed_server)],
        ..case("data for a connection of a server that was killed", "process-died", |event| {
            time_wait(event, tcp::FIN_WAIT2);
            ended(event, 3.0, tcp::FIN_WAIT2, ROLE_SERVER);
            event.ending.last_data = LAST_DATA_SENT;
            owner(event, "node", 31_000, PROVENANCE_LISTEN);
        })
    },
    Case {
        before: &[(4, killed_server)],
        ..case("a request after an idle close, and the server was killed later", "reused-closed-connection", |event| {
            time_wait(event, tcp::FIN_WAIT2);
            ended(event, 3_000.0, tcp::FIN_WAIT2, ROLE_SERVER);
            event.ending.last_data = LAST_DATA_SENT;
            owner(event, "node", 31_000, PROVENANCE_LISTEN);
        })
    },
    case("a download that its client stops", "client-cancelled", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_CLIENT, 389_368, 491_768, 78);
        (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(0), ticks(4));
        owner(event, "curl", 33, PROVENANCE_CONNECT);
        held_by(event, "curl", 33);
    }),
    case("a download that its client stops after a pause, the receive buffer full", "client-cancelled", |event| {
        unread_answer(event, 389_368, 491_768, 700);
    }),
    case("a download that its client stops with little unread", "client-cancelled", |event| {
        unread_answer(event, 496, 100_000, 0);
    }),
    case("a download that its client stops in its first flight", "client-cancelled", |event| {
        unread_answer(event, 1_448, 13_032, 0);
    }),
    case("a client that leaves the end of an answer unread", "closed-with-unread-data", |event| {
        unread_answer(event, 212, 13_032, 0);
    }),
    case("a client that leaves the rest of a small answer unread", "closed-with-unread-data", |event| {
        unread_answer(event, 496, 900, 0);
    }),
    case("a client's reset after the peer's close", "after-close", |event| {
        resets_in_close_wait(event, ROLE_CLIENT, 4, 20);
    }),
    case("a client's reset with its request unanswered", "linger-zero", |event| {
        resets_in_close_wait(event, ROLE_CLIENT, 2000, 20);
    }),
    case("a server's reset after the client's FIN", "linger-zero", |event| {
        resets_in_close_wait(event, ROLE_SERVER, 4, 20);
    }),
    case("a client that leaves a finished answer unread", "closed-with-unread-data", |event| {
        unread_answer(event, 2_000, 2_000, 1900);
    }),
    Case {
        before: &[(1, reset_for_data)],
        ..case("the FIN behind data that were reset", "aftermath", |event| {
            without_socket(event, tcp_flag::ACK | tcp_flag::FIN);
        })
    },
    Case {
        before: &[(1, reset_for_data)],
        ..case("the FIN behind data that were reset, at a listener", "aftermath", |event| {
            listener(event, 6);
            answers(event, tcp_flag::ACK | tcp_flag::FIN);
        })
    },
    case("the rest of an upload that is reported before the abort", "aftermath", |event| {
        listener(event, 6);
        answers(event, tcp_flag::ACK | tcp_flag::PSH);
        ended(event, 0.005, tcp::ESTABLISHED, ROLE_SERVER);
        event.ending.was_aborted = 1;
    }),
    Case { before: &[(1, refused_backend)], ..case("a proxy whose backend refuses", "relayed", proxied_client) },
    Case {
        before: &[(700, refused_backend)],
        ..case("late data for a proxy that closed when its backend refused", "relayed", |event| {
            time_wait(event, tcp::FIN_WAIT2);
            ended(event, 699.5, tcp::FIN_WAIT2, ROLE_SERVER);
            event.opened_ns = ago(702.0);
            (event.ending.bytes_received, event.ending.bytes_sent) = (0, 0);
            (event.local_port, event.peer_port) = (8080, 50_000);
            owner(event, "haproxy", 77, PROVENANCE_LISTEN);
        })
    },
    Case {
        before: &[(1, refused_backend), (2, refused_elsewhere)],
        ..case("a proxy with two backends that refuse", "closed-with-unread-data", proxied_client)
    },
    Case {
        before: &[(40, refused_backend)],
        ..case("a proxy whose backend refused a while ago", "closed-with-unread-data", proxied_client)
    },
    case("a program that only forwards ends a client's connection", "relayed", |event| {
        proxied_client(event);
        owner(event, "ssh", 78, PROVENANCE_LISTEN);
        held_by(event, "ssh", 78);
    }),
    case("a program that only forwards is killed", "process-died", |event| {
        proxied_client(event);
        owner(event, "ssh", 78, PROVENANCE_LISTEN);
        held_by(event, "ssh", 78);
        event.flags |= EVENT_EXITING;
        event.exit_code = 9;
    }),
    case("data for a connection that vanished", "no-connection", |event| {
        listener(event, 6);
        answers(event, tcp_flag::ACK | tcp_flag::PSH);
        ended(event, 0.2, tcp::ESTABLISHED, ROLE_SERVER);
    }),
    Case {
        before: &[(700, reset_for_data)],
        ..case("a segment long after a reset", "no-connection", |event| {
            without_socket(event, tcp_flag::ACK | tcp_flag::PSH);
        })
    },
    case("data for a connection that timed out", "given-up-earlier", |event| {
        without_socket(event, tcp_flag::ACK | tcp_flag::PSH);
        ended(event, 5000.0, tcp::ESTABLISHED, ROLE_CLIENT);
        (event.ending.error, event.ending.window) = (ETIMEDOUT, 64_240);
        owner(event, "psql", 8, PROVENANCE_CONNECT);
    }),
    case("data for a connection that timed out at a window of zero", "peer-stopped-reading", |event| {
        without_socket(event, tcp_flag::ACK);
        ended(event, 5000.0, tcp::ESTABLISHED, ROLE_SERVER);
        event.ending.error = ETIMEDOUT;
    }),
    case("a SYN-ACK after the attempt was given up", "gave-up-waiting", |event| {
        without_socket(event, tcp_flag::SYN | tcp_flag::ACK);
        ended(event, 400.0, tcp::SYN_SENT, ROLE_CLIENT);
        (event.ending.bytes_sent, event.ending.bytes_received) = (0, 0);
        owner(event, "curl", 33, PROVENANCE_CONNECT);
    }),
    case("a SYN-ACK that no attempt of this host asked for", "no-connection", |event| {
        without_socket(event, tcp_flag::SYN | tcp_flag::ACK);
    }),
    case("an answer after the client had closed", "gave-up-waiting", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 1000.0, tcp::FIN_WAIT2, ROLE_CLIENT);
        event.ending.last_data = LAST_DATA_SENT;
    }),
    case("more of an answer after its client had closed", "client-cancelled", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 1000.0, tcp::FIN_WAIT2, ROLE_CLIENT);
    }),
    case("data of the peer's after a client that had got none had closed", "data-after-close", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 1000.0, tcp::FIN_WAIT2, ROLE_CLIENT);
        event.ending.bytes_received = 0;
    }),
    case("a request after the server had closed an idle connection", "keepalive-race", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 30.0, tcp::FIN_WAIT2, ROLE_SERVER);
        event.ending.last_data = LAST_DATA_SENT;
        event.packet.payload = 300;
    }),
    Case {
        has_left: true,
        ..case("a request that crossed the close of a process that has ended", "process-ended", |event| {
            time_wait(event, tcp::FIN_WAIT2);
            ended(event, 11.0, tcp::FIN_WAIT2, ROLE_SERVER);
            (event.ending.last_data, event.ending.idle_jiffies) = (LAST_DATA_SENT, 6);
            owner(event, "nginx", 812, PROVENANCE_LISTEN);
            event.packet.payload = 300;
        })
    },
    case("a request right after the server's answer and close", "data-after-close", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 30.0, tcp::FIN_WAIT2, ROLE_SERVER);
        (event.ending.last_data, event.ending.idle_jiffies) = (LAST_DATA_SENT, 0);
    }),
    case("a request after a close that is long over, at the listener", "reused-closed-connection", |event| {
        listener(event, 6);
        answers(event, tcp_flag::ACK | tcp_flag::PSH);
        ended(event, 70_000.0, tcp::FIN_WAIT2, ROLE_SERVER);
        event.ending.last_data = LAST_DATA_SENT;
    }),
    case("a request two seconds after the server had closed an idle connection", "reused-closed-connection", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 2_000.0, tcp::FIN_WAIT2, ROLE_SERVER);
        event.ending.last_data = LAST_DATA_SENT;
        owner(event, "nginx", 812, PROVENANCE_LISTEN);
    }),
    case("a request so soon after an idle close that a slow path may have delayed it", "keepalive-race", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 600.0, tcp::FIN_WAIT2, ROLE_SERVER);
        event.ending.last_data = LAST_DATA_SENT;
    }),
    case(
        "a request 400 ms after an idle close, over a path that is faster than that",
        "reused-closed-connection",
        |event| {
            time_wait(event, tcp::FIN_WAIT2);
            ended(event, 400.0, tcp::FIN_WAIT2, ROLE_SERVER);
            (event.ending.last_data, event.ending.rtt_us) = (LAST_DATA_SENT, 30_000);
        },
    ),
    case("a request 400 ms after an idle close, over a path with a round trip of 100 ms", "keepalive-race", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 400.0, tcp::FIN_WAIT2, ROLE_SERVER);
        (event.ending.last_data, event.ending.rtt_us) = (LAST_DATA_SENT, 100_000);
    }),
    case("a request that came before the FIN was acknowledged, late", "keepalive-race", |event| {
        answers_after_close(event, tcp::FIN_WAIT1, 2_000);
    }),
    case("a request after more round trips than data that crossed the FIN take", "reused-closed-connection", |event| {
        answers_after_close(event, tcp::FIN_WAIT2, 600);
    }),
    case("more of an upload seconds after an early answer", "reused-closed-connection", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 3_000.0, tcp::FIN_WAIT2, ROLE_SERVER);
        (event.ending.last_data, event.ending.idle_jiffies) = (LAST_DATA_SENT, 0);
    }),
    case("data seconds after a close without an answer", "data-after-close", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 3_000.0, tcp::FIN_WAIT2, ROLE_SERVER);
        event.ending.bytes_sent = 0;
    }),
    case("a request that lay unread when the idle timer went off", "keepalive-race", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 81, 162, 120);
        (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(8), ticks(5008));
    }),
    case("a request that lay unread while the process stood still", "keepalive-race", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 57, 114, 127);
        (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(308), ticks(1784));
    }),
    case("a request that lay unread for longer", "closed-with-unread-data", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 57, 114, 127);
        (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(1308), ticks(2784));
    }),
    case("turned away at a limit", "turned-away", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 14, 14, 36);
        event.opened_ns = ago(2.0);
        owner(event, "redis-server", 6379, PROVENANCE_LISTEN);
    }),
    case("turned away at a limit, before its data came", "turned-away", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 3.0, tcp::FIN_WAIT2, ROLE_SERVER);
        (event.ending.bytes_received, event.ending.bytes_sent) = (0, 36);
        event.opened_ns = event.ending.closed_ns - 100_000;
    }),
    case("turned away at a limit by a busy server", "turned-away", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 14, 14, 36);
        event.opened_ns = ago(180.0);
        (event.last_send_jiffies, event.last_receive_jiffies) = (ticks(0), ticks(180));
        owner(event, "redis-server", 6379, PROVENANCE_LISTEN);
    }),
    case("an upload that is answered early, before anything was read", "closed-with-unread-data", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 113_152, 113_152, 180);
        event.opened_ns = ago(63.0);
        (event.last_send_jiffies, event.last_receive_jiffies) = (ticks(8), ticks(56));
    }),
    case("a client's first line unread, long after the server's greeting", "closed-with-unread-data", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        event.flags |= EVENT_HAS_TIMES;
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 14, 14, 36);
        event.opened_ns = ago(400.0);
        (event.last_send_jiffies, event.last_receive_jiffies) = (ticks(400), ticks(0));
    }),
    case("a client's first line after the close, long after the server's greeting", "data-after-close", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 3.0, tcp::FIN_WAIT2, ROLE_SERVER);
        (event.ending.bytes_received, event.ending.bytes_sent) = (0, 36);
        (event.ending.last_data, event.ending.idle_jiffies) = (LAST_DATA_SENT, NOW_JIFFIES - ticks(400));
    }),
    case("a download that its client stopped between two segments", "client-cancelled", |event| {
        sent(event, 8, tcp::FIN_WAIT2);
        answers(event, tcp_flag::ACK);
        event.packet.payload = 1448;
        event.flags |= EVENT_ORPHAN | EVENT_HAS_TIMES;
        event.socket_flags = sock_flag::DEAD;
        event.fin_sent_ns = ago(0.1);
        (event.role, event.bytes_sent, event.bytes_received) = (ROLE_CLIENT, 178, 5_400_071);
        (event.last_send_jiffies, event.last_receive_jiffies) = (ticks(8), ticks(0));
        owner(event, "squid", 33, PROVENANCE_CONNECT);
    }),
    case("a download that its client stopped, the socket gone", "client-cancelled", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 20.0, tcp::FIN_WAIT2, ROLE_CLIENT);
        (event.ending.bytes_received, event.ending.idle_jiffies) = (500_000, 0);
        event.packet.payload = 1448;
    }),
    case("a full segment two seconds after the client had closed", "client-cancelled", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 2000.0, tcp::FIN_WAIT2, ROLE_CLIENT);
        (event.ending.bytes_received, event.ending.idle_jiffies) = (500_000, 0);
        event.packet.payload = 1448;
    }),
    case("an upload that its server ends between two segments", "data-after-close", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 20.0, tcp::FIN_WAIT2, ROLE_SERVER);
        (event.ending.bytes_received, event.ending.idle_jiffies) = (500_000, 0);
        event.packet.payload = 1448;
    }),
    case("a server that reads a part and closes", "closed-with-unread-data", |event| {
        sent(event, 11, tcp::ESTABLISHED);
        (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_SERVER, 14, 400, 36);
        event.opened_ns = ago(2.0);
    }),
    case("a server's closing alert", "tls-goodbye", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 1.0, tcp::FIN_WAIT2, ROLE_CLIENT);
        event.packet.payload = 24;
    }),
    case("a server's closing alert, unread at the close", "tls-goodbye", |event| {
        sent(event, 11, tcp::CLOSE_WAIT);
        (event.role, event.bytes_sent, event.bytes_received, event.unread_bytes) = (ROLE_CLIENT, 700, 5000, 24);
    }),
    case("a client's closing alert, unread at the close after this side's FIN", "tls-goodbye", |event| {
        unread_after_fin(event, 0, 0);
    }),
    case("24 bytes, unread at the close after an idle time and this side's FIN", "keepalive-race", |event| {
        unread_after_fin(event, 5_000, 0);
    }),
    case("24 bytes, unread at the close long after this side's FIN", "closed-with-unread-data", |event| {
        unread_after_fin(event, 1_000, 1_000);
    }),
    case("24 bytes, unread at the close without a FIN before", "closed-with-unread-data", |event| {
        unread_after_fin(event, 0, 0);
        (event.previous_state, event.fin_sent_ns) = (tcp::ESTABLISHED, 0);
    }),
    case("24 bytes on a port without TLS", "data-after-close", |event| {
        time_wait(event, tcp::FIN_WAIT2);
        ended(event, 1.0, tcp::FIN_WAIT2, ROLE_SERVER);
        event.packet.payload = 24;
        (event.local_port, event.peer_port) = (11_211, 43_210);
    }),
    case("an old connection answers our SYN", "cleared-old-connection", |event| {
        sent(event, 6, tcp::SYN_SENT);
        event.state = tcp::SYN_SENT;
        answers(event, tcp_flag::ACK);
    }),
    case("a SYN-ACK of something else", "bad-segment", |event| {
        sent(event, 6, tcp::SYN_SENT);
        event.state = tcp::SYN_SENT;
        answers(event, tcp_flag::SYN | tcp_flag::ACK);
    }),
    case("a path of an MPTCP connection", "mptcp-subflow", |event| {
        sent(event, 14, tcp::ESTABLISHED);
        event.is_mptcp = 1;
        owner(event, "python3", 9, PROVENANCE_CONNECT);
        held_by(event, "python3", 9);
    }),
    Case {
        before: &[(900, own_check), (600, own_check), (300, own_check)],
        ..case("the fourth of a load balancer's checks", "health-probe", own_check)
    },
    Case {
        before: &[(1400, own_check), (600, own_check), (300, own_check)],
        ..case("the fourth of a client's aborts, at no rhythm", "linger-zero", own_check)
    },
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
    case("stray acknowledgement to a listener", "no-connection", |event| {
        listener(event, 6);
        answers(event, tcp_flag::ACK);
        (event.accept_queue, event.accept_queue_limit) = (0, 128);
    }),
    case("data of a client whose handshake was dropped", "listen-overflow", dropped_client),
    Case {
        before: &[(500, |event| {
            sent(event, 11, tcp::CLOSE);
            (event.flags, event.role) = (event.flags | EVENT_ORPHAN, ROLE_SERVER);
        })],
        ..case("data for a listener that has replaced another", "no-connection", dropped_client)
    },
    case("data for a listener that has dropped others, of a known connection", "no-connection", |event| {
        dropped_client(event);
        event.ending.closed_ns = ago(30_000.0);
    }),
];

/// A listener that has dropped handshakes answers data of no connection.
fn dropped_client(event: &mut ResetEvent) {
    listener(event, 6);
    answers(event, tcp_flag::ACK | tcp_flag::PSH);
    (event.accept_queue, event.accept_queue_limit, event.listener_drops) = (0, 4, 3);
}

/// A client that ends, by this exit code, with an answer unread.
fn exiting_client(event: &mut ResetEvent, code: u32) {
    dropping_client(event);
    event.flags |= EVENT_EXITING;
    event.exit_code = code;
}

/// A client that closes a connection with an answer unread.
fn dropping_client(event: &mut ResetEvent) {
    sent(event, 11, tcp::ESTABLISHED);
    event.flags |= EVENT_HAS_TIMES;
    (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_CLIENT, 300, 3_000, 780);
    (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(0), ticks(4));
    event.opened_ns = ago(60_000.0);
    owner(event, "wrk", 33, PROVENANCE_CONNECT);
    held_by(event, "wrk", 33);
}

/// As [`dropping_client`], with a connection that is a few milliseconds old.
fn short_client(event: &mut ResetEvent) {
    dropping_client(event);
    event.opened_ns = ago(5.0);
}

/// An answer that comes three milliseconds after its client has closed; the client had waited this many milliseconds.
fn given_up(event: &mut ResetEvent, waited_ms: u32) {
    time_wait(event, tcp::FIN_WAIT2);
    ended(event, 3.0, tcp::FIN_WAIT2, ROLE_CLIENT);
    event.opened_ns = ago(90_000.0);
    (event.ending.last_data, event.ending.idle_jiffies) = (LAST_DATA_SENT, NOW_JIFFIES - ticks(waited_ms));
    owner(event, "nginx", 812, PROVENANCE_CONNECT);
}

/// A server that was killed with a request unread.
fn killed_server(event: &mut ResetEvent) {
    sent(event, 11, tcp::ESTABLISHED);
    event.flags |= EVENT_EXITING;
    (event.unread_bytes, event.exit_code, event.role) = (17, 9, ROLE_SERVER);
    owner(event, "node", 31_000, PROVENANCE_LISTEN);
    held_by(event, "node", 31_000);
}

/// The reset for data that came after this host's close.
fn reset_for_data(event: &mut ResetEvent) {
    sent(event, 8, tcp::FIN_WAIT2);
    answers(event, tcp_flag::ACK | tcp_flag::PSH);
    event.rtt_us = 310;
}

/// A check of this host that exchanges a few bytes and aborts.
fn own_check(event: &mut ResetEvent) {
    sent(event, 14, tcp::ESTABLISHED);
    (event.role, event.bytes_sent, event.bytes_received) = (ROLE_CLIENT, 14, 7);
    event.opened_ns = ago(2.0);
    (event.socket_flags, event.shutdown) = (sock_flag::LINGER, 3);
    owner(event, "haproxy", 77, PROVENANCE_CONNECT);
    held_by(event, "haproxy", 77);
}

/// A check that ends at the end of its TLS handshake; the connection is this many milliseconds old.
fn tls_check(event: &mut ResetEvent, age_ms: f64) {
    own_check(event);
    event.flags |= EVENT_HAS_TIMES;
    (event.bytes_sent, event.bytes_received, event.unacked_bytes) = (568, 141, 51);
    (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(8), ticks(4));
    event.opened_ns = ago(age_ms);
}

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

/// A refusal at a proxy, which had opened the connection a moment before.
fn refused_backend(event: &mut ResetEvent) {
    client(event, tcp::SYN_SENT);
    established(event, 0.1);
    owner(event, "haproxy", 77, PROVENANCE_CONNECT);
    event.unacked_bytes = 1;
}

/// Another refusal at that proxy.
fn refused_elsewhere(event: &mut ResetEvent) {
    refused_backend(event);
    (event.local_port, event.peer_address) = (43_211, v4([10, 0, 1, 10]));
}

/// The proxy closes its client's connection, with the request unread.
fn proxied_client(event: &mut ResetEvent) {
    server(event, tcp::ESTABLISHED);
    sent(event, 11, tcp::ESTABLISHED);
    established(event, 3.0);
    held_by(event, "haproxy", 77);
    owner(event, "haproxy", 77, PROVENANCE_LISTEN);
    event.unread_bytes = 70;
    event.bytes_received = 70;
}

/// A server closes with 24 bytes unread that have just come; its last data and its FIN are so many milliseconds old.
fn unread_after_fin(event: &mut ResetEvent, sent_ms: u32, fin_ms: u32) {
    sent(event, 11, tcp::FIN_WAIT2);
    event.flags |= EVENT_HAS_TIMES;
    (event.role, event.bytes_sent, event.bytes_received, event.unread_bytes) = (ROLE_SERVER, 1_462, 743, 24);
    (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(0), ticks(sent_ms));
    (event.fin_sent_ns, event.local_port, event.peer_port) = (ago(f64::from(fin_ms) + 0.1), 9_443, 43_210);
}

/// A client closes with the end of what it has `received` unread, so long after that came. The times of sending are of no account.
fn unread_answer(event: &mut ResetEvent, unread: u32, received: u64, silent_ms: u32) {
    sent(event, 11, tcp::ESTABLISHED);
    event.flags |= EVENT_HAS_TIMES;
    (event.role, event.unread_bytes, event.bytes_received, event.bytes_sent) = (ROLE_CLIENT, unread, received, 78);
    (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(silent_ms), ticks(silent_ms + 4));
}

/// Aborts with `SO_LINGER` 0 after the peer's FIN, with the last data of either side so many milliseconds ago.
fn resets_in_close_wait(event: &mut ResetEvent, role: u8, received_ms: u32, sent_ms: u32) {
    sent(event, 14, tcp::CLOSE_WAIT);
    event.flags |= EVENT_HAS_TIMES;
    (event.socket_flags, event.shutdown) = (sock_flag::LINGER | sock_flag::DONE, 3);
    (event.role, event.bytes_received, event.bytes_sent) = (role, 160, 78);
    (event.last_receive_jiffies, event.last_send_jiffies) = (ticks(received_ms), ticks(sent_ms));
    owner(event, "haproxy", 33, PROVENANCE_CONNECT);
    held_by(event, "haproxy", 33);
}

/// Answers data so many milliseconds after a server's close, which came after two seconds of silence.
fn answers_after_close(event: &mut ResetEvent, state: u8, closed_ms: u32) {
    server(event, state);
    sent(event, 8, state);
    answers(event, tcp_flag::ACK | tcp_flag::PSH);
    exchanged(event, 401, 1893, closed_ms + 2_000);
    event.last_send_jiffies = ticks(closed_ms + 1_996);
    closed(event, f64::from(closed_ms));
    event.unacked_bytes = u32::from(state == tcp::FIN_WAIT1);
}
