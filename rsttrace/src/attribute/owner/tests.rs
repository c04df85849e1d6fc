//! Cases in which it is not plain whose a socket is.

use jiff::Timestamp;
use rsttrace_common::event::{
    EVENT_HAS_HISTORY, EVENT_HAS_PACKET, EVENT_HAS_SOCKET, EVENT_ORPHAN, EVENT_OWNED_BY_USER, EVENT_SHARED,
    FILE_REFCOUNT_UNKNOWN, KIND_RECEIVED, KIND_SENT, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent, Task,
};

use super::*;
use crate::{
    decode::{Decoder, Reasons, clock::WallClock},
    facts::Found,
};

const CLOSED: u8 = tcp::CLOSE;
const OPEN: u8 = tcp::ESTABLISHED;

fn task(tgid: u32) -> Task {
    Task { start_boottime_ns: u64::from(tgid), tgid, uid: 0, comm: [b'x'; 16] }
}

type Answer = (Option<(u32, Provenance, OwnerConfidence)>, Option<u32>);

/// PID, provenance and confidence of the owner, and PID of the actor, of an event that differs from a bare one.
fn verdict(change: impl FnOnce(&mut ResetEvent)) -> Answer {
    answer(&record(change))
}

fn record(change: impl FnOnce(&mut ResetEvent)) -> Reset {
    let mut event = ResetEvent {
        kind: KIND_SENT,
        flags: EVENT_HAS_SOCKET | EVENT_HAS_HISTORY,
        state: CLOSED,
        previous_state: OPEN,
        file_refcount: FILE_REFCOUNT_UNKNOWN,
        ..ResetEvent::default()
    };
    change(&mut event);
    let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
    Decoder::new("host".into(), Reasons::default(), None, None).reset(&event, &clock)
}

fn answer(reset: &Reset) -> Answer {
    let verdict = decide(reset);
    (
        verdict.owner.map(|owner| (owner.task.tgid, owner.provenance, owner.confidence)),
        verdict.actor.map(|actor| actor.tgid),
    )
}

/// A reset that came from the peer for a socket that somebody holds, with the owner that is remembered.
fn open_to_search(tgid: u32, provenance: u8, role: u8) -> Reset {
    record(|event| {
        (event.kind, event.state, event.lookup_id, event.file_refcount) = (KIND_RECEIVED, OPEN, 1, 1);
        known(event, tgid, provenance, role);
    })
}

fn accepted() -> Reset {
    open_to_search(7, PROVENANCE_LISTEN, ROLE_SERVER)
}

/// The answer once this has been found.
fn after(mut reset: Reset, find: impl FnOnce(&mut Found)) -> Answer {
    reset.facts.found.descriptors = 1;
    find(&mut reset.facts.found);
    answer(&reset)
}

fn process(tgid: u32) -> KernelTask {
    KernelTask { tgid, start_boottime_ns: tgid.into(), uid: Some(0), comm: "x".into() }
}

fn known(event: &mut ResetEvent, tgid: u32, provenance: u8, role: u8) {
    (event.owner, event.provenance, event.role) = (task(tgid), provenance, role);
}

fn held_by(event: &mut ResetEvent, tgid: u32) {
    event.flags |= EVENT_OWNED_BY_USER;
    event.actor = task(tgid);
}

#[test]
fn whoever_only_walks_is_no_owner_but_of_what_it_opened() {
    let mut walker = task(8);
    walker.comm[..9].copy_from_slice(b"rsttrace\0");
    let closes = |event: &mut ResetEvent| {
        known(event, 8, PROVENANCE_CURRENT, ROLE_SERVER);
        event.owner = walker;
    };
    assert_eq!(verdict(closes), (None, None));
    let opens = |event: &mut ResetEvent| {
        known(event, 8, PROVENANCE_CONNECT, ROLE_CLIENT);
        event.owner = walker;
    };
    assert_eq!(verdict(opens).0.map(|(pid, ..)| pid), Some(8));
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
    assert_eq!(replaced, (Some((8, Provenance::SocketUser, OwnerConfidence::Likely)), None));
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
        event.flags = EVENT_HAS_PACKET | EVENT_HAS_HISTORY;
        event.state = 0;
        known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
    });
    assert_eq!(none, (None, None));
}

