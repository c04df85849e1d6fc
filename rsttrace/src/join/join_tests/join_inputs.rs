//! Hosts and inputs: whose addresses are known, and what is read twice.

use super::*;

#[test]
fn the_peer_is_no_host_without_its_address() {
    let client =
        client().marks(10, 30).received(AT_MS, (&format!("{CLIENT}:50000"), "10.8.0.1:443"), FORGED).marks(40, 60);
    let joined_all = joined(&[&client, &server().marks(10, 60)]);
    is_open(&single(&joined_all), "no input is of the host with the address 10.8.0.1");
    assert_eq!(joined_all.summary(std::iter::empty()).with_others, 1);
    // Two hosts with one address: either may be meant.
    let twin = server_with(|header| {
        header["machine_id"] = json!("another");
        header["host"] = json!("twin");
    });
    let mut twin = twin.marks(10, 60);
    twin.lines.iter_mut().for_each(|line| {
        line["host"] = json!("twin");
        if line["type"] == "reset" {
            line["reset"]["seq"] = json!(1);
        }
    });
    let pairs = all(&joined(&[&deceived(), &server().marks(10, 60), &twin]));
    let pair = pairs.into_iter().find(|pair| pair.reset.seq == Some(FORGED.0)).expect("it is there");
    is_open(&pair, "have the address");
}

#[test]
fn inputs_of_one_host_are_refused_and_copies_count_once() {
    let mut joiner = Joiner::default();
    client().give(&mut joiner, "a");
    client().give(&mut joiner, "b");
    assert_eq!(joiner.finish().err(), Some(JoinError::OneHost("client".to_owned())));
    assert_eq!(Joiner::default().finish().err(), Some(JoinError::NoHost));
    let twice = joined(&[&client(), &server(), &client(), &server()]);
    assert_eq!(all(&twice).len(), 4);
    // Records without headers are of the host with their name.
    let mut bare = client();
    bare.lines.remove(0);
    assert_eq!(all(&joined(&[&client(), &bare, &server()])).len(), 4);
}

#[test]
fn resets_within_a_host_are_no_pairs() {
    let inside = client().sent(5_000, ("127.0.0.1:1", "127.0.0.1:2"), (7, Some(8)));
    let joined = joined(&[&inside, &server()]);
    assert_eq!((all(&joined).len(), joined.summary(std::iter::empty()).within_hosts), (4, 1));
}

#[test]
fn what_is_read_twice_counts_once() {
    let server = || server().marks(10, 60);
    let once = single(&joined(&[&deceived(), &server()]));
    assert_eq!((once.verdict, once.confidence), (PairVerdict::NotSent, CauseConfidence::Certain));
    let is_proven = |tapes: &[&Tape]| {
        let pair = single(&joined(tapes));
        assert_eq!((pair.verdict, &pair.reasons), (once.verdict, &once.reasons), "{pair:#?}");
    };
    is_proven(&[&deceived(), &server(), &server()]);
    is_proven(&[&deceived(), &deceived(), &server(), &server(), &server()]);
    // A queue delivers a block again, behind lines that came since.
    let mut again = server();
    let block: Vec<Value> = again.lines.iter().skip(1).take(6).cloned().collect();
    again.lines.extend(block.clone());
    again.lines.splice(9..9, block);
    is_proven(&[&deceived(), &again]);
    // A part of a recording beside the whole of it.
    let mut part = server();
    part.lines.truncate(7);
    is_proven(&[&deceived(), &part, &server()]);
    is_proven(&[&deceived(), &server(), &part]);
    // What the marks count and no input has is missing.
    let mut late = server_with(|_| ()).marks(10, 30);
    late.resets += 1;
    let late = late.marks(40, 60);
    is_open(&single(&joined(&[&deceived(), &late, &late])), "some were taken out");
}

/// The segments of the server's recording, with a reset in each.
fn segments() -> [Tape; 2] {
    let whole = server().marks(10, 30).sent(31_000, ("10.2.0.9:443", "10.3.0.1:1"), (5, Some(6))).marks(40, 60);
    let (first, second) = whole.lines.split_at(8);
    let header = Tape::new("server", SKEW_MS).header(|header| {
        header["segment"] = json!(2);
        header["time"] = json!(time(30_500 + SKEW_MS));
        header["clock"]["monotonic_ns"] = json!(30_500_000_000_u64);
    });
    let second = Tape { lines: [&header.lines[..], second].concat(), ..header };
    [Tape { lines: first.to_vec(), ..whole.clone() }, second]
}

