//! Owner of a socket, derived from what the programs saw. Pure.
//!
//! Two results: the *owner* of the socket, and the *actor*, the process that made the kernel reset it, if that is
//! another one. The task that was on the CPU is neither, unless it held the lock of the socket.

use std::sync::LazyLock;

use rsttrace_common::{
    abi::tcp,
    event::{PROVENANCE_ACCEPT, PROVENANCE_CONNECT, PROVENANCE_CURRENT, PROVENANCE_LISTEN, PROVENANCE_SNAPSHOT},
};

use crate::{
    model::internals::{Internals, KernelTask},
    model::{Direction, OwnerConfidence, Provenance, Reset, Role},
};

/// Process that owns a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process.
    pub task: KernelTask,
    /// How it was found.
    pub provenance: Provenance,
    /// Whether it is proven.
    pub confidence: OwnerConfidence,
}

/// Owner and actor of one reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// Owner of the socket, or of the connection that it had closed; `None` if there is none or its owner is unknown.
    pub owner: Option<Owner>,
    /// Process that triggered the reset, if it is known and not the owner.
    pub actor: Option<KernelTask>,
}

/// Decides the owner of the socket of a record, and the actor.
///
/// The process that opened a connection, or called listen, owns the socket for as long as it runs; after that, the
/// process that holds a descriptor of it. An accepted connection belongs to its current holder from the start, since
/// servers pass connections to workers and children as a matter of course.
pub fn decide(reset: &Reset) -> Ownership {
    // Without a socket there may still be the process of a connection that it had closed.
    if reset.socket.is_none() && reset.internals.ending.is_none() {
        return Ownership::default();
    }
    let known = owner_from_history(reset);
    let Some(user) = reset.internals.holder.clone().filter(|user| !is_tracer_itself(user)) else {
        return Ownership { owner: resolve_without_user(reset, known), actor: None };
    };
    if is_destroyed_from_outside(reset) {
        // The task does not use the socket, so the owner stays as it is, known or not.
        let owner = resolve_without_user(reset, known);
        let actor = owner.as_ref().is_none_or(|owner| !is_same_process(&owner.task, &user)).then_some(user);
        return Ownership { owner, actor };
    }
    match known {
        // The lock holder uses the socket. If it is also the known owner, no doubt is left. Its task is taken for the
        // name, which exec may have changed since.
        Some(owner) if is_same_process(&owner.task, &user) => {
            Ownership { owner: Some(Owner { task: user, confidence: OwnerConfidence::Exact, ..owner }), actor: None }
        }
        // A proven owner that is still running. Not the process that accepted, which may have passed the connection on:
        // the lock holder shows where it is now.
        Some(owner)
            if owner.confidence == OwnerConfidence::Exact
                && owner.provenance != Provenance::Accept
                && !reset.internals.owner_ended =>
        {
            Ownership { owner: Some(owner), actor: Some(user) }
        }
        // A guess, the process that accepted, or one that has exited: the lock holder was seen with the socket.
        Some(_) | None => Ownership { owner: Some(owner_from_lock_holder(reset, user)), actor: None },
    }
}

/// PID of this process. Asking for it is a system call, and every sent reset needs it.
static OWN_PID: LazyLock<u32> = LazyLock::new(std::process::id);

/// Returns whether a task is a tracer, this process or another rsttrace.
///
/// A scan of open files takes a reference to each file while it looks at it. If the owner closes the file just then,
/// the scan drops the last reference and the kernel closes the socket in its context, which makes it neither the owner
/// nor an actor.
pub fn is_tracer_itself(task: &KernelTask) -> bool {
    task.tgid == *OWN_PID || &*task.comm == "rsttrace"
}

/// Returns whether a connection is this process's own: one to a sink, or of the metrics server. Either end counts, where both
/// are on this host.
pub fn is_own_connection(reset: &Reset) -> bool {
    let other_end = reset.other_end.as_ref().and_then(|other| other.process.as_ref());
    let pids = [reset.process.as_ref().map(|process| process.pid), other_end.map(|process| process.pid)];
    pids.contains(&Some(*OWN_PID))
}

/// Returns whether a lookup of the socket's holder can still improve the owner: the socket has a holder, and the owner
/// is not exact.
pub fn needs_lookup(reset: &Reset) -> bool {
    reset.internals.lookup_id.is_some()
        && decide(reset).owner.is_none_or(|owner| owner.confidence == OwnerConfidence::Likely)
}

/// Returns whether another process destroyed the socket (`SOCK_DESTROY`, as by `ss -K`): a reset in answer to no
/// packet, by a task that holds the lock, while the socket is open. When a process closes its own socket, the state is
/// CLOSE by then.
fn is_destroyed_from_outside(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.provoked_by.is_none() && reset.internals.raw_state != tcp::CLOSE
}

/// Owner, given the task that held the lock. Exact if there was only one reference to the file or this was the last
/// close, or if a scan found this process as the sole holder.
fn owner_from_lock_holder(reset: &Reset, user: KernelTask) -> Owner {
    let Internals { holder_findings, file_refcount, .. } = &reset.internals;
    let is_found_alone =
        is_sole_holder(reset) && holder_findings.holder.as_ref().is_some_and(|holder| is_same_process(holder, &user));
    let confidence = exact_if(file_refcount.is_some_and(|references| references <= 1) || is_found_alone);
    Owner { task: user, provenance: Provenance::SocketUser, confidence }
}

