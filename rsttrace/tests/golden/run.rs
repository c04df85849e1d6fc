//! Whole runs and their summaries: clusters of idle times, a health check, a restart, scans of thousands of ports.

use std::{sync::Arc, time::Duration};

use rsttrace::{
    diagnose::timeouts::Timeouts,
    format::{Format, TextOptions, TextWidth, TimeFormat},
    model::{CauseConfidence, Coverage, GroupField, IncidentRole, OtherEnd, OtherProcess, Record, Reset, Summary},
    pipeline::testing::{Collected, NoKernel},
    summary::{SummaryContext, Tally},
};
use rsttrace_common::{
    abi::{sock_flag, tcp, tcp_flag},
    event::{
        EVENT_HAS_TIMES, EVENT_ORPHAN, LAST_DATA_SENT, PROVENANCE_CONNECT, PROVENANCE_LISTEN, ROLE_CLIENT, ROLE_SERVER,
        ResetEvent,
    },
};

use crate::{
    cases::events::{
        ago, answers, client, common, earlier, ended, established, exchanged, fin, held_by, in_flight, owner, received,
        sent, server, ticks, time_wait, timestamps, v4, without_socket,
    },
    clock, compare, processor, reasons,
};

/// The base event with this change, this many milliseconds before the end.
fn at(ms: u64, change: impl FnOnce(&mut ResetEvent)) -> ResetEvent {
    let mut event = common();
    change(&mut event);
    earlier(event, ms)
}

/// Records of these events, and the summary.
pub(crate) fn play(events: Vec<ResetEvent>) -> (Vec<Reset>, Summary) {
    play_folded(events, 1)
}

/// Records of these events, each of which stands for so many, and the summary.
fn play_folded(events: Vec<ResetEvent>, count: u64) -> (Vec<Reset>, Summary) {
    play_completed(events, count, |_| ())
}

/// As [`play_folded`], with records that the host's files complete.
fn play_completed(mut events: Vec<ResetEvent>, count: u64, complete: impl FnMut(&mut Reset)) -> (Vec<Reset>, Summary) {
    events.sort_by_key(|event| event.ktime_ns);
    let (mut processor, mut out) = (processor(reasons(), complete), Collected::default());
    for event in &events {
        processor.release_held(event.ktime_ns, &mut out);
        processor.process_event(event, count, &clock(), &NoKernel, &mut out);
        // As the live run does after each batch.
        processor.release_held(event.ktime_ns, &mut out);
    }
    processor.finish_all(&NoKernel, &mut out);
    let (resets, mut tally) = (out.resets(), Tally::default());
    for reset in &resets {
        tally.count(reset);
    }
    let summary = tally.summary(SummaryContext {
        time: clock().wall,
        duration: Duration::from_mins(10),
        last: true,
        timeouts: processor.stages().diagnosis.timeouts(),
        coverage: Coverage::default(),
        degraded: &[],
        sinks: Vec::new(),
    });
    (resets, summary)
}

