//! How a socket comes into other hands: through a Unix socket, by fork, by exec.

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

/// The first argument of a program that holds the connection that is its standard input until it ends.
pub(crate) const HOLDER: &str = "holder";

/// Reads until the end, or an error.
pub(crate) fn hold() {
    // An error is an end.
    drop(io::stdin().lock().read_to_end(&mut Vec::new()));
}

/// Starts a program whose standard input is the connection.
pub(super) fn start_holder(stream: TcpStream) -> io::Result<Child> {
    Command::new("/proc/self/exe").arg(HOLDER).stdin(Stdio::from(OwnedFd::from(stream))).stdout(Stdio::null()).spawn()
}

/// A place where descriptors can be left.
pub(super) fn open_box(name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// One descriptor on its way through a Unix socket.
struct Parcel {
    /// Room for a header and one descriptor, aligned for the header.
    control: [u64; 4],
}

impl Parcel {
    /// Does something with a message of one byte and this parcel.
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

/// Leaves a copy of the connection's descriptor in a box.
pub(super) fn give(stream: &TcpStream, name: &str) -> io::Result<()> {
    let way = UnixDatagram::unbound()?;
    way.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    let fd = stream.as_raw_fd();
    let sent = Parcel { control: [0; 4] }.with(|message| {
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

/// Takes what was left in a box.
pub(super) fn take(from: &UnixDatagram) -> io::Result<TcpStream> {
    Parcel { control: [0; 4] }.with(|message| {
        // SAFETY: the buffers live through the calls, and the kernel fills in a header and one descriptor.
        unsafe {
            if libc::recvmsg(from.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) < 0 {
                return Err(io::Error::last_os_error());
            }
            let header = libc::CMSG_FIRSTHDR(message);
            if header.is_null() {
                return Err(io::Error::other("the box holds no descriptor"));
            }
            let fd = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
            Ok(TcpStream::from(OwnedFd::from_raw_fd(fd)))
        }
    })
}

/// Forks. In the child, the PID as the parent sees it, once `parent` has been done there; in the parent, what `parent`
/// makes of the child's PID, which is given it together with the end of a pipe: what the child waits for.
pub(super) fn fork_with<T>(parent: impl FnOnce(Pid, io::PipeWriter) -> io::Result<T>) -> io::Result<Forked<T>> {
    // SAFETY: a puppet that forks has one thread.
    with_fork(|| Ok(unsafe { fork() }?), parent)
}

/// The same with this PID for the child.
pub(super) fn fork_as<T>(pid: Pid, parent: impl FnOnce(Pid, io::PipeWriter) -> io::Result<T>) -> io::Result<Forked<T>> {
    with_fork(|| clone_as(pid), parent)
}

/// `clone3` with `set_tid`, as fork otherwise.
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

/// Which of the two we are.
pub(super) enum Forked<T> {
    Child(String),
    Parent(T),
}

/// Children from here on count PIDs anew.
pub(super) fn leave_pid_namespace() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWPID)?)
}

/// A forked child that does nothing but keep its copies of everything; it ends when this is dropped.
pub(super) struct Twin {
    pid: Pid,
    _keeps_it: io::PipeWriter,
}

impl Twin {
    /// Forks it.
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

    /// Ends it and waits until it is gone.
    pub(super) fn dismiss(self) -> io::Result<()> {
        let pid = self.pid;
        drop(self);
        waitpid(pid, None)?;
        Ok(())
    }
}
