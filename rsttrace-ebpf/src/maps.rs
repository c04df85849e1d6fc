//! The maps: what the kernel side remembers, what the user side sets, and the way out.

#[cfg(not(feature = "ring"))]
use aya_ebpf::maps::PerfEventArray;
#[cfg(feature = "ring")]
use aya_ebpf::maps::RingBuf;
use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray},
};
use rsttrace_common::{
    config::{self, Filter, PEERS_MAX, PIDS_MAX, PORTS_SLOTS},
    event::{Address, LOST_SLOTS},
    flood::{Folds, Pace},
    nested::{SETS, Words},
    owner::{Arguments, Findings},
};

use crate::{
    ambiguous,
    connection::Connection,
    departed::Departed,
    flood::Noise,
    header, nested,
    table::{Table, Tags},
    turns,
};

/// Events on their way to the user side.
#[cfg(not(feature = "ring"))]
#[map]
pub(crate) static EVENTS: PerfEventArray<rsttrace_common::event::ResetEvent> = PerfEventArray::new(0);

/// Events on their way to the user side. The user side sets the size.
#[cfg(feature = "ring")]
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Where an event is put together before it is copied into the perf ring buffer: the stack is too small for it. See
/// `emit::slot`.
#[cfg(not(feature = "ring"))]
#[map]
pub(crate) static SCRATCH: PerCpuArray<rsttrace_common::event::ResetEvent> =
    PerCpuArray::with_max_entries(crate::emit::SLOTS, 0);

/// What the programs that report resets have been run for.
#[map]
pub(crate) static WORDS: PerCpuArray<Words> = PerCpuArray::with_max_entries(nested::PLACES * SETS, 0);

/// Events that found no room, by `LOST_*`.
#[map]
pub(crate) static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOST_SLOTS, 0);

/// The ambiguous receive that each CPU reported last.
#[map]
pub(crate) static AMBIGUOUS: PerCpuArray<ambiguous::Slots> = PerCpuArray::with_max_entries(1, 0);

/// Headers on their way from `tcp_reset` to `tcp_receive_reset`.
#[map]
pub(crate) static HEADERS: PerCpuArray<header::Slots> = PerCpuArray::with_max_entries(1, 0);

/// The sockets in [`CONNECTIONS`], set after set, and behind them those in [`LISTENERS`].
#[map]
pub(crate) static TAGS: Array<Tags> = Array::with_max_entries(config::CONNECTION_SETS + config::LISTENER_SETS, 0);

/// The stories: those of [`CONNECTIONS`], eight places to a set, those of [`LISTENERS`], that of nobody, and for each CPU one
/// of [`DEPARTED`]. All in one map, because to the verifier a pointer into another map, or NULL, is another thing, of which
/// it walks everything again.
#[map]
pub(crate) static STORIES: Array<Connection> =
    Array::with_max_entries((config::CONNECTION_SETS + config::LISTENER_SETS) * config::WAYS + 2, 0);

#[unsafe(no_mangle)]
static CONNECTION_SETS: Global<u32> = Global::new(config::CONNECTION_SETS);

/// The story of each connection that a socket exists for, by the address of the socket.
pub(crate) static CONNECTIONS: Table = Table { before: None, sets: &CONNECTION_SETS };

#[unsafe(no_mangle)]
static LISTENER_SETS: Global<u32> = Global::new(config::LISTENER_SETS);

/// Who listens; its connections inherit the owner from here. A table of its own, so that no number of connections pushes
/// out a listener.
pub(crate) static LISTENERS: Table = Table { before: Some(&CONNECTION_SETS), sets: &LISTENER_SETS };

/// The story of connections that have ended.
#[map]
pub(crate) static DEPARTED: Array<Departed> = Array::with_max_entries(config::DEPARTED_PLACES, 0);

/// Where in [`DEPARTED`] a connection is, by its ends.
#[map]
pub(crate) static DEPARTED_BY_ENDS: Array<u32> = Array::with_max_entries(config::DEPARTED_ENDS, 0);

/// Who holds sockets that have been reset: the task that closes one, and the walk of open files, leave it here, and the
/// user side fetches it.
#[map]
pub(crate) static FINDINGS: Array<Findings> = Array::with_max_entries(config::FINDINGS_PLACES, 0);

/// Command lines of processes.
#[map]
pub(crate) static ARGUMENTS: Array<Arguments> = Array::with_max_entries(config::PROCESSES, 0);

/// Whose turn it is in the maps that each CPU uses place after place.
#[map]
pub(crate) static TURNS: PerCpuArray<[u32; turns::MAPS]> = PerCpuArray::with_max_entries(1, 0);

/// Resets to closed ports that have been counted: the places of each CPU, by its number.
#[map]
pub(crate) static FOLDS: Array<Folds> = Array::with_max_entries(1, 0);

/// How many of each place the user side has fetched, written by it.
#[map]
pub(crate) static FOLDS_SEEN: Array<[u64; config::FOLDS_OF_CPU]> = Array::with_max_entries(1, 0);

/// How far the user side has come, written by it (one slot).
#[map]
pub(crate) static PACE: Array<Pace> = Array::with_max_entries(1, 0);

/// Each CPU's state in a flood.
#[map]
pub(crate) static NOISE: PerCpuArray<Noise> = PerCpuArray::with_max_entries(1, 0);

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
