//! Agreement of live records with those that rsttrace makes of a packet capture of the same scenario.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    fs,
    net::SocketAddr,
    process::Command,
    sync::Mutex,
};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{host, reset::Reset, tape::Tape};

/// Causes of one direction: the live one and that of the capture, and how often they came together.
static CAUSES: Mutex<BTreeMap<(String, String, String), u64>> = Mutex::new(BTreeMap::new());
/// Facts that both records have: how many of those were equal, of how many.
static FACTS: Mutex<BTreeMap<&'static str, (u64, u64)>> = Mutex::new(BTreeMap::new());

/// Key of a record: whether it was sent, and its two ends.
type Key = (bool, SocketAddr, SocketAddr);

/// Addresses of every host.
pub(crate) const ALL: &str = "0.0.0.0/0,::/0";

/// Replays a capture as the host with these addresses (`--local`) sees it, and compares its records with the live ones of that
/// host.
#[track_caller]
pub(crate) fn check(tape: Tape, local: &str, live: &[&Reset]) {
    // An aggregated record has no single reset.
    let Some(capture) = tape.finish().filter(|_| live.iter().all(|reset| reset.count() == 1)) else { return };
    if live.is_empty() {
        return;
    }
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), &capture).unwrap();
    let mut command = Command::new(host::rsttrace());
    command.args(["replay", "--quiet", "--output", "json", "--local", local]).arg(file.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let captured: Vec<Reset> = records.filter(|record| record["type"] == "reset").map(Reset).collect();
    let captured = by_key(&captured.iter().collect::<Vec<_>>());
    for (key, live) in by_key(live) {
        let of_capture = captured.get(&key).map(Vec::as_slice).unwrap_or_default();
        for live in live {
            // Ports are used again, and records do not come in the order of their events: the nearest one is the same reset.
            let apart = |captured: &&&Reset| time_ns(live).abs_diff(time_ns(captured));
            let nearest = of_capture.iter().min_by_key(apart).filter(|captured| apart(captured) <= SAME_NS);
            compare(live, nearest.copied());
        }
    }
}

/// Longest time between the hook and the capture of one reset, nanoseconds.
const SAME_NS: u128 = 50_000_000;

fn time_ns(record: &Reset) -> i128 {
    let time: jiff::Timestamp = record["time"].as_str().expect("a time").parse().expect("a time");
    time.as_nanosecond()
}

fn by_key<'a>(records: &[&'a Reset]) -> BTreeMap<Key, Vec<&'a Reset>> {
    let mut all: BTreeMap<Key, Vec<&Reset>> = BTreeMap::new();
    for &record in records {
        all.entry((record.is_sent(), record.end("local"), record.end("peer"))).or_default().push(record);
    }
    all
}

/// Facts that both know to the last byte, by their names and places.
const FACTS_OF_BOTH: [(&str, &str); 7] = [
    ("role", "/socket/role"),
    ("sequence number", "/reset/seq"),
    ("timestamp", "/reset/timestamp"),
    ("bytes sent", "/socket/bytes_sent"),
    ("bytes received", "/socket/bytes_received"),
    ("bytes not acknowledged", "/socket/unacked_bytes"),
    ("state", "/socket/state"),
];
/// Times that the kernel keeps in ticks, and largest difference of those that are equal, milliseconds: two ticks, and what passes
/// between the hooks.
const TIMES: [(&str, &str); 3] = [
    ("time since receiving", "/socket/since_receive_ms"),
    ("time since sending", "/socket/since_send_ms"),
    ("silence before sending", "/socket/idle_before_send_ms"),
];
const EQUAL_MS: f64 = 25.0;

fn code(record: &Reset) -> &str {
    record["cause"]["code"].as_str().unwrap_or_default()
}