#[test]
fn segments_that_are_given_in_another_order_are_one_run() {
    let [first, second] = segments();
    let of = |tapes: &[&Tape]| forged(&joined(&[&[&deceived()], tapes].concat()));
    let proven = of(&[&first, &second]);
    assert_eq!((proven.verdict, proven.confidence), (PairVerdict::NotSent, CauseConfidence::Certain), "{proven:#?}");
    for tapes in [[&second, &first], [&first, &second]] {
        assert_eq!(of(&tapes).reasons, proven.reasons);
    }
    // One of them alone covers the instant; a segment between the two that is missing is a hole.
    assert_eq!(of(&[&second]).verdict, PairVerdict::CannotBeTold);
    let mut third = second;
    third.lines[0]["segment"] = json!(3);
    for tapes in [[&first, &third], [&third, &first]] {
        is_open(&of(&tapes), "missing");
    }
}

#[test]
fn a_recording_that_begins_within_the_uncertainty_does_not_begin_later() {
    let begin = |ms: i64| {
        let mut server = server_with(|_| ()).marks(10, 60);
        server.lines.retain(|line| line["type"] != "mark" || line["monotonic_ns"].as_i64() > Some(35_000_000_000));
        server.lines[0]["segment"] = json!(7);
        let mark = server_with(|_| ()).mark(35, |mark| {
            mark["time"] = json!(time(ms + SKEW_MS));
            mark["monotonic_ns"] = json!(ms * 1_000_000);
        });
        server.lines.insert(5, mark.lines[5].clone());
        verdict(&server)
    };
    is_open(&begin(AT_MS - 500), "begins at 2027-01-15T08:01:23.500Z, within the uncertainty of the clocks");
    is_open(&begin(AT_MS + 500), "begins later, at 2027-01-15T08:01:24.500Z");
    assert_eq!(begin(AT_MS - 5_000).verdict, PairVerdict::NotSent);
}

/// A client that both hosts are synchronised with, and a server without a reset, with these addresses in its header.
fn silent_server(addresses: Value) -> (Tape, Tape) {
    let synchronized = |header: &mut Value| header["clock"]["synchronized"] = json!(true);
    let (local, peer) = ends(50_000);
    let client = Tape::new("client", 0).header(synchronized).marks(10, 30).received(AT_MS, (&local, &peer), FORGED);
    let server = Tape::new("server", 0).header(|header| {
        synchronized(header);
        header["addresses"] = addresses.clone();
    });
    (client.marks(40, 60), server.marks(10, 60))
}

#[test]
fn a_host_without_a_reset_is_known_by_the_addresses_of_its_header() {
    let of = |addresses: Value| {
        let (client, server) = silent_server(addresses);
        single(&joined(&[&client, &server]))
    };
    let pair = of(json!(["10.9.9.9", SERVER]));
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NotSent, CauseConfidence::Likely), "{pair:#?}");
    assert!(pair.reasons.iter().any(|reason| reason.contains("known from its address alone")), "{pair:#?}");
    is_open(&of(json!(["10.9.9.9"])), "no input is of the host with the address 10.2.0.9");
    // An earlier version wrote none, and of a host with none nothing is known either.
    for unknown in [Value::Null, json!([]), json!(["127.0.0.1", "fe80::1"])] {
        is_open(&of(unknown), "server has no reset, so its addresses are not known");
    }
    // The pair is shown, and not only counted.
    let (client, server) = silent_server(Value::Null);
    let shown = text(joined(&[&client, &server]));
    assert!(shown.contains("RECV 10.1.0.5:50000") && !shown.contains("there is no input"), "{shown}");
}

