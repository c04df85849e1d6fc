//! What a scenario knows without rsttrace: which processes hold which end of a connection.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use nix::sys::signal::Signal;

use crate::{
    puppet::Puppet,
    reset::Reset,
    score,
    stage::Stage,
    tracer::{Run, Tracer},
};

use super::program::{self, until};

/// One end of a connection, and the processes that hold it: PIDs and names.
#[derive(Clone)]
pub(super) struct End {
    local: SocketAddr,
    peer: SocketAddr,
    holders: Vec<(u32, String)>,
}

impl End {
    /// The end that this puppet has.
    pub(super) fn of(puppet: &Puppet, local: SocketAddr, peer: SocketAddr) -> Self {
        Self { local, peer, holders: vec![(puppet.pid(), puppet.comm().to_owned())] }
    }

    /// An end that only this process holds, which `/proc` must confirm.
    pub(super) fn held_by(pid: u32, local: SocketAddr, peer: SocketAddr) -> Self {
        Self::shared_by(pid, &[&program::comm(pid)], local, peer)
    }

    /// An end that is open, with the processes that hold it according to `/proc`.
    pub(super) fn found(local: SocketAddr, peer: SocketAddr) -> Self {
        let inode = socket(local, peer).expect("the connection is open").inode;
        // It may still wait to be accepted.
        until(&format!("a process holds {local}"), || !holders_of(&current_inode(local, peer, &inode)).is_empty());
        Self { local, peer, holders: holders_of(&current_inode(local, peer, &inode)) }
    }

    /// An end that processes of these names, this PID among them, and no others hold, which `/proc` must confirm.
    pub(super) fn shared_by(pid: u32, names: &[&str], local: SocketAddr, peer: SocketAddr) -> Self {
        let inode = socket(local, peer).expect("the connection is open").inode;
        // The process that has just passed it on may still be closing its own copy.
        let is_so = || {
            let mut holders = holders_of(&inode);
            holders.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
            holders.iter().map(|(_, name)| name).eq(names) && holders.iter().any(|(holder, _)| *holder == pid)
        };
        until(&format!("{pid} is one of {names:?} that hold {local}, as {:?}", holders_of(&inode)), is_so);
        Self { local, peer, holders: holders_of(&inode) }
    }

    /// An end that this process opened, and may share with others.
    pub(super) fn opened_by(pid: u32, local: SocketAddr, peer: SocketAddr) -> Self {
        Self { local, peer, holders: vec![(pid, program::comm(pid))] }
    }

    /// PID of the only holder.
    pub(super) fn pid(&self) -> u32 {
        let [(pid, _)] = *self.holders else { panic!("{:?} hold {}", self.holders, self.local) };
        pid
    }

    /// Waits until this many bytes are unread.
    pub(super) fn has_unread(&self, bytes: u32) {
        let unread = || socket(self.local, self.peer).map(|socket| socket.unread);
        until(&format!("{bytes} bytes wait at {}", self.local), || unread() == Some(bytes));
    }

    /// Waits until at least this many bytes are unread.
    pub(super) fn has_unread_at_least(&self, bytes: u32) {
        let unread = || socket(self.local, self.peer).map_or(0, |socket| socket.unread);
        until(&format!("{bytes} bytes wait at {}", self.local), || unread() >= bytes);
    }

    /// Waits until the process has closed this end and no descriptor of it is left.
    pub(super) fn is_closed(&self) {
        until(&format!("the process has closed {}", self.local), || self.has_closed());
    }

    /// Whether the process has closed this end and no descriptor of it is left.
    pub(super) fn has_closed(&self) -> bool {
        socket(self.local, self.peer).is_none_or(|socket| socket.inode == "0")
    }

    /// Checks that this record names the right owner.
    pub(super) fn owns(&self, reset: &Reset) {
        if let Some(fault) = self.fault(reset) {
            panic!("{fault}");
        }
    }

    /// What is wrong with the owner in this record; `None` if it is right.
    fn fault(&self, reset: &Reset) -> Option<String> {
        let process = &reset["process"];
        score::asked();
        let is_right =
            self.holders.iter().any(|(pid, comm)| process["pid"] == *pid && process["comm"] == comm.as_str());
        if is_right {
            score::right(process);
        }
        // Of several holders one is named, as a guess.
        let is_honest = self.holders.len() == 1 || process["confidence"] == "likely";
        let fault = || format!("{} is held by {:?}, not as said in {:#}", self.local, self.holders, reset.0);
        (!is_right || !is_honest || !reset["actor"].is_null()).then(fault)
    }
}

/// Expected resets of a scenario.
#[derive(Default)]
pub(super) struct Truth {
    sent: Vec<End>,
    received: Vec<End>,
}

