//! Connections that have ended, by their two ends: a TIME_WAIT socket keeps nothing of the one that it replaced, and a
//! packet that comes later finds no socket at all.

use aya_ebpf::Global;
use rsttrace_common::config;

use crate::{connection::Connection, maps::DEPARTED, sock::Tuple};

/// How many places there are. The map has one more: each connection has two places next to each other to go to.
#[unsafe(no_mangle)]
static DEPARTED_PLACES: Global<u32> = Global::new(config::DEPARTED_PLACES);

/// A connection that has ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Departed {
    tuple: Tuple,
    /// The socket that it had; 0 while the place is being written.
    sk: u64,
    connection: Connection,
}

/// Keeps what is remembered of a connection. The earlier opened of the two in its places goes.
#[inline(always)]
pub(crate) fn keep(sk: u64, tuple: &Tuple, connection: &Connection) {
    let place = place(tuple);
    let (Some(first), Some(second)) = (DEPARTED.get_ptr_mut(place), DEPARTED.get_ptr_mut(place + 1)) else { return };
    // SAFETY: values of the map are valid as long as the program runs.
    let chosen = unsafe {
        let is_second = (*second).tuple.is(tuple)
            || !(*first).tuple.is(tuple) && (*second).connection.opened_ns < (*first).connection.opened_ns;
        if is_second { second } else { first }
    };
    // SAFETY: as above. Whoever writes the same place at the same instant spoils the seal.
    unsafe {
        (&raw mut (*chosen).sk).write_volatile(0);
        (*chosen).tuple = *tuple;
        (*chosen).connection = *connection;
        (&raw mut (*chosen).sk).write_volatile(sk);
    }
}

/// What is remembered of the last connection between these ends.
#[inline(always)]
pub(crate) fn find(tuple: &Tuple) -> Option<&'static Connection> {
    let place = place(tuple);
    at(place, tuple).or_else(|| at(place + 1, tuple))
}

#[inline(always)]
fn at(place: u32, tuple: &Tuple) -> Option<&'static Connection> {
    // SAFETY: as above.
    let departed = unsafe { &*DEPARTED.get_ptr(place)? };
    let connection = &departed.connection;
    (departed.tuple.is(tuple) && connection.is_whole(departed.sk)).then_some(connection)
}

#[inline(always)]
fn place(tuple: &Tuple) -> u32 {
    (tuple.hash() * u64::from(DEPARTED_PLACES.load()) >> 32) as u32
}
