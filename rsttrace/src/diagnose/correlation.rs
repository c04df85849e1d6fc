//! Correlation of a reset with earlier ones, from a bounded cache.

use std::{hash::Hash, net::IpAddr, num::NonZeroUsize};

use lru::LruCache;
use rsttrace_common::abi::{tcp, tcp_flag};

use super::{
    burst::{Burst, Place},
    client_ended,
    connection_view::{FinOrder, ReceivedReset},
};
use crate::{
    model::internals::{Correlation, OwnerExit},
    model::{Direction, Endpoint, NamespaceId, Reset, Role},
    util::set_table::SetTable,
};

/// Entries of each kind, the least recently used removed first.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Connections that were reset.
const CONNECTIONS: usize = 2048;

const MS_NS: u64 = 1_000_000;
pub(super) const SECOND_NS: u64 = 1_000 * MS_NS;
/// Longest time in which connections that break together break, nanoseconds.
pub(super) const AT_ONCE_NS: u64 = 100 * MS_NS;
/// Shortest interval between two health checks, nanoseconds. Faster ones are a burst.
const PROBE_GAP_MIN_NS: u64 = 100 * MS_NS;
/// Longest interval between two health checks, and longest time over which resets on first data are counted,
/// nanoseconds.
const STREAK_MAX_NS: u64 = 600 * SECOND_NS;
/// Time over which the ports of a scan are counted, nanoseconds.
const SCAN_NS: u64 = 60 * SECOND_NS;
/// Largest difference of two equal idle times, milliseconds, if a tenth of the shorter one is not more.
const EQUAL_IDLE_MS: f64 = 100.0;
/// Closed ports kept of one peer, and broken connections of one destination.
const HISTORY_MAX: usize = 16;
/// Largest difference of two equal intervals, nanoseconds, where [`JITTER_PART`] of the interval is not more.
const JITTER_MIN_NS: u64 = 10 * MS_NS;
/// Part of an interval by which an equal one may differ.
const JITTER_PART: u64 = 50;
/// Most payload bytes of a health check in one direction.
pub(super) const CHECK_MAX_BYTES: u64 = 1_000;
/// Longest age of a health check's connection, milliseconds.
pub(super) const CHECK_MAX_MS: f64 = 5_000.0;

/// Cache of recent resets. All times in it are nanoseconds of `CLOCK_MONOTONIC`.
pub(super) struct RecentResets {
    peers: LruCache<(NamespaceId, IpAddr), PeerHost>,
    destinations: LruCache<(NamespaceId, Endpoint), PeerDestination>,
    /// Connections without data by peer and local port.
    probes: LruCache<(NamespaceId, IpAddr, u16), Streak>,
    /// Resets by PID and start time of the process.
    processes: LruCache<(u32, u64), ProcessResets>,
    /// Ends of connections by the client's address and this host's port.
    clients: LruCache<(NamespaceId, IpAddr, u16), Burst>,
    /// Time at which the listener of a local port was gone.
    listeners: LruCache<(NamespaceId, u16), u64>,
    /// Connections that were reset, by their two ends.
    connections: SetTable<(NamespaceId, Endpoint, Endpoint), ConnectionReset, CONNECTIONS>,
    /// Connections of one size between two hosts.
    checks: LruCache<CheckKey, Rhythm>,
    /// Number of records so far.
    records: u64,
}

/// Reset of a connection.
struct ConnectionReset {
    /// Time of the reset.
    at: u64,
    /// Round trip, microseconds; 0 where it was not measured.
    rtt_us: u32,
    /// Whether the reset answered a segment, or left data of the peer's unread: more may have been on its way.
    peer_sends: bool,
    /// Number of its record.
    record: u64,
}

/// Namespace, direction of the reset (on one host both ends of each connection are seen), both addresses, the port of the
/// service, and the payload bytes sent and received.
type CheckKey = (NamespaceId, Direction, IpAddr, IpAddr, u16, (u64, u64));

/// Connections of one size at equal intervals.
#[derive(Default)]
struct Rhythm {
    /// Time of the last one; 0 before the first.
    last: u64,
    /// Interval before the last one; 0 before the second.
    interval: u64,
    /// Earlier ones at this interval.
    count: u32,
}

