//! A running rsttrace, and the checks that apply to every run.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, PipeReader, PipeWriter},
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};
use serde_json::Value;

use crate::{
    child::Guard,
    host,
    lines::{Lines, Next, TIMEOUT},
    netns,
    reset::Reset,
    schema,
};

/// Function that runs between fork and exec.
type Last = fn() -> io::Result<()>;

/// Running rsttrace whose probes are attached.
pub(crate) struct Tracer {
    child: Guard,
    stdout: Option<Lines>,
    stderr: Lines,
    /// Text read from standard error so far.
    heard: String,
    seen: Vec<Value>,
    /// Sum of the counts of the resets read so far.
    resets: u64,
    lost: u64,
}

/// Complete output of a run.
pub(crate) struct Run {
    pub(crate) resets: Vec<Reset>,
    pub(crate) lost: u64,
    /// Summaries; the last is the one at the end of the run.
    pub(crate) summaries: Vec<Value>,
    /// Records of ignored and of forwarded resets.
    pub(crate) others: Vec<Value>,
    pub(crate) stderr: String,
}

impl Tracer {
    /// Starts `rsttrace ARGUMENTS` in the namespace that the tests were started in, and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(netns::original(), arguments)
    }

    /// Starts rsttrace in this namespace, and waits until it is ready.
    pub(crate) fn start_in(namespace: &File, arguments: &[&str]) -> Self {
        Self::start_with(namespace, arguments, &[])
    }

    /// Starts rsttrace in this namespace with more variables in its environment, and waits until it is ready.
    pub(crate) fn start_with(namespace: &File, arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(host::rsttrace());
        command.args(arguments).envs(environment.iter().copied());
        Self::start_command(namespace, command, Stdio::piped(), || Ok(()))
    }

    /// Starts rsttrace by this command, with standard output to a file. `last` runs just before exec; it may only do
    /// what is allowed between fork and exec.
    pub(crate) fn start_command(namespace: &File, command: Command, output: Stdio, last: Last) -> Self {
        let (child, ready) = spawn(namespace, command, output, Stdio::piped(), last);
        let mut tracer = Self::of(child);
        let answer = Lines::of(ready).next(Instant::now() + TIMEOUT);
        if !matches!(answer, Next::Line(_)) {
            drop(tracer.child.kill());
            panic!("rsttrace is not ready: {}", tracer.stderr.rest());
        }
        tracer
    }

    /// Starts rsttrace by this command with both standard output and standard error to a pipe, and waits until it is
    /// ready.
    pub(crate) fn start_saying_all_to(command: Command, pipe: PipeWriter) -> Guard {
        let output = pipe.try_clone().unwrap().into();
        let (child, ready) = spawn(netns::original(), command, output, pipe.into(), || Ok(()));
        let child = Guard(child);
        assert!(matches!(Lines::of(ready).next(Instant::now() + TIMEOUT), Next::Line(_)), "rsttrace is not ready");
        child
    }

    /// Starts rsttrace with standard output to a file, and waits until it is ready.
    pub(crate) fn start_writing_to(arguments: &[&str], output: Stdio) -> Self {
        let mut command = Command::new(host::rsttrace());
        command.args(arguments);
        Self::start_command(netns::original(), command, output, || Ok(()))
    }

    /// Starts rsttrace by this command without waiting until it is ready; its standard error shows that.
    pub(crate) fn start_unannounced(mut command: Command) -> Self {
        Self::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn of(mut child: Child) -> Self {
        let stdout = child.stdout.take().map(Lines::of);
        let stderr = Lines::of(child.stderr.take().expect("a pipe"));
        Self { child: Guard(child), stdout, stderr, heard: String::new(), seen: Vec::new(), resets: 0, lost: 0 }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.child.signal(signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads until this many resets have been reported.
    pub(crate) fn expect(&mut self, resets: u64) -> &mut Self {
        self.read_until(&format!("{resets} resets"), |tracer| tracer.resets >= resets)
    }

    /// Reads until there are this many lines of this type.
    pub(crate) fn expect_lines(&mut self, kind: &str, lines: usize) -> &mut Self {
        self.read_until(&format!("{lines} {kind}"), |tracer| {
            tracer.seen.iter().filter(|line| line["type"] == kind).count() >= lines
        })
    }

    /// Reads until losses have been reported.
    pub(crate) fn expect_lost(&mut self) -> &mut Self {
        self.read_until("a loss", |tracer| tracer.lost > 0)
    }

    /// Reads until a summary counts this many resets, while the run continues.
    pub(crate) fn expect_summary(&mut self, resets: u64) -> &mut Self {
        self.read_until("a summary", |tracer| {
            tracer.seen.iter().any(|line| line["type"] == "summary" && line["resets"] == resets)
        })
    }

    /// Reads standard error until a line contains this text.
    pub(crate) fn expect_said(&mut self, text: &str) -> &mut Self {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.stderr.next(deadline) {
                Next::Line(line) => {
                    self.heard += &line;
                    self.heard.push('\n');
                    if line.contains(text) {
                        return self;
                    }
                }
                Next::End | Next::Late => panic!("`{text}` is not said, only:\n{}", self.heard),
            }
        }
    }

    /// Number of reported reset records that match.
    pub(crate) fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.seen.iter().filter(|line| line["type"] == "reset" && wanted(line)).count()
    }

    /// Reads one more record.
    pub(crate) fn read_one(&mut self) -> &mut Self {
        let before = self.seen.len();
        self.read_until("one more record", |tracer| tracer.seen.len() > before)
    }

    fn read_until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) -> &mut Self {
        let deadline = Instant::now() + TIMEOUT;
        while !enough(self) {
            match self.stdout.as_ref().expect("standard output is a pipe").next(deadline) {
                Next::Line(line) => self.take(&line),
                Next::End => panic!("rsttrace ended before {what}: {}\n{}", self.said(), self.stderr.rest()),
                Next::Late => self.give_up(what),
            }
        }
        self
    }

    /// Fails with everything that rsttrace writes when it is ended, which shows whether the missing records were
    /// delayed, lost or never seen.
    fn give_up(&mut self, what: &str) -> ! {
        let before = self.said();
        let threads = threads(self.child.id());
        self.seen.clear();
        self.signal(Signal::SIGINT);
        let deadline = Instant::now() + TIMEOUT;
        while let Some(Next::Line(line)) = self.stdout.as_ref().map(|stdout| stdout.next(deadline)) {
            self.take(&line);
        }
        let (after, errors) = (self.said(), self.stderr.rest());
        panic!("{what} did not come in time, only:\n{before}\n{threads}At its end came:\n{after}\n{errors}");
    }

    fn said(&self) -> String {
        Value::from(self.seen.clone()).to_string()
    }

    fn take(&mut self, line: &str) {
        assert!(!shows_kernel_address(line), "a kernel address in {line}");
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        schema::check(&value);
        let count = value["count"].as_u64().unwrap_or(0);
        match value["type"].as_str() {
            Some("reset") => self.resets += count,
            Some("lost") => self.lost += count,
            _ => {}
        }
        self.seen.push(value);
    }

    /// Ends the run by SIGINT, as Ctrl-C does, and returns its complete output.
    pub(crate) fn finish(self) -> Run {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    /// Waits until the run ends by itself, successfully, or without what still waited for a sink.
    pub(crate) fn wait(mut self) -> Run {
        let deadline = Instant::now() + TIMEOUT;
        let stdout = self.stdout.take().expect("standard output is a pipe");
        loop {
            match stdout.next(deadline) {
                Next::Line(line) => self.take(&line),
                Next::End => break,
                Next::Late => panic!("rsttrace does not end, after:\n{}", self.said()),
            }
        }
        let (seen, lost) = (std::mem::take(&mut self.seen), self.lost);
        let (status, stderr) = self.status();
        // What waits for a sink at the end may be lost, which is status 1.
        let sinks = seen.iter().rev().find(|line| line["type"] == "summary").and_then(|last| last["sinks"].as_array());
        let waits = sinks.into_iter().flatten().any(|sink| sink["waiting"].as_u64() > Some(0));
        assert!(status.success() || waits && status.code() == Some(1), "{status}: {stderr}");
        check_run(&seen, &stderr);
        let summaries = seen.iter().filter(|line| line["type"] == "summary").cloned().collect();
        let is_other = |line: &&Value| line["type"] == "ignored" || line["type"] == "forwarded";
        let others = seen.iter().filter(is_other).cloned().collect();
        let resets = seen.into_iter().filter(|line| line["type"] == "reset").map(Reset).collect();
        Run { resets, lost, summaries, others, stderr }
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Exit status and standard error; waits for the end of a process that is ending.
    pub(crate) fn status(mut self) -> (ExitStatus, String) {
        // The process is reaped only after the end of its pipe.
        let stderr = std::mem::take(&mut self.heard) + &self.stderr.rest();
        let status = self.child.wait().unwrap();
        (status, stderr)
    }
}

/// Starts rsttrace with a pipe for `--ready-fd`.
fn spawn(namespace: &File, mut command: Command, output: Stdio, errors: Stdio, last: Last) -> (Child, PipeReader) {
    let (ready, said) = io::pipe().unwrap();
    let said_number = said.as_raw_fd();
    let namespace = namespace.as_raw_fd();
    command.args(["--ready-fd", &said_number.to_string()]).stdin(Stdio::null()).stdout(output).stderr(errors);
    // SAFETY: nothing but system calls between fork and exec, and the caller keeps the namespace open.
    unsafe {
        command.pre_exec(move || {
            setns(BorrowedFd::borrow_raw(namespace), CloneFlags::CLONE_NEWNET)?;
            // Only this descriptor is inherited by exec, and only in this child.
            if libc::fcntl(said_number, libc::F_SETFD, 0) == 0 { last() } else { Err(io::Error::last_os_error()) }
        });
    }
    (command.spawn().unwrap_or_else(|error| panic!("{}: {error}", host::rsttrace().display())), ready)
}

/// Kernel stack position of each thread of a process, one per line.
fn threads(pid: u32) -> String {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.fold(String::new(), |mut lines, task| {
        let [name, place] = ["comm", "wchan"].map(|file| read(task.path().join(file)));
        writeln!(lines, "thread {name} in {place}").unwrap();
        lines
    })
}

/// Sum of the counts of all lines of one type.
fn total(lines: &[Value], kind: &str) -> u64 {
    lines.iter().filter(|line| line["type"] == kind).map(|line| line["count"].as_u64().expect("a count")).sum()
}

/// Checks what holds for every run.
fn check_run(lines: &[Value], stderr: &str) {
    let everything = || Value::from(lines.to_vec());
    let numbers = lines.iter().filter(|line| line["type"] == "reset").map(|line| line["seq"].as_u64().unwrap_or(0));
    assert!(
        numbers.eq(1..=lines.iter().filter(|line| line["type"] == "reset").count() as u64),
        "seq has a gap: {:#}",
        everything()
    );
    let summary = lines.last().filter(|line| line["type"] == "summary");
    let summary = summary.unwrap_or_else(|| panic!("no summary at the end: {:#}\n{stderr}", everything()));
    assert_eq!(summary["resets"], total(lines, "reset"), "the summary counts otherwise: {:#}", everything());
    assert_eq!(summary["lost"], total(lines, "lost"), "the summary has lost otherwise: {:#}", everything());
    for line in lines {
        assert_eq!(line["schema"], 1, "{line:#}");
        let time = line["time"].as_str().unwrap_or_default();
        assert!(time.len() == "2026-11-21T08:15:02.123456789Z".len() && time.ends_with('Z'), "time of {line:#}");
        assert!(line["type"] != "reset" || line["cause"]["code"].is_string(), "no cause in {line:#}");
    }
    assert!(!shows_kernel_address(stderr), "a kernel address in {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Whether a text has an address of the kernel: `ffff` and twelve hexadecimal digits, or a decimal number of that size.
/// No other number in the output is as large.
pub(crate) fn shows_kernel_address(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let in_hex = text.match_indices("ffff").any(|(at, _)| {
        let digits = &text.as_bytes()[at + 4..];
        digits.len() >= 12 && digits[..12].iter().all(u8::is_ascii_hexdigit)
    });
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    let upper_half = 0xffff_8000_0000_0000..=u64::MAX;
    in_hex || numbers.any(|digits| digits.parse().is_ok_and(|number: u64| upper_half.contains(&number)))
}
