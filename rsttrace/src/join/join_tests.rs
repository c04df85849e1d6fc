//! Verdicts on records that are made up: each kind, and what nearly is one.

use serde_json::{Value, json};

use super::{JoinError, JoinText, Joined, Joiner, PairFilter};
use crate::{
    capture::{CapturedConnection, CapturedPath, CapturedSide, Perspective},
    model::{CauseConfidence, Endpoint, Pair, PairVerdict, Record},
    replay::{Line, parse_line},
};

/// Client, server, and the address of a router or virtual server between them.
const CLIENT: &str = "10.1.0.5";
const SERVER: &str = "10.2.0.9";
const BETWEEN: &str = "10.2.0.1";
/// Second of the runs at which both recorders start, and milliseconds by which the server's clock is ahead.
const START: i64 = 1_800_000_000;
const SKEW_MS: i64 = 49_000;

fn time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(START * 1_000 + ms).expect("in range");
    format!("{time:.9}")
}

/// A recording or a capture in the making: its lines as a file has them.
#[derive(Clone)]
struct Tape {
    host: &'static str,
    /// What its clock is ahead, milliseconds.
    ahead_ms: i64,
    lines: Vec<Value>,
    sent: u64,
    resets: u64,
}

impl Tape {
    fn new(host: &'static str, ahead_ms: i64) -> Self {
        Self { host, ahead_ms, lines: Vec::new(), sent: 0, resets: 0 }
    }

    /// A header, with changes.
    fn header(mut self, change: impl Fn(&mut Value)) -> Self {
        let mut header = json!({
            "schema": 1, "type": "recording", "time": time(self.ahead_ms), "format": 1, "segment": 1, "run": time(self.ahead_ms),
            "host": self.host, "version": "0", "machine_id": format!("machine of {}", self.host), "boot_id": null, "kernel": "",
            "architecture": "", "filtered": false, "filters": {}, "ignored": true, "netns": 1, "degraded": [],
            "clock": {"monotonic_ns": 0, "synchronized": false, "estimated_error_us": null}
        });
        change(&mut header);
        self.lines.push(header);
        self
    }

    /// A reset at this time of the client's clock, with changes.
    fn reset(
        mut self,
        ms: i64,
        direction: &str,
        ends: (&str, &str),
        numbers: (u32, Option<u32>),
        change: impl Fn(&mut Value),
    ) -> Self {
        let end = |text: &str| {
            let end: std::net::SocketAddr = text.parse().expect("an end");
            json!({"address": end.ip(), "port": end.port(), "name": null})
        };
        let packet = json!({"ttl": 63, "handshake_ttl": 62, "flags": "RST", "seq": numbers.0, "ack": numbers.1.unwrap_or(0),
            "window": 0, "id": 0, "length": 40});
        self.resets += 1;
        self.sent += u64::from(direction == "sent");
        let mut reset = json!({
            "schema": 1, "type": "reset", "time": time(ms + self.ahead_ms), "host": self.host, "seq": self.resets, "count": 1,
            "direction": direction, "hook": "tcp_send_reset", "family": "ipv4", "local": end(ends.0), "peer": end(ends.1),
            "netns": {"inode": 1}, "process": null, "actor": null, "cgroup": null, "unit": null, "container": null, "pod": null,
            "socket": null, "reset": {"seq": numbers.0, "ack": numbers.1, "timestamp": null, "timestamp_value": null,
            "timestamp_echo": null}, "packet": if direction == "sent" { Value::Null } else { packet }, "provoked_by": null,
            "translated": null, "reason": null, "cause": {"code": if direction == "sent" { "linger-zero" } else { "peer-aborted" },
            "sender": "unknown", "fault": if direction == "sent" { "local" } else { "peer" }, "confidence": "certain",
            "benign": false, "lost_bytes": null, "summary": format!("Cause at {}.", self.host), "evidence": [], "advice": "-"},
            "incident": 1, "incident_role": "first", "other_end": null
        });
        change(&mut reset);
        self.lines.push(reset);
        self
    }