/// A gateway in front of a server with a keep-alive timeout of a minute, with all kinds of failures.
pub(crate) fn gateway() -> Vec<ResetEvent> {
    let mut events = Vec::new();
    for round in 0..12 {
        // The request meets the server's timeout.
        events.push(at(1_000 + round * 45_000, |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 1893, 60_000 + u32::try_from(round).expect("small") * 12);
            in_flight(event, 411, 0);
        }));
    }
    for round in 0..30 {
        // A load balancer's health check.
        events.push(at(500 + round * 2_000, |event| {
            server(event, tcp::ESTABLISHED);
            established(event, 1.0);
            event.peer_address = v4([10, 0, 2, 2]);
        }));
    }
    for connection in 0..6 {
        // A database stops.
        events.push(at(200_000 - connection, |event| {
            client(event, tcp::ESTABLISHED);
            let age = 900.0 + 3_000.0 * f64::from(u32::try_from(connection).expect("small"));
            established(event, age);
            exchanged(event, 50, 80, 400);
            in_flight(event, 60, 300);
            (event.peer_address, event.peer_port) = (v4([10, 0, 1, 20]), 5432);
        }));
    }
    for round in 0..4 {
        // A server closes early.
        events.push(at(300_000 + round * 7_777, |event| {
            sent(event, 11, tcp::ESTABLISHED);
            event.unread_bytes = 6;
            owner(event, "nginx", 812 + u32::try_from(round).expect("small"), PROVENANCE_LISTEN);
            held_by(event, "nginx", 812 + u32::try_from(round).expect("small"));
            (event.local_port, event.peer_port) = (443, 51_000);
            event.peer_address = v4([10, 0, 3, 3]);
        }));
    }
    // A reset after the gateway's own close, which is not the backend's fault.
    events.push(at(90_000, |event| {
        client(event, tcp::FIN_WAIT2);
        event.flags |= EVENT_ORPHAN;
        (event.socket_flags, event.shutdown, event.fin_sent_ns) = (sock_flag::DEAD, 3, ago(3.0));
    }));
    events
}

/// The traffic of a host that downloads over HTTPS: after each close the server's closing alert is reset.
fn downloads() -> Vec<ResetEvent> {
    (0..40)
        .map(|number| {
            at(1_000 + number * 1_700, |event| {
                time_wait(event, tcp::FIN_WAIT2);
                ended(event, 1.0, tcp::FIN_WAIT2, ROLE_CLIENT);
                event.packet.payload = 24;
                event.local_port = 40_000 + u16::try_from(number).expect("small");
            })
        })
        .collect()
}

#[test]
fn an_ordinary_hour_needs_no_change() {
    let (_, summary) = play(downloads());
    assert!(summary.verdict.contains("All of them are harmless: nothing has to be changed."), "{}", summary.verdict);
    assert!(!summary.verdict.contains("Look first at"), "{}", summary.verdict);
}

#[test]
fn one_fault_among_harmless_resets_is_named_with_its_place() {
    let mut events = downloads();
    events.push(at(33_333, |event| {
        client(event, tcp::ESTABLISHED);
        exchanged(event, 401, 1893, 60_004);
        in_flight(event, 411, 0);
        (event.peer_address, event.peer_port) = (v4([10, 77, 2, 2]), 7999);
    }));
    let (_, summary) = play(events);
    let verdict = &summary.verdict;
    assert!(verdict.contains("Look first at: keepalive-race (once), java → 10.77.2.2:7999."), "{verdict}");
    assert!(verdict.contains("To be fixed by: this host (1); harmless: 40."), "{verdict}");
}

#[test]
fn a_burst_counts_less_than_repeated_faults() {
    // One process that aborts thirty connections at its end, and three requests that met an idle timeout.
    let mut events: Vec<ResetEvent> = (0..30)
        .map(|number| {
            at(5_000 + number, |event| {
                sent(event, 14, tcp::ESTABLISHED);
                (event.socket_flags, event.shutdown) = (sock_flag::LINGER, 3);
                event.local_port = 30_000 + u16::try_from(number).expect("small");
                held_by(event, "wrk", 5);
            })
        })
        .collect();
    events.extend((0..3).map(|number| {
        at(60_000 + number * 50_000, |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 1893, 60_004);
            in_flight(event, 411, 0);
        })
    }));
    let (_, summary) = play(events);
    assert!(summary.verdict.contains("Look first at: keepalive-race (3 times)"), "{}", summary.verdict);
}

/// Checks a verdict for a text.
#[track_caller]
fn says(summary: &Summary, text: &str) {
    assert!(summary.verdict.contains(text), "{text:?} is not in: {}", summary.verdict);
}

/// Checks the patterns for one that begins so.
#[track_caller]
fn has_pattern(summary: &Summary, text: &str) {
    assert!(summary.patterns.iter().any(|pattern| pattern.starts_with(text)), "{text:?}: {:#?}", summary.patterns);
}