#[test]
fn an_address_of_several_headers_is_of_none_for_sure() {
    let (client, server) = silent_server(json!([SERVER]));
    let twin = Tape::new("twin", 0).header(|header| header["addresses"] = json!([SERVER])).marks(10, 60);
    is_open(&single(&joined(&[&client, &server, &twin])), "server and twin have the address 10.2.0.9");
    let mut own = client;
    own.lines[0]["addresses"] = json!([SERVER]);
    is_open(&single(&joined(&[&own, &silent_server(json!([])).1])), "is one of client itself");
    // A record tells which of several hosts has the connections.
    let client = super::client().marks(10, 30);
    let (local, peer) = ends(50_000);
    let client = client.received(AT_MS, (&local, &peer), FORGED).marks(40, 60);
    let pair = forged(&joined(&[&client, &super::server().marks(10, 60), &twin]));
    assert_eq!((pair.verdict, pair.sender_host.as_deref()), (PairVerdict::NotSent, Some("server")));
}

#[test]
fn two_machines_with_one_name_in_a_stream_prove_nothing() {
    let notes_and_pair = |tapes: &[&Tape]| {
        let mut joiner = Joiner::default();
        deceived().give(&mut joiner, "client");
        for tape in tapes {
            tape.give(&mut joiner, "stream");
        }
        let notes = joiner.take_notes();
        (notes, forged(&joiner.finish().expect("several hosts")))
    };
    let server = || named(server().marks(10, 60));
    // Another machine, which has been up for longer.
    let twin = |boot: &'static str, machine: &'static str| {
        let mut twin = Tape::new("server", SKEW_MS)
            .header(|header| {
                header["machine_id"] = json!(machine);
                header["boot_id"] = json!(boot);
                header["run"] = json!(time(SKEW_MS + 500));
                header["time"] = json!(time(SKEW_MS + 500));
                header["clock"]["monotonic_ns"] = json!(5_000_500_000_000_u64);
            })
            .marks(10, 60);
        twin.lines.iter_mut().filter(|line| line["type"] == "mark").for_each(|mark| {
            mark["monotonic_ns"] = json!(mark["monotonic_ns"].as_u64().map(|ns| ns + 5_000_000_000_000));
        });
        named(twin)
    };
    // Also where one image was copied.
    for twin in [twin("another", "another"), twin("another", "machine of server")] {
        let (notes, pair) = notes_and_pair(&[&one_stream(&[&server(), &twin])]);
        assert!(notes.len() == 1 && notes[0].contains("with the name 'server'"), "{notes:?}");
        is_open(&pair, "another machine or namespace with its name");
    }
    // One after the other, as files that are concatenated, and in inputs of their own.
    let twin = twin("another", "another");
    let mut concatenated = server();
    concatenated.lines.extend(twin.lines.iter().cloned());
    for tapes in [&[&concatenated][..], &[&server(), &twin]] {
        assert!(notes_and_pair(tapes).0.is_empty());
    }
    let (notes, pair) = notes_and_pair(&[&server()]);
    assert_eq!((notes.len(), pair.verdict), (0, PairVerdict::NotSent));
}

#[test]
fn two_namespaces_of_one_host_in_a_stream_prove_nothing_before_the_first_has_ended() {
    let of_netns = |netns: u32| {
        named(
            server_with(|header| {
                header["boot_id"] = json!("boot");
                header["filters"] = json!({"netns": netns});
                header["run"] = json!(time(SKEW_MS - i64::from(netns)));
            })
            .marks(10, 60),
        )
    };
    let (first, second) = (of_netns(1), of_netns(2));
    let notes_of = |tapes: &[&Tape]| {
        let mut joiner = Joiner::default();
        deceived().give(&mut joiner, "client");
        for tape in tapes {
            tape.give(&mut joiner, "stream");
        }
        (joiner.take_notes().len(), forged(&joiner.finish().expect("several hosts")).verdict)
    };
    assert_eq!(notes_of(&[&one_stream(&[&first, &second])]).0, 1);
    assert_ne!(notes_of(&[&one_stream(&[&first, &second])]).1, PairVerdict::NotSent);
    // One after the other, the first with its end.
    let mut concatenated = first.clone();
    if let Some(last) = concatenated.lines.last_mut() {
        last["last"] = json!(true);
    }
    concatenated.lines.extend(second.lines.iter().cloned());
    assert_eq!(notes_of(&[&concatenated]).0, 0);
    assert_eq!(notes_of(&[&first, &second]).0, 0);
    // Several segments of one recording are of one namespace.
    assert_eq!(notes_of(&[&first]), (0, PairVerdict::NotSent));
}
