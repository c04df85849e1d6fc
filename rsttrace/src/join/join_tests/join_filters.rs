//! Packet filters of the hosts: which of them are not ruled out.

use super::*;

#[test]
fn a_router_that_rejects_in_the_name_of_the_server_sent_it() {
    let (peer, local) = ends(50_000);
    let router = Tape::new("router", 0).header(|_| ()).marks(10, 30);
    let router = router.reset(AT_MS, "sent", (&local, &peer), FORGED, |reset| reset["hook"] = json!("nf_send_reset"));
    let pairs = all(&joined(&[&deceived(), &server().marks(10, 60), &router.marks(40, 60)]));
    let pair = pairs.iter().find(|pair| pair.reset.seq == Some(FORGED.0)).expect("it is there");
    assert_eq!((pair.verdict, pair.sender_host.as_deref()), (PairVerdict::Sent, Some("router")));
    // It has the server's address in that record, and is not the server.
    let other = deceived().received(36_000, (&ends(50_001).0, &ends(50_001).1), (5, None));
    let router = Tape::new("router", 0).header(|_| ()).reset(1, "sent", (&local, &peer), (9, None), |reset| {
        reset["hook"] = json!("nf_send_reset");
    });
    let pairs = all(&joined(&[&other.mark(61, |_| ()), &server().marks(10, 60), &router]));
    let pair = pairs.iter().find(|pair| pair.reset.seq == Some(5)).expect("it is there");
    assert_eq!((pair.verdict, pair.sender_host.as_deref()), (PairVerdict::NotSent, Some("server")), "{pair:#?}");
}

/// What a recording says that does not see the resets of its host's rules.
const BLIND: &str = "resets sent by firewall rules are not seen (IPv4)";

fn blind(header: &mut Value) {
    header["degraded"] = json!([BLIND]);
}

#[test]
fn the_packet_filter_of_the_receiver_is_named_unless_its_recording_would_show_it() {
    let server = || server().marks(10, 60);
    let of_client = single(&joined(&[&deceived_with(blind), &server()]));
    assert_eq!((of_client.verdict, of_client.confidence), (PairVerdict::NotSent, CauseConfidence::Likely));
    assert_eq!(
        of_client.summary,
        "server did not send it: something between server and client did, or the packet filter of client"
    );
    assert!(of_client.reasons.iter().any(|reason| reason.contains("packet filter of client itself")), "{of_client:#?}");
    let both = single(&joined(&[&deceived_with(blind), &server_with(blind).marks(10, 60)]));
    assert_eq!(
        both.summary,
        "neither a process nor the TCP of server sent it: something between server and client did, or the packet filter of server or \
         of client"
    );
    // Its recording shows resets of its own rules, and has none.
    let neither = single(&joined(&[&deceived(), &server()]));
    assert_eq!(neither.summary, "server did not send it: something between server and client did");
    assert_eq!(neither.confidence, CauseConfidence::Certain);
}

#[test]
fn the_packet_filter_of_a_receiver_with_a_hole_is_named() {
    let server = server().marks(10, 60);
    let is_named = |client: &Tape| {
        let pair = single(&joined(&[client, &server]));
        assert_eq!(pair.verdict, PairVerdict::NotSent, "{pair:#?}");
        pair.summary.contains("or the packet filter of client")
    };
    let (local, peer) = ends(50_000);
    let ends_before = client().marks(10, 30).received(AT_MS, (&local, &peer), FORGED);
    let lossy = client().marks(10, 30).received(AT_MS, (&local, &peer), FORGED);
    let lossy = (40..=60).step_by(10).fold(lossy, |tape, second| tape.mark(second, |mark| mark["lost"] = json!(1)));
    let received_alone = deceived_with(|header| header["filters"] = json!({"direction": "received"}));
    for client in [&ends_before, &lossy, &received_alone] {
        assert!(is_named(client), "{client:#?}");
    }
    assert!(!is_named(&deceived()));
    // Filters that would not leave it out.
    assert!(!is_named(&deceived_with(|header| header["filters"] = json!({"ports": ["443"]}))));
    // A loss of another time.
    let early = client().mark(10, |_| ());
    let early = (20..=30).step_by(10).fold(early, |tape, second| tape.mark(second, |mark| mark["lost"] = json!(1)));
    let early = early.received(AT_MS, (&local, &peer), FORGED);
    let early = (40..=60).step_by(10).fold(early, |tape, second| tape.mark(second, |mark| mark["lost"] = json!(1)));
    assert!(!is_named(&early));
}

