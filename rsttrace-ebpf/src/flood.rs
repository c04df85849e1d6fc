//! Floods of resets to closed ports: a port scan, or a SYN flood, causes hundreds of thousands a second.
//!
//! Beyond a rate they are counted by tuple without the peer's port, for the user side to drain. Those that cannot be
//! aggregated, because each has another tuple, are passed on as long as they take so little of the buffer that resets of
//! connections find room; the rest is dropped, and counted as lost. Each CPU has its own state and aggregates. Resets without
//! a socket are sent with soft interrupts off, so nothing here is interrupted by itself.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, PerCpuArray},
};
use rsttrace_common::{
    event::{EVENT_HAS_REASON, PacketHeader},
    flood::{Aggregates, FloodProgress},
    limits::{self, AGGREGATE_AFTER, AGGREGATES_PER_CPU},
};

use crate::{
    helpers::{cpu, ktime_ns},
    map,
    sock::Tuple,
};

/// Resets to closed ports that were aggregated, by number of the CPU.
#[map]
static AGGREGATES: Array<Aggregates> = Array::with_max_entries(1, 0);

/// Total of each aggregate that the user side has drained, by number of the CPU; written by the user side.
#[map]
static AGGREGATES_SEEN: Array<[u64; AGGREGATES_PER_CPU]> = Array::with_max_entries(1, 0);

/// Progress of the user side (one slot), which writes it.
#[map]
static FLOOD_PROGRESS: Array<FloodProgress> = Array::with_max_entries(1, 0);

/// State of each CPU.
#[map]
static FLOOD_STATE: PerCpuArray<FloodState> = PerCpuArray::with_max_entries(1, 0);

/// Resets to closed ports that may be in one CPU's buffer, or in its share of the ring buffer; set by the user side.
#[unsafe(no_mangle)]
static FLOOD_BUDGET: Global<u32> = Global::new(limits::FLOOD_BUDGET);

/// State of one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
struct FloodState {
    /// [`FloodProgress::epoch`] when last looked at.
    epoch: u32,
    /// [`FloodProgress::drained`] when last looked at.
    drained: u32,
    /// Resets passed on since `epoch` changed.
    passed: u32,
    /// Resets passed on since `drained` changed: an upper bound of those in the buffer.
    in_buffer: u32,
}

/// Decision about a reset to a closed port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Report it as an event.
    Pass,
    /// It was counted in an aggregate.
    Aggregated,
    /// The budget is used up: count it as lost.
    Drop,
}

/// Decides about a reset to a closed port, and counts it where that is the decision.
#[inline(always)]
pub(crate) fn admit(tuple: &Tuple, netns_cookie: u64, header: &PacketHeader, reason: Option<u32>) -> Verdict {
    let (Some(state), Some(progress)) = (map::slot_mut(&FLOOD_STATE, 0), FLOOD_PROGRESS.get(0)) else {
        return Verdict::Pass;
    };
    if state.epoch != progress.epoch {
        state.epoch = progress.epoch;
        state.passed = 0;
    }
    if state.drained != progress.drained {
        state.drained = progress.drained;
        state.in_buffer = 0;
    }
    let is_over_budget = state.in_buffer >= FLOOD_BUDGET.load();
    if (is_over_budget || state.passed >= AGGREGATE_AFTER) && aggregate(tuple, netns_cookie, header, reason) {
        return Verdict::Aggregated;
    }
    if is_over_budget {
        return Verdict::Drop;
    }
    state.passed += 1;
    state.in_buffer += 1;
    Verdict::Pass
}

/// Counts a reset in the aggregate of its key; `false` where the slot has another key and is not drained yet.
#[inline(always)]
fn aggregate(tuple: &Tuple, netns_cookie: u64, header: &PacketHeader, reason: Option<u32>) -> bool {
    let cpu = cpu();
    let key = Tuple { peer_port: 0, ..*tuple };
    let slot = key.hash() as usize % AGGREGATES_PER_CPU;
    let (Some(aggregates), Some(seen)) = (map::slot_mut(&AGGREGATES, cpu), AGGREGATES_SEEN.get(cpu)) else {
        return false;
    };
    let aggregate = &mut aggregates[slot];
    let flags = if reason.is_some() { EVENT_HAS_REASON } else { 0 };
    let reason = reason.unwrap_or(0);
    let has_key = aggregate.packet.flags == header.flags
        && aggregate.reason == reason
        && aggregate.netns_cookie == netns_cookie
        && key.equals(&Tuple {
            local: aggregate.local_address,
            peer: aggregate.peer_address,
            netns: aggregate.netns,
            local_port: aggregate.local_port,
            peer_port: 0,
        });
    if !has_key {
        if aggregate.total != seen[slot] {
            return false;
        }
        aggregate.local_address = tuple.local;
        aggregate.peer_address = tuple.peer;
        aggregate.netns = tuple.netns;
        aggregate.local_port = tuple.local_port;
        aggregate.peer_port = tuple.peer_port;
        aggregate.flags = flags;
        aggregate.reason = reason;
        aggregate.packet = *header;
        aggregate.netns_cookie = netns_cookie;
    }
    aggregate.total += 1;
    aggregate.last_ns = ktime_ns();
    aggregate.update_checksum();
    true
}
