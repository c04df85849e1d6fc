//! Maps of the filters that the kernel side applies.

use std::net::IpAddr;

use anyhow::{Result, bail};
use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, MapData, lpm_trie::Key},
};
use rsttrace_common::filter::{
    FILTER_EITHER_PORT, FILTER_IPV4, FILTER_IPV6, FILTER_LOCAL_PORT, FILTER_PEER, FILTER_PEER_PORT, FILTER_PID,
    FILTER_RECEIVED, FILTER_SENT, Filter, PEERS_MAX, PIDS_MAX, PORTS_EITHER, PORTS_LOCAL, PORTS_PEER, PORTS_WORDS,
};

use super::{map_mut, take_map};
use crate::{
    load::Loaded,
    model::{FilterOptions, PortRange},
};

/// The map `FILTER`, with its contents. The maps that are sets do not change during a run.
pub(in super::super) struct FilterMap {
    map: Array<MapData, Filter>,
    filter: Filter,
}

impl Loaded {
    /// Replaces the only wanted network namespace by the one of this inode number. Events that are in the buffer by now stay
    /// there. Fails when the kernel refuses the write.
    pub fn watch_netns(&mut self, netns: u32) -> Result<()> {
        let FilterMap { map, filter } = &mut self.filter;
        filter.netns = netns;
        Ok(map.set(0, *filter, 0)?)
    }
}

/// Writes the filters into the maps, before any program is attached. `netns` is the inode number of the only wanted network
/// namespace. Fails when there are more peers or processes than the maps hold.
pub(in super::super) fn write(ebpf: &mut Ebpf, filters: &FilterOptions, netns: Option<u32>) -> Result<FilterMap> {
    let mut filter = Filter { flags: 0, netns: netns.unwrap_or(0) };
    for (on, bit) in [
        (filters.received, FILTER_RECEIVED),
        (filters.sent, FILTER_SENT),
        (filters.ipv4, FILTER_IPV4),
        (filters.ipv6, FILTER_IPV6),
        (!filters.peer.is_empty(), FILTER_PEER),
        (!filters.peer_port.is_empty(), FILTER_PEER_PORT),
        (!filters.local_port.is_empty(), FILTER_LOCAL_PORT),
        (!filters.port.is_empty(), FILTER_EITHER_PORT),
        (!filters.pid.is_empty(), FILTER_PID),
    ] {
        if on {
            filter.flags |= bit;
        }
    }
    if filters.peer.len() > PEERS_MAX as usize {
        bail!("at most {PEERS_MAX} peers can be filtered by: name networks instead of addresses");
    }
    if filters.pid.len() > PIDS_MAX as usize {
        bail!("at most {PIDS_MAX} processes can be filtered by");
    }
    let mut peers: LpmTrie<&mut MapData, [u8; 16], u8> = LpmTrie::try_from(map_mut(ebpf, "PEERS")?)?;
    for peer in &filters.peer {
        let (bits, length) = match peer.addr() {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), 96),
            IpAddr::V6(v6) => (v6.octets(), 0),
        };
        peers.insert(&Key::new(length + u32::from(peer.prefix_len()), bits), 1, 0)?;
    }
    let mut pids: HashMap<&mut MapData, u32, u8> = HashMap::try_from(map_mut(ebpf, "PIDS")?)?;
    for pid in &filters.pid {
        pids.insert(pid, 1, 0)?;
    }
    let mut ports: Array<&mut MapData, u64> = Array::try_from(map_mut(ebpf, "PORTS")?)?;
    for (set, ranges) in
        [(PORTS_PEER, &filters.peer_port), (PORTS_LOCAL, &filters.local_port), (PORTS_EITHER, &filters.port)]
    {
        for (word, bits) in (0..).zip(bitmap(ranges)) {
            if bits != 0 {
                ports.set(set * PORTS_WORDS + word, bits, 0)?;
            }
        }
    }
    let mut map = Array::try_from(take_map(ebpf, "FILTER")?)?;
    map.set(0, filter, 0)?;
    Ok(FilterMap { map, filter })
}

/// Set of ports: bit `port % 64` of word `port / 64`.
fn bitmap(ranges: &[PortRange]) -> Vec<u64> {
    let mut words = vec![0_u64; PORTS_WORDS as usize];
    for range in ranges {
        for port in range.first..=range.last {
            if let Some(word) = words.get_mut(usize::from(port / 64)) {
                *word |= 1 << (port % 64);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmap_has_the_ports_of_all_ranges_and_no_others() {
        let ranges = ["1".parse(), "63-64".parse(), "65535".parse()].map(|range| range.expect("a range"));
        let words = bitmap(&ranges);
        let set: Vec<usize> =
            (0..65536).filter(|port| words.get(port / 64).is_some_and(|word| word >> (port % 64) & 1 != 0)).collect();
        assert_eq!(set, [1, 63, 64, 65535]);
    }
}
