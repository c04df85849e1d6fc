//! Cases in which the owner of a socket is not obvious.

use jiff::Timestamp;
use rsttrace_common::event::{
    EVENT_HAS_HISTORY, EVENT_HAS_PACKET, EVENT_HAS_SOCKET, EVENT_ORPHAN, EVENT_OWNED_BY_USER, EVENT_SHARED,
    FILE_REFCOUNT_UNKNOWN, KIND_RECEIVED, KIND_SENT, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent, Task,
};

use super::*;
use crate::{
    decode::{BitFields, Decoder, Reasons, clock::WallClock},
    model::internals::HolderFindings,
};

const CLOSED: u8 = tcp::CLOSE;
const OPEN: u8 = tcp::ESTABLISHED;

fn task(tgid: u32) -> Task {
    Task { start_boottime_ns: u64::from(tgid), tgid, uid: 0, comm: [b'x'; 16] }
}

/// PID, provenance and confidence of the owner, and PID of the actor.
type Answer = (Option<(u32, Provenance, OwnerConfidence)>, Option<u32>);

/// Answer for a bare event with one change.
fn answer_for(change: impl FnOnce(&mut ResetEvent)) -> Answer {
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
    Decoder::new("host".into(), Reasons::default(), BitFields::default(), None).reset(&event, &clock)
}

fn answer(reset: &Reset) -> Answer {
    let ownership = decide(reset);
    (
        ownership.owner.map(|owner| (owner.task.tgid, owner.provenance, owner.confidence)),
        ownership.actor.map(|actor| actor.tgid),
    )
}

/// A received reset of a socket that has a holder, with an owner in its history.
fn with_holder(tgid: u32, provenance: u8, role: u8) -> Reset {
    record(|event| {
        (event.kind, event.state, event.lookup_id, event.file_refcount) = (KIND_RECEIVED, OPEN, 1, 1);
        known(event, tgid, provenance, role);
    })
}

fn accepted() -> Reset {
    with_holder(7, PROVENANCE_LISTEN, ROLE_SERVER)
}

