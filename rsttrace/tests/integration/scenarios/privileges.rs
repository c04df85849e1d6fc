//! Privileges: what rsttrace needs to start, and what it keeps once everything is attached.

use std::{
    fs::{self, Permissions},
    io::{self, Read as _, Write as _},
    mem::zeroed,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tempfile::TempDir;

use crate::{
    host, netns,
    stage::{Pair, Stage, V4},
    tracer::{Run, Tracer},
};

const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
pub(crate) const CAP_PERFMON: u32 = 38;
pub(crate) const CAP_BPF: u32 = 39;

/// A user without privileges: 65534, which most systems reserve.
const NOBODY_UID: u32 = 65534;

/// Every thread keeps two capabilities, gains none by exec, and is sandboxed; owners that are other users' processes
/// are still known.
pub(crate) fn attached_run_gives_up_privileges(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let threads = threads(tracer.pid());
    assert!(threads.len() >= 2, "one reads and one writes");
    for status in threads {
        is_confined(&status);
        assert_eq!(field(&status, "Uid:"), "0 0 0 0");
    }
    pair.client_aborts();
    knows_the_programs(&stage.finish(tracer, 1, 1), &pair);
}

/// Concurrent starts beside a busy CPU: each gives up its privileges in every thread, although the threads that loaded
/// the programs may still be exiting.
pub(crate) fn every_start_gives_up_privileges(stage: &Stage) {
    const AT_ONCE: usize = 5;
    let starts = if host::is_guest() { AT_ONCE } else { 30 };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let begin = |_| {
            let mut command = Command::new(host::rsttrace());
            command.args(stage.arguments()).args(["--port", "1", "--duration", "1ms"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut runs = (0..starts).map(begin);
        let starts: Vec<_> = std::iter::from_fn(|| {
            let together: Vec<_> = runs.by_ref().take(AT_ONCE).collect();
            (!together.is_empty()).then_some(together)
        })
        .flatten()
        .map(|run| run.wait_with_output().unwrap())
        .collect();
        is_over.store(true, Ordering::Relaxed);
        for output in starts {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !stderr.contains("privileges"), "{stderr}");
        }
    });
}

/// With `--user`, the privileges are given up under a user who is not the owners'.
pub(crate) fn user_option_changes_the_user(stage: &Stage) {
    let tracer = stage.trace_with(&["--user", &NOBODY_UID.to_string()]);
    let mut pair = Pair::open(V4);
    for status in threads(tracer.pid()) {
        is_confined(&status);
        for ids in ["Uid:", "Gid:"] {
            assert_eq!(field(&status, ids), [NOBODY_UID; 4].map(|id| id.to_string()).join(" "), "{status}");
        }
        assert_eq!(field(&status, "Groups:"), NOBODY_UID.to_string());
    }
    pair.client_aborts();
    let run = stage.finish(tracer, 1, 1);
    knows_the_programs(&run, &pair);
    // The counters of rsttrace's own network namespace are readable.
    let counters = run.summaries.last().expect("a summary")["coverage"]["counters"].as_array().map(Vec::len);
    assert_eq!(counters, Some(3));
}

/// Three capabilities are enough for everything that root can do.
pub(crate) fn three_capabilities_are_enough(stage: &Stage) {
    let said_to_root = limits(&stage.trace().finish());
    let directory = readable_copy();
    let program = directory.path().join("rsttrace");
    let mut command = Command::new(program);
    let netns = stage.netns.to_string();
    command.args(stage.arguments()).args(["--netns", &netns]).current_dir("/");
    let tracer = Tracer::start_command(netns::original(), command, Stdio::piped(), become_nobody_with_three);
    let mut pair = Pair::open(V4);
    for status in threads(tracer.pid()) {
        let has = has(&status, "CapPrm:");
        assert_eq!((has, field(&status, "NoNewPrivs:"), field(&status, "Seccomp:")), (kept(), "1".into(), "2".into()));
    }
    pair.client_aborts();
    let run = stage.finish(tracer, 1, 1);
    knows_the_programs(&run, &pair);
    assert_eq!(limits(&run), said_to_root);
}

/// Directory with a copy of the program: the original may be in a directory that only root can enter.
pub(crate) fn readable_copy() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    // Copied by another process: a child that another scenario forks at the same time could hold the copy open for
    // writing, and the kernel refuses to execute such a file (ETXTBSY).
    let copied = Command::new("cp").arg(host::rsttrace()).arg(directory.path()).status().unwrap();
    assert!(copied.success());
    directory
}

