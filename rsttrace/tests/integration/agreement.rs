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

/// Replays a capture of the namespace in which both ends of every connection are, and compares its records with the live ones.
pub(crate) fn check(tape: Tape, live: &[Reset]) {
    // An aggregated record has no single reset.
    let Some(capture) = tape.finish().filter(|_| live.iter().all(|reset| reset.count() == 1)) else { return };
    if live.is_empty() {
        return;
    }
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), &capture).unwrap();
    let mut command = Command::new(host::rsttrace());
    command.args(["replay", "--quiet", "--output", "json", "--local", "0.0.0.0/0,::/0"]).arg(file.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let captured: Vec<Reset> = records.filter(|record| record["type"] == "reset").map(Reset).collect();
    let captured = by_key(&captured);
    for (key, live) in by_key(live) {
        let of_capture = captured.get(&key).map(Vec::as_slice).unwrap_or_default();
        for (place, live) in live.iter().enumerate() {
            compare(live, of_capture.get(place).copied());
        }
    }
}

fn by_key(records: &[Reset]) -> BTreeMap<Key, Vec<&Reset>> {
    let mut all: BTreeMap<Key, Vec<&Reset>> = BTreeMap::new();
    for record in records {
        all.entry((record.is_sent(), record.end("local"), record.end("peer"))).or_default().push(record);
    }
    all
}

fn compare(live: &Reset, captured: Option<&Reset>) {
    let code = |record: &Reset| record["cause"]["code"].as_str().unwrap_or_default().to_owned();
    let direction = live["direction"].as_str().unwrap_or_default().to_owned();
    let of_capture = captured.map_or_else(|| "(none)".to_owned(), code);
    *CAUSES.lock().unwrap().entry((direction, code(live), of_capture)).or_default() += 1;
    let Some(captured) = captured else { return };
    let mut facts = FACTS.lock().unwrap();
    let mut count = |name, is_equal: bool| {
        let (equal, all) = facts.entry(name).or_default();
        *equal += u64::from(is_equal);
        *all += 1;
        if !is_equal {
            eprintln!("DIFF {name}: {:#}\n{:#}", live.0, captured.0);
        }
    };
    let pair = |path: &str| Some((live.pointer(path)?, captured.pointer(path)?));
    let numbers = |path: &str| pair(path).and_then(|(live, captured)| Some((live.as_f64()?, captured.as_f64()?)));
    if let Some((live, captured)) = pair("/socket/state").filter(|(live, captured)| !live.is_null() && !captured.is_null()) {
        count("state", live == captured);
    }
    for (name, path) in [("role", "/socket/role"), ("seq", "/reset/seq"), ("bytes sent", "/socket/bytes_sent"), ("bytes received", "/socket/bytes_received"), ("not acknowledged", "/socket/unacked_bytes"), ("timestamp", "/reset/timestamp")] {
        if let Some((live, captured)) = pair(path).filter(|(live, captured)| !live.is_null() && !captured.is_null()) {
            count(name, live == captured);
        }
    }
    let is_full = |record: &Reset| record["socket"]["bytes_sent"].is_number();
    if is_full(live) && is_full(captured) {
        let has_fin = |record: &Reset| record["socket"]["fin_received_ms"].is_number();
        count("peer's FIN", has_fin(live) == has_fin(captured));
    }
    for (name, path) in [("silence", "/socket/idle_before_send_ms"), ("since send", "/socket/since_send_ms"), ("since receive", "/socket/since_receive_ms")] {
        if let Some((live, captured)) = numbers(path) {
            // The kernel keeps them in ticks of up to 10 ms; two tapes of one event differ by the time between their hooks.
            count(name, (live - captured).abs() <= 25.0);
        }
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
        let equal: u64 = causes.iter().filter(|((_, live, captured), _)| live == captured).map(|(_, count)| count).sum();
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
