//! Lookups of the process that holds a socket which has just been reset: answered after the event, by the destruction of
//! the socket or by a scan of all open files, for the user side to fetch.
//!
//! Nothing here runs per packet or per system call. After a reset from the peer the socket stays with its process until that
//! closes it: so either a scan finds the descriptor, or the close shows.

use aya_ebpf::{Global, macros::map, maps::Array};
use rsttrace_common::{
    abi::{sock_flag, tcp},
    event::{EVENT_ORPHAN, ResetEvent, Task},
    holder_lookup::HolderLookup,
    limits,
};

use crate::{
    connection::Connection,
    cursor::{self, Cursor},
    helpers::ktime_ns,
    history, map, sock,
    table::{CONNECTIONS, LISTENERS},
    task::{self, TaskFlags},
};

/// Lookups, [`HOLDER_LOOKUPS_PER_CPU`] for each CPU. The programs fill them in and the user side reads them.
#[map]
static HOLDER_LOOKUPS: Array<HolderLookup> = Array::with_max_entries(limits::HOLDER_LOOKUP_SLOTS, 0);

/// Slots of [`HOLDER_LOOKUPS`] per CPU.
#[unsafe(no_mangle)]
static HOLDER_LOOKUPS_PER_CPU: Global<u32> = Global::new(limits::HOLDER_LOOKUP_SLOTS);

/// Number of the scan of open files that the user side runs (one slot); 0 during the first, at start.
#[map]
static SCAN: Array<u32> = Array::with_max_entries(1, 0);

/// Allocates a lookup for the process that holds the event's socket, and writes its id into the event. Connections still in
/// the accept queue use the listener's holder. The event must be complete but for this.
#[inline(always)]
pub(crate) fn request(sk: u64, history: &Connection, event: &mut ResetEvent) {
    let connection = if event.flags & EVENT_ORPHAN == 0 {
        match (event.file_refcount, event.state) {
            // The last close shows who holds the socket; no process holds it afterwards.
            (0, _) => None,
            (_, tcp::LISTEN) => LISTENERS.get_any(sk),
            _ => CONNECTIONS.get_any(sk).or_else(|| history::track(sk)),
        }
    } else if event.socket_flags & sock_flag::DEAD == 0 && history.listener != 0 {
        LISTENERS.get_open(history.listener)
    } else {
        None
    };
    let Some(connection) = connection else { return };
    if connection.lookup_id != 0 {
        // Another reset of this socket has requested a lookup, which serves both.
        event.lookup_id = connection.lookup_id;
        return;
    }
    let slot = cursor::next_slot(Cursor::HolderLookups, HOLDER_LOOKUPS_PER_CPU.load());
    let Some(lookup) = map::slot_mut(&HOLDER_LOOKUPS, slot) else { return };
    let id = event.ktime_ns << HolderLookup::SLOT_BITS | u64::from(slot);
    *lookup = HolderLookup {
        id,
        holder: Task::NONE,
        closer: Task::NONE,
        destroyed_ns: 0,
        expected_start_boottime_ns: event.owner.start_boottime_ns,
        expected_tgid: event.owner.tgid,
        scan: 0,
        multiple_holders: 0,
        expected_holds: 0,
        descriptors: 0,
        padding: 0,
    };
    connection.lookup_id = id;
    event.lookup_id = id;
}

/// Id of the pending lookup in the history of a socket, which may be a listener; `None` when none is pending.
#[inline(always)]
fn pending_id(sk: u64) -> Option<&'static mut u64> {
    let connection = CONNECTIONS.get_any(sk).or_else(|| LISTENERS.get_any(sk))?;
    (connection.lookup_id != 0).then_some(&mut connection.lookup_id)
}

/// The lookup with this id; `None` when its slot has been reused.
#[inline(always)]
fn lookup(id: u64) -> Option<&'static mut HolderLookup> {
    map::slot_mut(&HOLDER_LOOKUPS, HolderLookup::slot(id)).filter(|lookup| lookup.id == id)
}

/// Completes the pending lookup of a socket that is being destroyed: a process that destroys the socket held it last.
#[inline(always)]
pub(crate) fn on_destroy(sk: u64) {
    let Some(pending_id) = pending_id(sk) else { return };
    let id = *pending_id;
    // The kernel may reuse the address for another socket at once, which has nothing to do with the reset.
    *pending_id = 0;
    // A socket is destroyed once, so nothing else writes these fields.
    let Some(lookup) = lookup(id) else { return };
    if sock::owned_by_user(sk) && !TaskFlags::current().is_kernel() {
        task::current(&mut lookup.closer);
    }
    lookup.destroyed_ns = ktime_ns();
}

/// Records, for a pending lookup, that the scan of open files has found the socket in a process; `holder` is the address of
/// the process's `task_struct`.
#[inline(always)]
pub(crate) fn on_open_file(sk: u64, holder: u64) {
    // The user side runs one scan at a time, so nothing else writes these fields.
    let Some(lookup) = pending_id(sk).and_then(|id| lookup(*id)) else { return };
    let scan = SCAN.get(0).copied().unwrap_or(0);
    let mut task = Task::NONE;
    task::describe(holder, &mut task);
    if lookup.scan != scan {
        lookup.holder = task;
        lookup.scan = scan;
        lookup.multiple_holders = 0;
        lookup.expected_holds = 0;
        lookup.descriptors = 0;
    } else if lookup.holder.tgid != task.tgid {
        lookup.multiple_holders = 1;
    }
    lookup.descriptors += 1;
    if task.tgid == lookup.expected_tgid && task.start_boottime_ns == lookup.expected_start_boottime_ns {
        lookup.expected_holds = 1;
    }
}
