//! Records that tell of one incident, and near misses that stay apart.

use std::{net::Ipv4Addr, sync::Arc};

use jiff::tz::TimeZone;
use rsttrace::{
    correlate::TranslationRequest,
    format::{Format, TextOptions, TextWidth, TimeFormat},
    model::{
        Direction, Endpoint, Fault, IncidentRole, Record, Reset,
        translation::{Answer, ConntrackEntry, ConntrackLookup, ConntrackState, ConntrackStatus, Tuple},
    },
    pipeline::testing::{Collected, NoKernel},
};
use rsttrace_common::{
    abi::{netfilter, tcp, tcp_flag},
    event::{KIND_REJECTED, PROVENANCE_CONNECT, PROVENANCE_LISTEN, ROLE_CLIENT, ResetEvent},
};

use crate::{
    cases::events::{
        NOW_NS, answers, client, common, ended, established, exchanged, held_by, in_flight, owner, sent, server,
        timestamps, v4, without_socket,
    },
    clock, compare, processor, reasons,
    run::play,
};

/// Sequence number of the resets.
const SEQ: u32 = 777_000;
/// Port of the service.
const SERVICE: u16 = 8080;

/// An event so many microseconds after the first one.
fn at(us: u64, change: impl FnOnce(&mut ResetEvent)) -> ResetEvent {
    let mut event = common();
    change(&mut event);
    event.ktime_ns = NOW_NS + us * 1000;
    event
}

/// The server closes with a request unread.
fn sends(event: &mut ResetEvent) {
    server(event, tcp::ESTABLISHED);
    sent(event, 11, tcp::ESTABLISHED);
    established(event, 90_000.0);
    owner(event, "nginx", 812, PROVENANCE_LISTEN);
    held_by(event, "nginx", 812);
    (event.netns, event.snd_nxt, event.unread_bytes) = (2, SEQ, 500);
    (event.local_address, event.peer_address) = (event.peer_address, event.local_address);
    (event.local_port, event.peer_port) = (SERVICE, 43_210);
}

/// The client's end of that connection.
fn receives(event: &mut ResetEvent) {
    client(event, tcp::ESTABLISHED);
    exchanged(event, 400, 0, 10);
    (event.netns, event.rcv_nxt, event.peer_port) = (1, SEQ, SERVICE);
}

fn find(resets: &[Reset], comm: &str) -> Reset {
    let is_of = |reset: &&Reset| reset.process.as_ref().is_some_and(|process| &*process.comm == comm);
    resets.iter().find(is_of).expect("a record of this process").clone()
}

/// The record of the client's end, where the events are these.
fn received_of(events: Vec<ResetEvent>) -> Reset {
    find(&play(events).0, "java")
}

#[test]
fn both_ends_on_this_host_are_one_incident() {
    let (resets, summary) = play(vec![at(0, receives), at(40, sends)]);
    let (received, sent) = (find(&resets, "java"), find(&resets, "nginx"));
    assert_eq!((sent.incident, sent.incident_role), (sent.seq, IncidentRole::First));
    assert_eq!((received.incident, received.incident_role), (sent.seq, IncidentRole::OtherEnd));
    assert_eq!((received.cause.code, received.cause.confidence), ("peer-closed-unread", sent.cause.confidence));
    let other = received.other_end.expect("the sender");
    assert_eq!(
        (other.seq, other.process.expect("its process").pid, other.cause),
        (Some(sent.seq), 812, sent.cause.code)
    );
    let other = sent.other_end.expect("the receiver");
    assert_eq!((other.seq, other.process.expect("its process").pid), (None, 1234));
    assert!(received.cause.evidence.lines().any(|line| line.contains("nginx[812] sent the reset")));
    assert_eq!((summary.resets, summary.incidents), (2, 1));
    assert!(summary.verdict.contains("That is one incident. To be fixed by: this host (1)"), "{}", summary.verdict);
}

