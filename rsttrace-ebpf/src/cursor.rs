//! Per-CPU write cursors into maps of which each CPU has a range of its own, so that two CPUs never write one slot.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::{helpers, map};

/// Cursors into `CLOSED` and `HOLDER_LOOKUPS`, by `Cursor`.
#[map]
static CURSORS: PerCpuArray<[u32; CURSOR_COUNT]> = PerCpuArray::with_max_entries(1, 0);

/// A cursor, by the map that it points into.
#[derive(Clone, Copy)]
pub(crate) enum Cursor {
    HolderLookups,
    Closed,
}

const CURSOR_COUNT: usize = 2;

/// Index of the current CPU's next slot, after the last of its `slots` the first again. An interrupt at this moment may get
/// the same one.
#[inline(always)]
pub(crate) fn next_slot(cursor: Cursor, slots: u32) -> u32 {
    let cpu = helpers::cpu();
    let Some(cursors) = map::slot_mut(&CURSORS, 0) else { return cpu };
    let cursor = &mut cursors[cursor as usize];
    let slot = *cursor;
    *cursor = if slot + 1 < slots { slot + 1 } else { 0 };
    cpu * slots + slot
}
