//! Attribution: the process that owns the socket of a reset, the actor, the cgroup, systemd unit, container and pod that
//! these belong to, and the name of the peer.

pub mod absence;
pub mod cgroup;
pub mod container;
mod liveness;
mod names;
pub mod owner;
pub mod pending;
pub mod process_cache;
mod procfs;
mod systemd_escape;
pub mod systemd_unit;
mod users;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub use self::names::{NamesError, NamesFile};
#[cfg(any(test, fuzzing))]
use crate::cgroup_mounts;
use crate::{
    attribute::{cgroup::Cgroups, liveness::ProcessLiveness, names::Names, process_cache::ProcessCache, users::Users},
    model::internals::{Ending, KernelTask},
    model::{Actor, Direction, FilterOptions, Process, Reset},
    util::degraded::Degraded,
};

/// Longest time between the close of a connection by a process that leaves and a segment that the close has crossed, milliseconds.
const LEAVING_MS: f64 = 1_000.0;

/// Returns whether the end of this process would tell why it closed the connection that a reset answers for: it did so a moment
/// before, and was there before the connection, for which it was not forked. Its start is compared on the boot clock, which is
/// ahead on a host that was suspended: no process is known to have left there.
fn may_have_left(reset: &Reset, task: &KernelTask) -> bool {
    if reset.direction != Direction::Sent || reset.provoked_by.is_none() {
        return false;
    }
    let of_socket = || reset.socket.as_ref().and_then(|socket| Some((socket.fin_sent_ms?, socket.age_ms?)));
    let of_ending = |ending: &Ending| Some((ending.closed_ms, ending.closed_ms + ending.lifetime_ms?));
    let times = reset.internals.ending.as_ref().and_then(of_ending).or_else(of_socket);
    let was_there = |age_ms: f64| {
        let age = Duration::try_from_secs_f64(age_ms / 1000.0).ok()?;
        let opened = Duration::from_nanos(reset.internals.ktime_ns).checked_sub(age)?;
        Some(Duration::from_nanos(task.start_boottime_ns) < opened)
    };
    times.is_some_and(|(closed_ms, age_ms)| closed_ms <= LEAVING_MS && was_there(age_ms) == Some(true))
}

/// Parses any bytes with every parser of this stage: files of `/proc`, cgroups, users.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    procfs::fuzz(data);
    let text = String::from_utf8_lossy(data);
    names::fuzz(&text);
    drop((cgroup_mounts::parse_mountinfo(data), users::parse(&text)));
    for line in text.lines() {
        drop((systemd_unit::of_cgroup(line), container::of_cgroup(line)));
    }
}

/// Attributes resets to processes.
///
/// Reads `/proc`, the cgroup file system, `/etc/passwd`, and the files that [`names`] lists, and caches what it read.
pub struct Attribution {
    processes: ProcessCache,
    cgroups: Cgroups,
    liveness: ProcessLiveness,
    users: Users,
    names: Names,
}

impl Attribution {
    /// Creates the stage for this host. Reads the mount table and the PID namespace of this process; what cannot be
    /// read is not attributed.
    pub fn detect() -> Self {
        Self::with_names(NamesFile::default())
    }

    /// Creates the stage as [`Self::detect`] does, with names that the user has chosen.
    pub fn with_names(names: NamesFile) -> Self {
        Self {
            processes: ProcessCache::default(),
            cgroups: Cgroups::detect(),
            liveness: ProcessLiveness::detect(),
            users: Users::default(),
            names: Names::of_host(names),
        }
    }

    /// Reads the details of all running processes, and names, in background threads. Returns at once.
    pub fn prefetch(&mut self) {
        self.processes.prefetch_all();
        self.names.prefetch();
    }

    /// Notes on names of `--host`, `--pod` and `--container` that nothing on this host has now, where that is certain:
    /// `containers` are those that have processes. Waits for names that are being read, 200 ms at most.
    pub fn absent_names(&mut self, filters: &FilterOptions, containers: &BTreeSet<Arc<str>>) -> Vec<String> {
        self.names.absences(filters, containers)
    }

