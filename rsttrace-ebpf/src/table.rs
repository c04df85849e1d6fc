//! Hash tables of connection histories, by the address of the socket.
//!
//! A table is an array of sets of eight ways. `TAGS` has one value for each set, a cache line of the addresses of its
//! sockets; `HISTORIES` has one value for each way:
//!
//! ```text
//!              TAGS: eight words a set      HISTORIES: eight values a set
//! CONNECTIONS  [sk sk+1 0 ...]              [way 0][way 1] ... [way 7]
//!              ...                          ...
//! LISTENERS    [sk 0 0 ...]                 [way 0][way 1] ... [way 7]
//!              ...                          ...
//!                                           [placeholder][scratch of CPU 0][scratch of CPU 1] ...
//! ```
//!
//! A lookup, an insertion and a removal read one cache line of tags and call no function: an LRU map of the kernel costs
//! three times as much. Nothing can fail and nothing grows; where all eight ways of a set are taken, one connection is
//! evicted, and later has no known owner.
//!
//! All histories are in one map, because a pointer into another map, or NULL, is another thing to the verifier, for which it
//! walks all that follows again.

use aya_ebpf::{Global, macros::map, maps::Array};
use rsttrace_common::{
    abi::tcp,
    limits::{self, WAYS},
};

use crate::{
    connection::Connection,
    hash::{self, fastrange},
    helpers, map,
    verifier::launder_index,
};

/// Tags of one set: the address of each way's socket, 0 in a free way. Sockets are aligned, so that the lowest bit is free:
/// it is set ([`TAG_CLOSED`]) when the connection is closed, and the way may be reused.
type Tags = [u64; WAYS as usize];

/// Bit of a tag: the connection is closed.
const TAG_CLOSED: u64 = 1;

/// Tags of the sets of [`CONNECTIONS`], then of [`LISTENERS`].
#[map]
static TAGS: Array<Tags> = Array::with_max_entries(limits::CONNECTION_SETS + limits::LISTENER_SETS, 0);

/// Histories of [`CONNECTIONS`] and [`LISTENERS`], eight for each set, then the [placeholder](unknown), then each CPU's
/// [`scratch`].
#[map]
static HISTORIES: Array<Connection> =
    Array::with_max_entries((limits::CONNECTION_SETS + limits::LISTENER_SETS) * WAYS + 2, 0);

#[unsafe(no_mangle)]
static CONNECTION_SETS: Global<u32> = Global::new(limits::CONNECTION_SETS);

#[unsafe(no_mangle)]
static LISTENER_SETS: Global<u32> = Global::new(limits::LISTENER_SETS);

/// One table: a range of the sets of [`TAGS`] and [`HISTORIES`].
///
/// An enum, and not a struct with references to the globals: a pointer in read-only data is not relocated when the object is
/// loaded, and where the compiler selects between two such structs the verifier refuses the program.
#[derive(Clone, Copy)]
pub(crate) enum Table {
    /// Histories of the connections that have a socket.
    Connections,
    /// Histories of listening sockets, from which connections inherit the owner. A table of its own, so that no number of
    /// connections evicts a listener.
    Listeners,
}

/// The table of connections.
pub(crate) const CONNECTIONS: Table = Table::Connections;

/// The table of listening sockets.
pub(crate) const LISTENERS: Table = Table::Listeners;

/// Condition on a tag.
#[derive(Clone, Copy)]
struct TagMatch {
    tag: u64,
    mask: u64,
}

impl TagMatch {
    /// Matches a socket whose connection is open.
    #[inline(always)]
    const fn open(sk: u64) -> Self {
        Self { tag: sk, mask: u64::MAX }
    }

    /// Matches a socket, whether its connection is open or closed.
    #[inline(always)]
    const fn any(sk: u64) -> Self {
        Self { tag: sk, mask: !TAG_CLOSED }
    }

    #[inline(always)]
    const fn matches(self, tag: u64) -> bool {
        tag & self.mask == self.tag
    }
}

