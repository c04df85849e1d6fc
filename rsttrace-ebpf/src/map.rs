//! References to the values of array maps.

use aya_ebpf::maps::{Array, PerCpuArray};

/// A map whose values the verifier finds by index.
pub(crate) trait ArrayMap {
    type Value: 'static;

    fn value(&self, index: u32) -> Option<*mut Self::Value>;
}

impl<T: 'static> ArrayMap for Array<T> {
    type Value = T;

    #[inline(always)]
    fn value(&self, index: u32) -> Option<*mut T> {
        self.get_ptr_mut(index)
    }
}

impl<T: 'static> ArrayMap for PerCpuArray<T> {
    type Value = T;

    #[inline(always)]
    fn value(&self, index: u32) -> Option<*mut T> {
        self.get_ptr_mut(index)
    }
}

/// The value at this index; for a per-CPU map, the current CPU's. `None` past the end of the map.
///
/// Exclusive only as far as the module that owns the map sees to it: other CPUs, and what interrupts the program, can write
/// the value at the same time. So values are plain integers, and where a mixture of two writers would mislead they carry a
/// checksum.
#[inline(always)]
pub(crate) fn slot_mut<M: ArrayMap>(map: &M, index: u32) -> Option<&'static mut M::Value> {
    // SAFETY: the kernel has checked the index, and a value lives as long as the map, which outlives the program's run. Every
    // bit pattern is a value of the types used here.
    map.value(index).map(|value| unsafe { &mut *value })
}
