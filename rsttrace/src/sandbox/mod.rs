//! The sandbox: after the probes are attached, drops every privilege that the rest of the run does not need.
//!
//! Capabilities, `no_new_privs` and the seccomp filter apply to the calling thread and to threads that it starts later,
//! so [`enter`] runs before there are others. What the kernel cannot do (seccomp may be missing) is a [`Degraded`];
//! only a user that was asked for with `--user` and cannot be switched to is an error.
//!
//! Landlock is not used: a process in a Landlock domain may not ptrace processes outside of it
//! (`hook_ptrace_access_check`), which includes most of `/proc/PID`, and the owners of sockets are such processes.

mod capabilities;
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
mod name_service;
mod seccomp;
mod syscalls;
mod user;

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use caps::Capability;

pub(crate) use self::user::{User, UserError};
use crate::util::degraded::Degraded;

/// Operations that the rest of the run needs, beside reading `/proc` and scanning open files. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// Creating, renaming and writing files.
    pub(crate) files: bool,
    /// Sockets that connect or listen.
    pub(crate) sockets: bool,
    /// Resolving host names.
    pub(crate) host_names: bool,
    /// Removing tc filters from network interfaces at the end of the run.
    pub(crate) network_administration: bool,
    /// Setting the terminal, and writing a file anew that is open.
    pub(crate) terminal: bool,
}

/// Drops everything but `requirements`, and switches to `user` if there is one. Returns what could not be dropped.
///
/// Blocks for up to [`THREAD_EXIT_TIMEOUT`] while other threads of the process exit. Fails when the process cannot switch to
/// `user`.
pub(crate) fn enter(requirements: Requirements, user: Option<&User>) -> Result<Vec<Degraded>, UserError> {
    let mut degraded = Vec::new();
    let mut degrade = |what: &str, error: io::Error, loss: &str| {
        degraded.push(Degraded { what: what.to_owned(), why: error.to_string(), loss: loss.to_owned() });
    };
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    if requirements.host_names {
        for name_service::ModuleError { module, message } in name_service::load() {
            degrade(&module, io::Error::other(message), "hosts that this service alone knows are not found");
        }
    }
    if has_other_threads() {
        degrade("privileges", io::Error::other("other threads are running"), "those keep all that they have");
    }
    let keep = capabilities::to_keep(requirements);
    // The bounding set first: dropping from it needs CAP_SETPCAP, which is dropped below.
    capabilities::drop_bounding_set();
    if let Some(user) = user {
        user.switch_user()?;
    }
    if let Err(error) = capabilities::reduce_to(&keep) {
        degrade("capabilities", error, "all of them are kept");
    }
    if let Err(error) = seccomp::set_no_new_privs() {
        degrade("no_new_privs", error, "a program that rsttrace is made to run could gain privileges");
    } else if let Err(error) = seccomp::install_seccomp_filter(requirements) {
        degrade("seccomp", error, "an attacker who takes rsttrace over can make every system call");
    }
    Ok(degraded)
}

/// Drops every capability that reading recordings and captures does not need, in a process that traces nothing: what it reads was
/// written by strangers. `requirements` are those of its outputs. What the kernel cannot do is left: the process has no more than
/// it was given.
pub(crate) fn drop_capabilities_of_reader(requirements: Requirements) {
    capabilities::drop_bounding_set();
    let _ignored = capabilities::reduce_to(&capabilities::to_keep_for_reader(requirements));
}

/// [`drop_capabilities_of_reader`], and allows only the system calls of a run: none that makes an event loop.
pub(crate) fn enter_reader(requirements: Requirements) {
    drop_capabilities_of_reader(requirements);
    if seccomp::set_no_new_privs().is_ok() {
        let _ignored = seccomp::install_seccomp_filter(requirements);
    }
}

/// Drops everything but `CAP_NET_ADMIN` and the system calls of [`syscalls::allowed_for_helper`], in a process that looks up
/// tracked connections, and switches to `user` if there is one. Without seccomp in the kernel, which [`enter`] reports, there
/// is no filter. Fails when the process does not have the capability, or cannot drop the others or switch to the user.
pub(crate) fn enter_helper(user: Option<&User>) -> io::Result<()> {
    capabilities::drop_bounding_set();
    if let Some(user) = user {
        user.switch_user().map_err(io::Error::other)?;
    }
    capabilities::reduce_to(&[Capability::CAP_NET_ADMIN].into_iter().collect())?;
    seccomp::set_no_new_privs()?;
    let _ignored = seccomp::install_helper_filter();
    Ok(())
}

/// Longest time that joined threads may take to disappear from `/proc/self/task`. The kernel wakes the joining thread
/// before it removes the exiting one (`mm_release` against `release_task`), and on a loaded host the rest of its exit
/// waits for a CPU.
const THREAD_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval between two counts of the threads.
const THREAD_POLL_INTERVAL: Duration = Duration::from_micros(200);

/// Returns whether this process has other threads, once those that are exiting have had time to. Blocks for up to
/// [`THREAD_EXIT_TIMEOUT`].
fn has_other_threads() -> bool {
    let deadline = Instant::now() + THREAD_EXIT_TIMEOUT;
    while thread_count() > 1 {
        if Instant::now() >= deadline {
            return true;
        }
        thread::sleep(THREAD_POLL_INTERVAL);
    }
    false
}

/// Number of threads of this process; 1 if `/proc` cannot be read.
fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_thread_that_keeps_running() {
        // The test harness runs this test in a thread beside the main one.
        assert!(thread_count() > 1 && has_other_threads());
    }
}
