//! Connections that have ended, by their two ends: a TIME_WAIT socket keeps nothing of the one that it replaced, and a
//! packet that comes later finds no socket at all.
//!
//! Each CPU writes them one after the other, into memory that it has at hand, and only their place goes into a table by
//! their ends: to write all of it to a random place would cost a connection more than everything else that is done for it.

use aya_ebpf::Global;
use rsttrace_common::config;

use crate::{
    connection::Connection,
    maps::{DEPARTED, DEPARTED_BY_ENDS},
    sock::Tuple,
    table::{self, scale},
    turns,
};

/// How many places each CPU has.
#[unsafe(no_mangle)]
static DEPARTED_OF_CPU: Global<u32> = Global::new(config::DEPARTED_PLACES);

/// How many entries the table by ends has.
#[unsafe(no_mangle)]
static DEPARTED_ENDS: Global<u32> = Global::new(config::DEPARTED_ENDS);

/// A connection that has ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Departed {
    tuple: Tuple,
    /// The socket that it had.
    sk: u64,
    connection: Connection,
}

/// Keeps what is remembered of a connection, in the place of the one that ended the longest ago on this CPU.
#[inline(always)]
pub(crate) fn keep(sk: u64, tuple: &Tuple, connection: &Connection) {
    let place = turns::next(turns::DEPARTED, DEPARTED_OF_CPU.load());
    let Some(departed) = DEPARTED.get_ptr_mut(place) else { return };
    // SAFETY: values of the map are valid as long as the program runs. A soft interrupt that takes the same place as the
    // task that it interrupts spoils the seal.
    unsafe { *departed = Departed { tuple: *tuple, sk, connection: *connection } };
    if let Some(entry) = DEPARTED_BY_ENDS.get_ptr_mut(entry(tuple)) {
        // SAFETY: as above.
        unsafe { *entry = place };
    }
}

impl Departed {
    /// The last connection between these ends.
    #[inline(always)]
    fn between(tuple: &Tuple) -> Option<&'static Self> {
        // SAFETY: as above.
        let departed = unsafe { &*DEPARTED.get_ptr(*DEPARTED_BY_ENDS.get(entry(tuple))?)? };
        departed.tuple.is(tuple).then_some(departed)
    }
}

/// What is remembered of the last connection between these ends.
#[inline(always)]
pub(crate) fn find(tuple: &Tuple) -> Option<&'static Connection> {
    let Departed { sk, connection, .. } = Departed::between(tuple)?;
    connection.is_whole(*sk).then_some(connection)
}

/// The same, copied to a place among the other stories. Only with soft interrupts off, so that this CPU's place is ours.
#[inline(always)]
pub(crate) fn fetch(tuple: &Tuple) -> Option<&'static Connection> {
    let departed = Departed::between(tuple)?;
    // SAFETY: as above.
    let connection = unsafe { &mut *table::at_hand()? };
    *connection = departed.connection;
    connection.is_whole(departed.sk).then_some(connection)
}

#[inline(always)]
fn entry(tuple: &Tuple) -> u32 {
    scale(tuple.hash(), DEPARTED_ENDS.load())
}
