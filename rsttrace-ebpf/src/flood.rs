//! Floods of resets to closed ports: a scan, or a SYN flood, makes hundreds of thousands a second.
//!
//! Beyond a rate they are counted, by who they go to and from which port, for the user side to fetch. What cannot be
//! counted, because all of them are different, is handed over as long as it takes no more of the buffer than leaves room
//! for the resets of connections; the rest is lost, and counted as such. Each CPU has its own state and counts; resets
//! without a socket are sent with soft interrupts off, so nothing here is interrupted by itself.

use aya_ebpf::Global;
use rsttrace_common::{
    config::{FOLD_FROM, FOLDS_OF_CPU, NOISE_ROOM},
    event::{EVENT_HAS_REASON, Header},
};

use crate::{
    maps::{FOLDS, FOLDS_SEEN, NOISE, PACE},
    sock::Tuple,
    story, turns,
};

/// Resets to closed ports that may be in one CPU's buffer, or in its share of the one buffer.
#[unsafe(no_mangle)]
static NOISE_LIMIT: Global<u32> = Global::new(NOISE_ROOM);

/// One CPU's state.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Noise {
    /// What [`Pace`](rsttrace_common::flood::Pace) said last.
    tick: u32,
    read: u32,
    /// Handed over since `tick` has changed.
    handed_over: u32,
    /// Handed over since `read` has changed.
    unread: u32,
}

/// What becomes of a reset to a closed port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It is handed over like any other.
    HandOver,
    /// It has been counted.
    Counted,
    /// There is no room for it.
    Lost,
}

/// Decides about a reset to a closed port, and counts it where that is what becomes of it.
#[inline(always)]
pub(crate) fn pass(tuple: &Tuple, netns_cookie: u64, header: &Header, reason: Option<u32>) -> Passage {
    let (Some(noise), Some(pace)) = (NOISE.get_ptr_mut(0), PACE.get(0)) else { return Passage::HandOver };
    // SAFETY: this CPU's value of the map, and see above.
    let noise = unsafe { &mut *noise };
    if noise.tick != pace.tick {
        noise.tick = pace.tick;
        noise.handed_over = 0;
    }
    if noise.read != pace.read {
        noise.read = pace.read;
        noise.unread = 0;
    }
    let is_full = noise.unread >= NOISE_LIMIT.load();
    if (is_full || noise.handed_over >= FOLD_FROM) && count(tuple, netns_cookie, header, reason) {
        return Passage::Counted;
    }
    if is_full {
        return Passage::Lost;
    }
    noise.handed_over += 1;
    noise.unread += 1;
    Passage::HandOver
}

/// Counts it with its like; `false` where its place is taken by others that have not been fetched yet.
#[inline(always)]
fn count(tuple: &Tuple, netns_cookie: u64, header: &Header, reason: Option<u32>) -> bool {
    let cpu = turns::cpu();
    let like = Tuple { peer_port: 0, ..*tuple };
    let place = like.hash() as usize % FOLDS_OF_CPU;
    let (Some(folds), Some(seen)) = (FOLDS.get_ptr_mut(cpu), FOLDS_SEEN.get(cpu)) else { return false };
    // SAFETY: this CPU's places; values of the map are valid as long as the program runs.
    let fold = unsafe { &mut (*folds)[place] };
    let flags = if reason.is_some() { EVENT_HAS_REASON } else { 0 };
    let reason = reason.unwrap_or(0);
    let is_like = fold.packet.flags == header.flags
        && fold.reason == reason
        && fold.netns_cookie == netns_cookie
        && like.is(&Tuple {
            local: fold.local_address,
            peer: fold.peer_address,
            netns: fold.netns,
            local_port: fold.local_port,
            peer_port: 0,
        });
    if !is_like {
        if fold.total != seen[place] {
            return false;
        }
        fold.local_address = tuple.local;
        fold.peer_address = tuple.peer;
        fold.netns = tuple.netns;
        fold.local_port = tuple.local_port;
        fold.peer_port = tuple.peer_port;
        fold.flags = flags;
        fold.reason = reason;
        fold.packet = *header;
        fold.netns_cookie = netns_cookie;
    }
    fold.total += 1;
    fold.last_ns = story::now_ns();
    fold.seal = fold.sum();
    true
}
