//! What the inputs tell of one host.

use std::{net::IpAddr, sync::Arc};

use foldhash::{HashMap, HashSet};
use jiff::Timestamp;

use super::{hidden::is_harmless_limit, recorder_cover::RecorderCover, seen_reset::SeenReset, wire_cover::WireCover};
use crate::{
    model::{Endpoint, JoinedHost, JoinedKind, RecordedFilters},
    util::sanitize::truncate,
};

/// Most limits that are shown of a host, and most characters of one.
const LIMITS: usize = 8;
const LIMIT: usize = 200;
/// Most characters of a host's name.
const NAME: usize = 64;

/// Most addresses of its interfaces.
const INTERFACES_MAX: usize = 65_536;

/// By what a host is told from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// A host with headers: its machine, its name, and the only network namespace that was recorded, which is a host of its own.
    Recorded { machine: Option<String>, host: Arc<str>, netns: Option<u32> },
    /// The `host` of records without headers.
    Named(Arc<str>),
    /// A capture, by the number of its input.
    Captured(usize),
}

/// A host.
#[derive(Debug)]
pub(super) struct GatheredHost {
    /// Its place in the order of the inputs.
    pub(super) order: usize,
    pub(super) identity: Identity,
    pub(super) name: Arc<str>,
    pub(super) inputs: Vec<String>,
    pub(super) cover: RecorderCover,
    pub(super) wire: Option<WireCover>,
    /// Its resets; in the order of time once it is finished.
    pub(super) resets: Vec<SeenReset>,
    /// Addresses of its own, and network namespaces in which they were seen.
    addresses: HashMap<IpAddr, Option<u32>>,
    /// Addresses of its interfaces, by the headers of its recordings: also of those that it has in common with others, as virtual ones.
    interfaces: HashSet<IpAddr>,
    /// Addresses that it has behind a translation.
    translated: HashSet<IpAddr>,
    /// Ends that it had connections with.
    peers: HashSet<Endpoint>,
}

impl GatheredHost {
    pub(super) fn new(identity: Identity, name: &str, order: usize) -> Self {
        Self {
            order,
            identity,
            name: truncate(name, NAME).as_ref().into(),
            inputs: Vec::new(),
            cover: RecorderCover::default(),
            wire: None,
            resets: Vec::new(),
            addresses: HashMap::default(),
            interfaces: HashSet::default(),
            translated: HashSet::default(),
            peers: HashSet::default(),
        }
    }

    pub(super) const fn is_capture(&self) -> bool {
        matches!(self.identity, Identity::Captured(_))
    }

    /// Takes over what another part of the host's inputs has told.
    pub(super) fn absorb(&mut self, other: Self) {
        self.inputs.extend(other.inputs.into_iter().filter(|input| !self.inputs.contains(input)).collect::<Vec<_>>());
        self.order = self.order.min(other.order);
        let runs = u32::try_from(self.cover.len()).unwrap_or(u32::MAX);
        self.cover.append(other.cover);
        self.wire = self.wire.take().or(other.wire);
        let moved = other.resets.into_iter().map(|mut reset| {
            reset.run = reset.run.and_then(|run| run.checked_add(runs));
            reset
        });
        self.resets.extend(moved);
    }

    /// Sorts its resets, drops copies of one record, and learns its addresses.
    pub(super) fn finish(&mut self) {
        self.resets.sort_by_key(SeenReset::order);
        self.resets.dedup_by(|later, earlier| later.is_copy_of(earlier));
        self.resets.shrink_to_fit();
        self.cover.finish(&self.resets);
        let addresses = self.cover.contexts().filter_map(|context| context.addresses.as_deref()).flatten();
        self.interfaces = addresses.copied().filter(|address| !says_nothing(*address)).take(INTERFACES_MAX).collect();
        for reset in &self.resets {
            let is_own = self.wire.as_ref().is_none_or(|wire| wire.is_of(reset.local.address));
            if is_own && !reset.is_of_filter && !says_nothing(reset.local.address) {
                self.addresses.insert(reset.local.address, reset.netns);
                self.peers.insert(reset.peer);
            }
            if let Some((local, peer)) = reset.translated.as_deref() {
                self.translated.insert(local.address);
                self.peers.insert(*peer);
            }
        }
    }

    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// Whether an interface of it had this address.
    pub(super) fn has_interface(&self, address: IpAddr) -> bool {
        self.interfaces.contains(&address)
    }