#[test]
fn the_sender_may_be_reported_first() {
    let (resets, _) = play(vec![at(0, sends), at(15_000, receives)]);
    let (received, sent) = (find(&resets, "java"), find(&resets, "nginx"));
    assert_eq!((received.incident, received.cause.code), (sent.seq, "peer-closed-unread"));
    assert_eq!(received.other_end.and_then(|other| other.seq), Some(sent.seq));
    // It did not wait for so long.
    assert!(sent.other_end.is_none());
    let (resets, _) = play(vec![at(0, sends), at(5_000, receives)]);
    let sent = find(&resets, "nginx");
    assert_eq!((sent.seq, sent.other_end.expect("the receiver").process.expect("its process").pid), (1, 1234));
}

#[test]
fn a_sender_that_comes_late_refers_to_the_receiver() {
    let (resets, summary) = play(vec![at(0, receives), at(30_000, sends)]);
    let (received, sent) = (find(&resets, "java"), find(&resets, "nginx"));
    assert_eq!((received.seq, received.incident_role), (1, IncidentRole::First));
    assert_eq!((sent.incident, sent.incident_role), (1, IncidentRole::OtherEnd));
    assert_eq!(sent.other_end.and_then(|other| other.seq), Some(1));
    assert_eq!(summary.incidents, 1);
}

#[test]
fn translated_addresses_do_not_part_the_ends() {
    // A virtual address in front of the server, and the client behind a masquerade.
    let virtual_server = |event: &mut ResetEvent| {
        receives(event);
        (event.peer_address, event.peer_port) = (v4([10, 96, 0, 10]), 80);
    };
    let received = received_of(vec![at(0, virtual_server), at(40, sends)]);
    assert_eq!((received.incident_role, received.cause.code), (IncidentRole::OtherEnd, "peer-closed-unread"));
    let masqueraded = |event: &mut ResetEvent| {
        receives(event);
        (event.local_address, event.local_port) = (v4([192, 168, 0, 2]), 50_001);
    };
    assert_eq!(received_of(vec![at(0, masqueraded), at(40, sends)]).incident_role, IncidentRole::OtherEnd);
}

/// Where both ends are translated, as for a pod that reaches a service through its node, conntrack's entry joins them.
#[test]
fn conntrack_joins_ends_that_are_both_translated() {
    let end = |address: [u8; 4], port: u16| Endpoint { address: Ipv4Addr::from(address).into(), port };
    let virtual_end = end([10, 96, 0, 10], 80);
    let caller = |event: &mut ResetEvent| {
        receives(event);
        (event.peer_address, event.peer_port) = (v4([10, 96, 0, 10]), 80);
    };
    let service = |event: &mut ResetEvent| {
        sends(event);
        (event.peer_address, event.peer_port) = (v4([192, 168, 0, 1]), 50_001);
    };
    // `node`: the address that hides the caller.
    let played = |events: [ResetEvent; 2], asked: Direction, node: [u8; 4]| {
        let (mut processor, mut out) = (processor(reasons(), |_| {}), Collected::default());
        processor.enable_lookups();
        for event in events {
            processor.process_event(&event, 1, &clock(), &NoKernel, &mut out);
        }
        let entry = ConntrackEntry {
            original: Tuple { source: end([10, 0, 0, 5], 43_210), destination: virtual_end },
            reply: Tuple { source: end([10, 0, 1, 9], SERVICE), destination: end(node, 50_001) },
            status: ConntrackStatus(0),
            tcp_state: Some(ConntrackState::CLOSE),
            timeout_s: None,
        };
        for TranslationRequest { id, peer, .. } in processor.take_lookups() {
            if (peer == virtual_end) == (asked == Direction::Received) {
                processor.answer(Answer { id, lookup: ConntrackLookup::Found(entry) });
            }
        }
        processor.finish_all(&NoKernel, &mut out);
        out.resets()
    };
    for asked in [Direction::Received, Direction::Sent] {
        for events in [[at(0, caller), at(40, service)], [at(0, service), at(40, caller)]] {
            let resets = played(events, asked, [192, 168, 0, 1]);
            let (received, sent) = (find(&resets, "java"), find(&resets, "nginx"));
            assert_eq!((received.incident, received.incident_role), (sent.seq, IncidentRole::OtherEnd));
            assert_eq!(received.other_end.as_ref().and_then(|other| other.seq), Some(sent.seq));
            assert_eq!(received.cause.code, "peer-closed-unread");
            assert_eq!(received.translated.map(|translated| translated.peer), Some(sent.local));
            assert_eq!(sent.other_end.and_then(|other| other.process).map(|process| process.pid), Some(1234));
        }
    }
    // Another connection of the same number.
    let resets = played([at(0, caller), at(40, service)], Direction::Received, [192, 168, 0, 9]);
    assert!(resets.iter().all(|reset| reset.other_end.is_none() && reset.incident_role == IncidentRole::First));
}