/// A load generator that drops its connections at its end, as the server sees it.
fn end_of_load(count: u16) -> Vec<ResetEvent> {
    (0..count)
        .map(|number| {
            at(50_000 + u64::from(number % 3), |event| {
                server(event, tcp::ESTABLISHED);
                established(event, 30_000.0 + f64::from(number));
                exchanged(event, 5_000, 300, u32::from(number) * 100);
                timestamps(event, true);
                event.peer_port = 20_000 + number;
            })
        })
        .collect()
}

#[test]
fn the_end_of_a_client_is_harmless() {
    let (resets, summary) = play(end_of_load(40));
    let codes: Vec<&str> = resets.iter().map(|reset| reset.cause.code).collect();
    assert!(codes[1..].iter().all(|&code| code == "client-ended"), "{codes:?}");
    assert!(resets[2..].iter().all(|reset| reset.cause.confidence == CauseConfidence::Likely));
    assert_ne!(resets[0].cause.confidence, CauseConfidence::Certain);
    says(&summary, "All of them are harmless: nothing has to be changed.");
}

/// Forty clients that time out on a slow server, all at once: the requests were sent together.
#[test]
fn clients_that_time_out_together_have_not_ended() {
    let events = (0..40_u16).map(|number| {
        at(50_000 + u64::from(number), |event| {
            server(event, tcp::ESTABLISHED);
            established(event, 30_000.0 + f64::from(number));
            exchanged(event, 0, 300, 5_000 + u32::from(number % 4) * 4);
            timestamps(event, true);
            event.peer_port = 20_000 + number;
        })
    });
    let (resets, summary) = play(events.collect());
    assert!(resets.iter().all(|reset| reset.cause.code == "client-gave-up"));
    says(&summary, "To be fixed by: this host (all 40).");
    says(&summary, "Look first at: client-gave-up (40 in one burst), gunicorn on port 8080.");
}

/// A server is killed under load, and then the load generator ends: the restart is named, and it is one incident.
#[test]
fn a_restart_is_named_before_the_end_of_a_client() {
    let mut events = end_of_load(39);
    events.extend((0..24_u16).map(|number| {
        at(200_000 - u64::from(number % 4), |event| {
            // Some had no request under way, and meet the FIN with their next one.
            let is_closed = number % 6 == 5;
            client(event, if is_closed { tcp::CLOSE_WAIT } else { tcp::ESTABLISHED });
            established(event, 20_000.0 + f64::from(number) * 50.0);
            exchanged(event, 401, 1893, 4);
            if is_closed {
                fin(event, 2.0);
            }
            in_flight(event, 99, 0);
            event.local_port = 40_000 + number;
        })
    }));
    let (resets, summary) = play(events);
    let restarted = resets.iter().filter(|reset| reset.cause.code == "peer-restarted").count();
    assert_eq!(restarted, 23, "{:?}", summary.by_cause);
    says(&summary, "To be fixed by: the peers (24); harmless: 39.");
    says(&summary, "Look first at: peer-restarted (24 in one burst), java → 10.0.1.9:443.");
    has_pattern(&summary, "1 of the 24 peer-restarted has another cause in its record, made before");
    // The records are counted as they are, and text shows what they were.
    assert_eq!((summary.by_cause["peer-restarted"], summary.settled_by_cause["peer-restarted"]), (23, 24));
    assert!(
        summary.to_string().contains("peer-restarted 24") && !summary.to_string().contains("peer-restarted 23"),
        "{summary}"
    );
}

