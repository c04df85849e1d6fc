//! Puppets: processes that execute a scenario's commands, one at a time.
//!
//! A puppet is this program started again with the argument `puppet`. It reads one command per line from standard
//! input, and answers each with one line, `ok …` or `error …`, when the command is done. So a scenario knows that a
//! step has happened before it takes the next one.

pub(crate) mod agent;
mod destroy;
pub(crate) mod handover;
mod sockets;
pub(crate) mod uring;

pub(crate) use destroy::destroy;

use std::{
    env,
    ffi::OsString,
    fmt::Display,
    io::Write as _,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    time::Instant,
};

use crate::{
    child::Guard,
    lines::{Lines, Next, TIMEOUT},
    netns,
};

/// First argument of a puppet.
pub(crate) const ARGUMENT: &str = "puppet";

/// Running puppet; it is killed when this is dropped.
pub(crate) struct Puppet {
    child: Guard,
    commands: ChildStdin,
    answers: Lines,
    comm: String,
}

impl Puppet {
    /// Starts a puppet in the calling thread's network namespace, with this name (at most 15 bytes).
    pub(crate) fn start(comm: &str) -> Self {
        Self::start_beside(netns::inode(), comm)
    }

    /// Starts a puppet on the CPU of the puppets of another namespace, with which this one has connections.
    pub(crate) fn start_beside(namespace: u64, comm: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([ARGUMENT, &namespace.to_string()]);
        let mut puppet = Self::spawn(command);
        puppet.rename(comm.as_bytes());
        puppet
    }

    /// Starts a puppet by another path to this program, with more arguments, and with a name that need not be text.
    pub(crate) fn start_as(program: &Path, arguments: &[OsString], comm: &[u8]) -> Self {
        let mut command = Command::new(program);
        // Rust's `env::args` accepts only text, but reads no further than the argument that is requested.
        command.arg0(ARGUMENT).args([ARGUMENT, &netns::inode().to_string()]).args(arguments);
        let mut puppet = Self::spawn(command);
        puppet.rename(comm);
        puppet
    }

    /// Sets the puppet's name, of which the kernel keeps 15 bytes.
    pub(crate) fn rename(&mut self, comm: &[u8]) {
        let comm = &comm[..comm.len().min(15)];
        let mut number = [0; 16];
        number[..comm.len()].copy_from_slice(comm);
        self.tell(format_args!("name {}", u128::from_be_bytes(number)));
        self.comm = String::from_utf8_lossy(comm).into_owned();
    }

    fn spawn(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program can start itself");
        let commands = child.stdin.take().unwrap();
        let answers = Lines::of(child.stdout.take().unwrap());
        Self { child: Guard(child), commands, answers, comm: "a puppet".to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn comm(&self) -> &str {
        &self.comm
    }

    /// Sends a command and returns the answer, or the name of the error.
    pub(crate) fn ask(&mut self, command: impl Display) -> Result<String, String> {
        writeln!(self.commands, "{command}").unwrap_or_else(|error| panic!("{}: {command}: {error}", self.comm));
        let Next::Line(answer) = self.answers.next(Instant::now() + TIMEOUT) else {
            panic!("{} gives no answer to `{command}`", self.comm);
        };
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            ("ok", rest) => Ok(rest.to_owned()),
            ("error", rest) => Err(rest.to_owned()),
            _ => panic!("{} answers `{answer}` to `{command}`", self.comm),
        }
    }

    /// Sends a command that must succeed, and returns the answer.
    pub(crate) fn tell(&mut self, command: impl Display) -> String {
        let text = command.to_string();
        self.ask(command).unwrap_or_else(|error| panic!("{}: {text}: {error}", self.comm))
    }

    /// Listens at an address; for port 0 the kernel chooses one.
    pub(crate) fn listen(&mut self, name: &str, address: impl Display, backlog: u32) -> SocketAddr {
        self.tell(format_args!("listen {name} {address} {backlog}")).parse().unwrap()
    }

    /// Connects, and returns the local end.
    pub(crate) fn connect(&mut self, name: &str, address: impl Display) -> SocketAddr {
        self.tell(format_args!("connect {name} {address}")).parse().unwrap()
    }

    /// Closes `name` with `SO_LINGER` 0, which sends a reset.
    pub(crate) fn abort(&mut self, name: &str) {
        self.tell(format_args!("linger0 {name}"));
        self.tell(format_args!("close {name}"));
    }

    /// Waits until `name` has an error, and checks which.
    pub(crate) fn wait_error(&mut self, name: &str, error: &str) {
        let met = self.tell(format_args!("wait_error {name}"));
        assert_eq!(met, error, "{}: error of {name}", self.comm);
    }

    /// Waits for the process that was started, which has left a child that executes commands, and so frees its PID.
    pub(crate) fn reap(&mut self) {
        self.child.wait().unwrap();
    }

    /// Kills the puppet with SIGKILL, and waits until it has exited.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