#[test]
fn what_was_accepted_is_searched_for_and_what_was_opened_is_not() {
    assert!(is_open(&accepted()));
    assert!(is_open(&open_to_search(7, PROVENANCE_ACCEPT, ROLE_SERVER)));
    assert!(is_open(&open_to_search(7, 0, ROLE_SERVER)));
    for (provenance, role) in
        [(PROVENANCE_CONNECT, ROLE_CLIENT), (PROVENANCE_SNAPSHOT, 0), (PROVENANCE_LISTEN, ROLE_LISTENER)]
    {
        let mut opened = open_to_search(7, provenance, role);
        assert!(!is_open(&opened));
        opened.facts.owner_ended = true;
        assert!(is_open(&opened));
        opened.facts.findings = None;
        assert!(!is_open(&opened), "nobody holds it, so nobody can be found");
    }
}

#[test]
fn who_alone_holds_it_is_the_owner() {
    let found = after(accepted(), |found| found.holder = Some(process(8)));
    assert_eq!(found, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
    let the_listener_itself = after(accepted(), |found| found.holder = Some(process(7)));
    assert_eq!(the_listener_itself, (Some((7, Provenance::Lookup, OwnerConfidence::Exact)), None));
    let accepted = open_to_search(7, PROVENANCE_ACCEPT, ROLE_SERVER);
    let confirmed = after(accepted, |found| found.holder = Some(process(7)));
    assert_eq!(confirmed, (Some((7, Provenance::Accept, OwnerConfidence::Exact)), None));
    let closed_since = after(self::accepted(), |found| {
        (found.holder, found.closer, found.gone) = (Some(process(8)), Some(process(8)), true);
    });
    assert_eq!(closed_since, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
}

#[test]
fn one_of_several_is_only_likely() {
    let others = after(accepted(), |found| (found.holder, found.several) = (Some(process(8)), true));
    assert_eq!(others, (Some((8, Provenance::Lookup, OwnerConfidence::Likely)), None));
    let among_them = after(accepted(), |found| {
        (found.holder, found.several, found.known_holds) = (Some(process(6)), true, true);
    });
    assert_eq!(among_them, (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
    // One held it when we looked, another closed it last: both did.
    let two_witnesses = after(accepted(), |found| (found.holder, found.closer) = (Some(process(8)), Some(process(9))));
    assert_eq!(two_witnesses, (Some((8, Provenance::Lookup, OwnerConfidence::Likely)), None));
    let the_known_closed =
        after(accepted(), |found| (found.holder, found.closer) = (Some(process(8)), Some(process(7))));
    assert_eq!(the_known_closed, (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
}

#[test]
fn who_is_left_alone_was_not_alone() {
    let mut reset = accepted();
    reset.facts.references = Some(3);
    let left = after(reset.clone(), |found| found.holder = Some(process(8)));
    assert_eq!(left, (Some((8, Provenance::Lookup, OwnerConfidence::Likely)), None));
    let with_copies = after(reset, |found| (found.holder, found.descriptors) = (Some(process(8)), 3));
    assert_eq!(with_copies, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
}

#[test]
fn who_closed_it_before_anybody_looked_had_it() {
    let closed = |references, tgid| {
        let mut reset = accepted();
        reset.facts.references = references;
        after(reset, |found| (found.closer, found.gone) = (Some(process(tgid)), true))
    };
    assert_eq!(closed(Some(1), 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Exact)), None));
    // Others may have held it as well, and closed it before.
    assert_eq!(closed(Some(2), 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Likely)), None));
    assert_eq!(closed(None, 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Likely)), None));
    assert_eq!(closed(Some(2), 7), (Some((7, Provenance::SocketUser, OwnerConfidence::Likely)), None));
}

#[test]
fn what_was_accepted_is_whose_hand_it_is_in() {
    let closed = |references, by| {
        verdict(|event| {
            known(event, 7, PROVENANCE_ACCEPT, ROLE_SERVER);
            event.file_refcount = references;
            held_by(event, by);
        })
    };
    assert_eq!(closed(1, 7), (Some((7, Provenance::Accept, OwnerConfidence::Exact)), None));
    assert_eq!(closed(1, 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Exact)), None));
    assert_eq!(closed(2, 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Likely)), None));
}

