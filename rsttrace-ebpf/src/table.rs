//! Tables of what is remembered of sockets, by their address.
//!
//! A table is an array of sets of eight places. To find, to take and to give back a place is a look at one cache line of
//! tags, and calls no function: an LRU map of the kernel costs three to five times as much, for each connection. Nothing
//! can fail and nothing grows; where all eight places of a set are taken, one connection is forgotten, and is an unknown
//! owner later.

use aya_ebpf::{Global, maps::Array};

use rsttrace_common::config;

use crate::connection::Connection;

/// Places of a set.
const WAYS: usize = config::WAYS as usize;

/// The sockets whose connections are in the places of a set: 0 for none. Sockets are aligned, so that the lowest bit is
/// free: it is set when the connection has ended, and anybody may take the place then.
pub(crate) type Tags = [u64; WAYS];

const ENDED: u64 = 1;

/// Scatters addresses over the sets: 2^64 divided by the golden ratio.
pub(crate) const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// One table.
pub(crate) struct Table {
    pub(crate) tags: &'static Array<Tags>,
    pub(crate) connections: &'static Array<Connection>,
    /// How many sets there are.
    pub(crate) sets: &'static Global<u32>,
}

impl Table {
    /// What is remembered of an open connection.
    #[inline(always)]
    pub(crate) fn open(&self, sk: u64) -> Option<*mut Connection> {
        self.find(sk, |tag| tag == sk)
    }

    /// What is remembered of a connection that has ended, as long as its socket exists and a while longer.
    #[inline(always)]
    pub(crate) fn ended(&self, sk: u64) -> Option<*mut Connection> {
        self.find(sk, |tag| tag == sk | ENDED)
    }

    /// What is remembered of a socket, whether its connection is open or not.
    #[inline(always)]
    pub(crate) fn any(&self, sk: u64) -> Option<*mut Connection> {
        self.find(sk, |tag| tag & !ENDED == sk)
    }

    #[inline(always)]
    fn find(&self, sk: u64, is_it: impl Fn(u64) -> bool) -> Option<*mut Connection> {
        let set = self.set(sk);
        let tags = self.tags.get_ptr(set)?;
        let mut way = 0;
        while way < WAYS {
            // SAFETY: inside the set; values of the map are valid as long as the program runs.
            if is_it(unsafe { (*tags)[way] }) {
                return self.connections.get_ptr_mut(set * config::WAYS + way as u32);
            }
            way += 1;
        }
        None
    }

    /// A place for the connection that begins with this socket: its own if it has one, else a free one, else that of some
    /// other. The caller writes and seals the connection.
    #[inline(always)]
    pub(crate) fn take(&self, sk: u64) -> Option<*mut Connection> {
        let set = self.set(sk);
        let tags = self.tags.get_ptr_mut(set)?;
        let mut chosen = hash(sk) as usize & (WAYS - 1);
        let mut way = 0;
        while way < WAYS {
            // SAFETY: as above.
            let tag = unsafe { (*tags)[way] };
            if tag == 0 || tag & ENDED != 0 {
                chosen = way;
            }
            way += 1;
        }
        way = 0;
        while way < WAYS {
            // SAFETY: as above.
            if unsafe { (*tags)[way] } & !ENDED == sk {
                chosen = way;
            }
            way += 1;
        }
        // SAFETY: as above.
        unsafe { (*tags)[chosen & (WAYS - 1)] = sk };
        self.connections.get_ptr_mut(set * config::WAYS + chosen as u32)
    }

    /// The connection has ended: what is remembered of it stays until somebody needs the place.
    #[inline(always)]
    pub(crate) fn end(&self, sk: u64) {
        let Some(tags) = self.tags.get_ptr_mut(self.set(sk)) else { return };
        let mut way = 0;
        while way < WAYS {
            // SAFETY: as above.
            unsafe {
                if (*tags)[way] == sk {
                    (*tags)[way] = sk | ENDED;
                }
            }
            way += 1;
        }
    }

    #[inline(always)]
    fn set(&self, sk: u64) -> u32 {
        scale(hash(sk), self.sets.load())
    }
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