#[test]
fn other_connections_stay_apart() {
    // Mirrored ends in another pair of namespaces, or the ports of an earlier connection: other numbers.
    let numbered = |event: &mut ResetEvent| {
        receives(event);
        event.rcv_nxt = SEQ + 1;
    };
    // An equal number between other ends.
    let elsewhere = |event: &mut ResetEvent| {
        receives(event);
        (event.local_port, event.peer_port) = (1, 2);
        event.local_address = event.peer_address;
    };
    for other in [numbered, elsewhere] {
        let received = received_of(vec![at(0, other), at(40, sends)]);
        assert_eq!((received.incident, received.incident_role), (received.seq, IncidentRole::First));
        assert!(received.other_end.is_none());
    }
    // Long after, when the numbers of a connection may come again.
    let received = received_of(vec![at(0, sends), at(3_000_000, receives)]);
    assert!(received.other_end.is_none());
}

/// Data that crossed the server's FIN are answered with the number of the FIN, which the client has received by then.
#[test]
fn a_reset_has_the_number_before_a_fin_that_it_crossed() {
    let after_fin = |event: &mut ResetEvent| {
        receives(event);
        (event.state, event.rcv_nxt) = (tcp::CLOSE_WAIT, SEQ + 1);
    };
    assert_eq!(received_of(vec![at(0, after_fin), at(40, sends)]).incident_role, IncidentRole::OtherEnd);
    // Without a FIN the kernel does not accept that number.
    let without_fin = |event: &mut ResetEvent| {
        receives(event);
        event.rcv_nxt = SEQ + 1;
    };
    assert_eq!(received_of(vec![at(0, without_fin), at(40, sends)]).incident_role, IncidentRole::First);
}