#[test]
fn a_verdict_has_the_place_of_its_cause() {
    let refused = (0..7).map(|number| {
        at(1_000 + number * 3_100, |event| {
            received(event, tcp::SYN_SENT);
            owner(event, "python3", 1234, PROVENANCE_CONNECT);
            (event.role, event.opened_ns) = (ROLE_CLIENT, ago(0.3));
            (event.peer_address, event.peer_port) = (v4([10, 77, 2, 2]), 7999);
        })
    });
    let aborted = (0..6).map(|number| {
        at(2_000 + number * 3_100, |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 900_000, 8);
            (event.peer_address, event.peer_port) = (v4([10, 77, 2, 2]), 7000);
        })
    });
    let (_, summary) = play(refused.chain(aborted).collect());
    says(&summary, "Look first at: connection-refused (7 times), python3 → 10.77.2.2:7999.");
    // The backend of the other six.
    says(&summary, "in 6 the peer had not closed. All of these went to one backend, 10.77.2.2:7000.");
}

/// Times that the kernel keeps in ticks are no earlier than the connection, which is known to the nanosecond.
#[test]
fn no_time_is_before_the_connection() {
    let event = at(1_000, |event| {
        client(event, tcp::ESTABLISHED);
        established(event, 0.51);
        in_flight(event, 99, 4);
    });
    let (resets, _) = play(vec![event]);
    let socket = resets[0].socket.as_ref().expect("a socket");
    assert_eq!((socket.age_ms, socket.since_send_ms), (Some(0.83), Some(0.83)));
}

/// Resets of connections that something on the way has forgotten, after these silences.
fn forgotten(silences: &[u32]) -> impl Iterator<Item = ResetEvent> {
    (0..).zip(silences).map(|(number, &silence)| {
        at(2_000 + number * 1_100, |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 1893, silence);
            in_flight(event, 4, 0);
            timestamps(event, false);
            (event.peer_address, event.peer_port) = (v4([10, 77, 2, 2]), 9000);
        })
    })
}

/// A device that forgets idle connections: the silences are no timeouts, only not shorter than its limit.
#[test]
fn silences_that_break_have_a_limit() {
    let silences = [4_000, 5_000, 6_000, 4_004, 5_000, 6_000, 4_000, 5_004, 6_000, 4_000, 5_000, 6_000];
    let mut events: Vec<ResetEvent> = forgotten(&silences).collect();
    let (_, summary) = play(events.clone());
    says(&summary, "Timing: 12 resets answered data to 10.77.2.2:9000 after silences of 4.0 s to 6.0 s");
    says(&summary, "after 4.0 s at most (connections that survived are not seen)");
    // The verdict finds the fault where the pattern does.
    says(&summary, "To be fixed by: something between the ends (all 12).");
    says(&summary, "Look first at: path-lost-state (12 times), java → 10.77.2.2:9000.");
    has_pattern(&summary, "12 of the 12 path-lost-state have another cause in their records");
    assert!(summary.idle_clusters.is_empty(), "{:?}", summary.idle_clusters);
    // A request that was acknowledged shows that its connection had survived a second and a half.
    let survived = |silence: u32| {
        at(30_000, |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 1893, silence + 200);
            exchanged(event, 411, 0, 200);
            event.last_receive_jiffies = ticks(silence + 200);
            timestamps(event, true);
            (event.peer_address, event.peer_port) = (v4([10, 77, 2, 2]), 9000);
        })
    };
    events.push(survived(1_500));
    let (_, summary) = play(events.clone());
    says(&summary, "4.0 s to 6.0 s; connections that had been idle for up to 1.5 s went on");
    // Where a longer silence was survived there is no limit.
    events.push(survived(4_500));
    let (_, summary) = play(events);
    assert!(!summary.verdict.contains("Timing:"), "{}", summary.verdict);
}

/// What breaks connections once, such as the start of a host, explains those that had been silent since before; so it does not
/// show a limit. Nor do connections that were no longer silent.
#[test]
fn one_loss_of_state_is_no_limit() {
    // All of them had last been used before the first of them broke.
    let at_once = forgotten(&[50_000, 80_000, 120_000, 90_000]);
    let in_use = forgotten(&[200, 300, 400, 250]);
    for events in [at_once.collect::<Vec<_>>(), in_use.collect()] {
        let (_, summary) = play(events);
        says(&summary, "Not known: 4.");
        says(&summary, "Look first at: peer-lost-state (4 times)");
        assert!(!summary.verdict.contains("Timing:") && summary.patterns.is_empty(), "{summary}");
    }
}

