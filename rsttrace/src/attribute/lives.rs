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
};

use lru::LruCache;

use super::proc::Identity;
use crate::reset::KernelTask;

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
    /// Becomes readable when the process has ended.
    By(OwnedFd),
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
    /// Whether the process has ended. `false` where that cannot be found out.
    pub(super) fn has_ended(&mut self, task: &KernelTask) -> bool {
        if !self.is_in_first_namespace {
            return false;
        }
        let key = (task.tgid, task.start_boottime_ns);
        let watch = match self.watched.get(&key) {
            Some(watch) => watch,
            None => match watch(task) {
                Some(watch) => self.watched.get_or_insert(key, || watch),
                None => return false,
            },
        };
        let Watch::By(fd) = watch else { return true };
        let ended = is_readable(fd);
        if ended {
            self.watched.put(key, Watch::Ended);
        }
        ended
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
        Some(true) => Some(Watch::By(fd)),
        Some(false) => Some(Watch::Ended),
        // It has ended just now, or /proc hides it (`hidepid`).
        None => is_readable(&fd).then_some(Watch::Ended),
    }
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
        assert!(!lives.has_ended(&task));
        let another = KernelTask { start_boottime_ns: task.start_boottime_ns + 20_000_000, ..task.clone() };
        assert!(lives.has_ended(&another), "the PID is another's");
        drop(child.stdin.take());
        // It is a zombie when this returns, which is as good as gone: it holds nothing.
        while !lives.has_ended(&task) {
            std::thread::yield_now();
        }
        child.wait().expect("it ended");
        assert!(lives.has_ended(&task));
        let gone = Lives { is_in_first_namespace: true, ..Lives::default() }.has_ended(&task);
        assert!(gone, "and it is found gone by whoever comes later");
    }

    #[test]
    fn in_a_namespace_of_its_own_it_knows_nothing() {
        let nobody = KernelTask { tgid: 4_000_000, start_boottime_ns: 0, uid: None, comm: "x".into() };
        let mut lives = Lives { is_in_first_namespace: false, ..Lives::default() };
        assert!(!lives.has_ended(&nobody));
    }
}