    fn sent(self, ms: i64, ends: (&str, &str), numbers: (u32, Option<u32>)) -> Self {
        self.reset(ms, "sent", ends, numbers, |_| ())
    }

    fn received(self, ms: i64, ends: (&str, &str), numbers: (u32, Option<u32>)) -> Self {
        self.reset(ms, "received", ends, numbers, |_| ())
    }

    /// A mark at this second of the client's clock, with changes.
    fn mark(mut self, second: i64, change: impl Fn(&mut Value)) -> Self {
        let counter = json!({"name": "TcpOutRsts", "delta": self.sent, "observed": self.sent, "explanation": null});
        let mut mark = json!({
            "schema": 1, "type": "mark", "time": time(second * 1_000 + self.ahead_ms),
            "monotonic_ns": second * 1_000_000_000, "resets": self.resets, "lost": 0, "undelivered": 0, "counters": [counter],
            "last": false
        });
        change(&mut mark);
        self.lines.push(mark);
        self
    }

    /// Marks up to this second.
    fn marks(self, from: i64, to: i64) -> Self {
        (from..=to).step_by(10).fold(self, |tape, second| tape.mark(second, |_| ()))
    }

    fn give(&self, joiner: &mut Joiner, name: &str) {
        joiner.begin(name);
        for line in &self.lines {
            match parse_line(line.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}")) {
                Line::Header(header) => joiner.header(&header).expect("few hosts"),
                Line::Mark(mark) => joiner.mark(&mark),
                Line::Record(record) => joiner.record(&record, false).expect("few records"),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn joined(tapes: &[&Tape]) -> Joined {
    let mut joiner = Joiner::default();
    tapes.iter().enumerate().for_each(|(number, tape)| tape.give(&mut joiner, &format!("input-{number}")));
    joiner.finish().expect("two hosts")
}

fn all(joined: &Joined) -> Vec<Pair> {
    joined.pairs(&PairFilter { verdicts: &[], is_port: &|_| true, with_others: None }).collect()
}

fn ends(port: u16) -> (String, String) {
    (format!("{CLIENT}:{port}"), format!("{SERVER}:443"))
}

/// A client with resets of four connections that the server has sent, and marks up to 60 s; `port` counts the connections.
fn client() -> Tape {
    (1..=4).fold(Tape::new("client", 0).header(|_| ()), |tape, number| {
        let (local, peer) = ends(40_000 + number);
        let number = u32::from(number);
        tape.received(i64::from(number) * 100, (&local, &peer), (number << 20, Some(number << 21)))
    })
}

/// The server that has sent these.
fn server() -> Tape {
    server_with(|_| ())
}

fn server_with(change: impl Fn(&mut Value)) -> Tape {
    (1..=4).fold(Tape::new("server", SKEW_MS).header(change), |tape, number| {
        let (peer, local) = ends(40_000 + number);
        let number = u32::from(number);
        tape.sent(i64::from(number) * 100, (&local, &peer), (number << 20, Some(number << 21)))
    })
}

/// Time of the reset in question, by the client's clock.
const AT_MS: i64 = 35_000;
/// Its numbers.
const FORGED: (u32, Option<u32>) = (77_777_777, None);

/// The client with one more reset, which the server does not know.
fn deceived() -> Tape {
    let (local, peer) = ends(50_000);
    client().marks(10, 30).received(AT_MS, (&local, &peer), FORGED).marks(40, 60)
}

/// The only pair that is not matched.
fn single(joined: &Joined) -> Pair {
    let is_single = |pair: &Pair| pair.sender.is_none() || pair.receiver.is_none();
    let mut singles: Vec<Pair> = all(joined).into_iter().filter(is_single).collect();
    assert_eq!(singles.len(), 1, "{singles:#?}");
    singles.remove(0)
}

/// The verdict on the reset that the server does not know.
fn verdict(server: &Tape) -> Pair {
    single(&joined(&[&deceived(), server]))
}

#[track_caller]
fn is_open(pair: &Pair, why: &str) {
    assert_eq!(pair.verdict, PairVerdict::CannotBeTold, "{pair:#?}");
    assert!(pair.reasons.iter().any(|reason| reason.contains(why)), "{why}: {:#?}", pair.reasons);
}

/// The lines of several hosts in one input, by time: first the headers.
fn one_stream(tapes: &[&Tape]) -> Tape {
    let mut stream = Tape::new("-", 0);
    stream.lines = tapes.iter().flat_map(|tape| tape.lines.iter().cloned()).collect();
    let order = |line: &Value| (line["type"] != "recording", line["time"].as_str().map(str::to_owned));
    stream.lines.sort_by_key(order);
    stream
}

/// The marks of a host with its name, as they are written; the others are those of earlier versions.
fn named(mut tape: Tape) -> Tape {
    let host = tape.host;
    tape.lines.iter_mut().filter(|line| line["type"] == "mark").for_each(|mark| mark["host"] = json!(host));
    tape
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
    let unknown = |text: &&&str| !super::judge::is_harmless_limit(text) && !text.contains("not seen");
    assert_eq!(told.iter().filter(unknown).count(), 0, "{told:#?}");
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
    let client = super::join_tests::client().received(5_000, (&local, "10.8.0.1:80"), (7, None));
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

/// A capture on the way, which shows the four connections and that of the forged reset.
fn on_the_way(passed: bool) -> Joined {
    let mut joiner = Joiner::default();
    deceived().give(&mut joiner, "client");
    // Of the server's recording nothing is known at that time.
    server().marks(10, 30).give(&mut joiner, "server");
    joiner.begin("router.pcap");
    let wire = client();
    let wire = if passed { wire.received(AT_MS, (&ends(50_000).0, &ends(50_000).1), FORGED) } else { wire };
    for line in &wire.lines {
        if let Ok(Line::Record(Record::Reset(reset))) = parse_line(line.to_string().as_bytes()) {
            joiner.record(&Record::Reset(reset), true).expect("few");
        }
    }
    let end = |text: &str| {
        let end: std::net::SocketAddr = text.parse().expect("an end");
        Endpoint { address: end.ip(), port: end.port() }
    };
    let side = |text: &str, next| CapturedSide { end: end(text), is_seen: true, next, ttl: Some(64) };
    let (local, peer) = ends(50_000);
    let from = u64::try_from(START).expect("positive") * 1_000_000_000;
    joiner
        .path(&CapturedPath {
            span_ns: Some((from, from + 60_000_000_000)),
            perspective: Perspective::Inferred {
                hosts: std::iter::once(end(&local).address).collect(),
                by: crate::capture::Inference::Shared,
            },
            connections: vec![CapturedConnection { sides: [side(&local, 5), side(&peer, FORGED.0)] }],
            forgotten: 0,
        })
        .expect("few");
    joiner.finish().expect("three hosts")
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

#[test]
fn text_is_safe_for_a_terminal() {
    let hostile = client().reset(5_000, "received", ("10.1.0.5:1", "10.2.0.9:443"), (7, None), |reset| {
        reset["process"] = json!({"pid": 1, "comm": "a\u{1b}[2Jb", "executable": null, "command_line": null, "uid": null,
            "user": null, "cgroup": null, "provenance": "connect", "confidence": "exact"});
    });
    let mut text = Vec::new();
    let wanted = PairFilter { verdicts: &[], is_port: &|_| true, with_others: None };
    JoinText { zone: jiff::tz::TimeZone::UTC, wanted }
        .write(&joined(&[&hostile, &server()]), &mut text)
        .expect("a vector");
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2Jb"), "{text}");
    assert!(text.contains("sent by the peer: 4") && text.contains("49.0 s ahead"), "{text}");
}

#[test]
fn pairs_are_chosen_by_verdict_and_port() {
    let joined = joined(&[&deceived(), &server().marks(10, 60)]);
    let count = |verdicts: &[PairVerdict], port: u16| {
        joined.count(&PairFilter { verdicts, is_port: &|other| other == port, with_others: None })
    };
    assert_eq!((count(&[], 443), count(&[PairVerdict::NotSent], 443), count(&[], 40_001), count(&[], 1)), (5, 1, 1, 0));
}
