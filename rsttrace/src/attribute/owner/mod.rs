//! The owner of the socket, from what the kernel side saw. Pure.
//!
//! Two answers: the *owner* of the socket, and the *actor* that made the kernel reset it where that is somebody else.
//! The task that was on the CPU is neither, unless it held the socket's lock.

use rsttrace_common::{
    abi::tcp,
    event::{PROVENANCE_ACCEPT, PROVENANCE_CONNECT, PROVENANCE_CURRENT, PROVENANCE_LISTEN, PROVENANCE_SNAPSHOT},
};

use crate::{
    facts::{Facts, KernelTask},
    model::{Direction, OwnerConfidence, Provenance, Reset, Role},
};

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
///
/// Whoever opened a connection, or listens, owns the socket for as long as it lives; after that, whoever holds it. A
/// connection that was accepted is whoever's holds it, since servers hand those on as a matter of course.
pub fn decide(reset: &Reset) -> Verdict {
    if reset.socket.is_none() {
        return Verdict::default();
    }
    let known = remembered(reset);
    let Some(user) = reset.facts.holder.clone().filter(|user| !only_walks(user)) else {
        return Verdict { owner: settled(reset, known), actor: None };
    };
    if is_destroyed_from_outside(reset) {
        // The task is not a user of the socket; its owner stays, known or not.
        let owner = settled(reset, known);
        let actor = owner.as_ref().is_none_or(|owner| !same(&owner.task, &user)).then_some(user);
        return Verdict { owner, actor };
    }
    match known {
        // The holder of the lock uses the socket. If that is who we thought it is, no doubt is left; its name is today's,
        // which an exec may have changed.
        Some(owner) if same(&owner.task, &user) => {
            Verdict { owner: Some(Owner { task: user, confidence: OwnerConfidence::Exact, ..owner }), actor: None }
        }
        // Whoever accepted may have handed it on since; who has it in hand now is seen.
        Some(owner)
            if owner.confidence == OwnerConfidence::Exact
                && owner.provenance != Provenance::Accept
                && !reset.facts.owner_ended =>
        {
            Verdict { owner: Some(owner), actor: Some(user) }
        }
        // A guess, who accepted, or the memory of a process that has ended gives way to somebody who was seen with the socket in
        // hand.
        Some(_) | None => Verdict { owner: Some(in_hand(reset, user)), actor: None },
    }
}

/// A walk of open files has each in hand while it looks at it. When its owner closes it just then, the last reference is the
/// walk's, and the kernel closes the socket in its context: that makes this process neither the owner nor an actor, nor any
/// other rsttrace, which walks as well.
pub fn only_walks(task: &KernelTask) -> bool {
    task.tgid == std::process::id() || &*task.comm == "rsttrace"
}

/// Whether a search for who holds the socket can still make the answer better.
pub fn is_open(reset: &Reset) -> bool {
    reset.facts.findings.is_some()
        && decide(reset).owner.is_none_or(|owner| owner.confidence == OwnerConfidence::Likely)
}

/// `ss -K` and its like: a reset of our own accord by a task that holds the lock, while the socket is still open. A
/// process that closes its own socket has set the state to CLOSE by then.
fn is_destroyed_from_outside(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.provoked_by.is_none() && reset.facts.raw_state != tcp::CLOSE
}

/// The owner that was seen with the socket in hand: it alone, if there was but one reference to it or this was the last
/// close, or if the search found nobody else.
fn in_hand(reset: &Reset, user: KernelTask) -> Owner {
    let Facts { found, references, .. } = &reset.facts;
    let is_found_alone = found_alone(reset) && found.holder.as_ref().is_some_and(|holder| same(holder, &user));
    let confidence = certainty(references.is_some_and(|references| references <= 1) || is_found_alone);
    Owner { task: user, provenance: Provenance::SocketUser, confidence }
}

