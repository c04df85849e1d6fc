//! Who holds a socket that has just been reset: found out after the event, by the socket's end or by a walk of the open
//! files, for the user side to fetch.
//!
//! Nothing here runs for a packet or a system call. After a reset from the peer the socket stays in the hands of its
//! process until that closes it; so either it still holds it when somebody looks, or its close shows.

use aya_ebpf::Global;
use rsttrace_common::{
    config::FINDINGS_PLACES,
    event::{EVENT_ORPHAN, ResetEvent, Task},
    names::tcp,
    owner::Findings,
};

use crate::{
    connection::Connection,
    maps::{CONNECTIONS, FINDINGS, LISTENERS, WALK},
    sock, story, task, turns,
};

/// How many places each CPU has.
#[unsafe(no_mangle)]
static FINDINGS_OF_CPU: Global<u32> = Global::new(FINDINGS_PLACES);

/// `SOCK_DEAD` of `enum sock_flags`.
const SOCK_DEAD: u32 = 1 << 0;

const NOBODY: Task = Task { start_boottime_ns: 0, tgid: 0, uid: 0, comm: [0; 16] };

/// Begins to await the holder of the event's socket, where somebody holds it: of a connection that waits in the accept
/// queue, the holder of the listener. The event is complete but for this.
#[inline(always)]
pub(crate) fn await_holder(sk: u64, story: &Connection, event: &mut ResetEvent) {
    let awaited = if event.flags & EVENT_ORPHAN == 0 {
        // The last close of a socket shows who holds it; afterwards nobody does.
        match (event.references, event.state) {
            (0, _) => None,
            (_, tcp::LISTEN) => LISTENERS.any(sk),
            _ => CONNECTIONS.any(sk).or_else(|| story::begin(sk)),
        }
    } else if event.socket_flags & SOCK_DEAD == 0 && story.listener != 0 {
        LISTENERS.open(story.listener)
    } else {
        None
    };
    let Some(awaited) = awaited else { return };
    // SAFETY: values of the map are valid as long as the program runs.
    let awaited = unsafe { &mut (*awaited).awaited };
    if *awaited != 0 {
        // Another reset of the same socket: what is found serves both.
        event.findings = *awaited;
        return;
    }
    let place = turns::next(turns::FINDINGS, FINDINGS_OF_CPU.load());
    let Some(findings) = FINDINGS.get_ptr_mut(place) else { return };
    let number = event.ktime_ns << Findings::PLACE_BITS | u64::from(place);
    // SAFETY: as above.
    unsafe {
        *findings = Findings {
            number,
            holder: NOBODY,
            closer: NOBODY,
            destroyed_ns: 0,
            known_start_boottime_ns: event.owner.start_boottime_ns,
            known_tgid: event.owner.tgid,
            walk: 0,
            several: 0,
            known_holds: 0,
            descriptors: 0,
            padding: 0,
        };
    }
    *awaited = number;
    event.findings = number;
}

/// What is remembered of a socket, a listener included, if its holder is awaited.
#[inline(always)]
fn awaited(sk: u64) -> Option<&'static mut u64> {
    let connection = CONNECTIONS.any(sk).or_else(|| LISTENERS.any(sk))?;
    // SAFETY: values of the map are valid as long as the program runs.
    let awaited = unsafe { &mut (*connection).awaited };
    (*awaited != 0).then_some(awaited)
}

/// Where what is found under a number is gathered.
#[inline(always)]
fn findings(number: u64) -> Option<&'static mut Findings> {
    let findings = FINDINGS.get_ptr_mut(Findings::place(number))?;
    // SAFETY: as above; see the callers for who else writes.
    let findings = unsafe { &mut *findings };
    (findings.number == number).then_some(findings)
}

/// A socket is destroyed. If its holder is awaited, and it is a process that destroys it, that is who had it last.
#[inline(always)]
pub(crate) fn destroyed(sk: u64) {
    let Some(awaited) = awaited(sk) else { return };
    let number = *awaited;
    // Its address may be another socket's the next moment, which is none of the reset's.
    *awaited = 0;
    // A socket is destroyed once, so nobody else writes these fields.
    let Some(findings) = findings(number) else { return };
    if sock::owned(sk) && !task::Flags::current().is_kernel() {
        task::current(&mut findings.closer);
    }
    findings.destroyed_ns = story::now_ns();
}

/// The walk of open files has come to a socket that the process of this `task_struct` holds.
#[inline(always)]
pub(crate) fn found(sk: u64, holder: u64) {
    // The user side walks one walk at a time, so nobody else writes these fields.
    let Some(findings) = awaited(sk).and_then(|number| findings(*number)) else { return };
    let walk = WALK.get(0).copied().unwrap_or(0);
    let mut task = NOBODY;
    task::of(holder, &mut task);
    if findings.walk != walk {
        findings.holder = task;
        findings.walk = walk;
        findings.several = 0;
        findings.known_holds = 0;
        findings.descriptors = 0;
    } else if findings.holder.tgid != task.tgid {
        findings.several = 1;
    }
    findings.descriptors += 1;
    if task.tgid == findings.known_tgid && task.start_boottime_ns == findings.known_start_boottime_ns {
        findings.known_holds = 1;
    }
}
