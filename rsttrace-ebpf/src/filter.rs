//! Dropping resets early that the run does not want. Only what certainly does not match is dropped.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use rsttrace_common::{
    abi::AF_INET,
    event::Address,
    filter::{
        FILTER_EITHER_PORT, FILTER_IPV4, FILTER_IPV6, FILTER_LOCAL_PORT, FILTER_PEER, FILTER_PEER_PORT, FILTER_PID,
        FILTER_RECEIVED, FILTER_SENT, Filter, PEERS_MAX, PIDS_MAX, PORTS_EITHER, PORTS_LOCAL, PORTS_PEER, PORTS_SLOTS,
        PORTS_WORDS,
    },
};

use crate::{
    connection::Connection,
    history,
    sock::{Tuple, wire_family},
};

/// Scalar filters of this run (one slot), written before the programs are attached.
#[map]
static FILTER: Array<Filter> = Array::with_max_entries(1, 0);

/// Wanted peers: prefixes of 128-bit addresses, IPv4 as `::ffff:0:0/96`.
#[map]
static PEERS: LpmTrie<Address, u8> = LpmTrie::with_max_entries(PEERS_MAX, 0);

/// Wanted ports: three bitmaps, see `PORTS_*`.
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORTS_SLOTS, 0);

/// Wanted owners, by PID.
#[map]
static PIDS: HashMap<u32, u8> = HashMap::with_max_entries(PIDS_MAX, 0);

/// The scalar filters of this run.
#[inline(always)]
pub(crate) fn load() -> Filter {
    FILTER.get(0).copied().unwrap_or_default()
}

/// Whether sent resets can be wanted. One that resolves an ambiguous `tcp_receive_reset` is wanted even where only received
/// resets are.
#[inline(always)]
pub(crate) fn wants_sent(filter: &Filter, may_resolve_ambiguous: bool) -> bool {
    filter.flags & FILTER_RECEIVED == 0 || may_resolve_ambiguous
}

/// Whether received resets can be wanted.
#[inline(always)]
pub(crate) fn wants_received(filter: &Filter) -> bool {
    filter.flags & FILTER_SENT == 0
}

/// Whether a reset with this tuple can be wanted.
#[inline(always)]
pub(crate) fn wants_tuple(filter: &Filter, tuple: &Tuple) -> bool {
    if filter.netns != 0 && tuple.netns != 0 && filter.netns != tuple.netns {
        return false;
    }
    let flags = filter.flags;
    if flags == 0 {
        return true;
    }
    if flags & (FILTER_IPV4 | FILTER_IPV6) != 0 {
        let wanted = if wire_family(&tuple.peer) == AF_INET { FILTER_IPV4 } else { FILTER_IPV6 };
        if flags & wanted == 0 {
            return false;
        }
    }
    if flags & FILTER_PEER_PORT != 0 && !contains_port(PORTS_PEER, tuple.peer_port) {
        return false;
    }
    if flags & FILTER_LOCAL_PORT != 0 && !contains_port(PORTS_LOCAL, tuple.local_port) {
        return false;
    }
    if flags & FILTER_EITHER_PORT != 0
        && !contains_port(PORTS_EITHER, tuple.local_port)
        && !contains_port(PORTS_EITHER, tuple.peer_port)
    {
        return false;
    }
    flags & FILTER_PEER == 0 || PEERS.get(Key::new(128, tuple.peer)).is_some()
}

/// Whether a reset of a socket with this history can be wanted. `in_task` tells whether the current task holds the socket's
/// lock. An owner that is not certain is left to the user side.
#[inline(always)]
pub(crate) fn wants_owner(filter: &Filter, history: &Connection, in_task: bool) -> bool {
    filter.flags & FILTER_PID == 0
        || history::certain_owner(history, in_task).is_none_or(|tgid| PIDS.get_ptr(tgid).is_some())
}

/// Whether the set of ports (`PORTS_*`) contains the port.
#[inline(always)]
fn contains_port(set: u32, port: u16) -> bool {
    let word = PORTS.get(set * PORTS_WORDS + u32::from(port >> 6)).copied().unwrap_or(0);
    word >> (port & 63) & 1 != 0
}