/// The client with the reset in question, and a record of its own packet filter.
fn with_own(ms: i64, port: u16, numbers: (u32, Option<u32>)) -> Tape {
    let (local, peer) = ends(50_000);
    let (made_peer, made_local) = ends(port);
    let client = client().marks(10, 30).received(AT_MS, (&local, &peer), FORGED);
    client
        .reset(ms, "sent", (&made_local, &made_peer), numbers, |reset| reset["hook"] = json!("nf_send_reset"))
        .marks(40, 60)
}

#[test]
fn a_reset_of_the_receivers_own_packet_filter_is_told_by_its_record() {
    let server = server().marks(10, 60);
    let of = |client: &Tape| forged(&joined(&[client, &server]));
    let own = of(&with_own(AT_MS, 50_000, FORGED));
    assert_eq!((own.verdict, own.confidence), (PairVerdict::Sent, CauseConfidence::Certain), "{own:#?}");
    assert_eq!((own.sender_host.as_deref(), own.receiver_host.as_deref()), (Some("client"), Some("client")));
    assert_eq!(own.summary, "the packet filter of client made it there, in the name of the peer");
    assert!(own.cause.is_some());
    // Another connection, other numbers, another time.
    for other in [
        with_own(AT_MS, 50_001, FORGED),
        with_own(AT_MS, 50_000, (FORGED.0 + 1, None)),
        with_own(AT_MS - 4_000, 50_000, FORGED),
    ] {
        let pair = of(&other);
        assert_eq!((pair.verdict, pair.sender_host.as_deref()), (PairVerdict::NotSent, Some("server")), "{pair:#?}");
    }
}

#[test]
fn a_receiver_that_did_not_see_the_header_has_its_own_reset_by_ends_and_time() {
    let unnumbered = |mut client: Tape| {
        for line in client.lines.iter_mut().filter(|line| line["reset"]["seq"] == json!(FORGED.0)) {
            if line["direction"] == "received" {
                line["packet"] = Value::Null;
                line["reset"]["seq"] = Value::Null;
            }
        }
        client
    };
    let server = server().marks(10, 60);
    let of = |client: &Tape| {
        let pairs = all(&joined(&[client, &server]));
        pairs
            .into_iter()
            .find(|pair| pair.receiver.as_ref().is_some_and(|end| end.local.port == 50_000))
            .expect("there")
    };
    let own = of(&unnumbered(with_own(AT_MS, 50_000, FORGED)));
    assert_eq!((own.verdict, own.confidence), (PairVerdict::Sent, CauseConfidence::Likely), "{own:#?}");
    assert_eq!(own.sender_host.as_deref(), Some("client"));
    is_open(&of(&unnumbered(with_own(AT_MS - 4_000, 50_000, FORGED))), "numbers are not known");
}

#[test]
fn data_that_never_left_points_to_the_receivers_output() {
    let (local, peer) = ends(50_000);
    let held_back = |unsent: u64, unacked: u64| {
        let client = client_with(blind).marks(10, 30);
        let client = client.reset(AT_MS, "received", (&local, &peer), FORGED, |reset| {
            reset["socket"] = json!({"state": "ESTABLISHED", "unsent_bytes": unsent, "unacked_bytes": unacked});
        });
        let pair = single(&joined(&[&client.marks(40, 60), &server().marks(10, 60)]));
        pair.reasons.iter().any(|reason| reason.contains("never leaves the host"))
    };
    assert!(held_back(100, 0) && !held_back(100, 50) && !held_back(0, 0));
}
