//! Which records are of one reset.

use super::*;

#[test]
fn a_matched_reset_has_the_cause_of_its_sender_whatever_the_clocks() {
    let joined = joined(&[&client(), &server()]);
    let pairs = all(&joined);
    assert_eq!(pairs.len(), 4);
    for pair in pairs {
        assert_eq!((pair.verdict, pair.confidence), (PairVerdict::Sent, CauseConfidence::Certain));
        let cause = pair.cause.expect("the sender's");
        assert_eq!((cause.code, &*cause.summary), ("linger-zero", "Cause at server."));
        let clock = pair.clock.expect("matches");
        assert_eq!((clock.skew_us, clock.matches), (SKEW_MS * 1_000, 4));
    }
}

#[test]
fn rewritten_numbers_are_not_joinable() {
    let (peer, local) = ends(50_000);
    let server = server().marks(10, 30).sent(AT_MS, (&local, &peer), (99, Some(98))).marks(40, 60);
    let pairs = all(&joined(&[&deceived(), &server]));
    let of: Vec<PairVerdict> =
        pairs.iter().filter(|pair| pair.sender.is_none() || pair.receiver.is_none()).map(|pair| pair.verdict).collect();
    assert_eq!(of, [PairVerdict::NotJoinable; 2]);
}

#[test]
fn translated_ends_are_joined_by_the_numbers() {
    let masqueraded = format!("{BETWEEN}:20001");
    let (local, peer) = ends(50_000);
    // Both numbers are enough; of one number an end has to be equal, and the time has to agree.
    for (numbers, confidence) in [((7, Some(8)), CauseConfidence::Certain), ((7, None), CauseConfidence::Likely)] {
        let client = client().received(5_000, (&local, &peer), numbers);
        let server = server().sent(5_000, (&peer, &masqueraded), numbers);
        let pair = all(&joined(&[&client, &server])).pop().expect("the last");
        assert_eq!((pair.verdict, pair.confidence), (PairVerdict::Sent, confidence), "{pair:#?}");
        assert!(pair.reasons.iter().any(|reason| reason.contains("translated")));
    }
    // A virtual server: the client sees another address and port.
    let client = client().received(5_000, (&local, &format!("{BETWEEN}:80")), (7, None));
    let server_of = |ms| server().sent(ms, (&peer, &local), (7, None));
    let pair = all(&joined(&[&client, &server_of(5_000)])).pop().expect("the last");
    assert_eq!(pair.verdict, PairVerdict::Sent, "{pair:#?}");
    // An equal number at another time is chance.
    let pairs = all(&joined(&[&client, &server_of(20_000)]));
    assert!(pairs.iter().skip(4).all(|pair| pair.verdict == PairVerdict::CannotBeTold), "{pairs:#?}");
    // Neither end is equal: one number is not enough.
    let client = super::client().received(5_000, (&local, "10.8.0.1:80"), (7, None));
    let server = server().sent(5_000, (&peer, &masqueraded), (7, None));
    assert!(all(&joined(&[&client, &server])).iter().skip(4).all(|pair| pair.verdict == PairVerdict::CannotBeTold));
}

#[test]
fn refused_connections_with_equal_numbers_are_told_apart_by_their_ports() {
    let refused = (0, Some(4_242));
    let client = [(50_001, 1_000), (50_002, 2_000)].into_iter().fold(client(), |tape, (port, ms)| {
        let (local, peer) = ends(port);
        tape.received(ms, (&local, &peer), refused)
    });
    let server = [(50_002, 2_000), (50_001, 1_000)].into_iter().fold(server(), |tape, (port, ms)| {
        let (peer, local) = ends(port);
        tape.sent(ms, (&local, &peer), refused)
    });
    for pair in all(&joined(&[&client, &server])) {
        let (sender, receiver) = (pair.sender.expect("matched"), pair.receiver.expect("matched"));
        assert_eq!((sender.peer, pair.verdict), (receiver.local, PairVerdict::Sent));
    }
}

#[test]
fn numbers_of_several_connections_are_told_apart_by_the_time_or_not_at_all() {
    // Two masqueraded clients of one address with an equal number.
    let (first, second) = (format!("{BETWEEN}:1001"), format!("{BETWEEN}:1002"));
    let (local, peer) = ends(50_000);
    let client = client().received(5_000, (&local, &peer), (7, None));
    let server_of = |ms| server().sent(5_000, (&peer, &first), (7, None)).sent(ms, (&peer, &second), (7, None));
    let apart = all(&joined(&[&client, &server_of(9_000)]));
    let pair =
        apart.iter().find(|pair| pair.receiver.as_ref().is_some_and(|end| end.local.port == 50_000)).expect("there");
    assert_eq!((pair.verdict, pair.sender.as_ref().map(|end| end.peer.port)), (PairVerdict::Sent, Some(1001)));
    let near = all(&joined(&[&client, &server_of(5_200)]));
    assert!(near.iter().skip(4).all(|pair| pair.verdict == PairVerdict::CannotBeTold), "{near:#?}");
}