#[test]
fn what_nobody_is_found_with_stays_a_guess() {
    assert_eq!(after(accepted(), |_| {}), (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
    let nobody = open_to_search(0, 0, ROLE_SERVER);
    assert_eq!(answer(&nobody), (None, None));
}

#[test]
fn who_opened_it_owns_it_until_it_ends() {
    let opened = || open_to_search(7, PROVENANCE_CONNECT, ROLE_CLIENT);
    let alive = after(opened(), |found| found.holder = Some(process(8)));
    assert_eq!(alive, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
    let ended = |find: fn(&mut Found)| {
        let mut reset = opened();
        reset.facts.owner_ended = true;
        after(reset, find)
    };
    let heir = ended(|found| found.holder = Some(process(8)));
    assert_eq!(heir, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
    let ended_since = ended(|found| (found.closer, found.gone) = (Some(process(7)), true));
    assert_eq!(ended_since, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
    assert_eq!(ended(|_| {}), (Some((7, Provenance::Connect, OwnerConfidence::Likely)), None));
    // What is left of a closed socket is nobody else's.
    let mut orphan = opened();
    (orphan.facts.owner_ended, orphan.facts.findings) = (true, None);
    assert_eq!(answer(&orphan), (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
}

#[test]
fn the_heir_of_an_ended_opener_is_no_mere_actor() {
    let mut reset = record(|event| {
        known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
        held_by(event, 8);
        event.file_refcount = 0;
    });
    reset.facts.owner_ended = true;
    assert_eq!(answer(&reset), (Some((8, Provenance::SocketUser, OwnerConfidence::Exact)), None));
}

#[test]
fn the_holder_of_a_listener_whose_caller_has_ended_owns_its_queue() {
    let mut waiting = record(|event| {
        known(event, 7, PROVENANCE_LISTEN, ROLE_SERVER);
        event.flags |= EVENT_ORPHAN;
        (event.lookup_id, event.file_refcount) = (1, 0);
    });
    assert!(!is_open(&waiting));
    waiting.facts.owner_ended = true;
    assert!(is_open(&waiting));
    let daemon = after(waiting, |found| found.holder = Some(process(8)));
    assert_eq!(daemon, (Some((8, Provenance::Listen, OwnerConfidence::Exact)), None));
}

#[test]
fn a_reference_that_is_not_the_only_one_leaves_doubt() {
    let disconnected = |references: u16| {
        verdict(move |event| {
            known(event, 7, PROVENANCE_LISTEN, ROLE_SERVER);
            held_by(event, 8);
            event.file_refcount = references;
        })
    };
    for (references, confidence) in
        [(0, OwnerConfidence::Exact), (1, OwnerConfidence::Exact), (2, OwnerConfidence::Likely)]
    {
        assert_eq!(disconnected(references), (Some((8, Provenance::SocketUser, confidence)), None));
    }
}

/// Every way in which an owner can be beyond doubt, told apart from how it is decided.
fn is_proven(reset: &Reset, owner: &KernelTask) -> bool {
    let Facts { found, references, holder, .. } = &reset.facts;
    let remembered = reset.facts.owner.as_ref().is_some_and(|known| same(known, owner));
    let is = |task: &Option<KernelTask>| task.as_ref().is_some_and(|task| same(task, owner));
    let has_all = references.is_some_and(|references| u32::from(references) <= found.descriptors);
    let found_alone = has_all && is(&found.holder) && !found.several && (found.closer.is_none() || is(&found.closer));
    let one_reference = references.is_some_and(|references| references <= 1);
    let works_on_it = is(holder) && !is_destroyed_from_outside(reset) && (remembered || one_reference || found_alone);
    let closed_it = is(&found.closer) && found.holder.is_none() && *references == Some(1);
    let is_held = reset.facts.findings.is_some();
    let role = reset.socket.as_ref().and_then(|socket| socket.role);
    let opened_it = match reset.facts.provenance {
        PROVENANCE_CONNECT | PROVENANCE_SNAPSHOT => true,
        PROVENANCE_LISTEN => role == Some(Role::Listener) || waits_in_accept_queue(reset),
        PROVENANCE_CURRENT => !is_held || *references == Some(1),
        PROVENANCE_ACCEPT => !is_held,
        _ => false,
    };
    let has_it_still = !(reset.facts.shared || is_held && reset.facts.owner_ended);
    works_on_it || found_alone || closed_it || remembered && opened_it && has_it_still
}

#[test]
fn nothing_is_exact_that_was_guessed() {
    let somebody = |tgid: u32| (tgid != 0).then(|| process(tgid));
    let mut exact = 0;
    // Every eleventh: no number of choices has that divisor, so each meets each.
    for number in (0..7 * 4 * 2 * 4 * 2 * 2 * 4 * 3 * 3 * 2 * 3 * 2 * 2_u32).step_by(11) {
        let mut rest = number;
        let mut choose = |choices: u32| {
            let choice = rest % choices;
            rest /= choices;
            choice
        };
        let mut reset = record(|event| {
            known(event, 7, choose(7).try_into().unwrap_or(0), choose(4).try_into().unwrap_or(0));
            event.lookup_id = choose(2).into();
            event.file_refcount = [0, 1, 2, FILE_REFCOUNT_UNKNOWN][choose(4) as usize];
            event.flags |= if choose(2) == 1 { EVENT_SHARED } else { 0 };
            event.flags |= if choose(2) == 1 { EVENT_ORPHAN } else { 0 };
            (event.kind, event.state) =
                [(KIND_SENT, CLOSED), (KIND_SENT, OPEN), (KIND_RECEIVED, OPEN), (KIND_SENT, tcp::LISTEN)]
                    [choose(4) as usize];
            let user = [0, 7, 8][choose(3) as usize];
            if user != 0 {
                held_by(event, user);
            }
        });
        let found = &mut reset.facts.found;
        found.holder = somebody([0, 7, 8][choose(3) as usize]);
        found.several = choose(2) == 1;
        found.descriptors = choose(2) + 1;
        found.closer = somebody([0, 7, 9][choose(3) as usize]);
        reset.facts.owner_ended = choose(2) == 1;
        if let Some(owner) = decide(&reset).owner.filter(|owner| owner.confidence == OwnerConfidence::Exact) {
            assert!(is_proven(&reset, &owner.task), "{owner:?} of {:?}", reset.facts);
            exact += 1;
        }
    }
    assert!(exact > 1_000, "only {exact} were exact");
}

#[test]
fn our_own_walk_that_closes_a_socket_makes_it_nobodys_but_the_owners() {
    let walked = |provenance: u8| {
        verdict(move |event| {
            if provenance != 0 {
                known(event, 7, provenance, ROLE_CLIENT);
            }
            held_by(event, std::process::id());
        })
    };
    assert_eq!(walked(PROVENANCE_CONNECT), (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
    assert_eq!(walked(0), (None, None));
    let noted = verdict(|event| {
        known(event, std::process::id(), PROVENANCE_CURRENT, ROLE_CLIENT);
        held_by(event, std::process::id());
    });
    assert_eq!(noted, (None, None));
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
