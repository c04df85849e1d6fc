//! What captures on the way tell.

use super::*;

/// A recording of the client, one of the server, and a capture on the way, which shows the four connections and that of the reset in
/// question; `passed`: whether the reset is in it, and in which direction it is taken for.
fn with_router(client: &Tape, server: &Tape, passed: Option<bool>) -> Joined {
    let mut joiner = Joiner::default();
    client.give(&mut joiner, "client");
    server.give(&mut joiner, "server");
    joiner.begin("router.pcap");
    let (local, peer) = ends(50_000);
    let wire = match passed {
        Some(true) => super::client().sent(AT_MS, (&peer, &local), FORGED),
        Some(false) => super::client().received(AT_MS, (&local, &peer), FORGED),
        None => super::client(),
    };
    for line in &wire.lines {
        if let Ok(Line::Record(Record::Reset(reset))) = parse_line(line.to_string().as_bytes()) {
            joiner.record(&Record::Reset(reset), true).expect("few");
        }
    }
    joiner.path(&path_of(&local, &peer)).expect("few");
    joiner.finish().expect("three hosts")
}

/// What passed the place of a capture: the connection of the reset in question, in both directions.
fn path_of(local: &str, peer: &str) -> CapturedPath {
    let end = |text: &str| {
        let end: std::net::SocketAddr = text.parse().expect("an end");
        Endpoint { address: end.ip(), port: end.port() }
    };
    let side = |text: &str, next| CapturedSide { end: end(text), is_seen: true, next, ttl: Some(64) };
    let from = u64::try_from(START).expect("positive") * 1_000_000_000;
    CapturedPath {
        span_ns: Some((from, from + 60_000_000_000)),
        perspective: Perspective::Inferred {
            hosts: std::iter::once(end(local).address).collect(),
            by: crate::capture::Inference::Shared,
        },
        connections: vec![CapturedConnection { sides: [side(local, 5), side(peer, FORGED.0)] }],
        forgotten: 0,
    }
}

/// The client's unknown reset, with a capture on the way. Of the server's recording nothing is known at that time.
fn on_the_way(passed: bool) -> Joined {
    with_router(&deceived(), &server().marks(10, 30), passed.then_some(false))
}

#[test]
fn a_capture_on_the_way_tells_the_side() {
    for (passed, verdict) in [(true, PairVerdict::CannotBeTold), (false, PairVerdict::NotSent)] {
        let pairs = all(&on_the_way(passed));
        let pair = pairs.iter().find(|pair| pair.reset.seq == Some(FORGED.0)).expect("it is there");
        assert_eq!(pair.verdict, verdict, "{pair:#?}");
        let captures: Vec<bool> = pair.captures.iter().map(|capture| capture.passed).collect();
        assert_eq!(captures, [passed], "{pair:#?}");
    }
}

#[track_caller]
fn has_reason(pair: &Pair, part: &str) {
    assert!(pair.reasons.iter().any(|reason| reason.ends_with(part)), "{part}: {pair:#?}");
}

#[test]
fn behind_a_capture_that_it_did_not_pass_is_also_the_receiver_itself() {
    has_reason(&forged(&on_the_way(false)), "it was made between there and client");
    let blind = |header: &mut Value| header["degraded"] = json!(["resets sent by firewall rules are not seen (IPv4)"]);
    // Whether the server's recording proves its silence or not.
    for server in [server().marks(10, 30), server().marks(10, 60), server_with(blind).marks(10, 60)] {
        let pair = forged(&with_router(&deceived_with(blind), &server, None));
        assert_eq!(pair.verdict, PairVerdict::NotSent, "{pair:#?}");
        has_reason(&pair, "it was made between there and client, or on client itself");
        assert!(
            pair.summary.ends_with("or the packet filter of client")
                && pair.summary.starts_with("server did not send it"),
            "{}",
            pair.summary
        );
    }
}

#[test]
fn a_reset_whose_sender_is_known_was_not_made_on_the_way() {
    let (peer, local) = ends(50_000);
    let server = server().marks(10, 30).sent(AT_MS, (&local, &peer), FORGED).marks(40, 60);
    // Of the client's recording nothing is known at that time.
    let silent = client().marks(10, 30);
    for (passed, verdict, client, part) in [
        (Some(true), PairVerdict::CannotBeTold, &silent, "it got as far as there"),
        (None, PairVerdict::CannotBeTold, &silent, "it was lost between server and there"),
        (Some(true), PairVerdict::NeverArrived, &client().marks(10, 60), "it was lost between there and client"),
        (None, PairVerdict::NeverArrived, &client().marks(10, 60), "it was lost between server and there"),
    ] {
        let pair = forged(&with_router(client, &server, passed));
        assert_eq!(pair.verdict, verdict, "{pair:#?}");
        has_reason(&pair, part);
        assert!(!pair.reasons.iter().any(|reason| reason.contains("it was made")), "{pair:#?}");
    }
}

