//! A short memory of earlier resets, bounded: what a reset has to do with those before it.

use std::{hash::Hash, net::IpAddr, num::NonZeroUsize};

use lru::LruCache;
use rsttrace_common::abi::{tcp, tcp_flag};

use super::story::{Order, Story};
use crate::{
    facts::Neighbours,
    model::{Direction, Endpoint, NamespaceId, Reset, Role},
};

/// Entries of each kind; beyond that the least recently used are forgotten.
const ENTRIES: usize = 4096;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Connections that break within this time break together.
const AT_ONCE: u64 = 100 * MS;
/// Probes come at a distance; what comes faster is a burst.
const PROBE_GAP: u64 = 100 * MS;
/// The memory for what is repeated.
const LONG: u64 = 600 * SECOND;
/// The memory for the ports of a scan.
const SCAN: u64 = 60 * SECOND;
/// Silences that differ by less than this, and by less than a tenth, are the same.
const SAME_SILENCE_MS: f64 = 100.0;
/// Ports of a peer that are remembered, and connections to one place.
const KEPT: usize = 16;

/// What is remembered.
pub(super) struct Memory {
    peers: LruCache<(NamespaceId, IpAddr), Peer>,
    places: LruCache<(NamespaceId, Endpoint), Place>,
    probes: LruCache<(NamespaceId, IpAddr, u16), Repeated>,
    processes: LruCache<(u32, u64), Repeated>,
    listeners: LruCache<(NamespaceId, u16), u64>,
}

/// Another host.
#[derive(Default)]
struct Peer {
    ttl: Option<u8>,
    rtt_us: Option<u32>,
    closed_ports: Vec<u16>,
    closed_ports_since: u64,
}

/// An address and port to which this host connects.
#[derive(Default)]
struct Place {
    /// The newest last.
    broken: Vec<Broken>,
    newborn: Vec<u64>,
    refused: u64,
    first_data: u32,
    first_data_since: u64,
}

/// A connection that broke.
struct Broken {
    at: u64,
    /// Milliseconds that it had been open, and silent.
    age_ms: Option<f64>,
    silence_ms: Option<f64>,
}

/// Something that happens again and again.
#[derive(Default)]
struct Repeated {
    count: u32,
    last: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { peers: cache(), places: cache(), probes: cache(), processes: cache(), listeners: cache() }
    }
}

fn cache<K: Hash + Eq, V>() -> LruCache<K, V> {
    LruCache::new(NonZeroUsize::new(ENTRIES).unwrap_or(NonZeroUsize::MIN))
}

impl Memory {
    /// Tells a reset of those before it, and remembers it.
    pub(super) fn introduce(&mut self, reset: &mut Reset) {
        let neighbours = match reset.direction {
            Direction::Sent => self.sent(reset),
            Direction::Received => self.received(reset),
        };
        reset.facts.neighbours = neighbours;
    }

    fn sent(&mut self, reset: &Reset) -> Neighbours {
        let mut neighbours = Neighbours::default();
        let now = reset.facts.ktime_ns;
        let netns = reset.namespace();
        let listener = (netns, reset.local.port);
        if let Some(packet) = reset.provoked_by {
            let peer = self.peers.get_or_insert_mut((netns, reset.peer.address), Peer::default);
            peer.ttl = Some(packet.ttl);
            if reset.socket.is_none() && packet.flags.0 & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN {
                neighbours.closed_ports = peer.try_port(reset.local.port, now);
            }
            neighbours.listener_gone_ms = self.listeners.get(&listener).map(|&gone| ms(now, gone));
            return neighbours;
        }
        let facts = &reset.facts;
        if facts.raw_state == tcp::CLOSE && (facts.holder_exiting || facts.orphan && facts.holder.is_none()) {
            self.listeners.put(listener, now);
        }
        if let Some(task) = facts.holder.as_ref().or(facts.owner.as_ref()) {
            let process = self.processes.get_or_insert_mut((task.tgid, task.start_boottime_ns), Repeated::default);
            neighbours.same_process = process.again(now, 0, AT_ONCE);
        }
        neighbours
    }

    fn received(&mut self, reset: &Reset) -> Neighbours {
        let mut neighbours = Neighbours::default();
        let Some(story) = Story::of(reset) else { return neighbours };
        let now = reset.facts.ktime_ns;
        let netns = reset.namespace();

        let peer = self.peers.get_or_insert_mut((netns, reset.peer.address), Peer::default);
        (neighbours.peer_ttl, neighbours.peer_rtt_us) = (peer.ttl, peer.rtt_us);
        if let Some(ttl) = reset.packet.as_ref().and_then(|packet| packet.handshake_ttl) {
            peer.ttl = Some(ttl);
        }
        if let Some(rtt) = story.socket.rtt_us {
            peer.rtt_us = Some(peer.rtt_us.map_or(rtt, |shortest| shortest.min(rtt)));
        }

        if story.is(Role::Server) {
            if story.wordless() {
                let key = (netns, reset.peer.address, reset.local.port);
                let probes = self.probes.get_or_insert_mut(key, Repeated::default);
                neighbours.probe_gap_ms = ms(now, probes.last);
                neighbours.probes = probes.again(now, PROBE_GAP, LONG);
            }
        } else {
            self.places.get_or_insert_mut((netns, reset.peer), Place::default).meet(story, now, &mut neighbours);
        }
        neighbours
    }
}

