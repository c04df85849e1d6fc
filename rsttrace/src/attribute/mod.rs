//! Who: the owner of the socket, the actor, the cgroup.

pub mod cgroup;
pub mod hold;
mod lives;
pub mod owner;
pub mod process;

use crate::{
    attribute::{cgroup::Cgroups, lives::Lives, process::Processes},
    reset::{Actor, Process, Reset},
};

/// Fills in who a record is about. Reads `/proc` and the cgroup file system, each process and cgroup once.
#[derive(Default)]
pub struct Attribution {
    processes: Processes,
    cgroups: Cgroups,
    lives: Lives,
}

impl Attribution {
    /// Whether a search for who holds the socket can make the owner of a record better known.
    pub fn is_open(&mut self, reset: &mut Reset) -> bool {
        if reset.facts.awaited.is_none() {
            return false;
        }
        if let Some(owner) = &reset.facts.owner {
            reset.facts.owner_ended = self.lives.has_ended(owner);
            // Now, and not after the search: it may end before that.
            self.processes.details(owner);
        }
        owner::is_open(reset)
    }

    /// Fills in process, actor and cgroup.
    pub fn attribute(&mut self, reset: &mut Reset) {
        let verdict = owner::decide(reset);
        reset.process = verdict.owner.map(|owner| {
            let details = self.processes.details(&owner.task);
            Process {
                pid: owner.task.tgid,
                comm: owner.task.comm,
                executable: details.executable.clone(),
                command_line: details.command_line.clone(),
                uid: owner.task.uid.or(details.uid),
                provenance: owner.provenance,
                confidence: owner.confidence,
            }
        });
        reset.actor = verdict.actor.map(|task| Actor { pid: task.tgid, comm: task.comm });
        if let Some(cgroup) = &mut reset.cgroup {
            cgroup.path = self.cgroups.path(cgroup.id);
        }
    }
}