/// The owner where nobody was seen with the socket in hand: the memory, where that is certain and still alive, else
/// whoever was found.
fn settled(reset: &Reset, known: Option<Owner>) -> Option<Owner> {
    let Facts { found, findings, references, owner_ended, .. } = &reset.facts;
    if let Some(owner) = &known
        && owner.confidence == OwnerConfidence::Exact
        // Nobody holds what is left of a closed socket: it belongs to whoever had it, dead or alive.
        && (!owner_ended || findings.is_none())
    {
        return known;
    }
    let is_known = |task: &KernelTask| known.as_ref().is_some_and(|owner| same(&owner.task, task));
    let (task, provenance, is_alone) = match (&found.holder, &found.closer) {
        (Some(holder), closer) => {
            let is_alone = found_alone(reset);
            if !is_alone && (found.known_holds || closer.as_ref().is_some_and(is_known)) {
                return known.map(likely);
            }
            (holder, Provenance::Lookup, is_alone)
        }
        // Who closes last held it; whether anybody else did, the number of references told.
        (None, Some(closer)) => (closer, Provenance::SocketUser, *references == Some(1)),
        (None, None) => return known.map(likely),
    };
    let provenance = match &known {
        Some(owner) if is_known(task) && owner.provenance != Provenance::Listen => owner.provenance,
        // Found was the holder of the listener; nobody has accepted.
        _ if waits_in_accept_queue(reset) => Provenance::Listen,
        _ => provenance,
    };
    Some(Owner { task: task.clone(), provenance, confidence: certainty(is_alone) })
}

/// Whether the holder that a walk found was the only one: neither the walk nor the last close showed another, and it has
/// every reference that there was at the reset, so that nobody has closed his since. A thread that waits in a system call
/// has a reference too, and leaves doubt.
fn found_alone(reset: &Reset) -> bool {
    let Facts { found, references, .. } = &reset.facts;
    let Some(holder) = &found.holder else { return false };
    !found.several
        && found.closer.as_ref().is_none_or(|closer| same(closer, holder))
        && references.is_some_and(|references| u32::from(references) <= found.descriptors)
}

const fn certainty(certain: bool) -> OwnerConfidence {
    if certain { OwnerConfidence::Exact } else { OwnerConfidence::Likely }
}

fn likely(owner: Owner) -> Owner {
    Owner { confidence: OwnerConfidence::Likely, ..owner }
}

/// The owner that the story of the connection tells.
fn remembered(reset: &Reset) -> Option<Owner> {
    let facts = &reset.facts;
    // The kernel side notes whoever closes a socket. A connection that rsttrace itself has opened is its own.
    let closes = |owner: &KernelTask| facts.provenance == PROVENANCE_CURRENT && only_walks(owner);
    let task = facts.owner.clone().filter(|owner| !closes(owner))?;
    let role = reset.socket.as_ref().and_then(|socket| socket.role);
    let provenance = match facts.provenance {
        PROVENANCE_CONNECT => Provenance::Connect,
        PROVENANCE_ACCEPT => Provenance::Accept,
        PROVENANCE_LISTEN => Provenance::Listen,
        PROVENANCE_SNAPSHOT => Provenance::Snapshot,
        PROVENANCE_CURRENT => Provenance::SocketUser,
        _ => return None,
    };
    let is_held = facts.findings.is_some();
    let certain = match provenance {
        Provenance::Connect | Provenance::Snapshot => true,
        // Whoever listens need not be who accepts: only while nobody has accepted is it the listener's for sure.
        Provenance::Listen => role == Some(Role::Listener) || waits_in_accept_queue(reset),
        // It may have been handed on since, as long as anybody holds it.
        Provenance::Accept => !is_held,
        Provenance::SocketUser => !is_held || facts.references == Some(1),
        Provenance::Lookup => false,
    };
    Some(Owner { task, provenance, confidence: certainty(certain && !facts.shared) })
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

#[cfg(test)]
mod tests;