    /// Takes the reason why command lines or names are missing; `None` if they are not, or if the reason was taken
    /// before.
    pub fn take_degraded(&mut self) -> Option<Degraded> {
        let command_lines = self.processes.take_reader_error().map(|why| Degraded {
            what: "command lines".to_owned(),
            why,
            loss: "those of processes that were not looked at before are cut or null".to_owned(),
        });
        command_lines.or_else(|| self.names.take_degraded())
    }

    /// Returns whether a lookup of the socket's holder can improve the owner of this reset, and prepares for the wait.
    ///
    /// Sets `owner_ended`, and reads the details of the known owner now: it may exit while the record waits. May block
    /// as [`ProcessCache::details`] does.
    pub fn prepare_lookup(&mut self, reset: &mut Reset) -> bool {
        // Whether the owner has exited matters if the socket still has a holder, or if another process was seen with
        // it.
        let internals = &mut reset.internals;
        let matters =
            internals.lookup_id.is_some() || internals.holder.is_some() && internals.holder != internals.owner;
        if let Some(owner) = internals.owner.as_ref().filter(|_| matters) {
            internals.owner_ended = self.liveness.had_exited(owner, internals.ktime_ns);
            self.processes.details(owner, internals.ktime_ns);
        }
        owner::needs_lookup(reset)
    }

    /// Names the peer after what stands behind its address, where that is translated. Does not block.
    pub fn name_translated(&self, reset: &mut Reset) {
        if let Some(behind) = reset.translated.map(|translated| translated.peer.address) {
            reset.peer.name = self.names.of_address(behind);
        }
    }

    /// Fills in process, actor, cgroup, unit, container, pod, and the names of container and peer.
    ///
    /// `kernel_command_line` returns the start of the command line that the programs recorded for a task, if they did;
    /// it is called for a process that exited before `/proc` was read. May block as [`ProcessCache::details`] does, and
    /// for another 200 ms while names are read.
    pub fn attribute(&mut self, reset: &mut Reset, kernel_command_line: impl FnOnce(&KernelTask) -> Option<Vec<u8>>) {
        let at_ns = reset.internals.ktime_ns;
        let ownership = owner::decide(reset);
        if let Some(owner) = &ownership.owner {
            reset.internals.closed_by_leaving =
                may_have_left(reset, &owner.task) && self.liveness.had_exited(&owner.task, at_ns);
        }
        let mut membership = None;
        reset.process = ownership.owner.map(|owner| {
            let details = self.processes.details(&owner.task, at_ns);
            membership.clone_from(&details.membership);
            let command_line = details.command_line.clone();
            let command_line = command_line.or_else(|| procfs::join_arguments(&kernel_command_line(&owner.task)?));
            let uid = owner.task.uid.or(details.uid);
            Process {
                pid: owner.task.tgid,
                comm: owner.task.comm,
                executable: details.executable.clone(),
                command_line,
                uid,
                user: uid.and_then(|uid| self.users.name(uid, at_ns)),
                cgroup: details.membership.as_ref().and_then(|membership| membership.path.clone()),
                provenance: owner.provenance,
                confidence: owner.confidence,
            }
        });
        reset.actor = ownership.actor.map(|task| Actor { pid: task.tgid, comm: task.comm });
        let of_owner = membership.as_ref().and_then(|membership| membership.path.as_ref());
        let of_socket = reset.cgroup.as_ref().and_then(|cgroup| self.cgroups.get(cgroup.id, of_owner));
        if let (Some(cgroup), Some(known)) = (&mut reset.cgroup, &of_socket) {
            cgroup.path.clone_from(&known.path);
        }
        // The owner's cgroup before the socket's, which is that of the process that called socket(): systemd for
        // sockets that it passes to services.
        if let Some(membership) = membership.or_else(|| of_socket.as_deref().cloned()) {
            (reset.unit, reset.container) = (membership.unit, membership.container);
        }
        self.names.complete(reset);
    }
}
