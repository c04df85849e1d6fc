//! The maps that user space writes or reads, and their sizes.

pub(super) mod filter_maps;
pub(super) mod flood_maps;
pub(super) mod holder_lookup_maps;
pub(super) mod map_sizes;

use anyhow::{Result, anyhow};
use aya::{Ebpf, maps::Map};

/// A map of the object; fails when the object has none of this name.
pub(super) fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).ok_or_else(|| anyhow!("the object has no map {name}"))
}

/// Takes a map out of the object; fails when it has none of this name, or has no longer.
pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
}
