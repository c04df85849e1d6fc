//! Under load, lines are written in blocks, and none waits long for its block to be complete; otherwise each line is
//! written immediately, and between records no thread runs at all.

use std::{
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    host::{self, Lack},
    lines::{Lines, Next, TIMEOUT},
    puppet::Puppet,
    stage::{Pair, Stage, V4},
    tracer::Tracer,
};

/// Documented bound under load.
const LONGEST: Duration = Duration::from_millis(200);

/// Documented bound for a reset after an idle period.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Number of lines that follow each other so closely that they are written in blocks.
const BURST: usize = 401;

/// What this host lacks: in software emulation a burst takes longer than a block, and without task I/O accounting the
/// number of writes is unknown.
pub(crate) fn lack() -> Option<Lack> {
    if host::is_guest() {
        return Some(Lack::Guest("it is about milliseconds".to_owned()));
    }
    let lacks = fs::read("/proc/self/io").is_err();
    lacks.then(|| Lack::Kernel("the kernel does not count the writes of a thread".to_owned()))
}

/// The last line of a burst waits for the end of its block, not for another record. Other load on the machine can only
/// delay it, so one of seven rounds within the bound is enough.
pub(crate) fn last_line_of_a_burst_is_written_soon(stage: &Stage) {
    let (reader, writer) = io::pipe().unwrap();
    let netns = stage.netns.to_string();
    let arguments = [&stage.arguments()[..], &["--netns", &netns, "--sent", "--comm", "the-client"]].concat();
    let tracer = Tracer::start_writing_to(&arguments, writer.into());
    let lines = Lines::of(reader);
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let mut late = Vec::new();
    for round in 0..7 {
        let server_end = server.listen(&format!("l{round}"), V4, 1024);
        let before = writes(tracer.pid());
        client.tell(format_args!("burst {server_end} {BURST}"));
        let mut last = String::new();
        for _ in 0..BURST {
            let Next::Line(line) = lines.next(Instant::now() + TIMEOUT) else { panic!("a line waits for the next") };
            last = line;
        }
        let now = Timestamp::now();
        assert!(writes(tracer.pid()) - before < BURST as u64 / 2, "no blocks");
        late.push(age(&last, now));
    }
    assert!(late.iter().any(|late| *late <= LONGEST), "{late:?}");
    tracer.signal(Signal::SIGINT);
    assert_eq!(tracer.status().0.code(), Some(0));
}

/// A reset after an idle period is written immediately, whether its owner has to be looked up or not. Other load on the
/// machine can only delay it, so one round within the bound is enough.
pub(crate) fn single_reset_is_written_immediately(stage: &Stage) {
    let (reader, writer) = io::pipe().unwrap();
    let netns = stage.netns.to_string();
    let arguments = [&stage.arguments()[..], &["--netns", &netns]].concat();
    let tracer = Tracer::start_writing_to(&arguments, writer.into());
    let lines = Lines::of(reader);
    let mut pair = Pair::open(V4);
    let mut late = Vec::new();
    for _ in 0..7 {
        pair.client_aborts();
        let both = [0, 1].map(|_| {
            let Next::Line(line) = lines.next(Instant::now() + TIMEOUT) else { panic!("a reset does not come out") };
            age(&line, Timestamp::now())
        });
        late.push(both.into_iter().max().unwrap());
        pair.connect("c", "s");
    }
    assert!(late.iter().any(|late| *late <= AT_ONCE), "{late:?}");
    idle(tracer.pid());
    tracer.signal(Signal::SIGINT);
    assert_eq!(tracer.status().0.code(), Some(0));
}

/// Waits until no thread of a process has run for a second.
fn idle(pid: u32) {
    let deadline = Instant::now() + TIMEOUT;
    let mut before = switches(pid);
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = switches(pid);
        if now == before {
            return;
        }
        assert!(Instant::now() < deadline, "it never comes to rest: {before:?}, then {now:?}");
        before = now;
    }
}

/// Context switches of each thread; they change whenever it runs.
fn switches(pid: u32) -> Vec<(String, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    let of = |path: PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches")).collect::<Vec<_>>().join(" ");
        (path.display().to_string(), counts)
    };
    let mut switches: Vec<_> = threads.map(of).collect();
    switches.sort();
    switches
}

/// Age of a record.
fn age(line: &str, now: Timestamp) -> Duration {
    let record: Value = serde_json::from_str(line).unwrap();
    let time: Timestamp = record["time"].as_str().unwrap().parse().unwrap();
    now.duration_since(time).unsigned_abs()
}

/// Number of writes by the thread that writes to standard output.
fn writes(pid: u32) -> u64 {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    let is_writer =
        |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "rsttrace-writer");
    let writer = threads.find(is_writer).expect("the thread that writes");
    let accounts = fs::read_to_string(writer.join("io")).unwrap();
    accounts.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
}