    /// Whether nothing tells an address of it.
    pub(super) fn is_without_address(&self) -> bool {
        !self.is_capture() && self.addresses.is_empty() && self.interfaces.is_empty()
    }

    /// Network namespace in which an address of it was seen.
    pub(super) fn namespace_of(&self, address: IpAddr) -> Option<u32> {
        self.addresses.get(&address).copied().flatten()
    }

    /// Whether a peer may see it by this address, behind a translation.
    pub(super) fn may_be_seen_as(&self, address: IpAddr) -> bool {
        self.translated.contains(&address)
    }

    /// Whether it had a connection with this end.
    pub(super) fn knows_peer(&self, end: Endpoint) -> bool {
        self.peers.contains(&end)
    }

    /// Whether both ends of a reset are on it.
    pub(super) fn is_within(&self, reset: &SeenReset) -> bool {
        let peer = reset.peer.address;
        reset.is_within_host || says_nothing(peer) || !self.is_capture() && self.has_address(peer)
    }

    /// Resets of a span of time, with their places.
    pub(super) fn between(&self, from_ns: i64, to_ns: i64) -> impl Iterator<Item = (usize, &SeenReset)> {
        let first = self.resets.partition_point(|reset| reset.time_ns < from_ns);
        let last = self.resets.partition_point(|reset| reset.time_ns <= to_ns);
        (first..last).zip(self.resets.get(first..last).unwrap_or_default())
    }

    /// First and last sign of it, nanoseconds since 1970.
    pub(super) fn span_ns(&self) -> Option<(i64, i64)> {
        let of_resets = self.resets.first().zip(self.resets.last()).map(|(first, last)| (first.time_ns, last.time_ns));
        let spans = [self.cover.span_ns(), self.wire.as_ref().and_then(WireCover::span_ns), of_resets];
        spans.into_iter().flatten().reduce(|(first, last), (from, to)| (first.min(from), last.max(to)))
    }

    pub(super) fn kind(&self) -> JoinedKind {
        match self.identity {
            Identity::Captured(_) => JoinedKind::Capture,
            _ if self.cover.is_empty() => JoinedKind::Records,
            _ => JoinedKind::Recording,
        }
    }

    /// What limits conclusions from what is not there.
    fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if self.kind() == JoinedKind::Records {
            limits
                .push("without marks nothing shows that a reset is missing ('rsttrace record' writes them)".to_owned());
        }
        for context in self.cover.contexts() {
            match &context.filters {
                // That namespace is the host.
                Some(filters) if RecordedFilters { netns: None, ..filters.clone() } == RecordedFilters::default() => {}
                Some(_) => limits.push("filters left resets out".to_owned()),
                None if context.filtered => limits.push("filters left resets out, which it does not name".to_owned()),
                None => {}
            }
            if context.ignored != Some(true) {
                limits.push("recorded without --ignored: a reset that did not arrive cannot be told".to_owned());
            }
            let degraded = context.degraded.iter().filter(|text| !is_harmless_limit(text));
            limits.extend(degraded.take(LIMITS).map(|text| truncate(text, LIMIT).into_owned()));
        }
        limits.sort();
        limits.dedup();
        limits.truncate(LIMITS);
        limits
    }

    /// What the result says of it.
    pub(super) fn shown(&self) -> JoinedHost {
        let count = |wanted: &dyn Fn(&SeenReset) -> bool| {
            self.resets.iter().filter(|reset| wanted(reset)).map(|reset| reset.count).fold(0, u64::saturating_add)
        };
        let time = |ns: i64| Timestamp::from_nanosecond(ns.into()).ok();
        let span = self.span_ns();
        JoinedHost {
            name: Arc::clone(&self.name),
            inputs: self.inputs.clone(),
            kind: self.kind(),
            from: span.and_then(|(from, _)| time(from)),
            to: span.and_then(|(_, to)| time(to)),
            sent: count(&|reset| reset.is_sent),
            received: count(&|reset| !reset.is_sent && reset.ignored.is_none()),
            ignored: count(&|reset| reset.ignored.is_some()),
            limits: self.limits(),
        }
    }
}

/// Whether an address is one that every host has, or that is of one link.
fn says_nothing(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
}
