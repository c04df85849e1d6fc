//! Under load lines go out in blocks, and none waits long for its block to end; when it is quiet each goes out at once,
//! and in between nothing runs at all.

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
    lines::{Lines, Next, PATIENCE},
    puppet::Puppet,
    stage::{Pair, Stage, V4},
    tracer::Tracer,
};

/// What is promised under load.
const LONGEST: Duration = Duration::from_millis(200);

/// What is promised for a reset after a silence.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Lines that follow each other so closely that they go out in blocks.
const BURST: usize = 401;

/// A machine that is emulated in software takes longer for a burst than for a block, and without the kernel's accounts
/// nobody knows in how many pieces something was written.
pub(crate) fn lack() -> Option<Lack> {
    if host::is_guest() {
        return Some(Lack::Guest("it is about milliseconds".to_owned()));
    }
    let lacks = fs::read("/proc/self/io").is_err();
    lacks.then(|| Lack::Kernel("the kernel does not count the writes of a thread".to_owned()))
}

/// The last line of a burst, which nothing follows, waits for its block and for no record after it. Whatever else the
/// machine does makes it later, never earlier: one of seven rounds is enough.
pub(crate) fn last_line_of_a_burst(stage: &Stage) {
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
            let Next::Line(line) = lines.next(Instant::now() + PATIENCE) else { panic!("a line waits for the next") };
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

/// A reset after a silence comes out at once, whether its owner has to be looked for or not. As above, the machine makes
/// it later and never earlier.
pub(crate) fn single_reset(stage: &Stage) {
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
            let Next::Line(line) = lines.next(Instant::now() + PATIENCE) else { panic!("a reset does not come out") };
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
    let deadline = Instant::now() + PATIENCE;
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

/// How often each thread has given up a CPU: it has run, if that has changed.
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

/// How old a record is.
fn age(line: &str, now: Timestamp) -> Duration {
    let record: Value = serde_json::from_str(line).unwrap();
    let time: Timestamp = record["time"].as_str().unwrap().parse().unwrap();
    now.duration_since(time).unsigned_abs()
}

/// Calls of write that the thread has made that writes to standard output.
fn writes(pid: u32) -> u64 {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    let is_writer =
        |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "rsttrace-writer");
    let writer = threads.find(is_writer).expect("the thread that writes");
    let accounts = fs::read_to_string(writer.join("io")).unwrap();
    accounts.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
}
