//! Ways in which a socket passes to another process: through a Unix socket, by fork, by exec.

use std::{
    io::{self, Read as _},
    mem::zeroed,
    net::TcpStream,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::{Child, Command, Stdio},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};

/// First argument of a process that holds the connection on its standard input until it ends.
pub(crate) const HOLDER: &str = "holder";

/// Reads standard input until its end, or an error.
pub(crate) fn hold() {
    // An error counts as the end.
    drop(io::stdin().lock().read_to_end(&mut Vec::new()));
}

/// Starts a process whose standard input is the connection.
pub(super) fn start_holder(stream: TcpStream) -> io::Result<Child> {
    Command::new("/proc/self/exe").arg(HOLDER).stdin(Stdio::from(OwnedFd::from(stream))).stdout(Stdio::null()).spawn()
}

/// Binds the abstract Unix socket that receives descriptors.
pub(super) fn bind_unix(name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Control message with one descriptor.
struct DescriptorMessage {
    /// Room for a header and one descriptor, aligned for the header.
    control: [u64; 4],
}

impl DescriptorMessage {
    /// Calls `act` with a message of one byte and this control message.
    fn with<T>(&mut self, act: impl FnOnce(&mut libc::msghdr) -> T) -> T {
        let mut byte = [0_u8];
        let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
        // SAFETY: all zeros is a valid header.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = self.control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&self.control);
        act(&mut message)
    }
}

/// Sends a copy of the connection's descriptor to the Unix socket of this name.
pub(super) fn give(stream: &TcpStream, name: &str) -> io::Result<()> {
    let way = UnixDatagram::unbound()?;
    way.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    let fd = stream.as_raw_fd();
    let sent = DescriptorMessage { control: [0; 4] }.with(|message| {
        // SAFETY: the control buffer has room for a header and one descriptor, and lives through the calls.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(fd);
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            libc::sendmsg(way.as_raw_fd(), message, 0)
        }
    });
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a descriptor from the Unix socket.
pub(super) fn take(from: &UnixDatagram) -> io::Result<TcpStream> {
    DescriptorMessage { control: [0; 4] }.with(|message| {
        // SAFETY: the buffers live through the calls, and the kernel fills in a header and one descriptor.
        unsafe {
            if libc::recvmsg(from.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) < 0 {
                return Err(io::Error::last_os_error());
            }
            let header = libc::CMSG_FIRSTHDR(message);
            if header.is_null() {
                return Err(io::Error::other("the message has no descriptor"));
            }
            let fd = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
            Ok(TcpStream::from(OwnedFd::from_raw_fd(fd)))
        }
    })
}

/// Forks. In the child, returns its PID as the parent sees it, once `parent` has returned there. In the parent, returns
/// the result of `parent`, which receives the child's PID and the end of the pipe that the child waits for.
pub(super) fn fork_with<T>(parent: impl FnOnce(Pid, io::PipeWriter) -> io::Result<T>) -> io::Result<Forked<T>> {
    // SAFETY: a puppet that forks has one thread.
    with_fork(|| Ok(unsafe { fork() }?), parent)
}

/// Forks with this PID for the child, otherwise like [`fork_with`].
pub(super) fn fork_as<T>(pid: Pid, parent: impl FnOnce(Pid, io::PipeWriter) -> io::Result<T>) -> io::Result<Forked<T>> {
    with_fork(|| clone_as(pid), parent)
}

/// `clone3` with `set_tid`, otherwise like fork.
fn clone_as(pid: Pid) -> io::Result<ForkResult> {
    let pids = [pid.as_raw()];
    // SAFETY: all zeros is a valid structure.
    let mut arguments: libc::clone_args = unsafe { zeroed() };
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments.set_tid = pids.as_ptr() as u64;
    arguments.set_tid_size = pids.len() as u64;
    // SAFETY: a puppet that forks has one thread, and the structures live through the call.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of_val(&arguments)) } {
        0 => Ok(ForkResult::Child),
        1.. => Ok(ForkResult::Parent { child: pid }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn with_fork<T>(
    fork: impl FnOnce() -> io::Result<ForkResult>,
    parent: impl FnOnce(Pid, io::PipeWriter) -> io::Result<T>,
) -> io::Result<Forked<T>> {
    let (mut from_parent, to_child) = io::pipe()?;
    match fork()? {
        ForkResult::Child => {
            drop(to_child);
            let mut pid = String::new();
            from_parent.read_to_string(&mut pid)?;
            Ok(Forked::Child(pid))
        }
        ForkResult::Parent { child } => {
            drop(from_parent);
            parent(child, to_child).map(Forked::Parent)
        }
    }
}

/// Result of a fork, in the parent and in the child.
pub(super) enum Forked<T> {
    Child(String),
    Parent(T),
}

/// Places children that are forked from now on in a new PID namespace.
pub(super) fn leave_pid_namespace() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWPID)?)
}

/// Forked child that only holds its copies of all descriptors; it ends when this is dropped.
pub(super) struct ForkedHolder {
    pid: Pid,
    _keeps_it: io::PipeWriter,
}

impl ForkedHolder {
    /// Forks the child.
    pub(super) fn fork() -> io::Result<Self> {
        let (mut from_parent, to_child) = io::pipe()?;
        // SAFETY: a puppet that forks has one thread.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(to_child);
                drop(from_parent.read(&mut [0]));
                // SAFETY: ends this process without touching what it shares with its parent.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => Ok(Self { pid: child, _keeps_it: to_child }),
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends the child and waits until it has exited.
    pub(super) fn end(self) -> io::Result<()> {
        let pid = self.pid;
        drop(self);
        waitpid(pid, None)?;
        Ok(())
    }
}