/// Answer after a lookup that found this.
fn after(mut reset: Reset, find: impl FnOnce(&mut HolderFindings)) -> Answer {
    reset.internals.holder_findings.descriptors = 1;
    find(&mut reset.internals.holder_findings);
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
fn a_tracer_owns_only_what_it_opened() {
    let mut tracer = task(8);
    tracer.comm[..9].copy_from_slice(b"rsttrace\0");
    let closes = |event: &mut ResetEvent| {
        known(event, 8, PROVENANCE_CURRENT, ROLE_SERVER);
        event.owner = tracer;
    };
    assert_eq!(answer_for(closes), (None, None));
    let opens = |event: &mut ResetEvent| {
        known(event, 8, PROVENANCE_CONNECT, ROLE_CLIENT);
        event.owner = tracer;
    };
    assert_eq!(answer_for(opens).0.map(|(pid, ..)| pid), Some(8));
}

#[test]
fn the_process_that_connected_is_the_owner_and_not_the_one_on_the_cpu() {
    let bystander = answer_for(|event| {
        event.kind = KIND_RECEIVED;
        event.state = OPEN;
        known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
        // Without EVENT_OWNED_BY_USER the programs do not fill this in, and it must not count if they did.
        event.actor = task(666);
    });
    assert_eq!(bystander, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
}

#[test]
fn the_owner_of_the_listener_is_a_guess_until_the_lock_holder_confirms_it() {
    let inherited = |event: &mut ResetEvent| known(event, 7, PROVENANCE_LISTEN, ROLE_SERVER);
    assert_eq!(answer_for(inherited), (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
    let confirmed = answer_for(|event| {
        inherited(event);
        held_by(event, 7);
    });
    assert_eq!(confirmed, (Some((7, Provenance::Listen, OwnerConfidence::Exact)), None));
    let replaced = answer_for(|event| {
        inherited(event);
        held_by(event, 8);
    });
    assert_eq!(replaced, (Some((8, Provenance::SocketUser, OwnerConfidence::Likely)), None));
}

#[test]
fn a_connection_that_was_not_accepted_belongs_to_the_listener() {
    let waiting = answer_for(|event| {
        known(event, 7, PROVENANCE_LISTEN, ROLE_SERVER);
        event.flags |= EVENT_ORPHAN;
    });
    assert_eq!(waiting, (Some((7, Provenance::Listen, OwnerConfidence::Exact)), None));
    let listener = answer_for(|event| {
        known(event, 7, PROVENANCE_LISTEN, ROLE_LISTENER);
        event.state = tcp::LISTEN;
    });
    assert_eq!(listener, (Some((7, Provenance::Listen, OwnerConfidence::Exact)), None));
}

#[test]
fn a_shared_socket_has_no_exact_owner() {
    for provenance in [PROVENANCE_SNAPSHOT, PROVENANCE_LISTEN, PROVENANCE_CURRENT] {
        let (owner, _) = answer_for(|event| {
            known(event, 7, provenance, ROLE_LISTENER);
            event.flags |= EVENT_SHARED;
        });
        assert!(owner.is_some_and(|(pid, _, confidence)| pid == 7 && confidence == OwnerConfidence::Likely));
    }
}

#[test]
fn the_process_that_closes_last_is_the_actor_beside_an_exact_owner() {
    let other_holder = answer_for(|event| {
        known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
        held_by(event, 8);
    });
    assert_eq!(other_holder, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), Some(8)));
}

#[test]
fn the_process_that_destroys_an_open_socket_is_not_its_owner() {
    let destroyed = |owner: u32| {
        answer_for(move |event| {
            if owner != 0 {
                known(event, owner, PROVENANCE_CONNECT, ROLE_CLIENT);
            }
            event.state = OPEN;
            held_by(event, 77);
        })
    };
    assert_eq!(destroyed(7), (Some((7, Provenance::Connect, OwnerConfidence::Exact)), Some(77)));
    assert_eq!(destroyed(0), (None, Some(77)));
    // A process may destroy a socket of its own.
    assert_eq!(destroyed(77), (Some((77, Provenance::Connect, OwnerConfidence::Exact)), None));
}

#[test]
fn without_a_socket_there_is_no_owner() {
    let none = answer_for(|event| {
        event.flags = EVENT_HAS_PACKET | EVENT_HAS_HISTORY;
        event.state = 0;
        known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
    });
    assert_eq!(none, (None, None));
}

#[test]
fn accepted_connections_need_a_lookup_and_opened_ones_do_not() {
    assert!(needs_lookup(&accepted()));
    assert!(needs_lookup(&with_holder(7, PROVENANCE_ACCEPT, ROLE_SERVER)));
    assert!(needs_lookup(&with_holder(7, 0, ROLE_SERVER)));
    for (provenance, role) in
        [(PROVENANCE_CONNECT, ROLE_CLIENT), (PROVENANCE_SNAPSHOT, 0), (PROVENANCE_LISTEN, ROLE_LISTENER)]
    {
        let mut opened = with_holder(7, provenance, role);
        assert!(!needs_lookup(&opened));
        opened.internals.owner_ended = true;
        assert!(needs_lookup(&opened));
        opened.internals.lookup_id = None;
        assert!(!needs_lookup(&opened), "a socket without a holder needs no lookup");
    }
}

#[test]
fn the_sole_holder_is_the_owner() {
    let found = after(accepted(), |found| found.holder = Some(process(8)));
    assert_eq!(found, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
    let the_listener_itself = after(accepted(), |found| found.holder = Some(process(7)));
    assert_eq!(the_listener_itself, (Some((7, Provenance::Lookup, OwnerConfidence::Exact)), None));
    let accepted = with_holder(7, PROVENANCE_ACCEPT, ROLE_SERVER);
    let confirmed = after(accepted, |found| found.holder = Some(process(7)));
    assert_eq!(confirmed, (Some((7, Provenance::Accept, OwnerConfidence::Exact)), None));
    let closed_since = after(self::accepted(), |found| {
        (found.holder, found.closer, found.gone) = (Some(process(8)), Some(process(8)), true);
    });
    assert_eq!(closed_since, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
}

#[test]
fn one_of_several_is_only_likely() {
    let others = after(accepted(), |found| (found.holder, found.multiple_holders) = (Some(process(8)), true));
    assert_eq!(others, (Some((8, Provenance::Lookup, OwnerConfidence::Likely)), None));
    let among_them = after(accepted(), |found| {
        (found.holder, found.multiple_holders, found.owner_holds) = (Some(process(6)), true, true);
    });
    assert_eq!(among_them, (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
    // One process held it during the scan and another closed it last, so both held it.
    let two_witnesses = after(accepted(), |found| (found.holder, found.closer) = (Some(process(8)), Some(process(9))));
    assert_eq!(two_witnesses, (Some((8, Provenance::Lookup, OwnerConfidence::Likely)), None));
    let the_known_closed =
        after(accepted(), |found| (found.holder, found.closer) = (Some(process(8)), Some(process(7))));
    assert_eq!(the_known_closed, (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
}

#[test]
fn the_last_of_several_holders_is_only_likely() {
    let mut reset = accepted();
    reset.internals.file_refcount = Some(3);
    let left = after(reset.clone(), |found| found.holder = Some(process(8)));
    assert_eq!(left, (Some((8, Provenance::Lookup, OwnerConfidence::Likely)), None));
    let with_copies = after(reset, |found| (found.holder, found.descriptors) = (Some(process(8)), 3));
    assert_eq!(with_copies, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
}

#[test]
fn a_process_that_closed_it_before_the_scan_held_it() {
    let closed = |references, tgid| {
        let mut reset = accepted();
        reset.internals.file_refcount = references;
        after(reset, |found| (found.closer, found.gone) = (Some(process(tgid)), true))
    };
    assert_eq!(closed(Some(1), 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Exact)), None));
    // Other processes may have held it as well, and closed it before.
    assert_eq!(closed(Some(2), 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Likely)), None));
    assert_eq!(closed(None, 8), (Some((8, Provenance::SocketUser, OwnerConfidence::Likely)), None));
    assert_eq!(closed(Some(2), 7), (Some((7, Provenance::SocketUser, OwnerConfidence::Likely)), None));
}

#[test]
fn an_accepted_connection_belongs_to_its_last_user() {
    let closed = |references, by| {
        answer_for(|event| {
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
fn an_owner_that_the_lookup_does_not_find_stays_a_guess() {
    assert_eq!(after(accepted(), |_| {}), (Some((7, Provenance::Listen, OwnerConfidence::Likely)), None));
    let without_history = with_holder(0, 0, ROLE_SERVER);
    assert_eq!(answer(&without_history), (None, None));
}

#[test]
fn the_process_that_opened_it_is_the_owner_until_it_exits() {
    let opened = || with_holder(7, PROVENANCE_CONNECT, ROLE_CLIENT);
    let alive = after(opened(), |found| found.holder = Some(process(8)));
    assert_eq!(alive, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
    let ended = |find: fn(&mut HolderFindings)| {
        let mut reset = opened();
        reset.internals.owner_ended = true;
        after(reset, find)
    };
    let other_holder = ended(|found| found.holder = Some(process(8)));
    assert_eq!(other_holder, (Some((8, Provenance::Lookup, OwnerConfidence::Exact)), None));
    let ended_since = ended(|found| (found.closer, found.gone) = (Some(process(7)), true));
    assert_eq!(ended_since, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
    assert_eq!(ended(|_| {}), (Some((7, Provenance::Connect, OwnerConfidence::Likely)), None));
    // What is left of a closed socket belongs to its last owner.
    let mut orphan = opened();
    (orphan.internals.owner_ended, orphan.internals.lookup_id) = (true, None);
    assert_eq!(answer(&orphan), (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
}

#[test]
fn the_holder_after_the_exit_of_the_opener_is_the_owner() {
    let mut reset = record(|event| {
        known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
        held_by(event, 8);
        event.file_refcount = 0;
    });
    reset.internals.owner_ended = true;
    assert_eq!(answer(&reset), (Some((8, Provenance::SocketUser, OwnerConfidence::Exact)), None));
}

#[test]
fn the_holder_of_a_listener_owns_its_accept_queue() {
    let mut waiting = record(|event| {
        known(event, 7, PROVENANCE_LISTEN, ROLE_SERVER);
        event.flags |= EVENT_ORPHAN;
        (event.lookup_id, event.file_refcount) = (1, 0);
    });
    assert!(!needs_lookup(&waiting));
    waiting.internals.owner_ended = true;
    assert!(needs_lookup(&waiting));
    let daemon = after(waiting, |found| found.holder = Some(process(8)));
    assert_eq!(daemon, (Some((8, Provenance::Listen, OwnerConfidence::Exact)), None));
}

#[test]
fn more_than_one_reference_leaves_doubt() {
    let disconnected = |references: u16| {
        answer_for(move |event| {
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

/// Every way in which an owner can be proven, written independently of [`decide`].
fn is_proven(reset: &Reset, owner: &KernelTask) -> bool {
    let Internals { holder_findings, file_refcount, holder, .. } = &reset.internals;
    let remembered = reset.internals.owner.as_ref().is_some_and(|known| is_same_process(known, owner));
    let is = |task: &Option<KernelTask>| task.as_ref().is_some_and(|task| is_same_process(task, owner));
    let has_all = file_refcount.is_some_and(|references| u32::from(references) <= holder_findings.descriptors);
    let is_sole_holder = has_all
        && is(&holder_findings.holder)
        && !holder_findings.multiple_holders
        && (holder_findings.closer.is_none() || is(&holder_findings.closer));
    let one_reference = file_refcount.is_some_and(|references| references <= 1);
    let works_on_it =
        is(holder) && !is_destroyed_from_outside(reset) && (remembered || one_reference || is_sole_holder);
    let closed_it = is(&holder_findings.closer) && holder_findings.holder.is_none() && *file_refcount == Some(1);
    let is_held = reset.internals.lookup_id.is_some();
    let role = reset.socket.as_ref().and_then(|socket| socket.role);
    let opened_it = match reset.internals.provenance {
        PROVENANCE_CONNECT | PROVENANCE_SNAPSHOT => true,
        PROVENANCE_LISTEN => role == Some(Role::Listener) || waits_in_accept_queue(reset),
        PROVENANCE_CURRENT => !is_held || *file_refcount == Some(1),
        PROVENANCE_ACCEPT => !is_held,
        _ => false,
    };
    let has_it_still = !(reset.internals.shared || is_held && reset.internals.owner_ended);
    works_on_it || is_sole_holder || closed_it || remembered && opened_it && has_it_still
}

#[test]
fn no_guess_is_exact() {
    let optional = |tgid: u32| (tgid != 0).then(|| process(tgid));
    let mut exact = 0;
    // Every eleventh combination: 11 divides none of the numbers of choices, so each choice meets each other.
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
        let found = &mut reset.internals.holder_findings;
        found.holder = optional([0, 7, 8][choose(3) as usize]);
        found.multiple_holders = choose(2) == 1;
        found.descriptors = choose(2) + 1;
        found.closer = optional([0, 7, 9][choose(3) as usize]);
        reset.internals.owner_ended = choose(2) == 1;
        if let Some(owner) = decide(&reset).owner.filter(|owner| owner.confidence == OwnerConfidence::Exact) {
            assert!(is_proven(&reset, &owner.task), "{owner:?} of {:?}", reset.internals);
            exact += 1;
        }
    }
    assert!(exact > 1_000, "only {exact} were exact");
}

#[test]
fn a_scan_that_closes_a_socket_is_neither_owner_nor_actor() {
    let closed_by_scan = |provenance: u8| {
        answer_for(move |event| {
            if provenance != 0 {
                known(event, 7, provenance, ROLE_CLIENT);
            }
            held_by(event, std::process::id());
        })
    };
    assert_eq!(closed_by_scan(PROVENANCE_CONNECT), (Some((7, Provenance::Connect, OwnerConfidence::Exact)), None));
    assert_eq!(closed_by_scan(0), (None, None));
    let noted = answer_for(|event| {
        known(event, std::process::id(), PROVENANCE_CURRENT, ROLE_CLIENT);
        held_by(event, std::process::id());
    });
    assert_eq!(noted, (None, None));
}

#[test]
fn a_reused_pid_is_another_process() {
    let reused = answer_for(|event| {
        known(event, 7, PROVENANCE_CONNECT, ROLE_CLIENT);
        held_by(event, 7);
        event.actor.start_boottime_ns += 1;
    });
    assert_eq!(reused, (Some((7, Provenance::Connect, OwnerConfidence::Exact)), Some(7)));
}