impl Rhythm {
    /// Adds a connection. Returns how many there were before, at this interval.
    fn observe(&mut self, now: u64) -> u32 {
        let interval = now.saturating_sub(self.last);
        let is_check = self.last != 0 && (PROBE_GAP_MIN_NS..=STREAK_MAX_NS).contains(&interval);
        let is_regular = is_check && interval.abs_diff(self.interval) <= JITTER_MIN_NS.max(interval / JITTER_PART);
        self.count = match () {
            () if is_regular => self.count.saturating_add(1),
            // The second has an interval, and nothing to compare it with. One that is late is no end of a long series.
            () if is_check => (self.count / 2).max(1),
            () => 0,
        };
        (self.last, self.interval) = (now, if is_check { interval } else { 0 });
        self.count
    }
}

/// Resets of one process.
#[derive(Default)]
struct ProcessResets {
    closes: Streak,
    /// Ends of the connections that it had opened.
    ended: Burst,
    /// Time and exit code of its end; `None` while nothing of that was seen.
    exited: Option<(u64, Option<u32>)>,
}

/// Another host, by its address.
#[derive(Default)]
struct PeerHost {
    /// TTL of the last packet that is known to be its own.
    ttl: Option<u8>,
    /// Shortest round trip, microseconds.
    rtt_us: Option<u32>,
    /// Different closed ports that it tried since `closed_ports_since`.
    closed_ports: Vec<u16>,
    closed_ports_since: u64,
}

/// Address and port to which this host connects.
#[derive(Default)]
struct PeerDestination {
    /// Connections that broke within the last second, the newest last.
    broken: Vec<BrokenConnection>,
    /// Times at which connections broke with their handshake, within the last second.
    just_established: Vec<u64>,
    /// Time of the last refusal; 0 before the first.
    refused: u64,
    /// Connections in a row that broke on their first data, since `first_data_since`.
    first_data: u32,
    first_data_since: u64,
}

/// Connection that broke.
struct BrokenConnection {
    /// Time of its reset, or of the peer's FIN before that.
    at: u64,
    /// Time of its opening; `None` if it was open before the start of the trace.
    opened: Option<u64>,
    /// Idle time, milliseconds.
    idle_ms: Option<f64>,
    /// Whether no FIN had come: the peer aborted it.
    is_aborted: bool,
}

/// Run of events at intervals between two bounds.
#[derive(Default)]
struct Streak {
    count: u32,
    /// Time of the last event; 0 before the first.
    last: u64,
}

impl Default for RecentResets {
    fn default() -> Self {
        Self {
            peers: cache(),
            destinations: cache(),
            probes: cache(),
            processes: cache(),
            clients: cache(),
            listeners: cache(),
            connections: SetTable::default(),
            checks: cache(),
            records: 0,
        }
    }
}

fn cache<K: Hash + Eq, V>() -> LruCache<K, V> {
    LruCache::new(CAPACITY)
}

impl RecentResets {
    /// Numbers a reset, fills in its correlation with earlier ones, and remembers it. Resets have to come in the order of
    /// events.
    pub(super) fn observe(&mut self, reset: &mut Reset) {
        self.records += 1;
        reset.internals.record = self.records;
        let mut correlation = match reset.direction {
            Direction::Sent => self.observe_sent(reset),
            Direction::Received => self.observe_received(reset),
        };
        self.observe_connection(reset, &mut correlation);
        self.observe_check(reset, &mut correlation);
        reset.internals.correlation = correlation;
    }