/// Refusals that a load generator or a loop gets, with these milliseconds between them.
fn refusals(gaps: impl IntoIterator<Item = u64>) -> Summary {
    let mut ms = 500_000;
    let events = gaps.into_iter().map(|gap| {
        ms -= gap;
        at(ms, |event| {
            received(event, tcp::SYN_SENT);
            owner(event, "python3", 1234, PROVENANCE_CONNECT);
            (event.role, event.opened_ns) = (ROLE_CLIENT, ago(0.3));
        })
    });
    play(events.collect()).1
}

/// A steady stream has neither a period nor bursts, whatever its rate.
#[test]
fn a_steady_stream_is_told_as_one() {
    for (gap, count) in [(4, 650), (20, 130), (100, 26), (104, 26)] {
        let summary = refusals((0..count).map(|number| gap + number % 3));
        assert!(summary.patterns.is_empty(), "{gap}: {summary}");
        says(&summary, &format!("Look first at: connection-refused ({count} times)"));
    }
    // With pauses of up to 300 ms, as by chance.
    let summary = refusals((0..300).map(|number| [3, 40, 90, 7, 300, 21, 60][number % 7]));
    assert!(summary.patterns.is_empty(), "{summary}");
    says(&summary, "Look first at: connection-refused (300 times)");
}

/// A loop with a period, also one that tries several times each, and a burst beside ordinary resets.
#[test]
fn what_stands_out_in_time_is_told() {
    has_pattern(&refusals([5_000; 12]), "connection-refused every 5.0 s, 12 times");
    has_pattern(
        &refusals((0..36).map(|number| if number % 3 == 0 { 4_400 } else { 300 })),
        "connection-refused every 5.0 s",
    );
    has_pattern(&refusals([300; 20]), "connection-refused every 300 ms, 20 times");
    let burst = refusals((0..40).map(|number| if (10..34).contains(&number) { 2 } else { 3_000 + 900 * (number % 4) }));
    has_pattern(&burst, "25 resets within 48 ms");
    let local = burst.in_zone(&jiff::tz::TimeZone::fixed(jiff::tz::offset(1)));
    has_pattern(&local, "25 resets within 48 ms at 09:07:23 +01");
}

/// The first checks of a program that checks several services, each too early to be known, count as what they were.
#[test]
fn the_first_checks_of_several_services_are_no_faults() {
    let check = |server: u8, round: u64| {
        // The first interval is another one.
        at(90_000 - round.saturating_sub(1) * 2_000 - round.min(1) * 900 - u64::from(server) * 250, |event| {
            sent(event, 14, tcp::ESTABLISHED);
            event.flags |= EVENT_HAS_TIMES;
            (event.socket_flags, event.shutdown) = (sock_flag::LINGER, 3);
            (event.role, event.opened_ns) = (ROLE_CLIENT, ago(300.0));
            // The answer is awaited for longer than it takes.
            (event.bytes_sent, event.bytes_acked, event.bytes_received) = (6, 7, 0);
            event.last_send_jiffies = ticks(200);
            owner(event, "haproxy", 77, PROVENANCE_CONNECT);
            held_by(event, "haproxy", 77);
            (event.peer_address, event.local_port) =
                (v4([10, 0, 1, 50 + server]), 30_000 + u16::try_from(round).expect("few"));
        })
    };
    let checks = |rounds: u64| (0..5).flat_map(move |server| (0..rounds).map(move |round| check(server, round)));
    let (resets, summary) = play(checks(12).collect());
    assert!(resets.iter().all(|reset| reset.cause.confidence != CauseConfidence::Certain), "{:?}", summary.by_cause);
    assert!(summary.by_cause["linger-zero"] >= 15, "{:?}", summary.by_cause);
    says(&summary, "All of them are harmless: nothing has to be changed.");
    // Two of each are no checks, as far as is known.
    says(&play(checks(2).collect()).1, "Look first at: linger-zero");
}

