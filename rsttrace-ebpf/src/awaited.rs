//! Who holds a socket that has just been reset: found out after the event, by the socket's end or by a walk of the open
//! files, for the user side to fetch.
//!
//! Nothing here runs for a packet or a system call. After a reset from the peer the socket stays in the hands of its
//! process until that closes it; so either it still holds it when somebody looks, or its close shows.

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_get_smp_processor_id};
use rsttrace_common::event::{EVENT_ORPHAN, Findings, ResetEvent, Task};

use crate::{
    connection::Connection,
    maps::{AWAITED, FINDINGS, WALK},
    sock, story, task,
};

/// `SOCK_DEAD` of `enum sock_flags`.
const SOCK_DEAD: u32 = 1 << 0;

/// Low bits of the number under which findings are gathered, for the CPU; the others are the moment of the reset.
const CPU_BITS: u32 = 8;

const NOBODY: Task = Task { start_boottime_ns: 0, tgid: 0, uid: 0, comm: [0; 16] };

/// Begins to await the holder of the event's socket, where somebody holds it: of a connection that waits in the accept
/// queue, the holder of the listener. The event is complete but for this.
#[inline(always)]
pub(crate) fn await_holder(sk: u64, story: Option<&'static Connection>, event: &mut ResetEvent) {
    let target = if event.flags & EVENT_ORPHAN == 0 {
        // The last close of a socket shows who holds it; afterwards nobody does.
        if event.references == 0 { 0 } else { sk }
    } else if event.socket_flags & SOCK_DEAD == 0 {
        story.map_or(0, |story| story.listener)
    } else {
        0
    };
    if target == 0 {
        return;
    }
    if let Some(number) = AWAITED.get_ptr(target) {
        // SAFETY: values of the map are valid as long as the program runs.
        let number = unsafe { *number };
        if target != sk || !is_older(number, event.opened_ns) {
            // Another reset of the same socket: what is found serves both.
            event.findings = number;
            return;
        }
    }
    // SAFETY: takes no arguments and cannot fail.
    let cpu = u64::from(unsafe { bpf_get_smp_processor_id() });
    let number = event.ktime_ns << CPU_BITS | cpu & ((1 << CPU_BITS) - 1);
    let findings = Findings {
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
    if FINDINGS.insert(number, findings, BPF_ANY.into()).is_ok()
        && AWAITED.insert(target, number, BPF_ANY.into()).is_ok()
    {
        event.findings = number;
    }
}

/// A socket is destroyed. If its holder is awaited, and it is a process that destroys it, that is who had it last.
#[inline(always)]
pub(crate) fn destroyed(sk: u64) {
    let Some(number) = AWAITED.get_ptr(sk) else { return };
    // SAFETY: values of the map are valid as long as the program runs.
    let number = unsafe { *number };
    let _ = AWAITED.remove(sk);
    let Some(findings) = FINDINGS.get_ptr_mut(number) else { return };
    // SAFETY: as above; a socket is destroyed once, so nobody else writes these fields.
    let findings = unsafe { &mut *findings };
    if sock::owned(sk) && !task::Flags::current().is_kernel() {
        task::current(&mut findings.closer);
    }
    findings.destroyed_ns = story::now_ns();
}

/// The walk of open files has come to a socket that the process of this `task_struct` holds.
#[inline(always)]
pub(crate) fn found(sk: u64, holder: u64) {
    let Some(number) = AWAITED.get_ptr(sk) else { return };
    // SAFETY: values of the map are valid as long as the program runs.
    let number = unsafe { *number };
    if is_older(number, story::opened_ns(sk)) {
        return;
    }
    let Some(findings) = FINDINGS.get_ptr_mut(number) else { return };
    // SAFETY: as above; the user side walks one walk at a time, so nobody else writes these fields.
    let findings = unsafe { &mut *findings };
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

/// Whether a number was given before the connection at its address was opened: the end of the socket that it was given
/// for was not seen, and its address is another's by now.
#[inline(always)]
fn is_older(number: u64, opened_ns: u64) -> bool {
    number < opened_ns << CPU_BITS
}
