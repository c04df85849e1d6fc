//! Faults in rsttrace's environment.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::TcpListener,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    ptr, thread,
    time::Instant,
};

use nix::{
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

use super::{
    privileges::{CAP_BPF, CAP_PERFMON, become_nobody_with},
    receivers::wait_until,
};
use crate::{
    host::{self, Lack},
    lines::TIMEOUT,
    mounts, netns,
    puppet::Puppet,
    reset::Reset,
    stage::{Pair, Stage, V4, reset_one},
    tracer::Tracer,
};

/// Number of connections: a prime number, so that no batch divides it.
const MANY: u64 = 23;
/// Longest time that a record waits for that of the other end.
const MAX_HOLD: jiff::SignedDuration = jiff::SignedDuration::from_millis(10);

/// Killed during a run, rsttrace leaves no program, no map and no link in the kernel.
pub(crate) fn killed_run_leaves_nothing_in_the_kernel(stage: &Stage) {
    let mut tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    tracer.expect(2);
    let held = held(tracer.pid());
    for kind in ["prog_id", "map_id"] {
        assert!(held.iter().filter(|(of, _)| of == kind).count() >= 5, "{held:?}");
    }
    assert!(held.is_subset(&present()), "{held:?}");
    tracer.signal(Signal::SIGKILL);
    let (status, _) = tracer.status();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    // The kernel frees them once no CPU can be executing them any more.
    wait_until("the end of all that it had in the kernel", || held.is_disjoint(&present()));
}

/// Programs, maps and links that a process holds, by their ids.
fn held(pid: u32) -> BTreeSet<(String, u32)> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let facts = descriptors.filter_map(|descriptor| fs::read_to_string(descriptor.unwrap().path()).ok());
    let number = |line: &str| {
        let (name, number) = line.split_once(':')?;
        let is_ours = ["prog_id", "map_id", "link_id"].contains(&name);
        Some((name.to_owned(), number.trim().parse().ok()?)).filter(|_| is_ours)
    };
    facts.flat_map(|facts| facts.lines().filter_map(number).collect::<Vec<_>>()).collect()
}

/// All programs, maps and links in the kernel.
fn present() -> BTreeSet<(String, u32)> {
    let programs = aya::programs::loaded_programs().flatten().map(|program| ("prog_id", program.id()));
    let maps = aya::maps::loaded_maps().flatten().map(|map| ("map_id", map.id()));
    let links = aya::programs::loaded_links().flatten().map(|link| ("link_id", link.id()));
    programs.chain(maps).chain(links).map(|(kind, id)| (kind.to_owned(), id)).collect()
}

/// After SIGKILL, the output consists of whole lines, except for the last.
pub(crate) fn killed_run_leaves_whole_lines(stage: &Stage) {
    const CONNECTIONS: u64 = 2_003;
    let file = tempfile::NamedTempFile::new().unwrap();
    let tracer = Tracer::start_writing_to(&arguments(stage, &[]), file.reopen().unwrap().into());
    let (_server, burst) = burst(CONNECTIONS);
    // Some records, but not all: rsttrace is killed while it writes.
    wait_until("the first lines", || file.as_file().metadata().is_ok_and(|metadata| metadata.len() > 0));
    tracer.signal(Signal::SIGKILL);
    let (status, _) = tracer.status();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    burst.join().unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let records: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // With perf rings some events may have been lost by then, which is a record too.
    let resets = records.iter().filter(|record| record["type"] == "reset");
    for (number, reset) in (1..).zip(resets) {
        assert_eq!(reset["seq"], number);
    }
}

/// Starts a listener and, in the background, this many connections to it that are reset.
fn burst(connections: u64) -> (Puppet, thread::JoinHandle<()>) {
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let server_end = server.listen("l", V4, u32::try_from(connections).unwrap() * 2);
    let burst = thread::spawn(move || drop(client.tell(format_args!("burst {server_end} {connections}"))));
    (server, burst)
}