/// Summary of these records as the first and the other end of one incident each.
fn summary_of_pairs(pairs: Vec<[Reset; 2]>) -> Summary {
    let mut tally = Tally::default();
    for (pair, incident) in pairs.into_iter().zip((1..).step_by(2)) {
        for ((mut reset, seq), role) in
            pair.into_iter().zip(incident..).zip([IncidentRole::First, IncidentRole::OtherEnd])
        {
            (reset.seq, reset.incident, reset.incident_role) = (seq, incident, role);
            tally.count(&reset);
        }
    }
    tally.summary(SummaryContext {
        time: clock().wall,
        duration: Duration::from_secs(1),
        last: true,
        timeouts: &Timeouts::read(None).expect("the known timeouts"),
        coverage: Coverage::default(),
        degraded: &[],
        sinks: Vec::new(),
    })
}

/// Both ends of an incident are on this host, and either record may come first: the verdict is the same.
#[test]
fn the_end_that_has_something_to_change_counts() {
    let reused = |ms: u64| {
        at(ms, |event| {
            client(event, tcp::CLOSE_WAIT);
            exchanged(event, 401, 1893, 2_004);
            fin(event, 4.0);
            in_flight(event, 411, 0);
        })
    };
    let closed = |ms: u64| {
        at(ms, |event| {
            time_wait(event, tcp::FIN_WAIT2);
            ended(event, 4.0, tcp::FIN_WAIT2, ROLE_SERVER);
            event.ending.last_data = LAST_DATA_SENT;
            owner(event, "nginx", 812, PROVENANCE_LISTEN);
        })
    };
    let pair = |number: u64| {
        [reused(9_000 - 2_000 * number), closed(9_000 - 2_000 * number)].map(|event| play(vec![event]).0.remove(0))
    };
    let pairs: Vec<[Reset; 2]> = (0..3).map(pair).collect();
    let reversed = |[one, other]: [Reset; 2]| [other, one];
    let mixed = pairs.iter().cloned().enumerate().map(|(number, pair)| if number == 1 { reversed(pair) } else { pair });
    for pairs in [pairs.clone(), pairs.iter().cloned().map(reversed).collect(), mixed.collect()] {
        let summary = summary_of_pairs(pairs);
        says(&summary, "To be fixed by: this host (all 3).");
        says(&summary, "Look first at: reused-closed-connection (3 times), java → 10.0.1.9:443.");
        assert!(!summary.verdict.contains("Then at:"), "{}", summary.verdict);
    }
}

/// A server whose process is known on this host has its own defaults alone, in the summary as well.
#[test]
fn a_known_server_has_its_own_defaults() {
    let silent = |ms: u64| {
        at(ms, |event| {
            client(event, tcp::ESTABLISHED);
            exchanged(event, 401, 1893, 2_004);
            in_flight(event, 411, 0);
        })
    };
    let (resets, summary) = play((0..4).map(|number| silent(1_000 + 7_321 * number)).collect());
    has_pattern(&summary, "4 resets answered data sent after a silence of 2.0 s, a default of gunicorn (2 s)");
    let beside = |mut reset: Reset| {
        let process = OtherProcess { pid: 812, comm: "nginx".into() };
        let (container, netns) = (None, reset.netns);
        reset.other_end =
            Some(OtherEnd { seq: None, process: Some(process), container, netns, cause: "keepalive-race" });
        [reset.clone(), reset]
    };
    let summary = summary_of_pairs(resets.into_iter().map(beside).collect());
    has_pattern(&summary, "8 resets answered data sent after a silence of 2.0 s; no known timeout matches");
}

