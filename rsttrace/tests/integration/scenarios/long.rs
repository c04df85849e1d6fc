//! A long run, on demand: `cargo test -p rsttrace --test integration -- --ignored ring::long`.

use std::{
    env, fs, io,
    io::Write as _,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    netns,
    stage::{Stage, V4, reset_one},
    tracer::Tracer,
};

/// Default of `RSTTRACE_LONG_SECONDS`.
const SECONDS: u64 = 600;

/// Connections to one listener, of which every tenth is reset.
const TO_ONE: u32 = 100;

/// Limit of memory growth after the first tenth, in kilobytes. All caches are bounded, and full by then.
const GROWTH_KB: u64 = 4096;

/// Connections and listeners are opened and closed for ten minutes, a hundred times as many as in a quiet hour: each
/// reset is counted, and memory does not grow.
pub(crate) fn memory_does_not_grow(stage: &Stage) {
    let seconds = env::var("RSTTRACE_LONG_SECONDS").map_or(SECONDS, |seconds| seconds.parse().expect("seconds"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let netns = stage.netns.to_string();
    let arguments = [&stage.arguments()[..], &["--netns", &netns]].concat();
    let tracer = Tracer::start_writing_to(&arguments, file.reopen().unwrap().into());
    let (began, all) = (Instant::now(), Duration::from_secs(seconds));
    let (mut connections, mut resets, mut early_kb) = (0_u64, 0_u64, 0);
    while began.elapsed() < all {
        let listener = TcpListener::bind(V4).unwrap();
        let address = listener.local_addr().unwrap();
        for number in 0..TO_ONE {
            connections += 1;
            if number % 10 == 0 {
                reset_one(&listener);
                resets += 1;
            } else {
                let client = TcpStream::connect(address).unwrap();
                drop(listener.accept().unwrap());
                drop(client);
            }
        }
        if early_kb == 0 && began.elapsed() > all / 10 {
            early_kb = resident_kb(tracer.pid());
        }
    }
    let late_kb = resident_kb(tracer.pid());
    tracer.signal(Signal::SIGINT);
    let (status, stderr) = tracer.status();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let text = fs::read_to_string(file.path()).unwrap();
    let summary: Value = serde_json::from_str(text.lines().last().expect("a summary")).unwrap();
    let [sent, received, lost] = ["sent", "received", "lost"].map(|field| summary[field].as_u64().unwrap());
    let memory = format!("{early_kb} KB after a tenth, {late_kb} KB at the end");
    drop(writeln!(io::stdout(), "{connections} connections, {resets} resets each way, {memory}"));
    // With so many connections, ports are reused and the kernel sends a few resets of its own, which its counter
    // includes.
    assert_eq!((sent, lost), (netns::resets_sent(), 0));
    assert!((resets..=sent).contains(&received), "{resets} were made, {received} received, {sent} sent");
    // As text, because it may be a gigabyte.
    let owner = format!("\"process\":{{\"pid\":{},", std::process::id());
    // A reset without a socket has no owner.
    let unowned = "\"process\":null";
    let is_ours = |line: &&str| line.contains(unowned) || !line.contains("\"type\":\"reset\"") || line.contains(&owner);
    assert_eq!(text.lines().find(|line| !is_ours(line)), None, "an owner is wrong");
    assert!(late_kb <= early_kb + GROWTH_KB, "{early_kb} KB, then {late_kb} KB");
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
