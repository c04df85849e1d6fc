//! Dropping early what the run does not want. Only what certainly does not match is dropped.

use rsttrace_common::{
    config::{
        FILTER_EITHER_PORT, FILTER_IPV4, FILTER_IPV6, FILTER_LOCAL_PORT, FILTER_PEER, FILTER_PEER_PORT, FILTER_PID,
        FILTER_RECEIVED, FILTER_SENT, Filter, PORTS_EITHER, PORTS_LOCAL, PORTS_PEER, PORTS_WORDS,
    },
    names::AF_INET,
};

use aya_ebpf::maps::lpm_trie::Key;

use crate::{
    connection::Connection,
    maps::{FILTER, PEERS, PIDS, PORTS},
    sock::{Tuple, wire_family},
    story,
};

/// The filters of this run.
#[inline(always)]
pub(crate) fn load() -> Filter {
    FILTER.get(0).copied().unwrap_or_default()
}

/// Whether sent resets can be wanted. One that settles what an ambiguous `tcp_receive_reset` was is wanted even where
/// only received resets are.
#[inline(always)]
pub(crate) fn wants_sent(filter: &Filter, settles_received: bool) -> bool {
    filter.flags & FILTER_RECEIVED == 0 || settles_received
}

/// Whether received resets can be wanted.
#[inline(always)]
pub(crate) fn wants_received(filter: &Filter) -> bool {
    filter.flags & FILTER_SENT == 0
}

/// Whether a reset between these ends can be wanted.
#[inline(always)]
pub(crate) fn wants_ends(filter: &Filter, tuple: &Tuple) -> bool {
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
    if flags & FILTER_PEER_PORT != 0 && !port_in(PORTS_PEER, tuple.peer_port) {
        return false;
    }
    if flags & FILTER_LOCAL_PORT != 0 && !port_in(PORTS_LOCAL, tuple.local_port) {
        return false;
    }
    if flags & FILTER_EITHER_PORT != 0
        && !port_in(PORTS_EITHER, tuple.local_port)
        && !port_in(PORTS_EITHER, tuple.peer_port)
    {
        return false;
    }
    flags & FILTER_PEER == 0 || PEERS.get(Key::new(128, tuple.peer)).is_some()
}

/// Whether a reset of a socket with this story can be wanted: `in_task` says whether the task that the CPU runs holds the
/// socket's lock. An owner that is not certain is for the user side to find.
#[inline(always)]
pub(crate) fn wants_owner(filter: &Filter, story: &Connection, in_task: bool) -> bool {
    filter.flags & FILTER_PID == 0
        || story::certain_owner(story, in_task).is_none_or(|tgid| PIDS.get_ptr(tgid).is_some())
}

#[inline(always)]
fn port_in(set: u32, port: u16) -> bool {
    let word = PORTS.get(set * PORTS_WORDS + u32::from(port >> 6)).copied().unwrap_or(0);
    word >> (port & 63) & 1 != 0
}
