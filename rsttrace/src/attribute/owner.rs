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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use rsttrace_common::event::{
        EVENT_HAS_PACKET, EVENT_HAS_SOCKET, EVENT_HAS_STORY, EVENT_ORPHAN, EVENT_OWNED, EVENT_SHARED, KIND_RECEIVED,
        KIND_SENT, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent, Task,
    };

    use super::*;
    use crate::decode::{Decoder, clock::WallClock};

    const CLOSED: u8 = tcp::CLOSE;
    const OPEN: u8 = tcp::ESTABLISHED;

    fn task(tgid: u32) -> Task {
        Task { start_boottime_ns: u64::from(tgid), tgid, uid: 0, comm: [b'x'; 16] }
    }

    /// PID, provenance and confidence of the owner, and PID of the actor, of an event that differs from a bare one.
    fn verdict(change: impl FnOnce(&mut ResetEvent)) -> (Option<(u32, Provenance, OwnerConfidence)>, Option<u32>) {
        let mut event = ResetEvent {
            kind: KIND_SENT,
            flags: EVENT_HAS_SOCKET | EVENT_HAS_STORY,
            state: CLOSED,
            previous_state: OPEN,
            ..ResetEvent::default()
        };
        change(&mut event);
        let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
        let verdict = decide(&Decoder::new("host".into(), BTreeMap::new(), None).reset(&event, &clock));
        (
            verdict.owner.map(|owner| (owner.task.tgid, owner.provenance, owner.confidence)),
            verdict.actor.map(|actor| actor.tgid),
        )
    }

    fn known(event: &mut ResetEvent, tgid: u32, provenance: u8, role: u8) {
        (event.owner, event.provenance, event.role) = (task(tgid), provenance, role);
    }

    fn held_by(event: &mut ResetEvent, tgid: u32) {
        event.flags |= EVENT_OWNED;
        event.actor = task(tgid);
    }

    #[test]
    fn whoever_connected_owns_whatever_the_cpu_ran() {
        let bystander = verdict(|event| {
            event.kind = KIND_RECEIVED;
            event.state = OPEN;
            known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
            // Not owned: the kernel side would not even read it, and it must not count if it did.
            event.actor = task(666);
        });
        assert_eq!(bystander, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
    }

    #[test]
    fn what_is_inherited_from_a_listener_is_a_guess_until_somebody_holds_it() {
        let inherited = |event: &mut ResetEvent| known(event, 7, PROVENANCE_LISTEN, ROLE_SERVER);
        assert_eq!(verdict(inherited), (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
        let confirmed = verdict(|event| {
            inherited(event);
            held_by(event, 7);
        });
        assert_eq!(confirmed, (Some((7, Provenance::Listen, OwnerConfidence::Exact)), None));
        let replaced = verdict(|event| {
            inherited(event);
            held_by(event, 8);
        });
        assert_eq!(replaced, (Some((8, Provenance::Current, OwnerConfidence::Likely)), None));
    }

    #[test]
    fn a_connection_that_nobody_accepted_is_the_listeners() {
        let waiting = verdict(|event| {
            known(event, 7, PROVENANCE_LISTEN, ROLE_SERVER);
            event.flags |= EVENT_ORPHAN;
        });
        assert_eq!(waiting, (Some((7, Provenance::Listen, OwnerConfidence::Exact)), None));
        let listener = verdict(|event| {
            known(event, 7, PROVENANCE_LISTEN, ROLE_LISTENER);
            event.state = tcp::LISTEN;
        });
        assert_eq!(listener, (Some((7, Provenance::Listen, OwnerConfidence::Exact)), None));
    }

    #[test]
    fn a_shared_socket_is_never_exactly_somebodys() {
        for provenance in [PROVENANCE_SNAPSHOT, PROVENANCE_LISTEN, PROVENANCE_CURRENT] {
            let (owner, _) = verdict(|event| {
                known(event, 7, provenance, ROLE_LISTENER);
                event.flags |= EVENT_SHARED;
            });
            assert!(owner.is_some_and(|(pid, _, confidence)| pid == 7 && confidence == OwnerConfidence::Likely));
        }
    }

    #[test]
    fn who_closes_last_is_the_actor_beside_a_certain_owner() {
        let heir = verdict(|event| {
            known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
            held_by(event, 8);
        });
        assert_eq!(heir, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), Some(8)));
    }

    #[test]
    fn who_destroys_an_open_socket_is_never_its_owner() {
        let destroyed = |owner: u32| {
            verdict(move |event| {
                if owner != 0 {
                    known(event, owner, PROVENANCE_CONNECT, ROLE_CLIENT);
                }
                event.state = OPEN;
                held_by(event, 77);
            })
        };
        assert_eq!(destroyed(7), (Some((7, Provenance::Connect, OwnerConfidence::Exact)), Some(77)));
        assert_eq!(destroyed(0), (None, Some(77)));
        // A process may destroy its own.
        assert_eq!(destroyed(77), (Some((77, Provenance::Connect, OwnerConfidence::Exact)), None));
    }

    #[test]
    fn without_a_socket_there_is_no_owner() {
        let none = verdict(|event| {
            event.flags = EVENT_HAS_PACKET | EVENT_HAS_STORY;
            event.state = 0;
            known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
        });
        assert_eq!(none, (None, None));
    }

    #[test]
    fn a_pid_that_was_used_again_is_another_process() {
        let reused = verdict(|event| {
            known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
            held_by(event, 7);
            event.actor.start_boottime_ns += 1;
        });
        assert_eq!(reused, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), Some(7)));
    }
}
