//! Resets that this host receives.

use rsttrace_common::{
    abi::{sock_flag, tcp, tcp_flag},
    event::{EVENT_HAS_HISTORY, EVENT_ORPHAN, PROVENANCE_CONNECT, ROLE_CLIENT, ResetEvent},
};

use super::{
    Case, case,
    events::{
        ago, answers, client, closed, established, exchanged, fin, headed, in_flight, owner, received, sent, server,
        ticks, timestamps, v4, v6, without_socket,
    },
};

pub(super) const CASES: &[Case] = &[
    case("refused, both addresses long", "connection-refused", |event| {
        received(event, tcp::SYN_SENT);
        owner(event, "curl", 4_194_303, PROVENANCE_CONNECT);
        event.role = ROLE_CLIENT;
        event.local_address = v6([0x2001, 0xdb8, 0x85a3, 0x8d3, 0x1319, 0x8a2e, 0x370, 0x7348]);
        event.peer_address = v6([0x2001, 0xdb8, 0x85a3, 0x8d3, 0x1319, 0x8a2e, 0x370, 0x7349]);
        event.family = 10;
        event.peer_port = 65_535;
    }),
    Case {
        before: &[(500, |event| without_socket(event, tcp_flag::SYN))],
        ..case("refused with another TTL than the peer's", "refused-by-firewall", |event| {
            refused(event, 30.0);
            headed(event, 254, 0, 1, 0);
        })
    },
    Case {
        before: &[(500, |event| without_socket(event, tcp_flag::SYN))],
        ..case("refused with the peer's own TTL", "connection-refused", |event| {
            refused(event, 30.0);
            headed(event, 63, 0, 1, 0);
        })
    },
    case("refused by this host itself", "refused-by-firewall", |event| {
        refused(event, 0.06);
        headed(event, 64, 0, 1, 0);
        event.interface = 1;
    }),
    case("refused as soon as this host itself can, without a header", "connection-refused", |event| {
        refused(event, 0.06);
    }),
    case("refused by this host under its own address", "connection-refused", |event| {
        refused(event, 0.06);
        headed(event, 64, 0, 1, 0);
        event.interface = 1;
        event.peer_address = event.local_address;
    }),
    Case {
        before: &[(500, far_away)],
        ..case("refused sooner than the peer can", "refused-by-firewall", |event| refused(event, 3.0))
    },
    Case {
        before: &[(500, far_away)],
        ..case("refused a round trip later", "connection-refused", |event| refused(event, 42.0))
    },
    Case {
        before: &[(20, |event| {
            client(event, tcp::ESTABLISHED);
            in_flight(event, 100, 400);
        })],
        ..case("refused after a restart", "connection-refused", |event| refused(event, 1.0))
    },
    case("the peer discards after our close", "after-close", |event| {
        received(event, tcp::FIN_WAIT2);
        event.flags |= EVENT_ORPHAN;
        (event.socket_flags, event.shutdown) = (sock_flag::DEAD, 3);
        event.fin_sent_ns = ago(3.0);
    }),
    case("shut down for sending, the answer awaited", "peer-aborted", |event| {
        client(event, tcp::FIN_WAIT2);
        exchanged(event, 300, 0, 40);
        // The FIN of this host.
        event.bytes_acked += 1;
        (event.shutdown, event.fin_sent_ns) = (2, ago(40.0));
    }),
    case("turned away before the first request", "turned-away", |event| {
        client(event, tcp::CLOSE_WAIT);
        established(event, 30.0);
        event.bytes_received += 36;
        event.last_receive_jiffies = ticks(28);
        fin(event, 28.0);
        in_flight(event, 14, 0);
    }),
    case("closed by a relay in silence before the first request", "turned-away", |event| {
        client(event, tcp::CLOSE_WAIT);
        established(event, 30.0);
        fin(event, 28.0);
        in_flight(event, 14, 0);
    }),
    case("closed in silence before a first request that came late", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        established(event, 30_000.0);
        fin(event, 20_000.0);
        in_flight(event, 14, 0);
    }),
    case("closed right after the first answer", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        established(event, 130.0);
        exchanged(event, 80, 36, 120);
        fin(event, 120.0);
        in_flight(event, 14, 0);
    }),
    case("used again five seconds after the FIN", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 401, 1893, 5000);
        fin(event, 5000.0);
        in_flight(event, 411, 0);
    }),
    case("used again, and a slow peer answers", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 401, 1893, 5000);
        fin(event, 5000.0);
        in_flight(event, 411, 120);
    }),
    case("used again within a tick of the FIN", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 401, 1893, 8);
        fin(event, 1.4);
        in_flight(event, 411, 0);
    }),
    case("used again, and closed since", "reused-closed-connection", |event| {
        client(event, tcp::LAST_ACK);
        exchanged(event, 401, 1893, 5000);
        fin(event, 5000.0);
        in_flight(event, 411, 8);
        closed(event, 2.0);
        // The FIN of this host.
        event.unacked_bytes += 1;
    }),
    case("the FIN crossed the request, and the process closed", "keepalive-race", |event| {
        client(event, tcp::LAST_ACK);
        event.rtt_us = 30_000;
        exchanged(event, 401, 1893, 2_030);
        in_flight(event, 411, 30);
        fin(event, 20.0);
        closed(event, 19.9);
        event.unacked_bytes += 1;
    }),
    case("the FIN crossed the request, which was sent again", "keepalive-race", |event| {
        client(event, tcp::LAST_ACK);
        event.rtt_us = 2_500;
        exchanged(event, 401, 1893, 1_036);
        in_flight(event, 411, 28);
        fin(event, 21.0);
        closed(event, 12.0);
        event.unacked_bytes += 1;
        event.retransmits = 1;
    }),
    case("the FIN crossed the request over a slow path", "keepalive-race", |event| {
        client(event, tcp::CLOSING);
        event.rtt_us = 200_000;
        exchanged(event, 401, 1893, 7_200);
        in_flight(event, 411, 200);
        fin(event, 10.0);
        closed(event, 9.0);
        event.unacked_bytes += 1;
    }),
    case("closed after the FIN, with nothing on its way", "after-close", |event| {
        client(event, tcp::LAST_ACK);
        exchanged(event, 401, 1893, 2_030);
        fin(event, 20.0);
        closed(event, 19.9);
        event.unacked_bytes += 1;
    }),
    case("the server closed long after the request had begun, without an answer", "peer-closed-unread", |event| {
        client(event, tcp::CLOSE_WAIT);
        event.rtt_us = 30_000;
        exchanged(event, 401, 1893, 9_000);
        in_flight(event, 60_000, 400);
        event.last_send_jiffies = ticks(4);
        fin(event, 20.0);
    }),
    case("a request after 37 seconds that a process left unread", "keepalive-race", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 37_004);
        in_flight(event, 411, 0);
        timestamps(event, true);
    }),
    case("a request that lay unread while the peer stood still", "keepalive-race", |event| unread_for(event, 328)),
    case("a request that lay unread for longer", "peer-aborted", |event| unread_for(event, 1_328)),
    case("an upload that goes on beside an answer that came 1.4 seconds ago", "peer-closed-unread", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 100_000_000, 348, 1_404);
        (event.unread_bytes, event.unsent_bytes) = (348, 5_000);
        in_flight(event, 60_000, 0);
        timestamps(event, true);
    }),
    case("a request after 37 seconds, and no connection there", "peer-lost-state", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 37_004);
        in_flight(event, 411, 0);
        timestamps(event, false);
    }),
    case("a request, and a device one hop nearer has no connection", "path-lost-state", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 4_004);
        in_flight(event, 411, 0);
        timestamps(event, false);
        headed(event, 64, 63, 0, 0);
    }),
    case("a server's push after 350 seconds, and no connection there", "idle-timeout-path", |event| {
        server(event, tcp::ESTABLISHED);
        exchanged(event, 5_000, 300, 350_004);
        in_flight(event, 411, 0);
        timestamps(event, false);
    }),
    case("a server's push after 3 seconds, and no connection there", "peer-lost-state", |event| {
        server(event, tcp::ESTABLISHED);
        exchanged(event, 5_000, 300, 3_004);
        in_flight(event, 411, 0);
        timestamps(event, false);
    }),
    case("a process that does not read, and a peer that has given it up", "stopped-reading", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 127_000, 2_004);
        event.unread_bytes = 127_000;
        in_flight(event, 14, 0);
        timestamps(event, false);
    }),
    case("a download in progress, and no connection there", "peer-lost-state", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 127_000, 4);
        event.unread_bytes = 127_000;
        in_flight(event, 14, 0);
        timestamps(event, false);
    }),
    case("a process that does not read, and a peer that aborts", "peer-aborted", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 127_000, 3_304);
        event.unread_bytes = 127_000;
        event.last_send_jiffies = ticks(9_000);
        timestamps(event, true);
    }),
    case("a client that has lost the connection and begins anew", "peer-lost-state", |event| {
        server(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 3_004);
        timestamps(event, false);
    }),
    case("a reset without a timestamp that nothing had provoked", "injected", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 3_004);
        timestamps(event, false);
    }),
    case("a reset with a timestamp that nothing had provoked", "peer-aborted", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 3_004);
        timestamps(event, true);
    }),
    case("24 bytes on a port without TLS", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 401, 1893, 5000);
        fin(event, 12.0);
        in_flight(event, 24, 0);
        event.peer_port = 11_211;
    }),
    case("24 bytes on a port without TLS, sent with the close", "tls-goodbye", |event| {
        client(event, tcp::LAST_ACK);
        exchanged(event, 401, 1893, 5000);
        fin(event, 12.0);
        in_flight(event, 24, 0);
        closed(event, 0.3);
        event.unacked_bytes += 1;
        event.peer_port = 3128;
    }),
    case("a query 300 ms after the last words of a session", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 401, 1893, 304);
        event.unread_bytes = 116 + 1;
        fin(event, 304.0);
        in_flight(event, 60, 0);
        event.peer_port = 5432;
    }),
    case("a client's new connection on the ports of one that leaked", "leaked-socket", |event| {
        server(event, tcp::CLOSE_WAIT);
        exchanged(event, 300, 300, 1_700);
        fin(event, 1_600.0);
        timestamps(event, false);
    }),
    case("a path of an MPTCP connection", "mptcp-subflow", |event| {
        client(event, tcp::ESTABLISHED);
        event.is_mptcp = 1;
    }),
    Case {
        before: &[(900, check), (600, check), (300, check)],
        ..case("the fourth check that talks", "health-probe", check)
    },
    Case {
        before: &[(1400, check), (600, check), (300, check)],
        ..case("the fourth client that aborts, at no rhythm", "client-cancelled", check)
    },
    case("a client that reset soon after it had asked", "client-cancelled", |event| {
        server(event, tcp::ESTABLISHED);
        exchanged(event, 0, 300, 40);
    }),
    case("a TLS closing alert after the FIN", "tls-goodbye", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 401, 1893, 5000);
        fin(event, 12.0);
        in_flight(event, 24, 0);
    }),
    case("the FIN crossed the request after a minute", "keepalive-race", |event| {
        client(event, tcp::CLOSE_WAIT);
        event.rtt_us = 20_000;
        exchanged(event, 401, 1893, 60_020);
        fin(event, 3.0);
        in_flight(event, 411, 20);
    }),
    case("the FIN came during a long upload", "peer-closed-unread", |event| {
        client(event, tcp::CLOSE_WAIT);
        in_flight(event, 60_000, 4000);
        event.last_send_jiffies = ticks(4);
        fin(event, 2.0);
    }),
    case("the answer came too late", "client-gave-up", |event| {
        server(event, tcp::CLOSE_WAIT);
        exchanged(event, 0, 300, 31_000);
        fin(event, 1000.0);
        in_flight(event, 5000, 0);
    }),
    Case {
        details: true,
        ..case("a request after a minute of silence", "keepalive-race", |event| {
            client(event, tcp::ESTABLISHED);
            established(event, 65_012.0);
            exchanged(event, 401, 1893, 60_004);
            in_flight(event, 411, 4);
            event.last_send_jiffies = ticks(0);
        })
    },
    case("a request after 37 seconds of silence", "peer-aborted", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 37_004);
        in_flight(event, 411, 0);
    }),
    case("a request after a minute that the peer had acknowledged", "peer-aborted", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 60_004);
        exchanged(event, 411, 0, 300);
        event.last_receive_jiffies = ticks(60_304);
    }),
    Case {
        before: &[(20, |event| {
            client(event, tcp::ESTABLISHED);
            established(event, 50_000.0);
            exchanged(event, 401, 1893, 7_004);
            in_flight(event, 99, 700);
        })],
        ..case("an idle minute, and the server was killed", "peer-restarted", |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 1893, 61_000);
            in_flight(event, 411, 0);
        })
    },
    case("a request after 350 seconds", "idle-timeout-path", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 350_200);
        in_flight(event, 411, 0);
    }),
    case("keep-alive probe of a peer that had rebooted", "keepalive-answer", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 75_000);
        (event.socket_flags, event.probes_out) = (sock_flag::KEEPALIVE, 1);
    }),
    case("a request after half an hour", "keepalive-answer", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 1_800_000);
        in_flight(event, 411, 0);
    }),
    case("nothing for 300 seconds", "idle-reset", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 300_040);
    }),
    case("no answer for 60 seconds", "peer-aborted", |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 0, 60_000);
    }),
    Case {
        before: &[(10, |event| {
            client(event, tcp::ESTABLISHED);
            established(event, 50_000.0);
            exchanged(event, 401, 1893, 4_000);
        })],
        ..case("idle for 300 seconds when the peer stopped", "peer-restarted", |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 1893, 300_000);
        })
    },
    Case {
        before: &[(4000, first_data), (2000, first_data)],
        ..case("the third first request in a row", "policy", first_data)
    },
    Case {
        before: &[(4000, first_data), (2000, first_data)],
        ..case("the third first request in a row that a process ends", "peer-aborted", |event| {
            first_data(event);
            timestamps(event, true);
        })
    },
    Case {
        before: &[(4000, first_data), (2000, first_data)],
        ..case("the third first request in a row that a server hangs up on", "peer-closed-unread", |event| {
            first_data(event);
            event.state = tcp::CLOSE_WAIT;
            (event.unsent_bytes, event.unacked_bytes) = (28_960, 14_480);
            fin(event, 0.1);
        })
    },
    Case {
        before: &[(400, first_data), (200, first_data)],
        ..case("three first requests in half a second", "peer-aborted", first_data)
    },
    case("the first request", "peer-aborted", first_data),
    case("a TTL that is not the peer's", "injected", |event| {
        mid_transfer(event);
        headed(event, 250, 57, 0, 0);
    }),
    case("a route that has changed by a hop", "peer-aborted", |event| {
        mid_transfer(event);
        headed(event, 56, 57, 1, 501);
    }),
    case("a window and no acknowledgement", "injected", |event| {
        mid_transfer(event);
        headed(event, 57, 57, 0, 8192);
    }),
    Case {
        before: &[(40, |event| newborn(event, 0)), (20, |event| newborn(event, 0))],
        ..case("the third connection that breaks with its handshake", "accept-overflow", |event| newborn(event, 0))
    },
    case("data that were never taken", "accept-overflow", |event| {
        client(event, tcp::ESTABLISHED);
        established(event, 6000.0);
        in_flight(event, 120, 6000);
        event.retransmits = 5;
        event.bytes_sent += 120 * 5;
        event.bytes_retrans = 120 * 5;
        event.last_send_jiffies = ticks(0);
    }),
    case("a process that aborts what it has just accepted", "peer-aborted", |event| {
        newborn(event, 0);
        headed(event, 63, 63, 1, 502);
    }),
    Case {
        before: &[(3, mid_transfer)],
        ..case("the second connection to break", "peer-restarted", |event| {
            client(event, tcp::ESTABLISHED);
            established(event, 2_000.0);
            exchanged(event, 10, 20, 900);
            in_flight(event, 99, 80);
        })
    },
    case("the first connection to break", "peer-aborted", mid_transfer),
    Case { before: &[(2000, probe)], ..case("a health check for the second time", "health-probe", probe) },
    Case { before: &[(2, probe), (1, probe)], ..case("a burst of connections without data", "peer-aborted", probe) },
    case("a client that waited for 30 seconds", "client-gave-up", |event| {
        server(event, tcp::ESTABLISHED);
        exchanged(event, 0, 300, 30_010);
    }),
    case("a client that resets during the answer", "client-cancelled", |event| {
        server(event, tcp::ESTABLISHED);
        exchanged(event, 0, 300, 200);
        in_flight(event, 50_000, 100);
        event.unsent_bytes = 900_000;
    }),
    case("a process that resets a client's idle connection", "client-ended", |event| idle_client(event, 8_000)),
    Case {
        before: &[(3, |event| idle_client(event, 40_000)), (2, |event| idle_client(event, 200))],
        ..case("the third of a client's connections that end together", "client-ended", |event| {
            idle_client(event, 2_500);
        })
    },
    Case {
        before: &[(3, |event| waiting_client(event, 4_400)), (2, |event| waiting_client(event, 700))],
        ..case("a client's process ends with requests of different ages", "client-ended", |event| {
            waiting_client(event, 2_100);
        })
    },
    Case {
        before: &[
            (30, |event| waiting_client(event, 5_000)),
            (20, |event| waiting_client(event, 5_008)),
            (10, |event| waiting_client(event, 5_000)),
        ],
        ..case("clients whose timeout ends together", "client-gave-up", |event| waiting_client(event, 5_004))
    },
    Case {
        before: &[(3, |event| waiting_client(event, 5_000)), (2, |event| idle_client(event, 20_000))],
        ..case("a client's process ends with a request that had waited", "client-ended", |event| {
            waiting_client(event, 3_000);
        })
    },
    Case {
        before: &[(300, |event| waiting_client(event, 4_400)), (150, |event| waiting_client(event, 700))],
        ..case("requests of different ages, given up one after the other", "client-gave-up", |event| {
            waiting_client(event, 2_100);
        })
    },
    Case {
        before: &[(3, |event| forgotten(event, 40_000)), (2, |event| forgotten(event, 4_000))],
        ..case("a NAT that forgets a client's connections at once", "peer-lost-state", |event| forgotten(event, 9_000))
    },
    Case {
        before: &[(2, |event| {
            client(event, tcp::ESTABLISHED);
            established(event, 20_000.0);
            exchanged(event, 401, 1893, 8);
            in_flight(event, 99, 4);
        })],
        ..case("a FIN in the moment in which the server's process ended", "peer-restarted", |event| {
            client(event, tcp::CLOSE_WAIT);
            exchanged(event, 401, 1893, 4);
            fin(event, 1.4);
            in_flight(event, 411, 0);
        })
    },
    Case {
        before: &[(2, |event| {
            client(event, tcp::ESTABLISHED);
            established(event, 20_000.0);
            exchanged(event, 401, 1893, 7_000);
            in_flight(event, 99, 4);
            timestamps(event, true);
        })],
        ..case("an idle timeout beside a request that its server left unread", "reused-closed-connection", |event| {
            client(event, tcp::CLOSE_WAIT);
            exchanged(event, 401, 1893, 7_004);
            fin(event, 1.4);
            in_flight(event, 411, 0);
        })
    },
    case("a client that resets after the exchange", "peer-aborted", |event| {
        server(event, tcp::ESTABLISHED);
        exchanged(event, 5000, 300, 8_000);
    }),
    case("an early answer to an upload", "peer-closed-unread", |event| {
        client(event, tcp::ESTABLISHED);
        in_flight(event, 60_000, 400);
        event.unsent_bytes = 2_000_000;
        (event.bytes_received, event.last_receive_jiffies) = (180, ticks(4));
    }),
    case("an early answer, unread, and the FIN", "peer-closed-unread", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 900_000, 348, 60);
        event.unread_bytes = 348 + 1;
        fin(event, 0.4);
        in_flight(event, 65_000, 0);
    }),
    case("an unread 408, and then a request", "reused-closed-connection", |event| {
        client(event, tcp::CLOSE_WAIT);
        exchanged(event, 401, 1893, 8000);
        event.unread_bytes = 212 + 1;
        fin(event, 8000.0);
        in_flight(event, 411, 0);
    }),
    case("in the middle of a download", "peer-aborted", mid_transfer),
    case("a state of another kernel", "unknown", |event| received(event, 99)),
    case("a process with a hostile name", "peer-aborted", |event| {
        received(event, tcp::ESTABLISHED);
        owner(event, "\u{1b}[2Jevil\n\u{202e}", 666, PROVENANCE_CONNECT);
    }),
    case("our own answer to data after a shutdown", "data-after-close", |event| {
        sent(event, 8, tcp::FIN_WAIT2);
        answers(event, tcp_flag::ACK | tcp_flag::PSH);
        (event.shutdown, event.peer_address) = (3, v4([10, 0, 1, 10]));
    }),
];

