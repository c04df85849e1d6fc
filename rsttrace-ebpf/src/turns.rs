//! Places of a map that each CPU uses in turns: its own, so that no two ever take the same.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;

use crate::maps::TURNS;

/// Turns of the map `FINDINGS`.
pub(crate) const FINDINGS: usize = 0;
/// Turns of the map `DEPARTED`.
pub(crate) const DEPARTED: usize = 1;
/// How many maps are used in turns.
pub(crate) const MAPS: usize = 2;

/// The next place of this CPU, of so many that it has. Who interrupts us here may take the same.
#[inline(always)]
pub(crate) fn next(map: usize, places: u32) -> u32 {
    let cpu = cpu();
    let Some(turns) = TURNS.get_ptr_mut(0) else { return cpu };
    // SAFETY: this CPU's value of the map.
    let turn = unsafe { &mut (*turns)[map] };
    let place = *turn;
    *turn = if place + 1 < places { place + 1 } else { 0 };
    cpu * places + place
}

/// The number of this CPU.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { bpf_get_smp_processor_id() }
}
