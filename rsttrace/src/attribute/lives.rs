//! Whether a process that was remembered is still there.
//!
//! A descriptor of the process answers for good: unlike a PID it never comes to mean another one.

use std::{
    fs, io,
    num::NonZeroUsize,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    time::Duration,
};

use lru::LruCache;
use nix::time::{ClockId, clock_gettime};

use super::proc::Identity;
use crate::facts::KernelTask;

/// Processes watched at once: each costs a descriptor, of which there may be 1,024.
const WATCHED: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Inode number of the first PID namespace (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The processes that have been asked after.
pub(super) struct Lives {
    watched: LruCache<(u32, u64), Watch>,
    /// Whether this process counts PIDs as the kernel side does. In a container of its own, PIDs say nothing.
    is_in_first_namespace: bool,
}

enum Watch {
    By {
        /// Becomes readable when the process has ended.
        fd: OwnedFd,
        /// Until when it is known to have lived, nanoseconds of `CLOCK_MONOTONIC`.
        until_ns: u64,
    },
    Ended,
}

impl Default for Lives {
    fn default() -> Self {
        let namespace = fs::metadata("/proc/self/ns/pid").map(|metadata| metadata.ino());
        Self {
            watched: LruCache::new(WATCHED),
            is_in_first_namespace: namespace.is_ok_and(|inode| inode == FIRST_PID_NAMESPACE),
        }
    }
}

impl Lives {
    /// Whether the process had ended at this moment, or has since: of a batch of events only the first asks the kernel.
    /// `false` where that cannot be found out.
    pub(super) fn had_ended(&mut self, task: &KernelTask, at_ns: u64) -> bool {
        if !self.is_in_first_namespace {
            return false;
        }
        let key = (task.tgid, task.start_boottime_ns);
        if !self.watched.contains(&key) {
            let Some(watch) = watch(task) else { return false };
            self.watched.put(key, watch);
        }
        let Some(watch) = self.watched.get_mut(&key) else { return false };
        let Watch::By { fd, until_ns } = watch else { return true };
        if at_ns <= *until_ns {
            return false;
        }
        let now_ns = monotonic_ns();
        if is_readable(fd) {
            *watch = Watch::Ended;
            return true;
        }
        *until_ns = now_ns;
        false
    }
}

/// Begins to watch a process; `None` where the kernel does not let us.
fn watch(task: &KernelTask) -> Option<Watch> {
    let pid = libc::pid_t::try_from(task.tgid).ok()?;
    // SAFETY: takes integers and returns a descriptor or -1. It closes on exec by itself.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Some(raw) = libc::c_int::try_from(raw).ok().filter(|&raw| raw >= 0) else {
        return (io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)).then_some(Watch::Ended);
    };
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    // Only now: from here on the descriptor stands for whoever has this PID, and that shows whether it is the one.
    match Identity::of(task).has_the_pid() {
        Some(true) => Some(Watch::By { fd, until_ns: 0 }),
        Some(false) => Some(Watch::Ended),
        // It has ended just now, or /proc hides it (`hidepid`).
        None => is_readable(&fd).then_some(Watch::Ended),
    }
}

/// The clock of the events; 0, which is before all of them, if it cannot be read.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    now.as_nanos().try_into().unwrap_or(0)
}

fn is_readable(fd: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives through the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_lives_until_it_ends() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat is everywhere");
        let task = Identity::of_program(child.id()).expect("it runs").task();
        let mut lives = Lives { is_in_first_namespace: true, ..Lives::default() };
        assert!(!lives.had_ended(&task, monotonic_ns()));
        let before_ns = monotonic_ns();
        assert!(!lives.had_ended(&task, before_ns));
        let another = KernelTask { start_boottime_ns: task.start_boottime_ns + 20_000_000, ..task.clone() };
        assert!(lives.had_ended(&another, monotonic_ns()), "the PID is another's");
        drop(child.stdin.take());
        // It is a zombie when this returns, which is as good as gone: it holds nothing.
        assert!(!lives.had_ended(&task, before_ns), "it lived then");
        while !lives.had_ended(&task, monotonic_ns()) {
            std::thread::yield_now();
        }
        child.wait().expect("it ended");
        assert!(lives.had_ended(&task, monotonic_ns()));
        let gone = Lives { is_in_first_namespace: true, ..Lives::default() }.had_ended(&task, 0);
        assert!(gone, "and it is found gone by whoever comes later");
    }

    #[test]
    fn in_a_namespace_of_its_own_it_knows_nothing() {
        let nobody = KernelTask { tgid: 4_000_000, start_boottime_ns: 0, uid: None, comm: "x".into() };
        let mut lives = Lives { is_in_first_namespace: false, ..Lives::default() };
        assert!(!lives.had_ended(&nobody, monotonic_ns()));
    }
}