impl Truth {
    /// Expects a reset from one end, received by the other.
    pub(super) fn resets(&mut self, sender: &End, receiver: &End) {
        assert_eq!((sender.local, sender.peer), (receiver.peer, receiver.local), "two ends of one connection");
        self.resets_half_open(sender);
        self.received.push(receiver.clone());
    }

    /// Expects a reset from this end on a connection of which the peer never had more than a SYN.
    pub(super) fn resets_half_open(&mut self, sender: &End) {
        self.sent.push(sender.clone());
    }

    /// Ends the run and checks that it reported these resets at both ends, no others, and the right owner of each end.
    pub(super) fn finish(&self, stage: &Stage, tracer: Tracer) -> Run {
        let run = stage.finish(tracer, count(&self.sent), count(&self.received));
        let sent = self.sent.iter().map(|end| end.fault(sent_by(&run, end)));
        let received = self.received.iter().map(|end| end.fault(received_by(&run, end)));
        let faults: Vec<String> = sent.chain(received).flatten().collect();
        let total = count(&self.sent) + count(&self.received);
        assert!(faults.is_empty(), "{} of {total} owners are wrong:\n{}", faults.len(), faults.join("\n"));
        run
    }
}

fn count(ends: &[End]) -> u64 {
    ends.len().try_into().unwrap()
}

/// Record of the reset that this end sent.
pub(super) fn sent_by<'a>(run: &'a Run, end: &End) -> &'a Reset {
    let mut sent = run.sent().filter(|reset| is_about(reset, end));
    sent.next().unwrap_or_else(|| panic!("none sent from {} to {}", end.local, end.peer))
}

/// Record of the reset that this end received.
pub(super) fn received_by<'a>(run: &'a Run, end: &End) -> &'a Reset {
    let mut received = run.received().filter(|reset| is_about(reset, end));
    received.next().unwrap_or_else(|| panic!("none received at {} from {}", end.local, end.peer))
}

/// Kills the process that holds this end while seven bytes from the client are unread.
pub(super) fn kill_with_unread_data(end: &End, client: &mut Puppet, name: &str) {
    program::stop(end.pid());
    client.tell(format_args!("send {name} 7"));
    end.has_unread(7);
    program::signal(end.pid(), Signal::SIGKILL);
    client.wait_error(name, "ECONNRESET");
}

fn is_about(reset: &Reset, end: &End) -> bool {
    reset.end("local") == end.local && reset.end("peer") == end.peer
}

/// The end of the only client that is connected to this address, in the calling thread's namespace.
pub(super) fn only_client_of(server: SocketAddr) -> SocketAddr {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let mut clients = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (address(words[2]) == server && words[3] == ESTABLISHED).then(|| address(words[1]))
    });
    let client = clients.next().unwrap_or_else(|| panic!("no client of {server} in:\n{table}"));
    assert_eq!(clients.next(), None, "another client of {server}");
    client
}

/// Whether a process listens at an address, in the calling thread's namespace.
pub(super) fn listens(at: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let port = format!(":{:04X} ", at.port());
    table.lines().any(|line| line.contains(&port) && line.contains(" 0A "))
}

/// Line of `/proc/net/tcp`.
struct Line {
    inode: String,
    unread: u32,
}

/// Inode of the connection between these ends, which has none until it is accepted; the one that is given if it is closed.
fn current_inode(local: SocketAddr, peer: SocketAddr, before: &str) -> String {
    socket(local, peer).map_or_else(|| before.to_owned(), |socket| socket.inode)
}

/// Connection between these ends, in the calling thread's namespace; its socket may be an IPv6 socket.
fn socket(local: SocketAddr, peer: SocketAddr) -> Option<Line> {
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap());
    tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = address(words[1]) == local && address(words[2]) == peer;
        let unread = words[4].split_once(':').and_then(|(_, unread)| u32::from_str_radix(unread, 16).ok());
        is_it.then(|| Line { inode: words[9].to_owned(), unread: unread.expect("two figures") })
    })
}

/// Parses an address such as `0100007F:1F90`. Each eight digits are four bytes in memory order, printed as one number.
fn address(text: &str) -> SocketAddr {
    let (address, port) = text.split_once(':').expect("address and port");
    let word = |index: usize| u32::from_str_radix(&address[index..index + 8], 16).unwrap().to_ne_bytes();
    let ip = if address.len() == 8 {
        IpAddr::from(word(0))
    } else {
        let words = [word(0), word(8), word(16), word(24)].concat();
        IpAddr::from(<[u8; 16]>::try_from(words).unwrap()).to_canonical()
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap())
}

/// Processes that have a descriptor of this socket.
fn holders_of(inode: &str) -> Vec<(u32, String)> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| holds(*pid, Path::new(&link))).map(|pid| (pid, program::comm(pid))).collect()
}

fn holds(pid: u32, link: &Path) -> bool {
    // An error means that the process has exited.
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.filter_map(Result::ok).any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == link))
}
