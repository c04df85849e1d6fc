//! Verdicts on records that are made up: each kind, and what nearly is one.

mod join_captures;
mod join_coverage;
mod join_filters;
mod join_inputs;
mod join_matching;
mod join_shown;

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
#[derive(Clone, Debug)]
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
    joined.pairs(&PairFilter::ALL).collect()
}

fn ends(port: u16) -> (String, String) {
    (format!("{CLIENT}:{port}"), format!("{SERVER}:443"))
}

/// A client with resets of four connections that the server has sent, and marks up to 60 s; `port` counts the connections.
fn client() -> Tape {
    client_with(|_| ())
}

fn client_with(change: impl Fn(&mut Value)) -> Tape {
    (1..=4).fold(Tape::new("client", 0).header(change), |tape, number| {
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
    deceived_with(|_| ())
}

fn deceived_with(change: impl Fn(&mut Value)) -> Tape {
    let (local, peer) = ends(50_000);
    client_with(change).marks(10, 30).received(AT_MS, (&local, &peer), FORGED).marks(40, 60)
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

/// The pair with the numbers of the reset in question.
fn forged(joined: &Joined) -> Pair {
    all(joined).into_iter().find(|pair| pair.reset.seq == Some(FORGED.0)).expect("it is there")
}

/// The result as text, by UTC.
fn text(joined: Joined) -> String {
    let mut text = Vec::new();
    let zone = jiff::tz::TimeZone::UTC;
    JoinText { zone: zone.clone(), wanted: PairFilter::ALL }.write(&joined.in_zone(zone), &mut text).expect("a vector");
    String::from_utf8(text).expect("UTF-8")
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