fn refused(event: &mut ResetEvent, ms: f64) {
    received(event, tcp::SYN_SENT);
    event.flags |= EVENT_HAS_HISTORY;
    event.role = ROLE_CLIENT;
    event.opened_ns = ago(ms);
    owner(event, "curl", 4242, PROVENANCE_CONNECT);
}

/// A connection to another port of the peer, with a round-trip time of 40 ms.
fn far_away(event: &mut ResetEvent) {
    mid_transfer(event);
    (event.peer_port, event.rtt_us) = (80, 40_000);
}

/// A connection whose client has had its answer for this many milliseconds, and resets it.
fn idle_client(event: &mut ResetEvent, ms: u32) {
    server(event, tcp::ESTABLISHED);
    exchanged(event, 5000, 300, ms);
    timestamps(event, true);
}

/// A connection whose client has waited for its answer for this many milliseconds, and resets it.
fn waiting_client(event: &mut ResetEvent, ms: u32) {
    server(event, tcp::ESTABLISHED);
    exchanged(event, 0, 300, ms);
    timestamps(event, true);
}

/// A push to a client after this many milliseconds, which something without the connection answers.
fn forgotten(event: &mut ResetEvent, ms: u32) {
    server(event, tcp::ESTABLISHED);
    exchanged(event, 5000, 300, ms);
    in_flight(event, 411, 0);
    timestamps(event, false);
}

