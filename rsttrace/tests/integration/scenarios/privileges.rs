//! What rsttrace may still do once everything is attached, and what it needs to begin with.

use std::{
    fs::{self, Permissions},
    io,
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

const CAP_SYS_PTRACE: u32 = 19;
pub(crate) const CAP_PERFMON: u32 = 38;
pub(crate) const CAP_BPF: u32 = 39;

/// Nobody, on most systems.
const NOBODY: u32 = 65534;

/// Every thread has two capabilities left, gains none by what it runs, and is fenced in; owners of other users are
/// known all the same.
pub(crate) fn given_up_after_attaching(stage: &Stage) {
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

/// Many starts, several at once, beside a busy CPU: each gives up its privileges in every thread. The threads that load the
/// programs may still be exiting when it asks.
pub(crate) fn given_up_in_every_start(stage: &Stage) {
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

/// The same under another user, who is not the owners'.
pub(crate) fn as_another_user(stage: &Stage) {
    let tracer = stage.trace_with(&["--user", &NOBODY.to_string()]);
    let mut pair = Pair::open(V4);
    for status in threads(tracer.pid()) {
        is_confined(&status);
        for ids in ["Uid:", "Gid:"] {
            assert_eq!(field(&status, ids), [NOBODY; 4].map(|id| id.to_string()).join(" "), "{status}");
        }
        assert_eq!(field(&status, "Groups:"), NOBODY.to_string());
    }
    pair.client_aborts();
    let run = stage.finish(tracer, 1, 1);
    knows_the_programs(&run, &pair);
    // The counters of this process's own namespace are there.
    let counters = run.summaries.last().expect("a summary")["coverage"]["counters"].as_array().map(Vec::len);
    assert_eq!(counters, Some(3));
}

/// Three capabilities do everything that root does.
pub(crate) fn with_three_capabilities_alone(stage: &Stage) {
    let said_to_root = watched(&stage.trace().finish());
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
    assert_eq!(watched(&run), said_to_root);
}

/// A directory with a copy of the program, which may lie where nobody can reach it.
pub(crate) fn readable_copy() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    // Not by this process: whatever another scenario starts meanwhile would have the copy open for writing for a moment, and
    // the kernel runs no such file.
    let copied = Command::new("cp").arg(host::rsttrace()).arg(directory.path()).status().unwrap();
    assert!(copied.success());
    directory
}

/// Without the right to become somebody else that is said, and nothing is traced.
pub(crate) fn user_that_cannot_be_had(stage: &Stage) {
    for (user, status, word) in [("no-such-user-here", 2, "getent passwd"), ("", 2, "no such user")] {
        let output = Command::new(host::rsttrace()).args(stage.arguments()).args(["--user", user]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{stderr}");
    }
}

/// What rsttrace says at the start that it watches. Whether the packet filter's functions are there depends on what other
/// scenarios do.
fn watched(run: &Run) -> Vec<String> {
    let line = run.stderr.lines().find_map(|line| line.strip_prefix("rsttrace: tracing ")).expect("a start line");
    line.split(", ").filter(|hook| !hook.starts_with("nf_")).map(str::to_owned).collect()
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
    // One of them ends of itself when it has looked around.
    threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok()).collect()
}

/// The values of a line, one blank between them.
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

/// Becomes nobody, with these capabilities, which the next program keeps.
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
        check(libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY))?;
        check(libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY))?;
        check(libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()))?;
        for &capability in wanted {
            check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0).into())?;
        }
    }
    Ok(())
}
