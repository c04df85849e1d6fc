//! Who: the owner of the socket, the actor, the cgroup, and what they belong to.

pub mod cgroup;
pub mod container;
pub mod hold;
mod lives;
pub mod owner;
mod proc;
pub mod process;
pub mod service;
mod users;

pub(crate) use self::proc::{Identity, start_ticks};
#[cfg(any(test, fuzzing))]
use crate::cgroup_mounts;
use crate::{
    attribute::{cgroup::Cgroups, lives::Lives, process::Processes, users::Users},
    facts::KernelTask,
    model::{Actor, Process, Reset},
    util::degraded::Degraded,
};

/// Everything that reads files of `/proc`, cgroups and users, on any bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    proc::fuzz(data);
    let text = String::from_utf8_lossy(data);
    drop((cgroup_mounts::parse_mountinfo(data), users::parse(&text)));
    for line in text.lines() {
        drop((service::unit(line), container::container(line)));
    }
}

/// Fills in who a record is about. Reads `/proc`, the cgroup file system and the list of users, and remembers.
#[derive(Default)]
pub struct Attribution {
    processes: Processes,
    cgroups: Cgroups,
    lives: Lives,
    users: Users,
}

impl Attribution {
    /// Learns, on the side, of the processes that there are already.
    pub fn look_around(&self) {
        self.processes.look_around();
    }

    /// What is known less well than it could be from now on, once.
    pub fn degraded(&mut self) -> Option<Degraded> {
        self.processes.trouble().map(|why| Degraded {
            what: "command lines".to_owned(),
            why,
            loss: "those of processes that were not looked at before are cut or null".to_owned(),
        })
    }

    /// Whether a search for who holds the socket can make the owner of a record better known.
    pub fn is_open(&mut self, reset: &mut Reset) -> bool {
        // It matters who lives where somebody holds the socket, or another than the owner was seen with it.
        let facts = &mut reset.facts;
        let matters = facts.findings.is_some() || facts.holder.is_some() && facts.holder != facts.owner;
        if let Some(owner) = facts.owner.as_ref().filter(|_| matters) {
            facts.owner_ended = self.lives.had_ended(owner, facts.ktime_ns);
            // Now, and not after the search: it may end before that.
            self.processes.details(owner, facts.ktime_ns);
        }
        owner::is_open(reset)
    }

    /// Fills in process, actor, cgroup, unit and container. `arguments` are what the kernel side knows of the command line
    /// of a process, for one that was gone before anybody looked.
    pub fn attribute(&mut self, reset: &mut Reset, arguments: impl FnOnce(&KernelTask) -> Option<Vec<u8>>) {
        let at_ns = reset.facts.ktime_ns;
        let verdict = owner::decide(reset);
        let mut membership = None;
        reset.process = verdict.owner.map(|owner| {
            let details = self.processes.details(&owner.task, at_ns);
            membership.clone_from(&details.membership);
            let command_line = details.command_line.clone();
            let command_line = command_line.or_else(|| proc::command_line(&arguments(&owner.task)?));
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
        reset.actor = verdict.actor.map(|task| Actor { pid: task.tgid, comm: task.comm });
        let of_owner = membership.as_ref().and_then(|membership| membership.path.as_ref());
        let of_socket = reset.cgroup.as_ref().and_then(|cgroup| self.cgroups.get(cgroup.id, of_owner));
        if let (Some(cgroup), Some(known)) = (&mut reset.cgroup, &of_socket) {
            cgroup.path.clone_from(&known.path);
        }
        // Who uses a socket says more than who made it: systemd makes those that it hands to services.
        if let Some(home) = membership.or_else(|| of_socket.as_deref().cloned()) {
            (reset.unit, reset.container) = (home.unit, home.container);
        }
    }
}
