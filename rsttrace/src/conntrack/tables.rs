//! Sockets for the tables of the host's network namespaces, and look-ups through them.
//!
//! A socket keeps its namespace alive, with the interfaces in it. Each is therefore closed when a process of its namespace
//! ends, the one with the lowest PID, which is the one that a container begins with.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use caps::{CapSet, Capability};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
    },
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    message,
    protocol::{HelperReady, HelperRequest, MESSAGE_MAX, TableAnswer},
};
use crate::model::{Endpoint, NamespaceId, translation::Tuple};

/// Most namespaces beside the own one.
const MOST_NAMESPACES: usize = 64;

/// `SO_NETNS_COOKIE` (5.14), which libc has for some targets only.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Table of one namespace.
struct Table {
    namespace: NamespaceId,
    /// `None` after its namespace has ended.
    socket: Option<OwnedFd>,
    /// Process that stands for the namespace (pidfd); `None` of the own one.
    process: Option<OwnedFd>,
}

/// Tables of all namespaces that could be opened.
pub(super) struct Tables {
    all: Vec<Table>,
    host: u16,
    refused: u16,
    error: u16,
    hidden: u16,
    beyond: u16,
    sequence_number: u32,
}

impl Tables {
    /// Opens a socket in the calling thread's network namespace, and in as many of other processes' as the bound allows, by
    /// PID. Blocks while `/proc` is listed. Fails when there can be no socket in its own.
    pub(super) fn open() -> Result<Self, Errno> {
        let own = own_inode();
        let here = File::open("/proc/thread-self/ns/net");
        let (namespaces, hidden) = namespaces_by_pid();
        let mut tables = Self { all: Vec::new(), host: 0, refused: 0, error: 0, hidden, beyond: 0, sequence_number: 0 };
        tables.push(own, open_socket()?, None);
        for (pid, inode) in namespaces {
            if inode == own {
                continue;
            }
            if tables.all.len() > MOST_NAMESPACES {
                tables.beyond = tables.beyond.saturating_add(1);
                continue;
            }
            match here.as_ref().map_err(errno).and_then(|_| open_in(pid, inode)) {
                Ok((socket, process)) => {
                    if pid == 1 {
                        tables.host = u16::try_from(tables.all.len()).unwrap_or(0);
                    }
                    tables.push(inode, socket, Some(process));
                }
                // It has ended meanwhile.
                Err(Errno::ENOENT | Errno::ESRCH) => {}
                Err(error) => {
                    if tables.refused == 0 {
                        tables.error = u16::try_from(error as i32).unwrap_or(0);
                    }
                    tables.refused = tables.refused.saturating_add(1);
                }
            }
        }
        // In the last one, the thread itself would keep it alive. Fails only without CAP_SYS_ADMIN, where none was entered.
        if let Ok(here) = here {
            let _ignored = setns(here, CloneFlags::CLONE_NEWNET);
        }
        Ok(tables)
    }

    fn push(&mut self, inode: u32, socket: OwnedFd, process: Option<OwnedFd>) {
        let namespace = NamespaceId { inode, cookie: cookie(&socket) };
        self.all.push(Table { namespace, socket: Some(socket), process });
    }

    /// What the other side is to know of the tables.
    pub(super) fn ready(&self) -> HelperReady {
        let tables = self.all.iter().map(|table| table.namespace).collect();
        let Self { host, refused, error, hidden, beyond, .. } = *self;
        HelperReady { tables, host, refused, error, hidden, beyond }
    }