/// Only the kernel's reason shows this: the data lie in the queue of the MPTCP socket.
#[test]
fn an_aborted_mptcp_connection_is_told_by_the_reason() {
    let aborted = |reason| {
        at(0, |event| {
            sent(event, reason, tcp::ESTABLISHED);
            event.state = tcp::ESTABLISHED;
            (event.is_mptcp, event.bytes_sent, event.bytes_received) = (1, 400, 900);
        })
    };
    let code = |reason| play(vec![aborted(reason)]).0[0].cause.code;
    assert_eq!(code(11), "closed-with-unread-data");
    assert_ne!(code(14), "closed-with-unread-data");
}

#[test]
fn folded_resets_have_no_rhythm() {
    let events = (0..20).map(|number| at(number * 500, |event| without_socket(event, tcp_flag::SYN))).collect();
    let (_, summary) = play_folded(events, 3_511);
    assert!(summary.patterns.is_empty(), "{:?}", summary.patterns);
}

#[test]
fn summary_is_as_stored() {
    let (_, summary) = play(gateway());
    compare("summary.txt", &format!("{summary}\n"));
}

/// `--group-by` counts every reset, folded ones too, and shows the groups with the most first.
#[test]
fn resets_are_grouped() {
    let mut tally = Tally::grouped_by(vec![GroupField::Process, GroupField::Server, GroupField::Cause]);
    let (resets, _) = play_folded(gateway(), 3);
    for reset in &resets {
        tally.count(reset);
    }
    let timeouts = Timeouts::read(None).expect("the known timeouts");
    let summary = tally.summary(SummaryContext {
        time: resets[0].time,
        duration: Duration::from_secs(1),
        last: true,
        timeouts: &timeouts,
        coverage: Coverage::default(),
        degraded: &[],
        sinks: Vec::new(),
    });
    let table = summary.groups.as_ref().expect("there are groups");
    let total: u64 = table.rows.iter().map(|row| row.count).sum();
    assert_eq!((total, table.further, table.error), (summary.resets, Some(0), 0));
    assert!(table.rows.is_sorted_by(|one, other| one.count >= other.count) && table.rows.len() > 1);
    let shown = summary.to_string();
    let rows: Vec<&str> = shown.lines().skip_while(|line| !line.starts_with("  groups")).collect();
    assert!(rows[0].trim_start().starts_with("groups      count  process") && rows[0].contains("server"), "{shown}");
    let first: Vec<&str> = rows[1].split_whitespace().collect();
    let values = table.rows[0].values.iter().map(|value| value.as_deref().unwrap_or("-"));
    assert_eq!(first[0], table.rows[0].count.to_string());
    assert_eq!(first[1..], values.collect::<Vec<_>>()[..]);
}

