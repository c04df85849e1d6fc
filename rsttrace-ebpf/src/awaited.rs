//! Who holds a socket that has just been reset: found out after the event, by the socket's end or by a walk of the open
//! files, for the user side to fetch.
//!
//! Nothing here runs for a packet or a system call. After a reset from the peer the socket stays in the hands of its
//! process until that closes it; so either it still holds it when somebody looks, or its close shows.

use aya_ebpf::bindings::BPF_ANY;
use rsttrace_common::event::{Awaited, EVENT_ORPHAN, ResetEvent, Task};

use crate::{
    connection::Connection,
    maps::{AWAITED, WALK},
    sock, story, task,
};

/// `SOCK_DEAD` of `enum sock_flags`.
const SOCK_DEAD: u32 = 1 << 0;

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
    if let Some(entry) = AWAITED.get_ptr(target) {
        // SAFETY: values of the map are valid as long as the program runs.
        if unsafe { (*entry).destroyed_ns } == 0 {
            // Another reset of the same socket: what is found serves both.
            event.awaited = target;
            return;
        }
    }
    let entry = Awaited {
        holder: NOBODY,
        closer: NOBODY,
        destroyed_ns: 0,
        known_start_boottime_ns: event.owner.start_boottime_ns,
        known_tgid: event.owner.tgid,
        walk: 0,
        several: 0,
        known_holds: 0,
    };
    if AWAITED.insert(target, entry, BPF_ANY.into()).is_ok() {
        event.awaited = target;
    }
}

/// A socket is destroyed. If its holder is awaited, and it is a process that destroys it, that is who had it last.
#[inline(always)]
pub(crate) fn destroyed(sk: u64) {
    let Some(entry) = AWAITED.get_ptr_mut(sk) else { return };
    // SAFETY: values of the map are valid as long as the program runs; a socket is destroyed once, so nobody else
    // writes these fields.
    let entry = unsafe { &mut *entry };
    if entry.destroyed_ns != 0 {
        return;
    }
    if sock::owned(sk) && !task::Flags::current().is_kernel() {
        task::current(&mut entry.closer);
    }
    entry.destroyed_ns = story::now_ns();
}

/// The walk of open files has come to a socket that the process of this `task_struct` holds.
#[inline(always)]
pub(crate) fn found(sk: u64, holder: u64) {
    let Some(entry) = AWAITED.get_ptr_mut(sk) else { return };
    // SAFETY: values of the map are valid as long as the program runs; the user side walks one walk at a time, so
    // nobody else writes these fields.
    let entry = unsafe { &mut *entry };
    let walk = WALK.get(0).copied().unwrap_or(0);
    let mut task = NOBODY;
    task::of(holder, &mut task);
    if entry.walk != walk {
        entry.holder = task;
        entry.walk = walk;
        entry.several = 0;
        entry.known_holds = 0;
    } else if entry.holder.tgid != task.tgid {
        entry.several = 1;
    }
    if task.tgid == entry.known_tgid && task.start_boottime_ns == entry.known_start_boottime_ns {
        entry.known_holds = 1;
    }
}
