//! What the user side tells the kernel side: the filters that it can apply before an event costs anything.
//!
//! The kernel side only *pre*-filters: it drops what certainly does not match and passes what it cannot decide. The
//! user side applies the same filters again to the finished record, so these are an economy and never the truth.

/// The filters as the `FILTER` map carries them (one slot). A zero field filters nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `FILTER_*` bits: which of the filters below are on.
    pub flags: u32,
    /// Inode number of the only wanted network namespace; 0 for all.
    pub netns: u32,
}

const _: () = assert!(size_of::<Filter>() == 8);

// SAFETY: plain integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Filter {}

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

/// The three sets of ports in the map `PORTS`, each a bitmap of [`PORTS_WORDS`] words.
pub const PORTS_PEER: u32 = 0;
/// Local ports.
pub const PORTS_LOCAL: u32 = 1;
/// Either end's port.
pub const PORTS_EITHER: u32 = 2;
/// Words of 64 bits that hold one set of ports.
pub const PORTS_WORDS: u32 = 65536 / 64;
/// Slots of the `PORTS` map.
pub const PORTS_SLOTS: u32 = 3 * PORTS_WORDS;
/// Prefixes that the `PEERS` trie holds at most.
pub const PEERS_MAX: u32 = 4096;
/// Processes that the `PIDS` map holds at most.
pub const PIDS_MAX: u32 = 1024;

/// Places of a set of connections.
pub const WAYS: u32 = 8;
/// Sets of connections whose story is remembered. (Half full, one set in 50 has more than it can hold.)
pub const CONNECTION_SETS: u32 = 16384;
/// Sets of listening sockets that are remembered.
pub const LISTENER_SETS: u32 = 1024;
/// Ended connections whose story is still remembered.
pub const DEPARTED_PLACES: u32 = 32768;
/// Entries of the table by which they are found. Of 10,000 that ended later one in 13 has taken an entry over.
pub const DEPARTED_ENDS: u32 = 131_072;
/// Reset sockets whose holder is looked for at once.
pub const FINDINGS_PLACES: u32 = 8192;
/// Processes whose command lines are remembered, by PID.
pub const PROCESSES: u32 = 2048;
// A division for each owner seen at work otherwise.
const _: () = assert!(PROCESSES.is_power_of_two());
/// Resets to closed ports that each CPU hands over one by one before it begins to count them, between two times that the
/// user side fetches what was counted.
pub const FOLD_FROM: u32 = 256;
/// Places in which each CPU counts.
pub const FOLDS_OF_CPU: usize = 64;
/// Resets to closed ports that may be in one CPU's buffer.
pub const NOISE_ROOM: u32 = 512;
