//! Whether a process that is known by PID and start time is still running.
//!
//! Asked of a pidfd, which never comes to refer to another process; a PID does once it is reused.

use std::{
    fs,
    num::NonZeroUsize,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    time::Duration,
};

use lru::LruCache;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{model::internals::KernelTask, util::process_key::ProcessKey};

/// Processes with a pidfd at once. Each takes a descriptor, of which a process may have 1,024 by default.
const PIDFDS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Inode number of the initial PID namespace (`PROC_PID_INIT_INO`).
const INIT_PID_NAMESPACE_INODE: u64 = 0xEFFF_FFFC;

/// Whether this process is in the initial PID namespace; `false` where that cannot be read.
pub(super) fn is_in_init_pid_namespace() -> bool {
    let namespace = fs::metadata("/proc/self/ns/pid").map(|metadata| metadata.ino());
    namespace.is_ok_and(|inode| inode == INIT_PID_NAMESPACE_INODE)
}

/// Liveness of processes, least recently asked first out.
pub(super) struct ProcessLiveness {
    pidfds: LruCache<(u32, u64), PidfdState>,
    /// Whether this process is in the initial PID namespace, in which the programs report PIDs. In another namespace
    /// they name other processes, or none.
    is_in_init_pid_namespace: bool,
}

/// State of one process, by its pidfd.
enum PidfdState {
    /// The process was running when it was last asked.
    Alive {
        /// Becomes readable when the process exits.
        fd: OwnedFd,
        /// Time until which it is known to have run, nanoseconds of `CLOCK_MONOTONIC`.
        until_ns: u64,
    },
    /// The process has exited.
    Exited,
}

impl ProcessLiveness {
    /// Reads the PID namespace of this process. In any other than the initial one, no process is known to have exited.
    pub(super) fn detect() -> Self {
        Self::new(is_in_init_pid_namespace())
    }

    fn new(is_in_init_pid_namespace: bool) -> Self {
        Self { pidfds: LruCache::new(PIDFDS_MAX), is_in_init_pid_namespace }
    }

    /// Returns whether the process had exited at `at_ns`, nanoseconds of `CLOCK_MONOTONIC`, or has by now; `false` if
    /// that cannot be determined. Of a batch of events, only the first asks the kernel.
    pub(super) fn had_exited(&mut self, task: &KernelTask, at_ns: u64) -> bool {
        if !self.is_in_init_pid_namespace {
            return false;
        }
        let key = (task.tgid, task.start_boottime_ns);
        if !self.pidfds.contains(&key) {
            let Some(state) = open(task) else { return false };
            self.pidfds.put(key, state);
        }
        let Some(state) = self.pidfds.get_mut(&key) else { return false };
        let PidfdState::Alive { fd, until_ns } = state else { return true };
        if at_ns <= *until_ns {
            return false;
        }
        let now_ns = monotonic_ns();
        if is_readable(fd) {
            *state = PidfdState::Exited;
            return true;
        }
        *until_ns = now_ns;
        false
    }
}

/// Opens a pidfd of the process; `None` if the kernel refuses.
fn open(task: &KernelTask) -> Option<PidfdState> {
    let pid = Pid::from_raw(i32::try_from(task.tgid).ok()?)?;
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(error) => return (error == Errno::SRCH).then_some(PidfdState::Exited),
    };
    // Compared after the open: from here on the descriptor refers to the process that has this PID, be it this one or
    // not.
    match ProcessKey::new(task.tgid, task.start_boottime_ns).still_has_pid() {
        Some(true) => Some(PidfdState::Alive { fd, until_ns: 0 }),
        Some(false) => Some(PidfdState::Exited),
        // The process exited after the open, or `/proc` hides it (`hidepid`).
        None => is_readable(&fd).then_some(PidfdState::Exited),
    }
}

/// Current time of `CLOCK_MONOTONIC`, the clock of the events, nanoseconds; 0 if it cannot be read.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    now.as_nanos().try_into().unwrap_or(0)
}

/// Returns whether a descriptor is readable, without waiting.
fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_alive_until_it_exits() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat is everywhere");
        let task = ProcessKey::of_running(child.id()).expect("it runs").task();
        let mut liveness = ProcessLiveness::new(true);
        assert!(!liveness.had_exited(&task, monotonic_ns()));
        let before_ns = monotonic_ns();
        assert!(!liveness.had_exited(&task, before_ns));
        let another = KernelTask { start_boottime_ns: task.start_boottime_ns + 20_000_000, ..task.clone() };
        assert!(liveness.had_exited(&another, monotonic_ns()), "another process has the PID");
        drop(child.stdin.take());
        // A zombie counts as exited: it holds no descriptors.
        assert!(!liveness.had_exited(&task, before_ns), "it was alive at that time");
        while !liveness.had_exited(&task, monotonic_ns()) {
            std::thread::yield_now();
        }
        child.wait().expect("it exited");
        assert!(liveness.had_exited(&task, monotonic_ns()));
        let gone = ProcessLiveness::new(true).had_exited(&task, 0);
        assert!(gone, "a process that exited before the first question is found so");
    }

    #[test]
    fn outside_of_the_initial_namespace_nothing_is_known() {
        let absent = KernelTask { tgid: 4_000_000, start_boottime_ns: 0, uid: None, comm: "x".into() };
        let mut liveness = ProcessLiveness::new(false);
        assert!(!liveness.had_exited(&absent, monotonic_ns()));
    }
}