/// Owner, if no task held the lock: the one from the connection's history if that is exact and still running, else the
/// process that the holder lookup found, else the one from the history with less confidence.
fn resolve_without_user(reset: &Reset, known: Option<Owner>) -> Option<Owner> {
    let Internals { holder_findings, lookup_id, file_refcount, owner_ended, .. } = &reset.internals;
    if let Some(owner) = &known
        && owner.confidence == OwnerConfidence::Exact
        // Without a holder the socket is what is left after a close, and belongs to its last owner, running or not.
        && (!owner_ended || lookup_id.is_none())
    {
        return known;
    }
    let is_known = |task: &KernelTask| known.as_ref().is_some_and(|owner| is_same_process(&owner.task, task));
    let (task, provenance, is_alone) = match (&holder_findings.holder, &holder_findings.closer) {
        (Some(holder), closer) => {
            let is_alone = is_sole_holder(reset);
            if !is_alone && (holder_findings.owner_holds || closer.as_ref().is_some_and(is_known)) {
                return known.map(likely);
            }
            (holder, Provenance::Lookup, is_alone)
        }
        // The process of the last close held the socket; with one reference at the reset, no other process did.
        (None, Some(closer)) => (closer, Provenance::SocketUser, *file_refcount == Some(1)),
        (None, None) => return known.map(likely),
    };
    let provenance = match &known {
        Some(owner) if is_known(task) && owner.provenance != Provenance::Listen => owner.provenance,
        // The lookup was for the holder of the listener: the connection has not been accepted.
        _ if waits_in_accept_queue(reset) => Provenance::Listen,
        _ => provenance,
    };
    Some(Owner { task: task.clone(), provenance, confidence: exact_if(is_alone) })
}

/// Returns whether the holder that a scan found was the only one: neither the scan nor the last close showed another
/// process, and it has as many descriptors as the file had references at the reset, so that no other holder has closed
/// since. A thread in a system call has a reference too (`fdget`), and leaves doubt.
fn is_sole_holder(reset: &Reset) -> bool {
    let Internals { holder_findings, file_refcount, .. } = &reset.internals;
    let Some(holder) = &holder_findings.holder else { return false };
    !holder_findings.multiple_holders
        && holder_findings.closer.as_ref().is_none_or(|closer| is_same_process(closer, holder))
        && file_refcount.is_some_and(|references| u32::from(references) <= holder_findings.descriptors)
}

const fn exact_if(is_proven: bool) -> OwnerConfidence {
    if is_proven { OwnerConfidence::Exact } else { OwnerConfidence::Likely }
}

fn likely(owner: Owner) -> Owner {
    Owner { confidence: OwnerConfidence::Likely, ..owner }
}

/// Owner according to the connection's history in the kernel; `None` if the history has none.
fn owner_from_history(reset: &Reset) -> Option<Owner> {
    let internals = &reset.internals;
    // For PROVENANCE_CURRENT the history has the process of the close, which may be a tracer's scan. A connection that
    // a tracer opened is its own.
    let is_scan = |owner: &KernelTask| internals.provenance == PROVENANCE_CURRENT && is_tracer_itself(owner);
    let task = internals.owner.clone().filter(|owner| !is_scan(owner))?;
    let role = reset.socket.as_ref().and_then(|socket| socket.role);
    let provenance = match internals.provenance {
        PROVENANCE_CONNECT => Provenance::Connect,
        PROVENANCE_ACCEPT => Provenance::Accept,
        PROVENANCE_LISTEN => Provenance::Listen,
        PROVENANCE_SNAPSHOT => Provenance::Snapshot,
        PROVENANCE_CURRENT => Provenance::SocketUser,
        _ => return None,
    };
    let is_held = internals.lookup_id.is_some();
    let is_proven = match provenance {
        Provenance::Connect | Provenance::Snapshot => true,
        // The process that listens need not be the one that accepts: it is the owner only until the connection is
        // accepted.
        Provenance::Listen => role == Some(Role::Listener) || waits_in_accept_queue(reset),
        // The connection may have been passed on since, if it still has a holder.
        Provenance::Accept => !is_held,
        Provenance::SocketUser => !is_held || internals.file_refcount == Some(1),
        Provenance::Lookup => false,
    };
    Some(Owner { task, provenance, confidence: exact_if(is_proven && !internals.shared) })
}

/// Returns whether the connection has not been accepted. It has no file then (`orphan`), like the remains of a closed
/// one, but this host has not closed it (`dead`).
fn waits_in_accept_queue(reset: &Reset) -> bool {
    let Some(socket) = &reset.socket else { return false };
    reset.internals.orphan
        && !reset.internals.dead
        && socket.role == Some(Role::Server)
        && reset.internals.time_wait_substate.is_none()
}

/// Returns whether two tasks are one process, by PID and start time.
fn is_same_process(one: &KernelTask, other: &KernelTask) -> bool {
    one.tgid == other.tgid && one.start_boottime_ns == other.start_boottime_ns
}

#[cfg(test)]
mod owner_tests;