#[track_caller]
fn compare(live: &Reset, captured: Option<&Reset>) {
    let direction = live["direction"].as_str().unwrap_or_default().to_owned();
    // A packet filter may have dropped it before the wire, and not the answers to what the peer sent afterwards.
    let captured = captured.filter(|captured| live["provoked_by"].is_null() == captured["provoked_by"].is_null());
    let of_capture = captured.map_or("(not on the wire)", code);
    *CAUSES.lock().unwrap().entry((direction, code(live).to_owned(), of_capture.to_owned())).or_default() += 1;
    let Some(captured) = captured else {
        assert!(live.is_sent(), "a reset that was received is not in the capture: {:#}", live.0);
        return;
    };
    // A packet filter may have dropped another reset of the same ends before the wire.
    let (seq, seq_of_capture) = (&live["reset"]["seq"], &captured["reset"]["seq"]);
    if !seq.is_null() && seq != seq_of_capture {
        return;
    }
    let both = || format!("{:#}\n{:#}", live.0, captured.0);
    assert!(agrees(live, captured), "the causes do not agree:\n{}", both());
    for (name, path) in FACTS_OF_BOTH {
        let (live, captured) =
            (live.pointer(path).unwrap_or(&Value::Null), captured.pointer(path).unwrap_or(&Value::Null));
        if !live.is_null() && !captured.is_null() {
            // A socket that waits for the peer's FIN alone is a smaller one in the kernel, in another state.
            let is_equal = live == captured || (live == "TIME_WAIT" && captured == "FIN_WAIT2");
            count(name, is_equal);
            assert!(is_equal, "{name} differs:\n{}", both());
        }
    }
    let fin = |record: &Reset| {
        record["socket"]["bytes_sent"].is_number().then(|| record["socket"]["fin_received_ms"].is_number())
    };
    if let (Some(live), Some(captured)) = (fin(live), fin(captured)) {
        count("peer's FIN", live == captured);
        assert!(live == captured, "the peer's FIN came for one of them:\n{}", both());
    }
    for (name, path) in TIMES {
        let ms = |record: &Reset| record.pointer(path).and_then(Value::as_f64);
        if let (Some(live), Some(captured)) = (ms(live), ms(captured)) {
            count(name, (live - captured).abs() <= EQUAL_MS);
        }
    }
}

fn count(name: &'static str, is_equal: bool) {
    let mut facts = FACTS.lock().unwrap();
    let (equal, all) = facts.entry(name).or_default();
    *equal += u64::from(is_equal);
    *all += 1;
}

/// Whether the causes are the same, or differ by no more than what one of the two cannot know (docs/captures.md).
fn agrees(live: &Reset, captured: &Reset) -> bool {
    let of_capture = code(captured);
    if code(live) == of_capture {
        return true;
    }
    if !live.is_sent() {
        // Either record may have its cause from the sender's, which knows the process; the capture may know the TTL. A refusal and
        // the reset of a connection are told apart by both.
        let is_refusal = |code: &str| ["connection-refused", "refused-by-firewall"].contains(&code);
        return is_refusal(code(live)) == is_refusal(of_capture);
    }
    // What the process did, and what the kernel knew of a connection that is over.
    if live["provoked_by"].is_null() {
        of_capture == "aborted"
    } else {
        ["no-connection", "data-after-close"].contains(&of_capture)
    }
}

/// The causes of both, as a table.
pub(crate) struct Table;

impl Display for Table {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let causes = CAUSES.lock().unwrap();
        if causes.is_empty() {
            return Ok(());
        }
        let equal: u64 =
            causes.iter().filter(|((_, live, captured), _)| live == captured).map(|(_, count)| count).sum();
        let all: u64 = causes.values().sum();
        writeln!(formatter, "captures: {equal} of {all} causes as live; where not:")?;
        for ((direction, live, captured), count) in &*causes {
            if live != captured {
                writeln!(formatter, "  {direction:<8} {live:<26} {captured:<26} {count:>4}")?;
            }
        }
        for (name, (equal, all)) in &*FACTS.lock().unwrap() {
            writeln!(formatter, "  {name}: {equal} of {all} equal")?;
        }
        Ok(())
    }
}
