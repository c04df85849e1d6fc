//! Process that looks up tracked connections with the code under test: this program, started again.
//!
//! A process of its own, because the helper that does the look-ups is a copy of the process, and copies the process's only
//! thread. Each line on standard input is a command, which one line on standard output answers.

use std::{
    env,
    io::{self, BufRead as _, Write as _},
    net::SocketAddr,
    os::fd::OwnedFd,
    process::{ChildStdin, Command, Stdio},
    time::Instant,
};

use rsttrace::{
    conntrack::{Conntrack, Presence},
    load::KernelInfo,
    model::{
        Endpoint, NamespaceId, Translated,
        translation::{ConntrackEntry, ConntrackLookup, Translations as _, Tuple, translated_ends, untranslated_ends},
    },
};

use crate::{
    child::Guard,
    lines::{Lines, Next, TIMEOUT},
};

/// First argument of this process.
pub(crate) const ARGUMENT: &str = "conntrack";

/// Most requests for one connection. On a busy machine an answer may come too late.
const TRIES: usize = 1_000;

/// Running process, which is killed when this is dropped.
pub(crate) struct ConntrackClient {
    child: Guard,
    commands: ChildStdin,
    answers: Lines,
}

/// What was found of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Source and destination of both tuples, and the state.
    pub(crate) entry: String,
    /// Local and peer's end on the other side of the translation.
    pub(crate) translated: Option<(SocketAddr, SocketAddr)>,
    /// Local and peer's end that a packet should have had that was not translated.
    pub(crate) untranslated: Option<(SocketAddr, SocketAddr)>,
}

impl ConntrackClient {
    /// Starts it in the calling thread's network namespace, and waits until it can look up.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        let mut child =
            command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can start itself");
        let commands = child.stdin.take().unwrap();
        let answers = Lines::of(child.stdout.take().unwrap());
        let mut client = Self { child: Guard(child), commands, answers };
        assert_eq!(client.answer(), "ready");
        client
    }

    fn answer(&mut self) -> String {
        match self.answers.next(Instant::now() + TIMEOUT) {
            Next::Line(line) => line,
            Next::End | Next::Late => panic!("no answer"),
        }
    }

    fn tell(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.answer()
    }

    /// Looks up a connection in the namespace with this inode number. `None` when it has no entry.
    pub(crate) fn look_up(&mut self, netns: u64, local: SocketAddr, peer: SocketAddr) -> Option<Found> {
        let answer = self.tell(&format!("look-up {netns} {local} {peer}"));
        let (entry, ends) = answer.split_once(" | ")?;
        let mut ends = ends.split(' ').map(|end| end.parse().ok());
        let mut pair = || {
            let (local, peer) = (ends.next()?, ends.next()?);
            local.zip(peer)
        };
        Some(Found { entry: entry.to_owned(), translated: pair(), untranslated: pair() })
    }

    /// What a look-up says that finds no entry.
    pub(crate) fn look_up_in_vain(&mut self, netns: u64, local: SocketAddr, peer: SocketAddr) -> String {
        self.tell(&format!("look-up {netns} {local} {peer}"))
    }

    /// Whether the table of the namespace with this inode number can be asked.
    pub(crate) fn has_table_of(&mut self, netns: u64) -> bool {
        self.tell(&format!("has {netns}")) == "true"
    }

    /// Waits until the table of a namespace has been closed.
    pub(crate) fn wait_released(&mut self, netns: u64) {
        assert_eq!(self.tell(&format!("wait-released {netns}")), "released");
    }

    /// PID of the helper.
    pub(crate) fn helper(&self) -> u32 {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse().expect("one child")
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Runs the process.
pub(crate) fn serve() {
    let kernel = KernelInfo::read().expect("BTF");
    let presence = Presence::detect(kernel.has_conntrack_netlink);
    drop(kernel);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, degraded) = Conntrack::start(presence);
        let mut client = client.unwrap_or_else(|| panic!("{presence:?}, {degraded:?}"));
        let mut out = io::stdout().lock();
        writeln!(out, "ready").unwrap();
        for line in io::stdin().lock().lines() {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let answer = match words[..] {
                ["look-up", netns, local, peer] => look_up(&mut client, namespace(netns), end(local), end(peer)).await,
                ["has", netns] => client.has_table_of(namespace(netns)).to_string(),
                ["wait-released", netns] => {
                    while client.has_table_of(namespace(netns)) {
                        client.ready().await;
                        drop(client.take_answers());
                    }
                    "released".to_owned()
                }
                _ => panic!("{line}"),
            };
            writeln!(out, "{answer}").unwrap();
        }
    });
}

fn namespace(inode: &str) -> NamespaceId {
    NamespaceId { inode: inode.parse().unwrap(), cookie: 0 }
}

fn end(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint { address: address.ip(), port: address.port() }
}

async fn look_up(client: &mut Conntrack, namespace: NamespaceId, local: Endpoint, peer: Endpoint) -> String {
    for id in 0.. {
        if !client.request(id, namespace, local, peer) {
            return "not requested".to_owned();
        }
        let answer = loop {
            client.ready().await;
            if let Some(answer) = client.take_answers().pop() {
                break answer;
            }
        };
        assert_eq!(answer.id, id);
        match answer.lookup {
            ConntrackLookup::Found(entry) => return described(&entry, local, peer),
            ConntrackLookup::Absent => return "absent".to_owned(),
            ConntrackLookup::Unknown if id < TRIES as u64 => {}
            ConntrackLookup::Unknown => break,
        }
    }
    format!("unknown, {:?}", client.counts())
}

fn described(entry: &ConntrackEntry, local: Endpoint, peer: Endpoint) -> String {
    let state = entry.tcp_state.map_or_else(|| "-".to_owned(), |state| state.to_string());
    let tuple = |Tuple { source, destination }: Tuple| format!("{source} {destination}");
    let ends = |ends: Option<Translated>| {
        ends.map_or_else(|| "- -".to_owned(), |ends| format!("{} {}", ends.local, ends.peer))
    };
    format!(
        "{} {} {state} | {} {}",
        tuple(entry.original),
        tuple(entry.reply),
        ends(translated_ends(entry, local, peer)),
        ends(untranslated_ends(entry, local, peer))
    )
}

/// Opens a pidfd of a process.
pub(crate) fn pidfd(pid: u32) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}