/// A check that exchanges a few bytes and aborts.
fn check(event: &mut ResetEvent) {
    server(event, tcp::ESTABLISHED);
    established(event, 2.0);
    exchanged(event, 7, 14, 0);
}

fn mid_transfer(event: &mut ResetEvent) {
    client(event, tcp::ESTABLISHED);
    exchanged(event, 401, 900_000, 8);
}

/// A request after 1.4 s of silence, which the peer's kernel acknowledged and its process reset so many milliseconds later.
fn unread_for(event: &mut ResetEvent, ms: u32) {
    client(event, tcp::ESTABLISHED);
    exchanged(event, 53, 127, ms + 1_400);
    exchanged(event, 53, 0, ms);
    event.last_receive_jiffies = ticks(ms + 1_400);
    timestamps(event, true);
}

/// A request on a new connection, answered with a reset.
fn first_data(event: &mut ResetEvent) {
    client(event, tcp::ESTABLISHED);
    established(event, 8.0);
    in_flight(event, 517, 4);
}

/// A connection that breaks one round trip after its handshake.
fn newborn(event: &mut ResetEvent, bytes: u32) {
    client(event, tcp::ESTABLISHED);
    established(event, 0.32);
    if bytes > 0 {
        in_flight(event, bytes, 0);
    }
}

/// A client that connects and resets without sending data.
fn probe(event: &mut ResetEvent) {
    server(event, tcp::ESTABLISHED);
    established(event, 1.0);
}
