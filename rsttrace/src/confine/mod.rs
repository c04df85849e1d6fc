//! Giving up, once everything is attached, whatever the rest of the run does not need.
//!
//! What is given up is given up by the calling thread and those that it starts, so there must be no other yet. A kernel
//! that has no fence is a [`Degraded`] and no failure; only a user that was asked for and cannot be had is.
//!
//! Landlock is left alone on purpose: who is under its rules may not look at any process outside of them, and the owner
//! of a socket is one.

mod calls;
mod capabilities;
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
mod name_service;
mod seccomp;
mod user;

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

pub(crate) use self::user::User;
use crate::{exit::Failure, util::degraded::Degraded};

/// What the rest of the run needs beside looking at processes and walking open files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Making, renaming and writing to files.
    pub(crate) files: bool,
    /// Sockets that are connected or listen.
    pub(crate) sockets: bool,
    /// Looking up hosts by their names.
    pub(crate) host_names: bool,
    /// Taking filters off network interfaces at the end.
    pub(crate) network_administration: bool,
}

/// Gives up the rest; what could not be is returned.
pub(crate) fn confine(needs: Needs, user: Option<&User>) -> Result<Vec<Degraded>, Failure> {
    let mut degraded = Vec::new();
    let mut note = |what: &str, error: io::Error, loss: &str| {
        degraded.push(Degraded { what: what.to_owned(), why: error.to_string(), loss: loss.to_owned() });
    };
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    if needs.host_names {
        for name_service::Unloadable { module, why } in name_service::load() {
            note(&module, io::Error::other(why), "hosts that this service alone knows are not found");
        }
    }
    if has_other_threads() {
        note("privileges", io::Error::other("other threads are running"), "those keep all that they have");
    }
    let keep = capabilities::to_keep(needs);
    // From the bounding set first: it takes one of the capabilities that go.
    capabilities::bound();
    if let Some(user) = user {
        user.become_it()?;
    }
    if let Err(error) = capabilities::reduce_to(&keep) {
        note("capabilities", error, "all of them are kept");
    }
    if let Err(error) = seccomp::no_new_privileges() {
        note("no_new_privs", error, "a program that it were made to run could gain privileges");
    } else if let Err(error) = seccomp::fence(needs) {
        note("seccomp", error, "every system call stays open to whoever takes rsttrace over");
    }
    Ok(degraded)
}

/// How long threads that have been joined may take to disappear: the kernel wakes who joins one before it takes it out of
/// `/proc/self/task` (`mm_release` against `release_task`), and on a loaded host the rest of its exit takes its turn.
const EXIT_TIME: Duration = Duration::from_secs(2);

/// Interval between two looks at them.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// Whether this process has other threads, once those that are exiting have had time to. Blocks for [`EXIT_TIME`] at most.
fn has_other_threads() -> bool {
    let deadline = Instant::now() + EXIT_TIME;
    while threads() > 1 {
        if Instant::now() >= deadline {
            return true;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    false
}

/// Threads of this process; 1 where `/proc` does not show them.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stays_is_found() {
        // This test's own thread beside the main one.
        assert!(threads() > 1 && has_other_threads());
    }
}