    /// The processes to watch, with the indices of their tables.
    pub(super) fn watched(&self) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        (0..).zip(&self.all).filter_map(|(index, table)| Some((index, table.process.as_ref()?.as_fd())))
    }

    /// Closes a table, so that its namespace can end.
    pub(super) fn close(&mut self, index: u16) {
        if let Some(table) = self.all.get_mut(usize::from(index)) {
            (table.socket, table.process) = (None, None);
        }
    }

    /// Requests an entry of the own namespace that cannot exist. Fails, with the reason, when entries cannot be looked up.
    pub(super) fn probe(&mut self) -> Result<(), String> {
        let nowhere = Endpoint { address: std::net::Ipv4Addr::UNSPECIFIED.into(), port: 0 };
        let mut buffer = [0; MESSAGE_MAX];
        let answer = self.look_up(0, &Tuple { source: nowhere, destination: nowhere }, &mut buffer);
        let error = match answer.map(message::parse) {
            Err(error) | Ok(message::Reply::Error(error)) => error,
            // It exists: entries can be looked up.
            Ok(_) => libc::ENOENT,
        };
        match error {
            libc::ENOENT => Ok(()),
            libc::EPERM => Err("the kernel refuses it without CAP_NET_ADMIN".to_owned()),
            error => Err(format!("the kernel refuses it: {}", io::Error::from_raw_os_error(error))),
        }
    }

    /// Looks up the entries that a request is for: `buffers` are for the answers of the namespace's own table and the host's.
    pub(super) fn answer<'a>(
        &mut self,
        request: &HelperRequest,
        [own, host]: &'a mut [[u8; MESSAGE_MAX]; 2],
    ) -> [Option<TableAnswer<'a>>; 2] {
        let of_own = request.own.map(|table| {
            let length = match self.look_up_length(table, &request.tuple, own)? {
                // A packet to this host that was not translated is found by its own tuple alone.
                length if is_absent(own.get(..length).unwrap_or_default()) => {
                    self.look_up_length(table, &request.tuple.mirrored(), own)?
                }
                length => length,
            };
            Ok(own.get(..length).unwrap_or_default())
        });
        let of_host = request.host.map(|table| self.look_up(table, &request.tuple, host));
        [of_own, of_host]
    }

    fn look_up<'a>(&mut self, table: u16, tuple: &Tuple, buffer: &'a mut [u8; MESSAGE_MAX]) -> TableAnswer<'a> {
        let length = self.look_up_length(table, tuple, buffer)?;
        Ok(buffer.get(..length).unwrap_or_default())
    }

    /// Sends a request, and receives the kernel's answer into the buffer; returns its length. The kernel answers before the
    /// sending of the request returns, so that nothing is waited for.
    fn look_up_length(&mut self, table: u16, tuple: &Tuple, buffer: &mut [u8; MESSAGE_MAX]) -> Result<usize, i32> {
        let socket = self.all.get(usize::from(table)).and_then(|table| table.socket.as_ref()).ok_or(libc::ENOENT)?;
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let request = message::request(self.sequence_number, tuple).ok_or(libc::EAFNOSUPPORT)?;
        send(socket.as_raw_fd(), &request, MsgFlags::empty()).map_err(|error| error as i32)?;
        loop {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            let length = recv(socket.as_raw_fd(), buffer, flags).map_err(|error| error as i32)?;
            if length > buffer.len() {
                return Err(libc::EMSGSIZE);
            }
            // Messages of earlier requests, whose answers were given up, are discarded.
            if message::sequence_number(buffer) == Some(self.sequence_number) {
                return Ok(length);
            }
        }
    }
}

/// Whether the kernel has answered that there is no entry.
fn is_absent(answer: &[u8]) -> bool {
    message::parse(answer) == message::Reply::Error(libc::ENOENT)
}

/// A netlink socket in the calling thread's network namespace.
fn open_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    // Connected to the kernel, it takes messages from nothing else (`netlink_getsockbyportid`): in its own namespace a container
    // may send to any netlink socket.
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

/// Moves the calling thread to the namespace of a process and opens a socket there; also returns the process's pidfd. Fails
/// with `ENOENT` or `ESRCH` when the process has ended.
fn open_in(pid: i32, inode: u32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| errno(&error))?;
    let process = Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
    // Whether the PID names a process of this namespace even now, when it can no longer name another one than the pidfd.
    if inode_of(pid) != Some(inode) {
        return Err(Errno::ESRCH);
    }
    setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    Ok((open_socket()?, process))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// Inode number of the calling thread's network namespace; 0 when `/proc` cannot be read.
fn own_inode() -> u32 {
    let metadata = fs::metadata("/proc/thread-self/ns/net");
    metadata.ok().and_then(|metadata| metadata.ino().try_into().ok()).unwrap_or(0)
}

fn inode_of(pid: i32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino().try_into().ok()
}

/// Every network namespace with the lowest PID in it, by PID, and the number of processes whose namespace cannot be seen for
/// want of `CAP_SYS_PTRACE`.
fn namespaces_by_pid() -> (BTreeMap<i32, u32>, u16) {
    let sees_all = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_PTRACE).unwrap_or(false);
    let mut lowest: BTreeMap<u32, i32> = BTreeMap::new();
    let mut hidden = 0_u16;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        match fs::metadata(format!("/proc/{pid}/ns/net")) {
            Ok(metadata) => {
                if let Ok(inode) = metadata.ino().try_into() {
                    lowest.entry(inode).and_modify(|lowest| *lowest = pid.min(*lowest)).or_insert(pid);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !sees_all => {
                hidden = hidden.saturating_add(1);
            }
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    (lowest.into_iter().map(|(inode, pid)| (pid, inode)).collect(), hidden)
}

/// Cookie of a socket's namespace; 0 before 5.14.
fn cookie(socket: &OwnedFd) -> u64 {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(8);
    // SAFETY: the value and its length live through the call, and the kernel writes no more than the length says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { cookie } else { 0 }
}
