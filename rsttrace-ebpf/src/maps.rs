//! The maps: what the kernel side remembers, what the user side sets, and the way out.

#[cfg(not(feature = "ring"))]
use aya_ebpf::maps::PerfEventArray;
#[cfg(feature = "ring")]
use aya_ebpf::maps::RingBuf;
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
};
use rsttrace_common::{
    config::{AWAITED_MAX, CONNECTIONS_MAX, DEPARTED_MAX, Filter, LISTENERS_MAX, PEERS_MAX, PIDS_MAX, PORTS_SLOTS},
    event::{Address, Findings, LOST_SLOTS},
};

use crate::{connection::Connection, header, sock::Tuple};

/// Events on their way to the user side.
#[cfg(not(feature = "ring"))]
#[map]
pub(crate) static EVENTS: PerfEventArray<rsttrace_common::event::ResetEvent> = PerfEventArray::new(0);

/// Events on their way to the user side. The user side sets the size.
#[cfg(feature = "ring")]
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Where an event is put together before it is copied into the perf ring buffer: the stack is too small for it. One
/// slot for each level of nesting, since a soft interrupt may run a program while another is in the middle.
#[cfg(not(feature = "ring"))]
#[map]
pub(crate) static SCRATCH: PerCpuArray<[rsttrace_common::event::ResetEvent; SCRATCH_LEVELS]> =
    PerCpuArray::with_max_entries(1, 0);

/// Levels of nesting: task, soft interrupt, hard interrupt, and one more than there can be.
#[cfg(not(feature = "ring"))]
pub(crate) const SCRATCH_LEVELS: usize = 4;

/// The level of nesting in use.
#[cfg(not(feature = "ring"))]
#[map]
pub(crate) static SCRATCH_LEVEL: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Events that found no room, by `LOST_*`.
#[map]
pub(crate) static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOST_SLOTS, 0);

/// Headers on their way from `tcp_reset` to `tcp_receive_reset`.
#[map]
pub(crate) static HEADERS: PerCpuArray<header::Slots> = PerCpuArray::with_max_entries(1, 0);

/// The story of each open connection, by the address of its socket.
///
/// An LRU map can neither grow without bound nor fail an insert; what it forgets under pressure shows as an unknown
/// owner. Entries leave when the socket closes, so that idle connections are not pushed out by dead ones.
#[map]
pub(crate) static CONNECTIONS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(CONNECTIONS_MAX, 0);

/// The story of connections that have just ended: the kernel closes a socket *before* it reports most of the resets
/// that it sends for it, and a TIME_WAIT socket keeps nothing of the one it replaced.
#[map]
pub(crate) static DEPARTED: LruHashMap<Tuple, Connection> = LruHashMap::with_max_entries(DEPARTED_MAX, 0);

/// Who listens, by the address of the listening socket; its connections inherit the owner from here. A map of its own, so
/// that no number of connections pushes out a listener.
#[map]
pub(crate) static LISTENERS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(LISTENERS_MAX, 0);

/// The sockets that have been reset and whose holder is awaited, by address, and under which number what is found is
/// gathered. An entry goes when the socket is destroyed: its address may be another's the next moment.
#[map]
pub(crate) static AWAITED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(AWAITED_MAX, 0);

/// Who holds those sockets: the task that closes one, and the walk of open files, leave it here, and the user side fetches
/// it. What these two maps forget under pressure shows as lower confidence.
#[map]
pub(crate) static FINDINGS: LruHashMap<u64, Findings> = LruHashMap::with_max_entries(AWAITED_MAX, 0);

/// The number of the walk of open files that the user side has under way (one slot); 0 during the first, at start.
#[map]
pub(crate) static WALK: Array<u32> = Array::with_max_entries(1, 0);

/// The filters of this run (one slot), written before the programs are attached.
#[map]
pub(crate) static FILTER: Array<Filter> = Array::with_max_entries(1, 0);

/// Wanted peers: prefixes of 128-bit addresses, IPv4 as `::ffff:0:0/96`.
#[map]
pub(crate) static PEERS: LpmTrie<Address, u8> = LpmTrie::with_max_entries(PEERS_MAX, 0);

/// Wanted ports: three bitmaps, see `PORTS_*`.
#[map]
pub(crate) static PORTS: Array<u64> = Array::with_max_entries(PORTS_SLOTS, 0);

/// Wanted owners.
#[map]
pub(crate) static PIDS: HashMap<u32, u8> = HashMap::with_max_entries(PIDS_MAX, 0);
