//! What a recording has to cover before its silence is a proof.

use super::*;

#[test]
fn a_forged_reset_is_not_sent_by_the_server_with_the_proof() {
    let pair = verdict(&server().marks(10, 60));
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NotSent, CauseConfidence::Certain), "{pair:#?}");
    assert_eq!((pair.sender_host.as_deref(), pair.receiver_host.as_deref()), (Some("server"), Some("client")));
    assert!(pair.cause.is_none() && pair.summary.contains("something between server and client"));
    let proof = pair.reasons.join("\n");
    for part in [
        "08:01:24",
        "08:01:19",
        "08:01:29",
        "nothing lost",
        "TcpOutRsts between the marks: +0, 0 seen",
        "49.0 s ahead",
        "TTL is 63",
    ] {
        assert!(proof.contains(part), "{part}: {proof}");
    }
}

#[test]
fn without_coverage_the_sender_cannot_be_told() {
    let marked = || server().marks(10, 60);
    assert_eq!(verdict(&marked()).verdict, PairVerdict::NotSent);
    // The recording ends before, has a gap, begins later.
    is_open(&verdict(&server().marks(10, 30)), "ends before");
    is_open(&verdict(&server().marks(10, 20).marks(60, 70)), "gap between its marks");
    let later = server().lines.iter().skip(1).cloned().collect();
    let mut began_later = Tape::new("server", SKEW_MS).header(|header| {
        header["segment"] = json!(7);
    });
    began_later.lines.extend::<Vec<Value>>(later);
    is_open(&verdict(&began_later.marks(40, 60)), "begins later");
    // It lost records, or could not write them.
    for field in ["lost", "undelivered"] {
        let lossy = server().marks(10, 30);
        let lossy = (40..=60).step_by(10).fold(lossy, |tape, second| tape.mark(second, |mark| mark[field] = json!(3)));
        is_open(&verdict(&lossy), "has lost 3 resets there");
    }
    // Losses of another time do not matter.
    let before = server().mark(10, |_| ());
    let before = (20..=60).step_by(10).fold(before, |tape, second| tape.mark(second, |mark| mark["lost"] = json!(3)));
    assert_eq!(verdict(&before).verdict, PairVerdict::NotSent);
    // The host's own counter counts a reset that was not seen.
    let unseen = server().marks(10, 30);
    let unseen = (40..=60)
        .step_by(10)
        .fold(unseen, |tape, second| tape.mark(second, |mark| mark["counters"][0]["delta"] = json!(5)));
    is_open(&verdict(&unseen), "TcpOutRsts counts 1 more");
    // A record was taken out of the file.
    let mut taken_out = server().marks(10, 30);
    taken_out.resets += 1;
    is_open(&verdict(&taken_out.marks(40, 60)), "some were taken out");
    // No marks at all.
    let mut bare = server();
    bare.lines.remove(0);
    is_open(&verdict(&bare), "no marks");
}

#[test]
fn with_filters_the_sender_can_be_told_where_they_would_not_hide_it() {
    let filtered = |filters: Value| {
        let server = server_with(|header| {
            header["filtered"] = json!(true);
            header["filters"] = filters.clone();
        });
        verdict(
            &(10..=60)
                .step_by(10)
                .fold(server, |tape, second| tape.mark(second, |mark| mark["counters"][0]["observed"] = Value::Null)),
        )
    };
    for (filters, why) in [
        (json!({"ports": ["80"]}), "--port"),
        (json!({"direction": "received"}), "--received"),
        (json!({"family": "ipv6"}), "IP version"),
        (json!({"peers": ["10.9.0.0/16"]}), "--peer"),
        (json!({"others": ["--comm"]}), "--comm"),
        (Value::Null, "filters that it does not name"),
    ] {
        is_open(&filtered(filters), why);
    }
    let pair = filtered(json!({"ports": ["443"]}));
    // Its counter cannot be compared.
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NotSent, CauseConfidence::Likely));
}

#[test]
fn with_fewer_hooks_the_sender_cannot_be_told() {
    let limited = |text: &'static str| verdict(&server_with(|header| header["degraded"] = json!([text])).marks(10, 60));
    is_open(&limited("sent resets are not seen"), "limited");
    is_open(&limited("resets from closed ports and TIME_WAIT are not seen (IPv4)"), "limited");
    is_open(&limited("a text of another version"), "limited");
    assert_eq!(
        limited("the headers of received resets (TTL, window) are not seen").confidence,
        CauseConfidence::Certain
    );
    let pair = limited("resets sent by firewall rules are not seen (IPv4)");
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NotSent, CauseConfidence::Likely));
    assert!(pair.summary.contains("or the packet filter of server"), "{}", pair.summary);
}

#[test]
fn every_limit_of_a_run_is_known_here() {
    let told: Vec<&str> = crate::load::probes::PROBES.iter().map(|probe| probe.loss).collect();
    let unknown = |text: &&&str| !crate::join::hidden::is_harmless_limit(text) && !text.contains("not seen");
    assert_eq!(told.iter().filter(unknown).count(), 0, "{told:#?}");
}