#[test]
fn further_resets_with_equal_numbers_are_no_losses() {
    let (local, peer) = ends(50_000);
    let client = client().received(5_000, (&local, &peer), (7, None)).marks(10, 60);
    let server =
        (0..3).fold(server(), |tape, number| tape.sent(5_000 + number, (&peer, &local), (7, None))).marks(10, 60);
    let pairs = all(&joined(&[&client, &server]));
    let of = |verdict| pairs.iter().filter(|pair| pair.verdict == verdict).count();
    assert_eq!((of(PairVerdict::Sent), of(PairVerdict::CannotBeTold)), (5, 2));
    is_open(pairs.last().expect("there"), "equal numbers");
}

#[test]
fn an_ignored_reset_never_took_effect() {
    let (peer, local) = ends(50_000);
    let server = server().sent(5_000, (&local, &peer), (7, Some(8)));
    let mut client = client();
    client.lines.push(json!({
        "schema": 1, "type": "ignored", "time": time(5_000), "host": "client", "hook": "kfree_skb", "family": "ipv4",
        "local": {"address": CLIENT, "port": 50_000}, "peer": {"address": SERVER, "port": 443, "name": null}, "netns": null,
        "process": null, "socket": null, "packet": {"ttl": 63, "handshake_ttl": null, "flags": "RST,ACK", "seq": 7, "ack": 8,
        "window": 0, "id": null, "length": 40}, "reason": null, "ignored_because": {"code": "out-of-window", "summary": "-"}
    }));
    let pair = all(&joined(&[&client, &server])).pop().expect("the last");
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NeverArrived, CauseConfidence::Certain));
    assert!(pair.summary.contains("client ignored it") && pair.reasons.iter().any(|why| why.contains("out-of-window")));
}

#[test]
fn a_receiver_that_did_not_see_the_header_is_joined_by_what_it_knows() {
    let (local, peer) = ends(50_000);
    let blind = |seq: Option<u32>| {
        client().reset(5_000, "received", (&local, &peer), (0, None), |reset| {
            reset["packet"] = Value::Null;
            reset["reset"]["seq"] = json!(seq);
        })
    };
    let server_of = |ms| server().sent(ms, (&peer, &local), (7, Some(8)));
    let last = |client: &Tape, server: &Tape| {
        all(&joined(&[client, server]))
            .into_iter()
            .find(|pair| pair.receiver.as_ref().is_some_and(|end| end.local.port == 50_000))
    };
    let known = last(&blind(Some(7)), &server_of(5_000)).expect("there");
    assert_eq!((known.verdict, known.confidence), (PairVerdict::Sent, CauseConfidence::Certain));
    // Of no number: by the ends and the time.
    let unknown = last(&blind(None), &server_of(5_000)).expect("there");
    assert_eq!((unknown.verdict, unknown.confidence), (PairVerdict::Sent, CauseConfidence::Likely));
    assert_eq!(unknown.reset.ack, Some(8));
    is_open(&last(&blind(None), &server_of(9_000)).expect("there"), "not known");
}

#[test]
fn a_receiver_behind_a_virtual_server_that_saw_no_number_is_joined_by_one_end_and_the_time() {
    let (local, peer) = ends(50_000);
    let client = |ports: &[u16]| {
        ports.iter().fold(client(), |tape, port| {
            tape.reset(5_000, "received", (&format!("{CLIENT}:{port}"), &format!("{BETWEEN}:80")), (0, None), |reset| {
                reset["packet"] = Value::Null;
                reset["reset"]["seq"] = Value::Null;
            })
        })
    };
    let of = |client: &Tape, server: &Tape| {
        let pairs = all(&joined(&[client, server]));
        pairs
            .into_iter()
            .find(|pair| pair.receiver.as_ref().is_some_and(|end| end.local.port == 50_000))
            .expect("there")
    };
    let server_of = |ms: i64, peer: &str| server().sent(ms, (&format!("{SERVER}:443"), peer), (7, Some(8)));
    let pair = of(&client(&[50_000]), &server_of(5_100, &local));
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::Sent, CauseConfidence::Likely), "{pair:#?}");
    assert!(pair.reasons.iter().any(|reason| reason.contains("one of its ends")), "{pair:#?}");
    // Another port, another time, two candidates.
    let twice = server_of(5_100, &local).sent(5_200, (&format!("{SERVER}:8443"), &local), (9, Some(10)));
    for server in [server_of(5_100, &format!("{CLIENT}:50001")), server_of(9_000, &local), twice] {
        let pair = of(&client(&[50_000]), &server);
        assert_eq!((pair.verdict, pair.sender.is_none()), (PairVerdict::CannotBeTold, true));
    }
    // Behind a masquerading router the service is the equal end: of two clients at that time it may be either's.
    let masqueraded = server_of(5_100, &format!("{BETWEEN}:20001"));
    let client = |ports: &[u16]| {
        let mut tape = client(ports);
        tape.lines.iter_mut().filter(|line| line["peer"]["address"] == BETWEEN).for_each(|line| {
            line["peer"] = json!({"address": SERVER, "port": 443, "name": null});
        });
        tape
    };
    assert_eq!(of(&client(&[50_000]), &masqueraded).verdict, PairVerdict::Sent);
    assert_eq!(of(&client(&[50_000, 50_001]), &masqueraded).verdict, PairVerdict::CannotBeTold);
    // Both ends are better than one.
    let whole = server_of(5_100, &format!("{BETWEEN}:20001")).sent(5_100, (&peer, &local), (9, Some(10)));
    assert_eq!(of(&client(&[50_000]), &whole).sender.map(|end| end.peer.port), Some(50_000));
}