    /// Remembers which connection was reset. One that answers a SYN belongs to no connection.
    fn observe_connection(&mut self, reset: &Reset, correlation: &mut Correlation) {
        let opens =
            reset.provoked_by.is_some_and(|packet| packet.flags.0 & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN);
        if opens || reset.internals.netfilter_hook != 0 {
            return;
        }
        let now = reset.internals.ktime_ns;
        let key = (reset.namespace(), reset.local, reset.peer.end());
        let rtt_us = reset.socket.as_ref().and_then(|socket| socket.rtt_us);
        let has_unread = reset.socket.as_ref().and_then(|socket| socket.unread_bytes).is_some_and(|bytes| bytes > 0);
        let peer_sends = reset.provoked_by.is_some() || reset.direction == Direction::Sent && has_unread;
        let record = reset.internals.record;
        let own = ConnectionReset { at: now, rtt_us: rtt_us.unwrap_or(0), peer_sends, record };
        let Some(earlier) = self.connections.insert(key, own) else { return };
        correlation.same_connection_record = earlier.record;
        // A connection that began after the other reset is a new one on the same ports.
        let age_ms = reset.socket.as_ref().and_then(|socket| socket.age_ms);
        let since = elapsed_ms(now, earlier.at);
        if age_ms.is_none_or(|age| age > since) {
            correlation.same_connection_ms = Some(since);
            correlation.same_connection_rtt_ms = f64::from(earlier.rtt_us) / 1000.0;
            correlation.same_connection_was_sending = earlier.peer_sends;
        }
        // The rest of a connection has no round trip of its own.
        if rtt_us.is_none()
            && let Some(own) = self.connections.get_mut(&key)
        {
            own.rtt_us = earlier.rtt_us;
        }
    }

    /// Compares a short connection with earlier ones between these hosts and on this service's port.
    fn observe_check(&mut self, reset: &Reset, correlation: &mut Correlation) {
        let Some(socket) = &reset.socket else { return };
        let service = match (reset.direction, socket.role) {
            (Direction::Received, Some(Role::Server)) => reset.local.port,
            (Direction::Sent, Some(Role::Client)) => reset.peer.port,
            _ => return,
        };
        let is_short = socket.age_ms.is_some_and(|age| age <= CHECK_MAX_MS);
        let (Some(sent), Some(received)) = (socket.bytes_sent, socket.bytes_received) else { return };
        if !is_short || sent.max(received) > CHECK_MAX_BYTES {
            return;
        }
        let size = (sent, received);
        let key = (reset.namespace(), reset.direction, reset.local.address, reset.peer.address, service, size);
        let rhythm = self.checks.get_or_insert_mut(key, Rhythm::default);
        correlation.checks = rhythm.observe(reset.internals.ktime_ns);
        correlation.check_interval_ms = elapsed_ms(rhythm.interval, 0);
    }

    fn observe_sent(&mut self, reset: &Reset) -> Correlation {
        let mut correlation = Correlation::default();
        let now = reset.internals.ktime_ns;
        let netns = reset.namespace();
        let listener = (netns, reset.local.port);
        if let Some(packet) = reset.provoked_by {
            let peer = self.peers.get_or_insert_mut((netns, reset.peer.address), PeerHost::default);
            peer.ttl = Some(packet.ttl);
            if reset.socket.is_none() && packet.flags.0 & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN {
                correlation.closed_ports = peer.try_port(reset.local.port, now);
            }
            correlation.listener_gone_ms = self.listeners.get(&listener).map(|&gone| elapsed_ms(now, gone));
        } else {
            let internals = &reset.internals;
            if internals.raw_state == tcp::CLOSE
                && (internals.holder_exiting || internals.orphan && internals.holder.is_none())
            {
                self.listeners.put(listener, now);
            }
        }
        self.observe_process(reset, &mut correlation);
        correlation
    }

    /// Compares a sent reset with others of the process that closed the connection.
    fn observe_process(&mut self, reset: &Reset, correlation: &mut Correlation) {
        let internals = &reset.internals;
        let (now, is_answer) = (internals.ktime_ns, reset.provoked_by.is_some());
        let holder = internals.holder.as_ref().filter(|_| !is_answer);
        let Some(task) = holder.or(internals.owner.as_ref()) else { return };
        let end = client_ended::own_end(reset);
        let key = (task.tgid, task.start_boottime_ns);
        if is_answer && end.is_none() {
            let exited = self.processes.get(&key).and_then(|process| process.exited);
            correlation.owner_exited = exited.map(|(at, code)| OwnerExit { since_ms: elapsed_ms(now, at), code });
            return;
        }
        let process = self.processes.get_or_insert_mut(key, ProcessResets::default);
        if !is_answer {
            correlation.same_process = process.closes.observe(now, 0, AT_ONCE_NS);
            if internals.holder_exiting {
                process.exited = Some((now, internals.exit_code));
            }
        }
        if let Some(end) = end {
            correlation.set_burst(process.ended.observe(&end));
        }
    }

