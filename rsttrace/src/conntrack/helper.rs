//! The helper: a process that has `CAP_NET_ADMIN` and the sockets, and passes requests on to the kernel.
//!
//! It is a process and no thread: threads share their memory, so that an attacker who takes one over has the capabilities of
//! all. It ends when the other end of its socket pair is closed, as the kernel does at the end of the process.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction},
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
    },
    unistd::{ForkResult, dup2_stdin, fork},
};

use super::{
    protocol::{HelperPacket, HelperRequest, MESSAGE_MAX, PACKET_MAX, REQUEST_BYTES},
    tables::Tables,
};
use crate::sandbox::{self, User};

/// Starts the helper, as `user` if there is one. Returns this end of the socket pair, from which its first packet is still
/// to be read. Must be called while the process has one thread. Fails when the kernel has no memory, process or descriptor left.
pub(super) fn start(user: Option<&User>) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (ours, its) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    // A signal in between would run a handler of this process in the helper.
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: with one thread, no lock is held in the copy. The helper never returns from here.
    let forked = unsafe { fork() };
    if matches!(forked, Ok(ForkResult::Child)) {
        drop(ours);
        let status = i32::from(run(&its, user).is_err());
        // SAFETY: takes an integer and does not return. Handlers of the end of the process are not the helper's to run.
        unsafe { libc::_exit(status) };
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    forked?;
    Ok(ours)
}

/// Runs the helper until the other end is closed.
fn run(control: &OwnedFd, user: Option<&User>) -> Result<(), Errno> {
    let _ignored = prctl::set_name(c"rsttrace-ct");
    ignore_signals()?;
    close_others(control.as_raw_fd())?;
    let mut tables = Tables::open()?;
    sandbox::enter_helper(user).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EPERM)))?;
    // Only when it works does the other side learn of the tables; until then, and otherwise, it sees the end of the helper.
    if tables.probe().is_err() {
        return Err(Errno::EPERM);
    }
    send(control.as_raw_fd(), &tables.ready().encode(), MsgFlags::MSG_NOSIGNAL)?;
    let mut buffers = [[0; MESSAGE_MAX]; 2];
    let mut packet = Vec::with_capacity(PACKET_MAX);
    loop {
        let (requests, ended) = wait(control, &tables)?;
        for table in ended {
            tables.close(table);
            HelperPacket::Gone(table).encode(&mut packet);
            reply(control, &packet)?;
        }
        if !requests {
            continue;
        }
        // One more byte, so that a packet that is too long is none.
        let mut request = [0; REQUEST_BYTES + 1];
        let length = match recv(control.as_raw_fd(), &mut request, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(error),
        };
        let Some(request) = request.get(..length).and_then(HelperRequest::decode) else { continue };
        let [own, host] = tables.answer(&request, &mut buffers);
        HelperPacket::Answer { serial: request.serial, own, host }.encode(&mut packet);
        reply(control, &packet)?;
    }
}

/// Waits for a request or for the end of a watched process. Returns whether there is something to be read from `control`, and the
/// tables whose processes have ended.
fn wait(control: &OwnedFd, tables: &Tables) -> Result<(bool, Vec<u16>), Errno> {
    let (indices, processes): (Vec<u16>, Vec<_>) = tables.watched().unzip();
    let mut polled = vec![PollFd::new(control.as_fd(), PollFlags::POLLIN)];
    polled.extend(processes.into_iter().map(|process| PollFd::new(process, PollFlags::POLLIN)));
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error),
    }
    let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
    let ended = indices.into_iter().zip(polled.iter().skip(1)).filter(|(_, polled)| is_ready(polled));
    Ok((polled.first().is_some_and(is_ready), ended.map(|(index, _)| index).collect()))
}

/// Sends a packet. One for which the other end has no room is dropped: its request has expired by the time that there is.
fn reply(control: &OwnedFd, packet: &[u8]) -> Result<(), Errno> {
    match send(control.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
        Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EMSGSIZE) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Ignores the signals that end a run: a terminal and systemd send them to the helper as well, which is still needed while
/// the run ends.
fn ignore_signals() -> Result<(), Errno> {
    let ignored = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGPIPE,
    ];
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in ignored {
        // SAFETY: installs no handler.
        unsafe { sigaction(signal, &action) }?;
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Closes every descriptor but `keep`, so that the programs in the kernel, the event buffers and the readers of this
/// process's output see its end; standard input, output and error become `/dev/null`, or the root
/// directory where there are no devices, which can be neither read as a file nor written.
fn close_others(keep: RawFd) -> Result<(), Errno> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").or_else(|_missing| File::open("/"));
    let null = null.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<RawFd> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > 2 && descriptor != keep) {
        // SAFETY: takes an integer. What owns these descriptors is never used or dropped in the helper, except `null`, which
        // is forgotten.
        let _ignored = unsafe { libc::close(descriptor) };
    }
    std::mem::forget(null);
    Ok(())
}