/// What reads files of strangers keeps the right to read them, and nothing else. It is looked at once it has written a record.
pub(crate) fn readers_give_up_privileges(stage: &Stage) {
    let tracer = stage.trace();
    Pair::open(V4).client_aborts();
    let run = stage.finish(tracer, 1, 1);
    let line = format!("{}\n", run.the_sent().0);
    for command in ["replay", "export"] {
        let mut reader = Command::new(host::rsttrace())
            .args([command, "-"])
            .stderr(Stdio::null())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = reader.stdin.take().expect("a pipe");
        // More than the buffers of its output hold.
        let lines = line.repeat(5_000);
        let feeder = thread::spawn(move || drop(input.write_all(lines.as_bytes())));
        let mut output = reader.stdout.take().expect("a pipe");
        output.read_exact(&mut [0]).unwrap();
        for status in threads(reader.id()) {
            assert_eq!(has(&status, "CapEff:"), 1 << CAP_DAC_READ_SEARCH, "{command}: {status}");
            assert_eq!(
                (has(&status, "CapBnd:"), field(&status, "NoNewPrivs:"), field(&status, "Seccomp:")),
                (0, "1".into(), "2".into())
            );
        }
        drop(output);
        reader.wait().unwrap();
        feeder.join().unwrap();
    }
}

/// `--user` without the right to change users is an error, and nothing is traced.
pub(crate) fn forbidden_user_change_is_an_error(stage: &Stage) {
    for (user, status, word) in [("no-such-user-here", 2, "getent passwd"), ("", 2, "a value is required")] {
        let output = Command::new(host::rsttrace()).args(stage.arguments()).args(["--user", user]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{stderr}");
    }
}

/// What rsttrace reports as limited at the start, without the resets of firewall rules, which depend on other scenarios, and the
/// look-ups in the table of tracked connections, which need another capability.
fn limits(run: &Run) -> Vec<String> {
    let line = run.stderr.lines().find_map(|line| line.strip_prefix("rsttrace: limited: ")).unwrap_or_default();
    let is_of_probes = |limit: &&str| !limit.contains("firewall") && !limit.contains("translated");
    line.split("; ").filter(is_of_probes).map(str::to_owned).collect()
}

#[track_caller]
fn knows_the_programs(run: &Run, pair: &Pair) {
    for (reset, puppet) in [(run.the_sent(), &pair.client), (run.the_received(), &pair.server)] {
        let program = fs::read_link(Path::new("/proc").join(puppet.pid().to_string()).join("exe")).unwrap();
        reset.owner(puppet).is("/process/executable", program.to_str()).is("/process/confidence", "exact");
    }
}

#[track_caller]
fn is_confined(status: &str) {
    for (set, expected) in [("CapEff:", kept()), ("CapPrm:", kept()), ("CapInh:", 0), ("CapBnd:", 0), ("CapAmb:", 0)] {
        assert_eq!(has(status, set), expected, "{set} {status}");
    }
    assert_eq!((field(status, "NoNewPrivs:"), field(status, "Seccomp:")), ("1".into(), "2".into()), "{status}");
}

fn kept() -> u64 {
    1 << CAP_SYS_PTRACE | 1 << CAP_BPF
}

/// `/proc/PID/task/TID/status` of every thread.
fn threads(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap();
    // The thread that reads the host's processes at the start may end at any time.
    threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok()).collect()
}

/// Values of a line, separated by one blank.
#[track_caller]
fn field(status: &str, name: &str) -> String {
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {status}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has(status: &str, set: &str) -> u64 {
    u64::from_str_radix(&field(status, set), 16).unwrap()
}

fn become_nobody_with_three() -> io::Result<()> {
    become_nobody_with(&[CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF])
}

/// Changes to the user 65534 with these capabilities, which are kept across exec.
pub(crate) fn become_nobody_with(wanted: &[u32]) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Set {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let check = |result: libc::c_long| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let all: u64 = wanted.iter().map(|capability| 1_u64 << capability).sum();
    let half = |bits: u64| {
        let bits = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        Set { effective: bits, permitted: bits, inheritable: bits }
    };
    let (header, sets) = (Header { version: 0x2008_0522, pid: 0 }, [half(all), half(all >> 32)]);
    // SAFETY: integers, and structures of the kernel's layout that live through the calls.
    unsafe {
        if host::charges_memory_to_users() {
            let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            check(libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited).into())?;
        }
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        check(libc::syscall(libc::SYS_setgroups, 0, zeroed::<*const libc::gid_t>()))?;
        check(libc::syscall(libc::SYS_setresgid, NOBODY_UID, NOBODY_UID, NOBODY_UID))?;
        check(libc::syscall(libc::SYS_setresuid, NOBODY_UID, NOBODY_UID, NOBODY_UID))?;
        check(libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()))?;
        for &capability in wanted {
            check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0).into())?;
        }
    }
    Ok(())
}
