//! A program in the foreground, in the scenario's network namespace.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{ChildStdin, Command, Stdio},
    thread,
    time::Instant,
};

use nix::{
    sched::sched_setaffinity,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    child::Guard,
    cpu, host,
    lines::{Lines, Next, TIMEOUT},
    netns,
};

/// Running program. It is killed with its workers when this is dropped.
pub(super) struct Program {
    child: Guard,
    name: String,
    commands: ChildStdin,
    said: Lines,
}

impl Program {
    /// Starts a program, on the CPU of this namespace's puppets.
    pub(super) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(host::program(name).expect("it is installed"));
        let (said, saying) = io::pipe().unwrap();
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(saying.try_clone().unwrap())
            .stderr(saying)
            // An empty environment, so that the user's settings do not affect the program.
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .process_group(0);
        let cpu = cpu::shared_by(netns::inode()).unwrap();
        // SAFETY: nothing but one system call between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(sched_setaffinity(Pid::from_raw(0), &cpu)?));
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let commands = child.stdin.take().unwrap();
        Self { child: Guard(child), name: name.to_owned(), commands, said: Lines::of(said) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the program's output up to the line with this text; returns what follows the text there.
    pub(super) fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        let mut said = String::new();
        while let Next::Line(line) = self.said.next(deadline) {
            if let Some((_, rest)) = line.split_once(text) {
                return rest.trim().to_owned();
            }
            said += &line;
            said.push('\n');
        }
        panic!("{} does not say `{text}`, only:\n{said}", self.name);
    }

    /// Writes a line to the program's standard input.
    pub(super) fn tell(&mut self, line: &str) {
        writeln!(self.commands, "{line}").unwrap_or_else(|error| panic!("{}: {line}: {error}", self.name));
    }

    /// Writes a line to the program's standard input, and returns the next line of its output.
    pub(super) fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.says("")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The workers are killed too, without a chance to clean up, which no scenario expects. The pipe ends when the
        // last of them has exited. An error means that they have already exited.
        let group = Pid::from_raw(self.child.id().cast_signed());
        if killpg(group, Signal::SIGKILL).is_ok() {
            drop(self.said.rest());
        }
    }
}

/// Directory that is readable for the user that a program changes to.
pub(super) fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Writes a script that is executable for all users; returns its path.
pub(super) fn script(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Stops a process as Ctrl-Z does, and waits until all of its threads have stopped.
pub(super) fn stop(pid: u32) {
    signal(pid, Signal::SIGSTOP);
    let is_stopped = || state_of(pid) == Some('T');
    until(&format!("{pid} has stopped"), is_stopped);
}

pub(super) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// Current name of a process.
pub(super) fn comm(pid: u32) -> String {
    // Empty if it has exited.
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// State letter of a process.
fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Polls until `is_so` holds, for changes that the kernel does not signal.
pub(super) fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}