#[test]
fn a_capture_ignores_nothing() {
    let (local, peer) = ends(50_000);
    let server = server().marks(10, 30).sent(AT_MS, (&peer, &local), FORGED).marks(40, 60);
    let mut joiner = Joiner::default();
    server.give(&mut joiner, "server");
    joiner.begin("client.pcap");
    let ignored = json!({
        "schema": 1, "type": "ignored", "time": time(AT_MS), "host": "client.pcap", "hook": "kfree_skb", "family": "ipv4",
        "local": {"address": CLIENT, "port": 50_000}, "peer": {"address": SERVER, "port": 443, "name": null}, "netns": null,
        "process": null, "socket": null, "packet": {"ttl": 63, "handshake_ttl": null, "flags": "RST", "seq": FORGED.0, "ack": 0,
        "window": 0, "id": null, "length": 40}, "reason": null, "ignored_because": {"code": "out-of-window", "summary": "-"}
    });
    if let Ok(Line::Record(record)) = parse_line(ignored.to_string().as_bytes()) {
        joiner.record(&record, true).expect("few");
    }
    joiner.path(&path_of(&local, &peer)).expect("few");
    let pair = forged(&joiner.finish().expect("two hosts"));
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NeverArrived, CauseConfidence::Likely), "{pair:#?}");
    assert_eq!(pair.summary, format!("server sent it, and {CLIENT} would have ignored it"));
    assert!(pair.reasons.iter().any(|reason| reason.contains("would have ignored it: out-of-window")), "{pair:#?}");
}

#[test]
fn a_reset_of_a_stranger_is_shown_where_a_capture_has_it() {
    let (local, stranger) = (format!("{CLIENT}:50000"), "10.8.0.1:443");
    let client = client().marks(10, 30).received(AT_MS, (&local, stranger), FORGED).marks(40, 60);
    let with_wire = |wire: &Tape| {
        let mut joiner = Joiner::default();
        client.give(&mut joiner, "client");
        server().marks(10, 60).give(&mut joiner, "server");
        joiner.begin("router.pcap");
        for line in &wire.lines {
            if let Ok(Line::Record(record @ Record::Reset(_))) = parse_line(line.to_string().as_bytes()) {
                joiner.record(&record, true).expect("few");
            }
        }
        joiner.path(&path_of(&local, &format!("{SERVER}:443"))).expect("few");
        text(joiner.finish().expect("three hosts"))
    };
    let shown = with_wire(&super::client().received(AT_MS, (&local, stranger), FORGED));
    assert!(shown.contains("RECV 10.1.0.5:50000 < 10.8.0.1:443") && shown.contains("it passed router.pcap"), "{shown}");
    let counted = with_wire(&super::client());
    assert!(!counted.contains("RECV 10.1.0.5:50000") && counted.contains("1 reset with peers of which"), "{counted}");
}

#[test]
fn a_capture_lends_its_numbers_to_the_host_that_saw_no_header() {
    let numbers = (7_000, Some(8_000));
    let (local, virtual_server) = (format!("{CLIENT}:50000"), format!("{BETWEEN}:80"));
    let blind = |tape: Tape| {
        tape.reset(5_000, "received", (&local, &virtual_server), (0, None), |reset| {
            reset["packet"] = Value::Null;
            reset["reset"]["seq"] = Value::Null;
        })
    };
    // Both ends are translated.
    let server = server().sent(5_000, (&format!("{SERVER}:443"), &format!("{BETWEEN}:20001")), numbers).marks(10, 60);
    let of = |client: &Tape, wire: &Tape| {
        let mut joiner = Joiner::default();
        client.give(&mut joiner, "client");
        server.give(&mut joiner, "server");
        joiner.begin("client.pcap");
        for line in &wire.lines {
            if let Ok(Line::Record(record @ Record::Reset(_))) = parse_line(line.to_string().as_bytes()) {
                joiner.record(&record, true).expect("few");
            }
        }
        joiner.path(&path_of(&local, &virtual_server)).expect("few");
        let pairs = all(&joiner.finish().expect("three hosts"));
        let is_it = |pair: &Pair| pair.receiver.as_ref().is_some_and(|end| end.local.port == 50_000);
        pairs.into_iter().find(is_it).expect("it is there")
    };
    let wire = |ms, port: u16| client().received(ms, (&format!("{CLIENT}:{port}"), &virtual_server), numbers);
    let blind_client = || blind(client());
    let pair = of(&blind_client(), &wire(5_001, 50_000));
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::Sent, CauseConfidence::Likely), "{pair:#?}");
    assert!(pair.reasons.iter().any(|reason| reason.contains("a capture has of it")), "{pair:#?}");
    // Another time, another port, two packets with other numbers, two records.
    let twice = wire(5_001, 50_000).received(5_300, (&local, &virtual_server), (9_000, Some(8_000)));
    for (client, wire) in [
        (blind_client(), wire(9_000, 50_000)),
        (blind_client(), wire(5_001, 50_001)),
        (blind_client(), twice),
        (blind(blind_client()), wire(5_001, 50_000)),
    ] {
        assert_eq!(of(&client, &wire).verdict, PairVerdict::CannotBeTold);
    }
}