impl Peer {
    /// Notes a closed port that the peer has tried; how many different ones it were lately.
    fn try_port(&mut self, port: u16, now: u64) -> u32 {
        if now.saturating_sub(self.closed_ports_since) > SCAN {
            self.closed_ports.clear();
            self.closed_ports_since = now;
        }
        if !self.closed_ports.contains(&port) && self.closed_ports.len() < KEPT {
            self.closed_ports.push(port);
        }
        count(self.closed_ports.len())
    }
}

impl Place {
    fn meet(&mut self, story: Story<'_>, now: u64, neighbours: &mut Neighbours) {
        self.broken.retain(|broken| now.saturating_sub(broken.at) <= SECOND);
        self.newborn.retain(|&at| now.saturating_sub(at) <= SECOND);
        if story.state() == tcp::SYN_SENT {
            self.refused = now;
            neighbours.refused_ms = self.broken.last().map(|broken| ms(now, broken.at));
            return;
        }
        let own = Broken { at: now, age_ms: story.socket.age_ms, silence_ms: story.telling_silence_ms() };
        neighbours.refused_ms = (self.refused != 0).then(|| ms(now, self.refused)).filter(|&ago| own.was_open(ago));

        neighbours.newborn = count(self.newborn.len());
        neighbours.first_data = self.first_data;
        neighbours.first_data_since_ms = ms(now, self.first_data_since);
        if story.has_sent() && !story.has_received() && story.answers_our_send() {
            if self.first_data == 0 || now.saturating_sub(self.first_data_since) > LONG {
                (self.first_data, self.first_data_since) = (0, now);
            }
            self.first_data = self.first_data.saturating_add(1);
        } else if story.has_received() {
            // The place does let data through.
            self.first_data = 0;
        }

        for other in self.broken.iter().filter(|other| own.broke_with(other)) {
            let gap = ms(now, other.at);
            neighbours.broken += 1;
            neighbours.broken_since_ms = neighbours.broken_since_ms.max(gap);
            if now.saturating_sub(other.at) <= AT_ONCE {
                neighbours.broken_at_once += 1;
                neighbours.silent_otherwise += u32::from(!same(own.silence_ms, other.silence_ms));
            }
        }

        if story.newborn() {
            keep(&mut self.newborn, now);
        } else if story.in_use() && !(story.order() == Order::FinFirst && story.in_flight()) {
            keep(&mut self.broken, own);
        }
    }
}

impl Broken {
    /// It was open so many milliseconds ago. One of unknown age was open before the start.
    fn was_open(&self, ago_ms: f64) -> bool {
        self.age_ms.is_none_or(|age| age > ago_ms)
    }

    /// Both broke by one event: both were open when the first of them broke, and they differ in their silence, or more in
    /// age than in the moment of breaking. Connections that break each at its own pace, say on their first request, are of
    /// one age, and those that break by one timeout have been silent for as long.
    fn broke_with(&self, earlier: &Self) -> bool {
        let gap = ms(self.at, earlier.at);
        let ages_differ = match (self.age_ms, earlier.age_ms) {
            (Some(one), Some(other)) => (one - other).abs() > 4.0 * gap,
            _ => true,
        };
        self.was_open(gap) && (ages_differ || !same(self.silence_ms, earlier.silence_ms))
    }
}

impl Repeated {
    /// Notes that it has happened again; how often before, at a distance between these two.
    fn again(&mut self, now: u64, shortest: u64, longest: u64) -> u32 {
        let gap = now.saturating_sub(self.last);
        let before = if self.last != 0 && (shortest..=longest).contains(&gap) { self.count } else { 0 };
        (self.count, self.last) = (before.saturating_add(1), now);
        before
    }
}

/// Appends, and forgets the oldest when there are many.
fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() == KEPT {
        list.remove(0);
    }
    list.push(item);
}

fn same(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= SAME_SILENCE_MS.max(one.min(other) / 10.0),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Milliseconds between two moments.
fn ms(now: u64, then: u64) -> f64 {
    std::time::Duration::from_nanos(now.saturating_sub(then)).as_secs_f64() * 1e3
}