    fn observe_received(&mut self, reset: &Reset) -> Correlation {
        let mut correlation = Correlation::default();
        let Some(view) = ReceivedReset::of(reset) else { return correlation };
        let now = reset.internals.ktime_ns;
        let netns = reset.namespace();

        let peer = self.peers.get_or_insert_mut((netns, reset.peer.address), PeerHost::default);
        (correlation.peer_ttl, correlation.peer_rtt_us) = (peer.ttl, peer.rtt_us);
        if let Some(ttl) = reset.packet.as_ref().and_then(|packet| packet.handshake_ttl) {
            peer.ttl = Some(ttl);
        }
        if let Some(rtt) = view.socket.rtt_us {
            peer.rtt_us = Some(peer.rtt_us.map_or(rtt, |shortest| shortest.min(rtt)));
        }

        if view.has_role(Role::Server) {
            if view.exchanged_no_data() {
                let key = (netns, reset.peer.address, reset.local.port);
                let probes = self.probes.get_or_insert_mut(key, Streak::default);
                correlation.probe_gap_ms = elapsed_ms(now, probes.last);
                correlation.probes = probes.observe(now, PROBE_GAP_MIN_NS, STREAK_MAX_NS);
            }
            if let Some(end) = client_ended::peers_end(reset) {
                let key = (netns, reset.peer.address, reset.local.port);
                correlation.set_burst(self.clients.get_or_insert_mut(key, Burst::default).observe(&end));
            }
        } else {
            let destination = self.destinations.get_or_insert_mut((netns, reset.peer.end()), PeerDestination::default);
            destination.observe(view, now, &mut correlation);
        }
        correlation
    }
}

impl PeerHost {
    /// Adds a closed port that the peer tried. Returns how many different ones it tried within [`SCAN_NS`], at most
    /// [`HISTORY_MAX`].
    fn try_port(&mut self, port: u16, now: u64) -> u32 {
        if now.saturating_sub(self.closed_ports_since) > SCAN_NS {
            self.closed_ports.clear();
            self.closed_ports_since = now;
        }
        if !self.closed_ports.contains(&port) && self.closed_ports.len() < HISTORY_MAX {
            self.closed_ports.push(port);
        }
        count(self.closed_ports.len())
    }
}

impl PeerDestination {
    fn observe(&mut self, view: ReceivedReset<'_>, now: u64, correlation: &mut Correlation) {
        self.broken.retain(|broken| now.saturating_sub(broken.at) <= SECOND_NS);
        self.just_established.retain(|&at| now.saturating_sub(at) <= SECOND_NS);
        if view.state() == tcp::SYN_SENT {
            self.refused = now;
            correlation.refused_ms = self.broken.last().map(|broken| elapsed_ms(now, broken.at));
            return;
        }
        let fin = view.socket.fin_received_ms;
        let own = BrokenConnection {
            at: before(now, fin.unwrap_or(0.0)),
            opened: view.socket.age_ms.map(|age| before(now, age)),
            idle_ms: view.relevant_idle_ms(),
            is_aborted: view.fin_order() == FinOrder::None,
        };
        let refused_ms = (self.refused != 0).then(|| elapsed_ms(now, self.refused));
        correlation.refused_ms = refused_ms.filter(|_| own.was_open(self.refused));

        correlation.newborn = count(self.just_established.len());
        correlation.first_data = self.first_data;
        correlation.first_data_since_ms = elapsed_ms(now, self.first_data_since);
        if view.has_sent() && !view.has_received() && view.answers_our_send() {
            if self.first_data == 0 || now.saturating_sub(self.first_data_since) > STREAK_MAX_NS {
                (self.first_data, self.first_data_since) = (0, now);
            }
            self.first_data = self.first_data.saturating_add(1);
        } else if view.has_received() {
            // Data got through, so no policy blocks this destination.
            self.first_data = 0;
        }

        for other in self.broken.iter().filter(|other| own.broke_together_with(other)) {
            let is_otherwise_idle = !is_equal_idle(own.idle_ms, other.idle_ms);
            correlation.broken += 1;
            correlation.broken_otherwise_idle += u32::from(is_otherwise_idle);
            correlation.broken_since_ms = correlation.broken_since_ms.max(elapsed_ms(now, other.at));
            if own.at.abs_diff(other.at) <= AT_ONCE_NS {
                correlation.broken_at_once += 1;
                correlation.silent_otherwise += u32::from(is_otherwise_idle);
                correlation.aborted_at_once += u32::from(other.is_aborted);
                correlation.aborted_otherwise += u32::from(other.is_aborted && is_otherwise_idle);
            }
        }

        if view.just_established() {
            push_bounded(&mut self.just_established, now);
        } else if (view.in_use() || view.closed_with_request())
            && !(view.fin_order() == FinOrder::BeforeSend && view.has_unacked())
        {
            push_bounded(&mut self.broken, own);
        }
    }
}