/// Arguments of a run in the scenario's namespace.
fn arguments(stage: &Stage, more: &[&'static str]) -> Vec<&'static str> {
    // The number of a namespace has ten digits, and each test leaks only a few of these strings.
    let netns = stage.netns.to_string().leak();
    [&stage.arguments(), &["--netns", netns][..], more].concat()
}

/// When the disk is full after some lines, the run fails and reports the number of missing records.
pub(crate) fn full_disk_ends_the_run(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    mounts::leave().unwrap();
    mounts::mount("tmpfs", directory.path().to_str().unwrap(), "size=128k").unwrap();
    let path = directory.path().join("records");
    let tracer = Tracer::start_writing_to(&arguments(stage, &[]), File::create(&path).unwrap().into());
    let (_server, burst) = burst(401);
    burst.join().unwrap();
    let (status, stderr) = tracer.status();
    assert_eq!(status.code(), Some(1), "{stderr}");
    // The run may have ended before the last connections.
    let count =
        |line: &str| line.strip_prefix("rsttrace: ")?.split_once(" resets in ")?.0.replace(',', "").parse().ok();
    let reported: u64 = stderr.lines().find_map(count).expect("a count");
    let said = stderr.lines().find_map(|line| line.split_once("cannot write to standard output, ")).expect("why").1;
    assert!(said.contains("No space left on device"), "{said}");
    let missing: u64 = said.split(' ').next().unwrap().parse().unwrap();
    let written = fs::read(&path).unwrap().split(|&byte| byte == b'\n').count() as u64 - 1;
    // The summary is a record too. Lines of a block that was not written as a whole count as missing, although some of
    // them are in the file.
    let all = reported + 1;
    assert!(written > 0 && (1..=all).contains(&missing) && written + missing >= all, "{written} {missing}");
}

/// The reader exits after the first line, like `head -1`: the run ends successfully.
pub(crate) fn exited_reader_ends_the_run(stage: &Stage) {
    let (reader, writer) = io::pipe().unwrap();
    let mut tracer = Tracer::start_writing_to(&arguments(stage, &[]), writer.into());
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.ends_with("}\n"), "{line}");
    drop(reader);
    // A child of another scenario, between its fork and its exec, may hold the reading end for a moment.
    let deadline = Instant::now() + TIMEOUT;
    while !tracer.has_ended() {
        assert!(Instant::now() < deadline, "it goes on without a reader");
        pair.connect("c", "s");
        pair.client.abort("c");
    }
    let (status, stderr) = tracer.status();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

/// Without a standard output, records go to `/dev/null`, and not into the file that is opened as descriptor 1.
pub(crate) fn closed_stdout_is_replaced(stage: &Stage) {
    let mut command = Command::new(host::rsttrace());
    command.args(arguments(stage, &["--count", "2"]));
    // SAFETY: closes a descriptor.
    let close = || match unsafe { libc::close(1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    let tracer = Tracer::start_command(netns::original(), command, Stdio::null(), close);
    assert_eq!(fs::read_link(format!("/proc/{}/fd/1", tracer.pid())).unwrap(), Path::new("/dev/null"));
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    let (status, stderr) = tracer.status();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("rsttrace: 2 resets in"), "{stderr}");
}

/// With too few descriptors rsttrace either runs, or reports the limit with its remedy.
pub(crate) fn low_descriptor_limit_is_reported(stage: &Stage) {
    for limit in [3, 4, 5, 6, 8, 10, 14, 20, 26, 32, 40, 50, 52, 64] {
        let mut command = Command::new(host::rsttrace());
        command.args(arguments(stage, &["--duration", "1ms"])).stdin(Stdio::null());
        // SAFETY: one system call with a structure that lives through it.
        unsafe { command.pre_exec(move || limit_descriptors(0, limit)) };
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => assert!(stderr.contains("0 resets in"), "{limit}: {stderr}"),
            Some(3) => {
                assert!(stderr.contains("rsttrace: error: ") && stderr.contains("ulimit -n"), "{limit}: {stderr}");
            }
            // The dynamic linker cannot open the C library.
            Some(127) if limit < 4 => {}
            other => panic!("{other:?} with {limit} descriptors: {stderr}"),
        }
        assert!(!stderr.contains("panicked"), "{limit}: {stderr}");
    }
}

/// Sets the soft limit of descriptors of a process (0: this one), and a hard limit that allows more.
fn limit_descriptors(pid: u32, limit: u64) -> io::Result<()> {
    let most = libc::rlimit { rlim_cur: limit, rlim_max: 4096 };
    // SAFETY: the structure lives through the call, and nothing is returned.
    let result = unsafe { libc::prlimit(pid.cast_signed(), libc::RLIMIT_NOFILE, &raw const most, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// When descriptors run out, open files cannot be scanned and `/proc` cannot be read, but every reset is reported; when
/// there are descriptors again, owners are found again.
pub(crate) fn descriptors_run_out(stage: &Stage) {
    let mut tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let reset_one = |tracer: &mut Tracer, pair: &mut Pair, reported: u64| {
        pair.client_aborts();
        tracer.expect(reported);
        pair.connect("c", "s");
    };
    limit_descriptors(tracer.pid(), 3).unwrap();
    for number in 1..=MANY {
        reset_one(&mut tracer, &mut pair, 2 * number);
    }
    // The process that accepts or listens is known without a scan; that no other process holds the socket is not.
    let is_found = |reset: &Value| reset["direction"] == "received" && reset["process"]["confidence"] == "exact";
    let found = |tracer: &Tracer| tracer.count(is_found);
    let found_before = found(&tracer);
    limit_descriptors(tracer.pid(), 1024).unwrap();
    let mut reported = 2 * MANY;
    wait_until("the next walk", || {
        reported += 2;
        reset_one(&mut tracer, &mut pair, reported);
        found(&tracer) > found_before
    });
    let run = stage.finish(tracer, reported / 2, reported / 2);
    for said in ["degraded: scans of open files: ", "scans of open files work again"] {
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
    assert!(
        run.summaries.last().is_some_and(|summary| summary["degraded"].to_string().contains("scans of open files"))
    );
}

/// `hidepid` on `/proc` does not prevent attribution for a process with `CAP_SYS_PTRACE`.
pub(crate) fn hidepid_hides_nothing(stage: &Stage) {
    let run = behind_hidepid(stage, hide_processes);
    for reset in &run.resets {
        assert_eq!(reset["process"]["executable"].as_str(), env::current_exe().unwrap().to_str(), "{:#}", reset.0);
    }
}

/// With `hidepid` and without `CAP_SYS_PTRACE`, records have what the kernel side saw: PID, name and user, with exact
/// confidence.
pub(crate) fn hidepid_hides_details_without_ptrace(stage: &Stage) {
    let run = behind_hidepid(stage, || {
        hide_processes()?;
        become_nobody_with(&[CAP_BPF, CAP_PERFMON])
    });
    for reset in &run.resets {
        reset.is("/process/executable", Value::Null).is("/process/uid", 0);
    }
}

fn behind_hidepid(stage: &Stage, last: fn() -> io::Result<()>) -> crate::tracer::Run {
    let directory = super::privileges::readable_copy();
    let mut command = Command::new(directory.path().join("rsttrace"));
    command.args(arguments(stage, &[])).current_dir("/");
    let tracer = Tracer::start_command(netns::original(), command, Stdio::piped(), last);
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    let run = stage.finish(tracer, 1, 1);
    run.the_sent().owner(&pair.client).provenance("connect").is("/process/confidence", "exact");
    run.the_received().owner(&pair.server).is("/process/confidence", "exact");
    run
}

fn hide_processes() -> io::Result<()> {
    mounts::leave()?;
    mounts::mount("proc", "/proc", "hidepid=2")
}

/// Network namespaces are created and removed, each with a reset in it: all are reported, with the namespace.
pub(crate) fn namespaces_come_and_go(stage: &Stage) {
    const NAMESPACES: u64 = 101;
    // Other scenarios run at the same time, this one on the other transport among them; in a new namespace every port
    // is free.
    let port = u16::try_from(20_000 + stage.netns % 10_000).unwrap();
    let tracer = stage.trace_everywhere(&["--port", &port.to_string()]);
    let reset_in_another = move || {
        thread::spawn(move || {
            let netns = netns::enter_new();
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            reset_one(&listener);
            netns
        })
    };
    let mut made = Vec::new();
    for _ in 0..NAMESPACES / 4 {
        let together: Vec<_> = (0..4).map(|_| reset_in_another()).collect();
        made.extend(together.into_iter().map(|thread| thread.join().unwrap()));
    }
    made.push(reset_in_another().join().unwrap());
    let mut tracer = tracer;
    let run = {
        tracer.expect(2 * NAMESPACES);
        tracer.finish()
    };
    run.check_counts(NAMESPACES, NAMESPACES);
    assert_eq!(run.lost, 0);
    for of in [true, false] {
        let mut seen: Vec<u64> = run
            .resets
            .iter()
            .filter(|reset| reset.is_sent() == of)
            .map(|reset| reset["netns"]["inode"].as_u64().unwrap())
            .collect();
        made.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, made);
    }
    for reset in &run.resets {
        reset.is("/process/pid", std::process::id());
    }
}

/// Two instances report the same resets, and the end of one does not affect the other.
pub(crate) fn two_instances_report_the_same(stage: &Stage) {
    let (mut first, mut second) = (stage.trace(), stage.trace());
    let mut pair = Pair::open(V4);
    let mut reset_one = || {
        pair.client_aborts();
        pair.connect("c", "s");
    };
    for _ in 0..MANY {
        reset_one();
    }
    first.expect(2 * MANY);
    second.expect(2 * MANY);
    first.signal(Signal::SIGKILL);
    first.status();
    let mut third = stage.trace();
    for _ in 0..MANY {
        reset_one();
    }
    third.expect(2 * MANY);
    stage.finish(third, MANY, MANY);
    let run = stage.finish(second, 2 * MANY, 2 * MANY);
    for reset in &run.resets {
        reset.owner(if reset.is_sent() { &pair.client } else { &pair.server });
    }
}

/// Stopped for a while and continued, rsttrace reports the resets of that time, with their own times, and in order but for the
/// time that a record waits for that of the other end.
pub(crate) fn stopped_run_catches_up(stage: &Stage) {
    let mut tracer = stage.trace();
    let mut pair = Pair::open(V4);
    stop(&tracer);
    let before = jiff::Timestamp::now();
    for _ in 0..MANY {
        pair.client_aborts();
        pair.connect("c", "s");
    }
    let after = jiff::Timestamp::now();
    tracer.signal(Signal::SIGCONT);
    tracer.expect(2 * MANY);
    pair.client_aborts();
    let run = stage.finish(tracer, MANY + 1, MANY + 1);
    let mut times: Vec<jiff::Timestamp> =
        run.resets.iter().map(|reset| reset["time"].as_str().unwrap().parse().unwrap()).collect();
    // Of one direction only: the others wait for a holder lookup.
    let time = |reset: &Reset| reset["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let of_one: Vec<jiff::Timestamp> = run.sent().map(time).collect();
    let mut latest = jiff::Timestamp::UNIX_EPOCH;
    for &time in &of_one {
        latest = latest.max(time);
        assert!(latest.duration_since(time) <= MAX_HOLD, "{of_one:?}");
    }
    times.sort();
    let of_then = &times[..usize::try_from(2 * MANY).unwrap()];
    assert!(of_then.iter().all(|time| (before..=after).contains(time)), "{before} {of_then:?} {after}");
    for reset in run.sent() {
        reset.owner(&pair.client);
    }
}

/// Events that are in the buffer when the run is ended are written.
pub(crate) fn full_buffer_is_written_at_the_end(stage: &Stage) {
    const CONNECTIONS: u64 = 499;
    let tracer = stage.trace();
    stop(&tracer);
    let (_server, burst) = burst(CONNECTIONS);
    burst.join().unwrap();
    tracer.signal(Signal::SIGINT);
    tracer.signal(Signal::SIGCONT);
    let run = tracer.wait();
    run.check_counts(CONNECTIONS, CONNECTIONS);
    assert_eq!(run.lost, 0);
}

/// Stops rsttrace, and waits until it has stopped.
pub(super) fn stop(tracer: &Tracer) {
    tracer.signal(Signal::SIGSTOP);
    waitpid(Pid::from_raw(tracer.pid().cast_signed()), Some(WaitPidFlag::WUNTRACED)).unwrap();
}

/// A cgroup whose memory is limited; the processes in it have to exit before this is dropped.
pub(crate) struct Limited(PathBuf);

/// Directory for cgroups that limit memory, and the name of the limit there.
fn memory_controller() -> Option<(PathBuf, &'static str)> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let at = Path::new(*words.get(1)?);
        match *words.get(2)? {
            "cgroup" if words.get(3)?.split(',').any(|option| option == "memory") => {
                Some((at.to_owned(), "memory.limit_in_bytes"))
            }
            "cgroup2" => {
                let control = fs::read_to_string(at.join("cgroup.subtree_control")).ok()?;
                let is_on = control.split_whitespace().any(|controller| controller == "memory");
                (is_on || fs::write(at.join("cgroup.subtree_control"), "+memory").is_ok())
                    .then(|| (at.to_owned(), "memory.max"))
            }
            _ => None,
        }
    })
}

pub(crate) fn no_memory_controller() -> Option<Lack> {
    memory_controller().is_none().then(|| Lack::Kernel("no cgroup can limit memory here".to_owned()))
}

impl Limited {
    pub(crate) fn make(name: &str, bytes: u64) -> Self {
        let (at, limit) = memory_controller().expect("asked for before");
        let made = Self(at.join(name));
        fs::create_dir(&made.0).unwrap();
        fs::write(made.0.join(limit), bytes.to_string()).unwrap();
        made
    }

    /// A command, without arguments yet, whose process is in the cgroup.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs")).arg(program);
        command
    }

    /// Maximum memory used, in bytes, where the kernel has the figure.
    fn most(&self) -> Option<u64> {
        let read = |file| fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok();
        read("memory.max_usage_in_bytes").or_else(|| read("memory.peak"))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

/// Memory limit in bytes.
fn limit() -> u64 {
    if host::is_from_7() { 96 << 20 } else { 64 << 20 }
}

/// 64 MiB (from 7.0 on 96) are enough for everything, the kernel's part included: buffers, maps, and thousands of resets.
pub(crate) fn memory_limit_is_enough(stage: &Stage) {
    // No more than fit into an accept queue, since no process accepts them.
    const CONNECTIONS: u64 = 2_003;
    const BURSTS: u64 = 3;
    let group = Limited::make(&format!("rsttrace-memory-{}-{}", std::process::id(), stage.netns), limit());
    let mut command = group.command(&host::rsttrace());
    command.args(arguments(stage, &[]));
    let file = tempfile::NamedTempFile::new().unwrap();
    let tracer = Tracer::start_command(netns::original(), command, file.reopen().unwrap().into(), || Ok(()));
    for _ in 0..BURSTS {
        let (_server, burst) = burst(CONNECTIONS);
        burst.join().unwrap();
    }
    tracer.signal(Signal::SIGINT);
    let (status, stderr) = tracer.status();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let text = fs::read_to_string(file.path()).unwrap();
    let summary: Value = serde_json::from_str(text.lines().last().expect("a summary")).unwrap();
    let [reported, lost] = ["resets", "lost"].map(|field| summary[field].as_u64().unwrap());
    assert_eq!(reported + lost, 2 * CONNECTIONS * BURSTS, "{lost} were lost");
    // A debug build, beside other scenarios, reads more slowly than events arrive. The content of one buffer is
    // reported.
    assert!(reported >= CONNECTIONS, "{lost} were lost");
    assert!(group.most().is_none_or(|most| most <= limit()));
}