#[test]
fn a_dropped_reset_never_arrived_and_what_hides_it_is_told() {
    let (peer, local) = ends(50_000);
    let server = server().marks(10, 30).sent(AT_MS, (&local, &peer), (7, Some(8))).marks(40, 60);
    let of = |client: &Tape| single(&joined(&[client, &server]));
    let pair = of(&client().marks(10, 60));
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NeverArrived, CauseConfidence::Likely), "{pair:#?}");
    assert_eq!(pair.cause.map(|cause| cause.code), Some("linger-zero"));
    assert_eq!(pair.clock.map(|clock| clock.skew_us), Some(SKEW_MS * 1_000));
    let mut without = client();
    without.lines[0]["ignored"] = json!(false);
    is_open(&of(&without.marks(10, 60)), "--ignored");
    let mut filtered = client();
    filtered.lines[0]["filters"] = json!({"not_ports": ["443"]});
    is_open(&of(&filtered.marks(10, 60)), "--not-port");
    is_open(&of(&client().marks(10, 30)), "ends before");
    let mut lossy = client().marks(10, 30);
    lossy = (40..=60).step_by(10).fold(lossy, |tape, second| tape.mark(second, |mark| mark["lost"] = json!(1)));
    is_open(&of(&lossy), "lost 1 reset");
}

#[test]
fn a_flood_may_have_it() {
    let (_, local) = ends(0);
    let server = server().marks(10, 30);
    let server =
        server.reset(AT_MS + 900, "sent", (&local, "10.3.0.1:1"), (5, Some(6)), |reset| reset["count"] = json!(40));
    let mut server = server;
    server.resets += 39;
    server.sent += 39;
    let pair = all(&joined(&[&deceived(), &server.marks(40, 60)])).into_iter().find(|pair| pair.sender.is_none());
    is_open(&pair.expect("one"), "flood");
}

#[test]
fn a_sent_reset_without_numbers_may_be_it() {
    let (peer, local) = ends(50_000);
    let server = server().marks(10, 30).reset(AT_MS, "sent", (&local, &peer), (0, None), |reset| {
        reset["reset"]["seq"] = Value::Null;
    });
    let pairs = all(&joined(&[&deceived(), &server.marks(40, 60)]));
    is_open(pairs.iter().find(|pair| pair.reset.seq == Some(FORGED.0)).expect("it is there"), "not all numbers");
}

#[test]
fn a_reset_at_that_time_may_be_this_one_behind_a_translation() {
    // On another service nothing is known to pass without a translation.
    let (local, peer) = (format!("{CLIENT}:50000"), format!("{SERVER}:80"));
    let client = client().marks(10, 30).received(AT_MS, (&local, &peer), FORGED).marks(40, 60);
    let other =
        |ms| server().marks(10, 30).sent(ms, (&format!("{SERVER}:80"), "10.3.0.1:1234"), (99, Some(98))).marks(40, 60);
    let received =
        |server: &Tape| all(&joined(&[&client, server])).into_iter().find(|pair| pair.sender.is_none()).expect("one");
    is_open(&received(&other(AT_MS + 500)), "may be one");
    assert_eq!(received(&other(AT_MS + 4_000)).verdict, PairVerdict::NotSent);
    // Where nothing is translated, that of another client is another one.
    let elsewhere =
        server().marks(10, 30).sent(AT_MS, (&format!("{SERVER}:443"), "10.3.0.1:1234"), (99, Some(98))).marks(40, 60);
    let pair = all(&joined(&[&deceived(), &elsewhere])).into_iter().find(|pair| pair.sender.is_none()).expect("one");
    assert_eq!(pair.verdict, PairVerdict::NotSent);
}

#[test]
fn marks_in_a_stream_of_many_hosts_are_of_the_host_that_they_name() {
    let apart = verdict(&server().marks(10, 60));
    let stream = one_stream(&[&named(deceived()), &named(server().marks(10, 60))]);
    let pair = single(&joined(&[&stream]));
    assert_eq!((pair.verdict, &pair.reasons), (PairVerdict::NotSent, &apart.reasons));
    // A host of which there is no header takes no marks of another one.
    let mut stranger = named(server().marks(10, 60));
    for line in stranger.lines.iter_mut().filter(|line| line["type"] == "mark") {
        line["host"] = json!("stranger");
    }
    is_open(&verdict(&stranger), "ends before");
    // Without names all marks of such a stream are those of the last header.
    let stream = one_stream(&[&deceived(), &server().marks(10, 60)]);
    assert_eq!(single(&joined(&[&stream])).verdict, PairVerdict::CannotBeTold);
}

#[test]
fn without_a_match_the_clocks_are_not_compared() {
    let (local, peer) = ends(50_000);
    let unmatched = |synchronized: bool| {
        let header = move |header: &mut Value| header["clock"]["synchronized"] = json!(synchronized);
        let client =
            Tape::new("client", 0).header(header).marks(10, 30).received(AT_MS, (&local, &peer), FORGED).marks(40, 60);
        // A reset by which its address is known.
        let server =
            Tape::new("server", 0).header(header).sent(1_000, (&peer, "10.3.0.1:1"), (5, Some(6))).marks(10, 60);
        all(&joined(&[&client, &server])).into_iter().find(|pair| pair.sender.is_none()).expect("one")
    };
    is_open(&unmatched(false), "the difference of their clocks is not known");
    let pair = unmatched(true);
    assert_eq!((pair.verdict, pair.confidence), (PairVerdict::NotSent, CauseConfidence::Likely), "{pair:#?}");
}