#[test]
fn summary_follows_the_schema() {
    let (_, summary) = play(gateway());
    let options = TextOptions {
        color: false,
        time: TimeFormat::Utc,
        started_ns: 0,
        zone: jiff::tz::TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: false,
    };
    let mut out = Vec::new();
    Format::Json.formatter(options).write(&Record::Summary(Arc::new(summary)), &mut out).expect("a vector");
    let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    let schema = serde_json::from_str(include_str!("../../../docs/output.schema.json")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    assert!(schema.is_valid(&value), "{value:#}");
    let cluster = &value["idle_clusters"][0];
    assert_eq!((&cluster["count"], &cluster["kind"]), (&12.into(), &"before_send".into()));
    assert!(cluster["matches"].to_string().contains("Tomcat default"), "{cluster}");
    assert_eq!((&value["backend_count"], &value["backends"][0]["address"]), (&2.into(), &"10.0.1.9".into()));
    assert_eq!(value["order"]["no_fin"], 18);
}

/// Peers have their names in text and JSON, and hostile ones are shown as they are.
#[test]
fn peers_have_names_in_the_summary() {
    let name = |reset: &mut Reset| {
        reset.peer.name = (reset.peer.port == 443).then(|| "shop/db-0\u{1b}[31m".into());
    };
    let (_, summary) = play_completed(gateway(), 1, name);
    let backend = summary.backends.iter().find(|backend| backend.port == 443).expect("the backend");
    assert_eq!(backend.name.as_deref(), Some("shop/db-0\u{1b}[31m"));
    let text = summary.to_string();
    let peers = text.lines().find(|line| line.starts_with("  peers")).expect("the peers");
    assert!(peers.contains("shop/db-0\\u{1b}[31m (10.0.1.9) "), "{peers}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// The first reset does not show the restart; the later ones do, and the summary groups them.
#[test]
fn restart_is_recognised_from_the_second_reset() {
    let (resets, _) = play(gateway());
    let of_database: Vec<&str> =
        resets.iter().filter(|reset| reset.peer.port == 5432).map(|reset| reset.cause.code).collect();
    assert_eq!(
        of_database,
        ["peer-aborted", "peer-restarted", "peer-restarted", "peer-restarted", "peer-restarted", "peer-restarted"]
    );
}

/// Memory is bounded, the sum is exact, and the most frequent peer is found.
/// On a path with a delay, each connection of a killed server may meet its FIN with a request on the way: together, after
/// silences that no server has a timeout for, they are the end of its process, but for the first. Idle timeouts that go off
/// together are not.
#[test]
fn requests_that_cross_the_end_of_a_server_are_a_restart() {
    let crossing = |silences: [u32; 4]| {
        let at = |(number, silence): (usize, u32)| {
            let index = u16::try_from(number).expect("few");
            at(100 - u64::from(index), move |event| {
                client(event, tcp::LAST_ACK);
                established(event, 2_000.0 + 300.0 * f64::from(index));
                event.local_port = 40_000 + index;
                event.rtt_us = 30_000;
                exchanged(event, 401, 1893, silence + 30);
                in_flight(event, 411, 30);
                fin(event, 20.0);
                event.unacked_bytes += 1;
            })
        };
        play(silences.into_iter().enumerate().map(at).collect())
    };
    let codes = |resets: &[Reset]| resets.iter().map(|reset| reset.cause.code).collect::<Vec<_>>();
    let (resets, summary) = crossing([15, 40, 24, 8]);
    assert_eq!(codes(&resets), ["keepalive-race", "peer-restarted", "peer-restarted", "peer-restarted"]);
    assert_eq!(resets[0].cause.confidence, CauseConfidence::Guess);
    assert!(summary.verdict.contains("To be fixed by: the peers (all 4)"), "{}", summary.verdict);
    let (resets, _) = crossing([2_000, 2_010, 2_005, 2_000]);
    assert_eq!(codes(&resets), ["keepalive-race"; 4]);
}

#[test]
fn summary_of_forty_thousand_peers_is_bounded() {
    let mut events = Vec::new();
    for peer in 0..40_000_u32 {
        let [_, a, b, c] = peer.to_be_bytes();
        events.push(at(u64::from(peer) % 60_000, move |event| {
            without_socket(event, tcp_flag::SYN);
            event.peer_address = v4([11, a, b, c]);
        }));
    }
    for ms in 0..3_000 {
        events.push(at(ms, |event| {
            without_socket(event, tcp_flag::SYN);
            answers(event, tcp_flag::SYN);
            event.peer_address = v4([10, 9, 9, 9]);
        }));
    }
    let (_, summary) = play(events);
    assert_eq!((summary.resets, summary.by_cause["port-closed"]), (43_000, 43_000));
    assert!(summary.by_peer_approximate);
    assert_eq!(summary.by_peer[0].address.to_string(), "10.9.9.9");
    assert!((2_900..=3_000).contains(&summary.by_peer[0].count), "{}", summary.by_peer[0].count);
    assert!(summary.to_string().contains("too many peers"));
}
