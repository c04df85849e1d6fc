//! The programs that are measured, one run of one of them at a time.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read},
    os::{
        fd::AsRawFd as _,
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::process;

/// Limit of time for a program to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Program that traces resets.
pub(super) struct Tool {
    pub(super) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    ready: Ready,
}

/// How a program shows that it is ready.
#[derive(Clone, Copy)]
enum Ready {
    /// A byte on an extra descriptor.
    Descriptor,
    /// A line on standard error.
    Said(&'static str),
    /// A line on standard output.
    Printed(&'static str),
}

/// A bpftrace script that prints six fields of each reset. The offsets of the addresses differ between kernels.
const BPFTRACE: &str = r#"BEGIN { printf("ready\n"); }
    tracepoint:tcp:tcp_send_reset, tracepoint:tcp:tcp_receive_reset
    { printf("%llu %s %d %d %s %p\n", nsecs, probe, pid, tid, comm, args->skaddr); }"#;

impl Tool {
    /// rsttrace, restricted to this namespace, so that the other processes of the host are not counted.
    pub(super) fn rsttrace(program: &Path) -> Result<Self> {
        let namespace = fs::metadata("/proc/self/ns/net")?.ino().to_string();
        Ok(Self {
            name: "rsttrace".to_owned(),
            program: program.to_owned(),
            arguments: ["--output", "json", "--netns", &namespace].map(str::to_owned).to_vec(),
            ready: Ready::Descriptor,
        })
    }

    /// The alternatives to rsttrace, as far as they are installed.
    pub(super) fn others() -> Vec<Self> {
        let resets = "tcp[tcpflags] & tcp-rst != 0";
        let tool = |name: &str, version: &str, arguments: &[&str], ready| {
            let program = process::find(name, &["/usr/sbin".into()])?;
            let said = Command::new(&program).arg(version).output().ok()?;
            let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
            let version = said.split_whitespace().find(|word| word.contains('.')).unwrap_or_default().to_owned();
            let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
            Some(Self { name: format!("{name} {version}"), program, arguments, ready })
        };
        let tcpdump = tool("tcpdump", "--version", &["-i", "lo", "-n", "-w", "-", resets], Ready::Said("listening on"));
        // perf executes a given program once it traces, and that program reports it. It ends with its standard input.
        let waiter = ["sh", "-c", "echo ready >&2; exec cat >/dev/null 2>&1"];
        let traced = ["trace", "--all-cpus", "--no-syscalls", "-e", "tcp:tcp_send_reset,tcp:tcp_receive_reset", "--"];
        let perf = tool("perf", "--version", &[traced.as_slice(), &waiter].concat(), Ready::Said("ready"));
        let bpftrace = tool("bpftrace", "--version", &["-e", BPFTRACE], Ready::Printed("ready"));
        [tcpdump, perf, bpftrace].into_iter().flatten().collect()
    }

    /// Starts the program with these additional arguments, and waits until it is ready.
    pub(super) fn start(&self, more: &[&str]) -> Result<Watcher> {
        let begin = Instant::now();
        let (said, ready) = io::pipe()?;
        let number = ready.as_raw_fd();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if matches!(self.ready, Ready::Descriptor) {
            command.args(["--ready-fd", &number.to_string()]);
            // SAFETY: one system call between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    // Only this descriptor is inherited by exec.
                    if libc::fcntl(number, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
                });
            }
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        drop(ready);
        let (tell, told) = mpsc::channel();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (in_out, in_err) = match self.ready {
            Ready::Descriptor => {
                let tell = tell.clone();
                thread::spawn(move || {
                    let mut said = said;
                    // The end of the program without output is not readiness.
                    if said.read_exact(&mut [0]).is_ok() {
                        let _ = tell.send(());
                    }
                });
                (None, None)
            }
            Ready::Printed(word) => (Some(word), None),
            Ready::Said(word) => (None, Some(word)),
        };
        let printed = drain(out, in_out, tell.clone());
        let said = drain(err, in_err, tell);
        let mut watcher = Watcher { child, printed: Some(printed), said: Some(said), took: Duration::ZERO };
        if told.recv_timeout(PATIENCE).is_err() {
            let stderr = watcher.stop()?.said;
            bail!("{} does not get ready: {stderr}", self.name);
        }
        watcher.took = begin.elapsed();
        Ok(watcher)
    }
}

/// Running program that is ready.
pub(super) struct Watcher {
    child: Child,
    printed: Option<JoinHandle<String>>,
    said: Option<JoinHandle<String>>,
    /// Time from the start until ready.
    pub(super) took: Duration,
}

/// CPU time of a program, in clock ticks, as in `/proc`.
#[derive(Clone, Copy)]
pub(super) struct Ticks {
    user: f64,
    system: f64,
}

/// Result of a run.
pub(super) struct End {
    /// Last line of standard output.
    pub(super) printed: String,
    pub(super) said: String,
}

impl End {
    /// Resets that rsttrace has reported, and lost.
    pub(super) fn counts(&self) -> Option<(f64, f64)> {
        let summary: Value = serde_json::from_str(&self.printed).ok()?;
        Some((summary.get("resets")?.as_f64()?, summary.get("lost")?.as_f64()?))
    }
}

impl Watcher {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads so far, in the kernel and in user space.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // The first figure is the time on a CPU. A thread may end in the meantime.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            nanoseconds += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Share of user space in the CPU time, including that of threads that have ended. The kernel divides the time
    /// between the two by where its clock ticks have interrupted the program.
    pub(super) fn user_share(&self, since: Ticks) -> Result<f64> {
        let now = self.ticks()?;
        let [user, system] = [now.user - since.user, now.system - since.system];
        Ok(if user + system > 0.0 { user / (user + system) } else { 0.0 })
    }

    /// CPU time so far, in clock ticks, as in `/proc`.
    pub(super) fn ticks(&self) -> Result<Ticks> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // Field 3 is the first one behind the name, which may contain anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<f64>().ok();
        Ok(Ticks { user: field(14).context("no utime")?, system: field(15).context("no stime")? })
    }

    /// Maximum memory in kilobytes, and how much of the current memory is anonymous.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        Ok((value("VmHWM:").context("no VmHWM")?, value("RssAnon:").context("no RssAnon")?))
    }

    /// Ends the program by SIGINT, as Ctrl-C does, and waits.
    pub(super) fn stop(mut self) -> Result<End> {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGINT)?;
        drop(self.child.stdin.take());
        let text =
            |thread: Option<JoinHandle<String>>| thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
        // The end of its output is the end of the program.
        let end = End { printed: text(self.printed.take()), said: text(self.said.take()) };
        self.child.wait()?;
        Ok(end)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It has already ended, unless there was an error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads a stream to its end, as the caller of the program would, and keeps the last line. Sends a message when a line
/// contains a word.
fn drain(
    stream: Option<impl Read + Send + 'static>,
    word: Option<&'static str>,
    tell: mpsc::Sender<()>,
) -> JoinHandle<String> {
    thread::spawn(move || {
        let Some(stream) = stream else { return String::new() };
        let mut stream = BufReader::with_capacity(1 << 18, stream);
        let mut line = Vec::new();
        if let Some(word) = word {
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if String::from_utf8_lossy(&line).contains(word) {
                    let _ = tell.send(());
                    break;
                }
                line.clear();
            }
        }
        drop(tell);
        last_line(&mut stream)
    })
}

fn last_line(stream: &mut impl Read) -> String {
    const KEPT: usize = 1 << 16;
    let (mut block, mut kept) = (vec![0; 1 << 18], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut block) {
        let new = block.get(..read).unwrap_or_default();
        kept.extend_from_slice(new.get(read.saturating_sub(KEPT)..).unwrap_or(new));
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    String::from_utf8_lossy(&kept).trim_end().rsplit('\n').next().unwrap_or_default().to_owned()
}
