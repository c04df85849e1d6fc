//! Filters that the kernel side applies before it spends anything on an event.
//!
//! The kernel side only *pre*-filters: it drops what certainly does not match and passes what it cannot decide. The
//! user side applies every filter again to the finished record; its decision is the one that counts.

wire! {
    /// Scalar filters of this run: the one slot of the map `FILTER`. A zero field filters nothing.
    pub struct Filter: 8 {
        /// `FILTER_*` bits: the filters that are set.
        0 => pub flags: u32,
        /// Inode number of the only wanted network namespace; 0 for all.
        4 => pub netns: u32,
    }
}

/// Only received resets are wanted.
pub const FILTER_RECEIVED: u32 = 1 << 0;
/// Only sent resets are wanted.
pub const FILTER_SENT: u32 = 1 << 1;
/// Only IPv4 is wanted.
pub const FILTER_IPV4: u32 = 1 << 2;
/// Only IPv6 is wanted.
pub const FILTER_IPV6: u32 = 1 << 3;
/// The peer's address must be in the trie `PEERS`.
pub const FILTER_PEER: u32 = 1 << 4;
/// The peer's port must be in the set [`PORTS_PEER`].
pub const FILTER_PEER_PORT: u32 = 1 << 5;
/// The local port must be in the set [`PORTS_LOCAL`].
pub const FILTER_LOCAL_PORT: u32 = 1 << 6;
/// One of the two ports must be in the set [`PORTS_EITHER`].
pub const FILTER_EITHER_PORT: u32 = 1 << 7;
/// The owner must be in the map `PIDS`.
pub const FILTER_PID: u32 = 1 << 8;

/// Set of the peer's ports in the map `PORTS`: one of three bitmaps of [`PORTS_WORDS`] words each.
pub const PORTS_PEER: u32 = 0;
/// Set of local ports in the map `PORTS`.
pub const PORTS_LOCAL: u32 = 1;
/// Set of ports of either end in the map `PORTS`.
pub const PORTS_EITHER: u32 = 2;
/// Words of 64 bits in one set of ports.
pub const PORTS_WORDS: u32 = 65536 / 64;
/// Slots of the map `PORTS`.
pub const PORTS_SLOTS: u32 = 3 * PORTS_WORDS;
/// Capacity of the trie `PEERS`, in prefixes.
pub const PEERS_MAX: u32 = 4096;
/// Capacity of the map `PIDS`, in processes.
pub const PIDS_MAX: u32 = 1024;