impl BrokenConnection {
    /// Returns whether it was open at this time. One of unknown age was.
    fn was_open(&self, then: u64) -> bool {
        self.opened.is_none_or(|opened| opened < then)
    }

    /// Age at its end, milliseconds; `None` if it was open before the start of the trace.
    fn age_ms(&self) -> Option<f64> {
        self.opened.map(|opened| elapsed_ms(self.at, opened))
    }

    /// Returns whether one event broke both, within a second: both were open when the first of them broke, and they differ in
    /// their idle time, or more in age than in the time at which they broke. Connections that break each on its own, say on
    /// their first request, have equal ages, and those that break by one timeout have been idle for equally long.
    fn broke_together_with(&self, earlier: &Self) -> bool {
        let gap = self.at.abs_diff(earlier.at);
        let gap_ms = elapsed_ms(gap, 0);
        let ages_differ = match (self.age_ms(), earlier.age_ms()) {
            (Some(one), Some(other)) => (one - other).abs() > 4.0 * gap_ms,
            _ => true,
        };
        let was_open = self.was_open(self.at.min(earlier.at));
        gap <= SECOND_NS && was_open && (ages_differ || !is_equal_idle(self.idle_ms, earlier.idle_ms))
    }
}

impl Correlation {
    fn set_burst(&mut self, place: Place) {
        (self.ended_before, self.ended_otherwise, self.ended_since_ms) =
            (place.earlier, place.otherwise, place.since_ms);
    }
}

impl Streak {
    /// Adds an event, which begins a new streak unless the interval since the last one is between the bounds, in
    /// nanoseconds. Returns the number of earlier events in the streak.
    fn observe(&mut self, now: u64, shortest: u64, longest: u64) -> u32 {
        let gap = now.saturating_sub(self.last);
        let before = if self.last != 0 && (shortest..=longest).contains(&gap) { self.count } else { 0 };
        (self.count, self.last) = (before.saturating_add(1), now);
        before
    }
}

/// Appends an item, and removes the oldest if there would be more than [`HISTORY_MAX`].
pub(super) fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() == HISTORY_MAX {
        list.remove(0);
    }
    list.push(item);
}

/// Returns whether two idle times, in milliseconds, are equal within the tolerance. Unknown ones are equal to each
/// other.
pub(super) fn is_equal_idle(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= EQUAL_IDLE_MS.max(one.min(other) / 10.0),
        (one, other) => one.is_none() && other.is_none(),
    }
}

pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Milliseconds between two times in nanoseconds.
pub(super) fn elapsed_ms(now: u64, then: u64) -> f64 {
    std::time::Duration::from_nanos(now.saturating_sub(then)).as_secs_f64() * 1e3
}

/// The time this many milliseconds before a time in nanoseconds.
pub(super) fn before(now: u64, ms: f64) -> u64 {
    let ago = std::time::Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
    now.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))
}