/// History of a full socket in this state. That of a closed connection is kept until its way is reused.
#[inline(always)]
pub(crate) fn get_for_state(sk: u64, state: u8) -> Option<&'static mut Connection> {
    if state == tcp::LISTEN {
        return LISTENERS.get_open(sk);
    }
    // A socket in CLOSE whose connection is open here: the kernel skipped the program for its last change of state.
    let wanted = if state == tcp::CLOSE { TagMatch::any(sk) } else { TagMatch::open(sk) };
    find(CONNECTIONS.set(sk), |tag| wanted.matches(tag))
}

impl Table {
    /// History of an open connection.
    #[inline(always)]
    pub(crate) fn get_open(self, sk: u64) -> Option<&'static mut Connection> {
        find(self.set(sk), |tag| TagMatch::open(sk).matches(tag))
    }

    /// History of a socket, whether its connection is open or closed.
    #[inline(always)]
    pub(crate) fn get_any(self, sk: u64) -> Option<&'static mut Connection> {
        find(self.set(sk), |tag| TagMatch::any(sk).matches(tag))
    }

    /// Takes a way for the connection that this socket begins: the socket's own if it has one, else a free or closed one,
    /// else that of some other connection. The caller writes the history, and updates the checksum.
    #[inline(always)]
    pub(crate) fn insert(self, sk: u64) -> Option<&'static mut Connection> {
        let set = self.set(sk);
        let tags = map::slot_mut(&TAGS, set)?;
        let way = way_of(tags, |tag| TagMatch::any(sk).matches(tag))
            .or_else(|| way_of(tags, |tag| tag == 0 || tag & TAG_CLOSED != 0))
            .unwrap_or(hash::address(sk) as u32 & (WAYS - 1));
        tags[(way & (WAYS - 1)) as usize] = sk;
        map::slot_mut(&HISTORIES, set * WAYS + way)
    }

    /// Marks the connection as closed: its history is kept until the way is reused.
    #[inline(always)]
    pub(crate) fn mark_closed(self, sk: u64) {
        self.retag(sk, |tag| TagMatch::open(sk).matches(tag), sk | TAG_CLOSED);
    }

    /// Removes the history of this socket.
    #[inline(always)]
    pub(crate) fn remove(self, sk: u64) {
        self.retag(sk, |tag| TagMatch::any(sk).matches(tag), 0);
    }

    #[inline(always)]
    fn retag(self, sk: u64, matches: impl Fn(u64) -> bool, tag: u64) {
        let Some(tags) = map::slot_mut(&TAGS, self.set(sk)) else { return };
        if let Some(way) = way_of(tags, matches) {
            tags[(way & (WAYS - 1)) as usize] = tag;
        }
    }

    /// Index of the socket's set.
    #[inline(always)]
    fn set(self, sk: u64) -> u32 {
        let (base, sets) = match self {
            Self::Connections => (0, CONNECTION_SETS.load()),
            Self::Listeners => (CONNECTION_SETS.load(), LISTENER_SETS.load()),
        };
        base + fastrange(hash::address(sk), sets)
    }
}

/// Placeholder for sockets without a recorded history. The index is always in bounds, so this never returns `None`; using a
/// real entry instead of NULL spares the verifier a second path.
#[inline(always)]
pub(crate) fn unknown() -> Option<&'static Connection> {
    HISTORIES.get(table_end())
}

/// The current CPU's slot for a copy of a history that is not in a table.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Connection> {
    map::slot_mut(&HISTORIES, table_end() + 1 + helpers::cpu())
}

/// Number of histories in both tables.
#[inline(always)]
fn table_end() -> u32 {
    (CONNECTION_SETS.load() + LISTENER_SETS.load()) * WAYS
}

#[inline(always)]
fn find(set: u32, matches: impl Fn(u64) -> bool) -> Option<&'static mut Connection> {
    let way = way_of(TAGS.get(set)?, matches)?;
    map::slot_mut(&HISTORIES, set * WAYS + way)
}

/// The first way of a set whose tag matches.
#[inline(always)]
fn way_of(tags: &Tags, matches: impl Fn(u64) -> bool) -> Option<u32> {
    let mut way = 0;
    while way < WAYS {
        if matches(tags[way as usize]) {
            return Some(launder_index::<WAYS>(way as u8));
        }
        way += 1;
    }
    None
}
