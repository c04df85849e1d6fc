//! The owner of the socket, from what the kernel side saw. Pure.
//!
//! Two answers: the *owner* of the socket, and the *actor* that made the kernel reset it where that is somebody else.
//! The task that was on the CPU is neither, unless it held the socket's lock.

use rsttrace_common::{
    event::{
        PROVENANCE_ACCEPT, PROVENANCE_CONNECT, PROVENANCE_CURRENT, PROVENANCE_IO, PROVENANCE_LISTEN,
        PROVENANCE_SNAPSHOT,
    },
    names::tcp,
};

use crate::reset::{Direction, KernelTask, OwnerConfidence, Provenance, Reset, Role};

/// Who it is, how we know, and how sure that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process.
    pub task: KernelTask,
    /// How we know.
    pub provenance: Provenance,
    /// How sure that is.
    pub confidence: OwnerConfidence,
}

/// The two answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The owner of the socket.
    pub owner: Option<Owner>,
    /// Who triggered the reset, where that is known and is not the owner.
    pub actor: Option<KernelTask>,
}

/// Decides who owned the socket of a record, and who else had a hand in its reset.
pub fn decide(reset: &Reset) -> Verdict {
    if reset.socket.is_none() {
        return Verdict::default();
    }
    let known = remembered(reset);
    let Some(holder) = reset.facts.holder.clone() else {
        return Verdict { owner: known, actor: None };
    };
    if is_destroyed_from_outside(reset) {
        // The task is not a user of the socket; the story's owner stays, known or not.
        let actor = known.as_ref().is_none_or(|owner| !same(&owner.task, &holder)).then_some(holder);
        return Verdict { owner: known, actor };
    }
    match known {
        // The holder of the lock uses the socket. If that is who we thought it is, no doubt is left.
        Some(owner) if same(&owner.task, &holder) => {
            Verdict { owner: Some(Owner { confidence: OwnerConfidence::Exact, ..owner }), actor: None }
        }
        Some(owner) if owner.confidence == OwnerConfidence::Exact => {
            Verdict { owner: Some(owner), actor: Some(holder) }
        }
        // A guess gives way to somebody who was seen with the socket in hand; whether nobody else holds it as well
        // does not show.
        Some(_) | None => Verdict {
            owner: Some(Owner { task: holder, provenance: Provenance::Current, confidence: OwnerConfidence::Likely }),
            actor: None,
        },
    }
}

/// `ss -K` and its like: a reset of our own accord by a task that holds the lock, while the socket is still open. A
/// process that closes its own socket has set the state to CLOSE by then.
fn is_destroyed_from_outside(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.provoked_by.is_none() && reset.facts.raw_state != tcp::CLOSE
}

/// The owner that the story of the connection tells.
fn remembered(reset: &Reset) -> Option<Owner> {
    let facts = &reset.facts;
    let task = facts.owner.clone()?;
    let role = reset.socket.as_ref().and_then(|socket| socket.role);
    let provenance = match facts.provenance {
        PROVENANCE_CONNECT => Provenance::Connect,
        PROVENANCE_ACCEPT => Provenance::Accept,
        PROVENANCE_LISTEN => Provenance::Listen,
        PROVENANCE_IO => Provenance::Io,
        PROVENANCE_SNAPSHOT => Provenance::Snapshot,
        PROVENANCE_CURRENT => Provenance::Current,
        _ => return None,
    };
    let certain = match provenance {
        Provenance::Connect | Provenance::Accept | Provenance::Snapshot | Provenance::Current => true,
        // Whoever listens need not be who accepts: only while nobody has accepted is it the listener's for sure.
        Provenance::Listen => role == Some(Role::Listener) || waits_in_accept_queue(reset),
        Provenance::Io | Provenance::Lookup => false,
    };
    let confidence = if certain && !facts.shared { OwnerConfidence::Exact } else { OwnerConfidence::Likely };
    Some(Owner { task, provenance, confidence })
}

/// A connection that nobody has accepted belongs to no file, and is not an orphan of a closed file either: this host
/// has not closed it.
fn waits_in_accept_queue(reset: &Reset) -> bool {
    let Some(socket) = &reset.socket else { return false };
    reset.facts.orphan
        && !reset.facts.dead
        && socket.role == Some(Role::Server)
        && reset.facts.time_wait_substate.is_none()
}

fn same(one: &KernelTask, other: &KernelTask) -> bool {
    one.tgid == other.tgid && one.start_boottime_ns == other.start_boottime_ns
}