/// The reset of an abort is lost on the way, and the client's next data tell it.
#[test]
fn a_later_answer_belongs_to_the_abort_of_the_connection() {
    let answers_late = |event: &mut ResetEvent| {
        without_socket(event, tcp_flag::PSH | tcp_flag::ACK);
        event.packet.ack = SEQ;
        (event.netns, event.local_address, event.peer_address) = (2, event.peer_address, event.local_address);
        (event.local_port, event.peer_port) = (SERVICE, 43_210);
    };
    let stamped = |event: &mut ResetEvent| {
        sends(event);
        event.timestamps_ok = 1;
    };
    let meets_answer = |event: &mut ResetEvent| {
        receives(event);
        timestamps(event, false);
    };
    let (resets, summary) = play(vec![at(0, stamped), at(1_500_000, meets_answer), at(1_500_040, answers_late)]);
    assert_eq!(resets.iter().map(|reset| reset.incident).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!((resets[1].incident_role, summary.incidents), (IncidentRole::Aftermath, 1), "{resets:#?}");
    // The first reset was lost: what came is the answer of a host that no longer knew the connection.
    assert_eq!(find(&resets, "java").cause.code, "peer-lost-state");
}

/// On a path with a delay, the client's FIN has met the server's listener before the first reset is at the client: the master
/// process that answers it has not sent the reset that came.
#[test]
fn an_answer_to_the_rest_does_not_displace_the_first_reset() {
    let answers_fin = |event: &mut ResetEvent| {
        without_socket(event, tcp_flag::FIN | tcp_flag::ACK);
        event.packet.ack = SEQ;
        (event.netns, event.local_address, event.peer_address) = (2, event.peer_address, event.local_address);
        (event.local_port, event.peer_port) = (SERVICE, 43_210);
    };
    for at_client in [59_900, 60_100] {
        let (resets, summary) = play(vec![at(0, sends), at(60_000, answers_fin), at(at_client, receives)]);
        let received = find(&resets, "java");
        let other = received.other_end.expect("the sender");
        assert_eq!((other.process.expect("its process").pid, other.cause), (812, "closed-with-unread-data"));
        assert_eq!((summary.resets, summary.incidents), (3, 1));
    }
}

/// Two CPUs: one aborts the connection, the other meets no socket any more and answers, and is the first to report.
#[test]
fn an_answer_that_is_reported_before_the_abort_is_its_aftermath() {
    let answers = |event: &mut ResetEvent| {
        without_socket(event, tcp_flag::ACK);
        (event.netns, event.local_address, event.peer_address) = (2, event.peer_address, event.local_address);
        (event.local_port, event.peer_port) = (SERVICE, 43_210);
    };
    let (resets, summary) = play(vec![at(0, answers), at(30, sends)]);
    let told: Vec<_> = resets.iter().map(|reset| (reset.cause.code, reset.incident, reset.cause.benign)).collect();
    assert_eq!(told, [("closed-with-unread-data", 1, false), ("aftermath", 1, true)]);
    assert_eq!(summary.incidents, 1);
    // The answer is the reset that arrives, as its lack of a timestamp shows: the cause is that of the abort all the same.
    let stamped = |event: &mut ResetEvent| {
        sends(event);
        event.timestamps_ok = 1;
    };
    let in_sequence = |event: &mut ResetEvent| {
        answers(event);
        event.packet.ack = SEQ;
    };
    let meets_answer = |event: &mut ResetEvent| {
        receives(event);
        timestamps(event, false);
    };
    let (resets, summary) = play(vec![at(0, in_sequence), at(20, meets_answer), at(30, stamped)]);
    let received = find(&resets, "java");
    assert_eq!((received.cause.code, received.incident_role), ("peer-closed-unread", IncidentRole::OtherEnd));
    assert_eq!(resets.iter().map(|reset| reset.incident).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(summary.incidents, 1);
    // The programs know already that a reset had ended the connection.
    let knows = |event: &mut ResetEvent| {
        answers(event);
        event.packet.ack = SEQ;
        ended(event, 0.012, tcp::ESTABLISHED, ROLE_CLIENT);
        event.ending.was_aborted = 1;
    };
    let (resets, summary) = play(vec![at(20, knows), at(30, sends)]);
    assert_eq!(
        resets.iter().map(|reset| reset.cause.code).collect::<Vec<_>>(),
        ["closed-with-unread-data", "aftermath"]
    );
    assert_eq!(summary.incidents, 1);
    // An answer that was long output already stays what it is.
    let (resets, _) = play(vec![at(0, answers), at(50_000, sends)]);
    assert_eq!(resets[0].cause.code, "no-connection");
}

#[test]
fn a_reset_that_is_sent_again_has_no_receiver() {
    let (resets, _) = play(vec![at(0, receives), at(40, sends), at(60, sends)]);
    let paired = resets.iter().filter(|reset| reset.other_end.is_some()).count();
    assert_eq!((resets.len(), paired), (3, 2));
}

#[test]
fn a_refusal_is_told_by_the_host_that_refused() {
    let refused = |event: &mut ResetEvent| {
        client(event, tcp::SYN_SENT);
        (event.snd_nxt, event.unacked_bytes, event.peer_port) = (1_000_001, 1, SERVICE);
    };
    let refuses = |event: &mut ResetEvent| {
        without_socket(event, tcp_flag::SYN);
        event.packet.ack = 0;
        (event.local_address, event.peer_address) = (event.peer_address, event.local_address);
        (event.local_port, event.peer_port) = (SERVICE, 43_210);
    };
    let received = received_of(vec![at(0, refused), at(5, refuses)]);
    assert_eq!((received.incident_role, received.cause.code), (IncidentRole::OtherEnd, "connection-refused"));
    // A refusal of another SYN.
    let of_another = |event: &mut ResetEvent| {
        refused(event);
        event.snd_nxt += 10;
    };
    assert_eq!(received_of(vec![at(0, of_another), at(5, refuses)]).incident_role, IncidentRole::First);
}

/// This host refuses in the peer's name: the SYN never left it.
#[test]
fn a_refusal_of_this_host_in_the_peers_name_is_its_own() {
    let refused = |event: &mut ResetEvent| {
        client(event, tcp::SYN_SENT);
        (event.snd_nxt, event.unacked_bytes, event.peer_port) = (1_000_001, 1, SERVICE);
    };
    let redirected = |event: &mut ResetEvent| {
        without_socket(event, tcp_flag::SYN);
        event.packet.ack = 0;
        (event.local_address, event.peer_address) = (v4([127, 0, 0, 1]), event.local_address);
        (event.local_port, event.peer_port) = (15_001, 43_210);
    };
    let faults = |refuses: &dyn Fn(&mut ResetEvent)| {
        let (resets, _) = play(vec![at(0, refused), at(5, refuses)]);
        assert!(resets.iter().all(|reset| reset.other_end.is_some()), "{resets:#?}");
        let of = |direction| resets.iter().find(|reset| reset.direction == direction).expect("both ends").cause.clone();
        let (sent, received) = (of(Direction::Sent), of(Direction::Received));
        (sent.fault, received.code, received.fault, received.advice.contains("redirect"))
    };
    assert_eq!(faults(&redirected), (Fault::Local, "connection-refused", Fault::Local, true));
    // To another namespace: what it is redirected to is another host for all that this one knows.
    let elsewhere = |event: &mut ResetEvent| {
        redirected(event);
        event.netns = 2;
    };
    assert_eq!(faults(&elsewhere), (Fault::Peer, "connection-refused", Fault::Peer, false));
    // Not redirected: its own closed port.
    let own = |event: &mut ResetEvent| {
        redirected(event);
        let asked = common().peer_address;
        (event.local_address, event.local_port) = (asked, SERVICE);
    };
    assert_eq!(faults(&own), (Fault::Peer, "connection-refused", Fault::Peer, false));
    let rejected = |event: &mut ResetEvent| {
        let asked = common();
        event.kind = KIND_REJECTED;
        event.netfilter_hook = netfilter::LOCAL_OUT;
        answers(event, tcp_flag::SYN);
        (event.packet.seq, event.packet.ack) = (1_000_000, 0);
        // The ends of the packet, which this host sends.
        (event.local_address, event.peer_address) = (asked.local_address, asked.peer_address);
        (event.local_port, event.peer_port) = (asked.local_port, SERVICE);
    };
    assert_eq!(faults(&rejected), (Fault::Local, "refused-by-firewall", Fault::Local, false));
    let by_a_router = |event: &mut ResetEvent| {
        rejected(event);
        (event.netns, event.netfilter_hook) = (2, netfilter::FORWARD);
        std::mem::swap(&mut event.local_address, &mut event.peer_address);
        std::mem::swap(&mut event.local_port, &mut event.peer_port);
    };
    assert_eq!(faults(&by_a_router), (Fault::Local, "refused-by-firewall", Fault::Path, false));
}

#[test]
fn what_comes_after_a_reset_is_its_aftermath() {
    let late_fin = |event: &mut ResetEvent| {
        sends(event);
        let (local, peer) = (event.local_address, event.peer_address);
        *event = common();
        without_socket(event, tcp_flag::FIN | tcp_flag::ACK);
        answers(event, tcp_flag::FIN | tcp_flag::ACK);
        (event.netns, event.local_address, event.peer_address) = (2, local, peer);
        (event.local_port, event.peer_port) = (SERVICE, 43_210);
    };
    let (resets, summary) = play(vec![at(0, receives), at(40, sends), at(90, late_fin)]);
    let fin = resets.iter().find(|reset| reset.provoked_by.is_some()).expect("the record of the FIN");
    assert_eq!((fin.cause.code, fin.incident_role), ("aftermath", IncidentRole::Aftermath));
    assert_eq!(fin.incident, find(&resets, "nginx").incident);
    assert_eq!((summary.resets, summary.incidents), (3, 1));
}

/// A server that is behind a proxy on this host: it refuses, and the proxy passes that on to its client.
#[test]
fn a_relay_belongs_to_what_it_passes_on() {
    let refused = |event: &mut ResetEvent| {
        client(event, tcp::SYN_SENT);
        owner(event, "haproxy", 77, PROVENANCE_CONNECT);
        established(event, 0.1);
        event.unacked_bytes = 1;
    };
    let passes_on = |event: &mut ResetEvent| {
        sends(event);
        owner(event, "haproxy", 77, PROVENANCE_LISTEN);
        held_by(event, "haproxy", 77);
    };
    let (resets, summary) = play(vec![at(0, refused), at(200, receives), at(240, passes_on)]);
    let roles: Vec<_> = resets.iter().map(|reset| (reset.incident_role, reset.incident, reset.cause.code)).collect();
    assert_eq!(
        roles,
        [
            (IncidentRole::First, 1, "connection-refused"),
            (IncidentRole::Relayed, 1, "relayed"),
            (IncidentRole::OtherEnd, 1, resets[2].cause.code)
        ]
    );
    assert_eq!((resets[1].cause.fault, summary.incidents), (resets[0].cause.fault, 1));
    assert!(resets[1].cause.evidence.to_string().contains("connection-refused had come from 10.0.1.9:443"));
}

/// A program that fails to reach a service, and then serves a connection that was opened after that: it passes on nothing.
#[test]
fn what_happened_before_a_connection_is_not_passed_on() {
    let refused = |event: &mut ResetEvent| {
        client(event, tcp::SYN_SENT);
        owner(event, "haproxy", 77, PROVENANCE_CONNECT);
        established(event, 0.1);
    };
    // It ends 0.2 ms after the refusal.
    let ends = |opened_ns: u64| {
        let sends = move |event: &mut ResetEvent| {
            sends(event);
            (event.opened_ns, event.established_ns) = (opened_ns, opened_ns + 10_000);
            owner(event, "haproxy", 77, PROVENANCE_LISTEN);
            held_by(event, "haproxy", 77);
        };
        let (resets, summary) = play(vec![at(0, refused), at(200, sends)]);
        (resets[1].cause.code, resets[1].cause.fault, summary.incidents)
    };
    assert_eq!(ends(NOW_NS - 100_000), ("relayed", Fault::Peer, 1));
    assert_eq!(ends(NOW_NS + 60_000), ("closed-with-unread-data", Fault::Local, 2));
}

/// A relay that forks for each client: the child's connection is refused, and the parent has the last copy of the client's.
#[test]
fn what_a_child_met_is_passed_on_by_its_parent() {
    const OPENED_NS: u64 = NOW_NS - 3_560_000;
    let child = |pid: u32, started_ns: u64| {
        move |event: &mut ResetEvent| {
            client(event, tcp::SYN_SENT);
            owner(event, "socat", pid, PROVENANCE_CONNECT);
            established(event, 0.1);
            event.unacked_bytes = 1;
            event.owner.start_boottime_ns = started_ns;
        }
    };
    let parent = |event: &mut ResetEvent| {
        sends(event);
        established(event, 3.24);
        owner(event, "socat", 77, PROVENANCE_LISTEN);
        held_by(event, "socat", 77);
    };
    let code = |refused: &dyn Fn(&mut ResetEvent)| {
        let (resets, _) = play(vec![at(0, refused), at(240, parent)]);
        let sent = resets.iter().find(|reset| reset.process.as_ref().is_some_and(|process| process.pid == 77));
        sent.expect("the parent's record").clone()
    };
    let relayed = code(&child(78, OPENED_NS + 500_000));
    assert_eq!((relayed.cause.code, relayed.incident_role, relayed.incident), ("relayed", IncidentRole::Relayed, 1));
    assert!(relayed.cause.evidence.to_string().contains("on a connection of its child"));
    // Another process of that name, which was there before the connection.
    assert_eq!(code(&child(78, OPENED_NS - 500_000)).cause.code, "closed-with-unread-data");
    // One of a host that was suspended, in which time its clock went on.
    assert_eq!(code(&child(78, NOW_NS + 3_600_000_000_000)).cause.code, "closed-with-unread-data");
    let renamed = |event: &mut ResetEvent| {
        child(78, OPENED_NS + 500_000)(event);
        owner(event, "curl", 78, PROVENANCE_CONNECT);
        event.owner.start_boottime_ns = OPENED_NS + 500_000;
    };
    assert_eq!(code(&renamed).cause.code, "closed-with-unread-data");
}

/// The client of a relay that passes on a refusal has met neither an idle timeout nor a limit, and has reused nothing.
#[test]
fn the_client_of_a_relay_is_not_blamed() {
    let refused = |event: &mut ResetEvent| {
        client(event, tcp::SYN_SENT);
        owner(event, "haproxy", 77, PROVENANCE_CONNECT);
        established(event, 0.1);
        event.unacked_bytes = 1;
    };
    let passes_on = |event: &mut ResetEvent| {
        sends(event);
        owner(event, "haproxy", 77, PROVENANCE_LISTEN);
        held_by(event, "haproxy", 77);
    };
    // The FIN came so many milliseconds before.
    let client_of = |fin_ms: u32| {
        let receives = move |event: &mut ResetEvent| {
            receives(event);
            established(event, 9_000.0);
            exchanged(event, 400, 400, fin_ms + 10);
            in_flight(event, 5, 4);
            (event.state, event.fin_received_ns) = (tcp::CLOSE_WAIT, NOW_NS - u64::from(fin_ms) * 1_000_000);
        };
        let alone = received_of(vec![at(0, receives)]).cause.code;
        let joined = received_of(vec![at(0, refused), at(200, receives), at(240, passes_on)]).cause;
        (alone, joined.code, joined.fault)
    };
    assert_eq!(client_of(60), ("reused-closed-connection", "peer-aborted", Fault::Peer));
    // Its process had the time to read the FIN.
    assert_eq!(client_of(4_000), ("reused-closed-connection", "reused-closed-connection", Fault::Local));
}

/// This process runs before the one that sends: the sender's record comes when the wait is over by the clock.
#[test]
fn a_late_reader_waits_for_the_sender() {
    let wait = |late_ns: u64, until_ns: u64| {
        let (mut processor, mut out) = (processor(reasons(), |_: &mut Reset| ()), Collected::default());
        processor.process_event(&at(0, receives), 1, &clock(), &NoKernel, &mut out);
        processor.release_held(NOW_NS + late_ns, &mut out);
        processor.release_held(NOW_NS + until_ns, &mut out);
        processor.process_event(&at(40, sends), 1, &clock(), &NoKernel, &mut out);
        processor.finish_all(&NoKernel, &mut out);
        find(&out.resets(), "java").cause.code
    };
    assert_eq!(wait(20_000_000, 22_000_000), "peer-closed-unread");
    // Longer than that it does not wait, nor longer at all where it was not late.
    assert_eq!(wait(20_000_000, 24_000_000), "peer-aborted");
    assert_eq!(wait(1_000_000, 10_500_000), "peer-aborted");
}

/// The answer on a translation comes when the wait for the other end is over: the record waits for it, and those behind it too.
#[test]
fn a_record_waits_for_the_answer_on_its_translation() {
    const MS: u64 = 1_000_000;
    let other_connection = |event: &mut ResetEvent| {
        receives(event);
        (event.local_port, event.rcv_nxt) = (43_000, SEQ + 1);
    };
    // Number of records that have gone out so long after the event; `answered`: when the answer came, found or not.
    let released = |answered: Option<u64>, until_ns: u64| {
        let (mut processor, mut out) = (processor(reasons(), |_: &mut Reset| ()), Collected::default());
        processor.enable_lookups();
        processor.process_event(&at(0, receives), 1, &clock(), &NoKernel, &mut out);
        let asked = processor.take_lookups();
        let [TranslationRequest { id, .. }] = *asked else { panic!("{asked:?}") };
        processor.await_answer(id);
        processor.process_event(&at(1, other_connection), 1, &clock(), &NoKernel, &mut out);
        processor.release_held(NOW_NS + MS, &mut out);
        if let Some(answered_ns) = answered {
            processor.release_held(NOW_NS + answered_ns, &mut out);
            assert!(out.0.is_empty(), "it waits");
            processor.answer(Answer { id, lookup: ConntrackLookup::Unknown });
        }
        processor.release_held(NOW_NS + until_ns, &mut out);
        out.resets().len()
    };
    assert_eq!(released(None, 20 * MS), 0);
    assert_eq!(released(Some(20 * MS), 21 * MS), 2);
    // There are limits to it.
    assert_eq!(released(None, 111 * MS), 2);
}

/// A program that talks to itself, as tests do: none of its connections passes on the end of another, and none its own.
#[test]
fn a_process_at_both_ends_is_no_relay() {
    let pair = |number: u16| {
        let seq = SEQ + u32::from(number);
        let receives = move |event: &mut ResetEvent| {
            receives(event);
            owner(event, "python3", 50, PROVENANCE_CONNECT);
            (event.local_port, event.rcv_nxt) = (43_000 + number, seq);
        };
        let sends = move |event: &mut ResetEvent| {
            sends(event);
            owner(event, "python3", 50, PROVENANCE_LISTEN);
            held_by(event, "python3", 50);
            (event.peer_port, event.snd_nxt) = (43_000 + number, seq);
        };
        let us = u64::from(number) * 2_000;
        [at(us, receives), at(us + 40, sends)]
    };
    let (resets, summary) = play((0..4).flat_map(pair).collect());
    let codes: Vec<_> = resets.iter().map(|reset| reset.cause.code).collect();
    assert_eq!(codes, ["closed-with-unread-data", "peer-closed-unread"].repeat(4));
    assert_eq!(summary.incidents, 4);
}

/// An incident is one block: what a proxy passes on, both ends of that, and a further reset of the connection. The record of
/// another incident ends the block, and what comes later has one of its own.
#[test]
fn an_incident_is_one_block() {
    let refused = |event: &mut ResetEvent| {
        client(event, tcp::SYN_SENT);
        owner(event, "haproxy", 77, PROVENANCE_CONNECT);
        established(event, 0.1);
    };
    let passes_on = |event: &mut ResetEvent| {
        sends(event);
        owner(event, "haproxy", 77, PROVENANCE_LISTEN);
        held_by(event, "haproxy", 77);
    };
    let answers_rest = |event: &mut ResetEvent| {
        without_socket(event, tcp_flag::PSH | tcp_flag::ACK);
        event.packet.ack = SEQ;
        (event.netns, event.local_address, event.peer_address) = (2, event.peer_address, event.local_address);
        (event.local_port, event.peer_port) = (SERVICE, 43_210);
    };
    let another = |event: &mut ResetEvent| {
        receives(event);
        (event.peer_port, event.rcv_nxt) = (5432, 1);
    };
    let events = vec![
        at(0, refused),
        at(200, receives),
        at(240, passes_on),
        at(5_000, answers_rest),
        at(30_000, another),
        at(60_000, answers_rest),
    ];
    let (resets, summary) = play(events);
    assert_eq!(summary.incidents, 2);
    let options = TextOptions {
        color: false,
        time: TimeFormat::Utc,
        started_ns: NOW_NS,
        zone: TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: false,
    };
    let (mut long, mut out) = (Format::Long.formatter(options), Vec::new());
    for reset in resets {
        long.write(&Record::Reset(Arc::new(reset)), &mut out).expect("a vector takes everything");
    }
    compare("incident.txt", &String::from_utf8(out).expect("UTF-8"));
}

/// One process of a group is killed, and the others end with it.
#[test]
fn a_group_that_ends_is_one_incident() {
    let ends = |pid: u32, exit_code: u32| {
        move |event: &mut ResetEvent| {
            sends(event);
            owner(event, "postgres", pid, PROVENANCE_LISTEN);
            held_by(event, "postgres", pid);
            event.flags |= rsttrace_common::event::EVENT_EXITING;
            (event.exit_code, event.snd_nxt, event.peer_port) = (exit_code, pid, u16::try_from(pid).unwrap_or(1));
        }
    };
    let (resets, summary) = play(vec![at(0, ends(50, 9)), at(9_000, ends(51, 2 << 8)), at(9_500, ends(52, 2 << 8))]);
    let codes: Vec<_> = resets.iter().map(|reset| (reset.cause.code, reset.incident)).collect();
    assert_eq!(codes, [("process-died", 1), ("process-exited", 1), ("process-exited", 1)]);
    assert_eq!(summary.incidents, 1);
    // Processes that end by themselves are each an incident.
    let (_, summary) = play(vec![at(0, ends(50, 0)), at(9_000, ends(51, 0))]);
    assert_eq!(summary.incidents, 2);
}
