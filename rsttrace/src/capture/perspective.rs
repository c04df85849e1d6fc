//! Which of a connection's ends is "this host" in a capture.

use std::{collections::HashSet, fmt, net::IpAddr};

use foldhash::HashMap;
use ipnet::IpNet;

use super::tcp_segment::TcpSegment;
use crate::model::Endpoint;

/// Most connections from which a perspective is inferred.
const CONNECTIONS_MAX: usize = 16_384;
/// TTLs with which systems send.
pub const INITIAL_TTLS: [u8; 3] = [64, 128, 255];

/// The addresses that are this host's.
#[derive(Clone, Debug)]
pub enum Perspective {
    /// Those of `--local`.
    Given(Vec<IpNet>),
    /// Inferred from the capture.
    Inferred {
        /// The addresses.
        hosts: HashSet<IpAddr>,
        /// What they were inferred from.
        by: Inference,
    },
}

/// What a perspective was inferred from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inference {
    /// The capture says which packets the host sent.
    Direction,
    /// Most of the connections have this address.
    Shared,
    /// It is one end of them all, and its packets had passed no router.
    NoHop,
    /// It is one end of them all, and the one that opened them.
    Opener,
}

impl Perspective {
    /// Returns whether an address is this host's.
    pub fn is_host(&self, address: IpAddr) -> bool {
        match self {
            Self::Given(networks) => networks.iter().any(|network| network.contains(&address)),
            Self::Inferred { hosts, .. } => hosts.contains(&address),
        }
    }

    /// Returns whether resets between other hosts are told as well, by the end that receives them.
    pub const fn has_others(&self) -> bool {
        matches!(self, Self::Inferred { .. })
    }
}

/// A sentence on it; empty where it was given.
impl fmt::Display for Perspective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Inferred { hosts, by } = self else { return Ok(()) };
        let mut sorted: Vec<IpAddr> = hosts.iter().copied().collect();
        sorted.sort();
        let shown: Vec<String> = sorted.iter().take(3).map(IpAddr::to_string).collect();
        write!(formatter, "seen from {}", shown.join(", "))?;
        if let Some(more @ 1..) = sorted.len().checked_sub(shown.len()) {
            write!(formatter, " and {more} more")?;
        }
        let why = match by {
            Inference::Direction => "whose packets the capture marks as sent",
            Inference::Shared => "which most of the connections share",
            Inference::NoHop => "whose packets had passed no router",
            Inference::Opener => "which opened the connections",
        };
        write!(formatter, ", {why}; another host: --local ADDRESS")
    }
}

/// What an address has shown.
#[derive(Default)]
struct Shown {
    /// Connections that it is an end of.
    connections: u32,
    /// Those that it opened.
    opened: u32,
    /// Packets from it, and those whose TTL is one that systems send with.
    packets: u32,
    without_hop: u32,
    /// Whether the capturing host sent packets from it, and received packets from it.
    is_sent: bool,
    is_received: bool,
}

/// Infers a perspective from the first segments of a capture.
#[derive(Default)]
pub(super) struct PerspectiveFinder {
    connections: HashSet<(Endpoint, Endpoint)>,
    addresses: HashMap<IpAddr, Shown>,
}

impl PerspectiveFinder {
    pub(super) fn observe(&mut self, segment: &TcpSegment) {
        let key = (segment.from.min(segment.to), segment.from.max(segment.to));
        let is_new = self.connections.len() < CONNECTIONS_MAX && self.connections.insert(key);
        if !is_new && !self.connections.contains(&key) {
            return;
        }
        let from = self.addresses.entry(segment.from.address).or_default();
        from.connections += u32::from(is_new);
        from.opened += u32::from(segment.is_syn());
        from.packets += 1;
        from.without_hop += u32::from(INITIAL_TTLS.contains(&segment.ttl));
        from.is_sent |= segment.is_outgoing == Some(true);
        from.is_received |= segment.is_outgoing == Some(false);
        if segment.from.address != segment.to.address {
            self.addresses.entry(segment.to.address).or_default().connections += u32::from(is_new);
        }
    }

    pub(super) fn conclude(self) -> Perspective {
        // What a router forwards it both receives and sends.
        let is_own = |shown: &Shown| shown.is_sent && !shown.is_received;
        let of = |hosts: HashSet<IpAddr>, by| Perspective::Inferred { hosts, by };
        let own: HashSet<IpAddr> =
            self.addresses.iter().filter(|(_, shown)| is_own(shown)).map(|(address, _)| *address).collect();
        let loopback = self.addresses.keys().copied().filter(IpAddr::is_loopback);
        if !own.is_empty() {
            return of(own.into_iter().chain(loopback).collect(), Inference::Direction);
        }
        let most = self.addresses.values().map(|shown| shown.connections).max().unwrap_or(0);
        let shared: Vec<(IpAddr, &Shown)> = self
            .addresses
            .iter()
            .filter(|(_, shown)| shown.connections == most)
            .map(|(address, shown)| (*address, shown))
            .collect();
        let only = |wanted: &dyn Fn(&Shown) -> bool| {
            let mut found = shared.iter().filter(|(_, shown)| wanted(shown)).map(|(address, _)| *address);
            found.next().filter(|_| found.next().is_none())
        };
        let is_near = |shown: &Shown| shown.packets > 0 && shown.without_hop == shown.packets;
        let found = only(&|_| true)
            .map(|address| (address, Inference::Shared))
            .or_else(|| only(&is_near).map(|address| (address, Inference::NoHop)))
            .or_else(|| {
                let opener = shared.iter().max_by_key(|(address, shown)| (shown.opened, std::cmp::Reverse(*address)));
                opener.map(|(address, _)| (*address, Inference::Opener))
            });
        let (address, by) = found.map_or((None, Inference::Shared), |(address, by)| (Some(address), by));
        of(address.into_iter().chain(loopback).collect(), by)
    }
}
