//! Tables of what is remembered of sockets, by their address.
//!
//! A table is an array of sets of eight places. To find, to take and to give back a place is a look at one cache line of
//! tags, and calls no function: an LRU map of the kernel costs three times as much. Nothing can fail and nothing grows;
//! where all eight places of a set are taken, one connection is forgotten, and is an unknown owner later.

use core::mem::MaybeUninit;

use aya_ebpf::Global;
use rsttrace_common::{config, names::tcp};

use crate::{
    connection::Connection,
    maps::{CONNECTIONS, LISTENERS, STORIES, TAGS},
    turns,
};

/// Places of a set.
const WAYS: usize = config::WAYS as usize;

/// The sockets whose connections are in the places of a set: 0 for none. Sockets are aligned, so that the lowest bit is
/// free: it is set when the connection has ended, and anybody may take the place then.
pub(crate) type Tags = [u64; WAYS];

const ENDED: u64 = 1;

/// Scatters addresses over the sets: 2^64 divided by the golden ratio.
pub(crate) const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// One table: so many sets of the maps [`TAGS`] and [`STORIES`].
pub(crate) struct Table {
    /// How many sets another table has before it.
    pub(crate) before: Option<&'static Global<u32>>,
    /// How many sets there are.
    pub(crate) sets: &'static Global<u32>,
}

/// A tag that is looked for, in the bits that matter.
#[derive(Clone, Copy)]
struct Wanted {
    tag: u64,
    bits: u64,
}

impl Wanted {
    /// A socket whose connection is open.
    #[inline(always)]
    const fn open(sk: u64) -> Self {
        Self { tag: sk, bits: u64::MAX }
    }

    /// A socket, whether its connection is open or not.
    #[inline(always)]
    const fn any(sk: u64) -> Self {
        Self { tag: sk, bits: !ENDED }
    }

    #[inline(always)]
    const fn is(self, tag: u64) -> bool {
        tag & self.bits == self.tag
    }
}

/// What is remembered of a full socket in this state: open as a listener or a connection, or ended, as long as the socket
/// exists and a while longer.
#[inline(always)]
pub(crate) fn of_state(sk: u64, state: u8) -> Option<*mut Connection> {
    let table = if state == tcp::LISTEN { &LISTENERS } else { &CONNECTIONS };
    // A closed socket whose connection is open here: the kernel did not run the program for its last change of state.
    let wanted = if state == tcp::CLOSE { Wanted::any(sk) } else { Wanted::open(sk) };
    find(table.set(sk), |tag| wanted.is(tag))
}

impl Table {
    /// What is remembered of an open connection.
    #[inline(always)]
    pub(crate) fn open(&self, sk: u64) -> Option<*mut Connection> {
        find(self.set(sk), |tag| Wanted::open(sk).is(tag))
    }

    /// What is remembered of a socket, whether its connection is open or not.
    #[inline(always)]
    pub(crate) fn any(&self, sk: u64) -> Option<*mut Connection> {
        find(self.set(sk), |tag| Wanted::any(sk).is(tag))
    }

    /// A place for the connection that begins with this socket: its own if it has one, else a free one, else that of some
    /// other. The caller writes and seals the connection.
    #[inline(always)]
    pub(crate) fn take(&self, sk: u64) -> Option<*mut Connection> {
        let set = self.set(sk);
        let tags = TAGS.get_ptr_mut(set)?;
        let way = way_of(tags, |tag| Wanted::any(sk).is(tag))
            .or_else(|| way_of(tags, |tag| tag == 0 || tag & ENDED != 0))
            .unwrap_or(hash(sk) as u32 & (config::WAYS - 1));
        // SAFETY: inside the set; values of the map are valid as long as the program runs.
        unsafe { (*tags)[way as usize & (WAYS - 1)] = sk };
        STORIES.get_ptr_mut(set * config::WAYS + way)
    }

    /// The connection has ended: what is remembered of it stays until somebody needs the place.
    #[inline(always)]
    pub(crate) fn end(&self, sk: u64) {
        self.retag(sk, |tag| Wanted::open(sk).is(tag), sk | ENDED);
    }

    /// Nothing is remembered of this socket any more.
    #[inline(always)]
    pub(crate) fn forget(&self, sk: u64) {
        self.retag(sk, |tag| Wanted::any(sk).is(tag), 0);
    }

    #[inline(always)]
    fn retag(&self, sk: u64, is_it: impl Fn(u64) -> bool, tag: u64) {
        let Some(tags) = TAGS.get_ptr_mut(self.set(sk)) else { return };
        if let Some(way) = way_of(tags, is_it) {
            // SAFETY: as above.
            unsafe { (*tags)[way as usize & (WAYS - 1)] = tag };
        }
    }

    #[inline(always)]
    fn set(&self, sk: u64) -> u32 {
        self.before.map_or(0, Global::load) + scale(hash(sk), self.sets.load())
    }
}

/// The story of nobody: what is said of a socket of which nothing is remembered. `None` never comes.
#[inline(always)]
pub(crate) fn nobody() -> Option<&'static Connection> {
    STORIES.get(behind_tables())
}

/// This CPU's place for a story that is kept elsewhere.
#[inline(always)]
pub(crate) fn at_hand() -> Option<*mut Connection> {
    STORIES.get_ptr_mut(behind_tables() + 1 + turns::cpu())
}

#[inline(always)]
fn behind_tables() -> u32 {
    (LISTENERS.before.map_or(0, Global::load) + LISTENERS.sets.load()) * config::WAYS
}

#[inline(always)]
fn find(set: u32, is_it: impl Fn(u64) -> bool) -> Option<*mut Connection> {
    let way = way_of(TAGS.get_ptr(set)?, is_it)?;
    STORIES.get_ptr_mut(set * config::WAYS + way)
}

/// The first place of a set with such a tag.
#[inline(always)]
fn way_of(tags: *const Tags, is_it: impl Fn(u64) -> bool) -> Option<u32> {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: inside the set; values of the map are valid as long as the program runs.
        if is_it(unsafe { (*tags)[way] }) {
            return Some(forgotten(way as u8));
        }
        way += 1;
    }
    None
}

/// A place, after the verifier has forgotten which it is: it would walk all that comes after it for each of the eight. What
/// is stored in the stack off a word's beginning is just some byte to it, unless it is 0. (Cheaper than
/// [`forget`](crate::forget): this runs for every change of state.)
#[inline(always)]
fn forgotten(way: u8) -> u32 {
    let mut word = MaybeUninit::<[u8; 8]>::uninit();
    let byte = word.as_mut_ptr().cast::<u8>().wrapping_add(3);
    // SAFETY: inside the word, and written before it is read.
    let way = unsafe {
        byte.write_volatile(way + 1);
        byte.read_volatile()
    };
    u32::from(way.wrapping_sub(1)) & (config::WAYS - 1)
}

/// 32 bits.
#[inline(always)]
fn hash(sk: u64) -> u64 {
    sk.wrapping_mul(SCATTER) >> 32
}

/// A hash of 32 bits as one of so many places.
#[inline(always)]
pub(crate) fn scale(hash: u64, places: u32) -> u32 {
    ((hash * u64::from(places)) >> 32) as u32
}
