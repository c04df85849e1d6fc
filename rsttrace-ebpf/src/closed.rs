//! Histories of closed connections, by their tuple: a TIME_WAIT socket has nothing of the one that it replaced, and a packet
//! that arrives later finds no socket at all.
//!
//! Each CPU writes them one after the other, into memory that is in its cache, and only their index goes into a table by
//! tuple: writing 150 bytes to a random slot was a quarter of all that a connection cost.

use aya_ebpf::{Global, macros::map, maps::Array};
use rsttrace_common::{
    event::{ConnectionEnding, ResetEvent},
    limits,
};

use crate::{
    connection::Connection,
    cursor::{self, Cursor},
    hash::fastrange,
    map,
    sock::Tuple,
    table,
};

/// Closed connections, [`CLOSED_PER_CPU`] for each CPU.
#[map]
static CLOSED: Array<ClosedConnection> = Array::with_max_entries(limits::CLOSED_SLOTS, 0);

/// Index in [`CLOSED`] of the last connection whose tuple has this hash.
#[map]
static CLOSED_BY_TUPLE: Array<u32> = Array::with_max_entries(limits::CLOSED_INDEX_SLOTS, 0);

/// Slots of [`CLOSED`] per CPU.
#[unsafe(no_mangle)]
static CLOSED_PER_CPU: Global<u32> = Global::new(limits::CLOSED_SLOTS);

/// Slots of [`CLOSED_BY_TUPLE`].
#[unsafe(no_mangle)]
static CLOSED_INDEX_SLOTS: Global<u32> = Global::new(limits::CLOSED_INDEX_SLOTS);

/// A closed connection.
#[repr(C)]
#[derive(Clone, Copy)]
struct ClosedConnection {
    tuple: Tuple,
    /// Address of the socket that it had.
    sk: u64,
    connection: Connection,
    ending: ConnectionEnding,
}

/// Records a connection in the slot of the one that closed the longest ago on this CPU.
#[inline(always)]
pub(crate) fn insert(
    sk: u64,
    tuple: &Tuple,
    connection: &Connection,
    write_ending: impl FnOnce(&mut ConnectionEnding),
) {
    let index = cursor::next_slot(Cursor::Closed, CLOSED_PER_CPU.load());
    let Some(closed) = map::slot_mut(&CLOSED, index) else { return };
    // A soft interrupt that gets the slot of the task that it interrupts leaves a mixture, which the checksum reveals.
    closed.tuple = *tuple;
    closed.sk = sk;
    closed.connection = *connection;
    write_ending(&mut closed.ending);
    if let Some(entry) = map::slot_mut(&CLOSED_BY_TUPLE, index_slot(tuple)) {
        *entry = index;
    }
}

/// The last connection with this tuple.
#[inline(always)]
fn lookup(tuple: &Tuple) -> Option<&'static ClosedConnection> {
    let closed = CLOSED.get(*CLOSED_BY_TUPLE.get(index_slot(tuple))?)?;
    closed.tuple.equals(tuple).then_some(closed)
}

/// History of the last connection with this tuple.
#[inline(always)]
pub(crate) fn get(tuple: &Tuple) -> Option<&'static Connection> {
    let ClosedConnection { sk, connection, .. } = lookup(tuple)?;
    connection.is_consistent(*sk).then_some(connection)
}

/// Writes how the last connection with this tuple ended.
#[inline(always)]
pub(crate) fn write_ending(tuple: &Tuple, event: &mut ResetEvent) {
    if let Some(closed) = lookup(tuple) {
        event.ending = closed.ending;
    }
}

/// History of the last connection with this tuple, copied into [`table::scratch`]. Only with soft interrupts off, which
/// could use the CPU's scratch as well.
#[inline(always)]
pub(crate) fn copy_to_scratch(tuple: &Tuple) -> Option<&'static Connection> {
    let closed = lookup(tuple)?;
    let connection = table::scratch()?;
    *connection = closed.connection;
    connection.is_consistent(closed.sk).then_some(connection)
}

#[inline(always)]
fn index_slot(tuple: &Tuple) -> u32 {
    fastrange(tuple.hash(), CLOSED_INDEX_SLOTS.load())
}
