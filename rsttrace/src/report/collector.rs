//! What a report needs of the records, taken as they come, in bounded memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    fault_counts::FaultCounts,
    kept::{KeptIncident, KeptIncidents},
    signs::CommonSigns,
    time_bins::{Merge, TimeBins},
};
use crate::{
    model::{CounterCoverage, Direction, Endpoint, Fault, Mark, Record, RecordingHeader, Reset, Role},
    summary::{heavy_hitters::HeavyHitters, patterns},
};

/// Steps in which silences and ages are counted: 2 % and 20 %.
const SILENCE_STEP: f64 = 0.02;
const AGE_STEP: f64 = 0.2;
/// Shortest and longest times that are told apart, milliseconds.
const TIMES_MS: (f64, f64) = (0.1, 1e10);
/// Most hosts whose names are kept.
const HOSTS_MAX: usize = 16;
/// Most pairs of TTLs that are counted.
const TTLS_MAX: usize = 1024;
/// Longest name of a process that is counted, bytes.
const NAME_MAX: usize = 64;

impl Merge for FaultCounts {
    fn merge(&mut self, other: Self) {
        Self::merge(self, other);
    }
}

impl Merge for u64 {
    fn merge(&mut self, other: Self) {
        *self += other;
    }
}

/// Incidents by their silence, in steps ([`silence_step`]).
#[derive(Clone, Debug, Default)]
pub(super) struct SilenceSteps(pub(super) BTreeMap<i16, FaultCounts>);

impl Merge for SilenceSteps {
    fn merge(&mut self, other: Self) {
        for (step, counts) in other.0 {
            self.0.entry(step).or_default().merge(counts);
        }
    }
}

/// The other side of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PeerKey {
    /// A service that this host uses.
    Service(Endpoint),
    /// A client of this port of this host.
    Client(IpAddr, u16),
}

impl PeerKey {
    pub(super) fn of(reset: &Reset) -> Self {
        match reset.role() {
            Some(Role::Client) => Self::Service(reset.peer.end()),
            _ => Self::Client(reset.peer.address, reset.local.port),
        }
    }
}

/// Counts of what recorders have left beside the records.
#[derive(Clone, Debug, Default)]
pub(super) struct RecorderSigns {
    /// The last header of each host.
    pub(super) headers: BTreeMap<Arc<str>, Arc<RecordingHeader>>,
    /// Segments, and marks.
    pub(super) segments: u64,
    pub(super) marks: u64,
    /// Whether filters had left resets out of a recording.
    pub(super) filtered: bool,
    /// What the marks of each host tell. Those that name no host, and those of further hosts, are together under the empty name.
    pub(super) marked: BTreeMap<Arc<str>, MarkedTotals>,
    /// Largest estimated error of a wall clock, microseconds, and whether one was not synchronized.
    pub(super) clock_error_us: Option<u64>,
    pub(super) unsynchronized: bool,
}

/// What the marks of one host tell.
#[derive(Clone, Debug, Default)]
pub(super) struct MarkedTotals {
    /// Largest numbers of losses and of undelivered records that a mark has: a run lost so many at least.
    lost: u64,
    undelivered: u64,
    /// The host's counters by the last mark.
    pub(super) counters: Vec<CounterCoverage>,
}

impl RecorderSigns {
    /// Resets that the runs of all hosts lost at least.
    pub(super) fn lost(&self) -> u64 {
        self.marked.values().map(|marked| marked.lost).fold(0, u64::saturating_add)
    }

    /// Records that the recordings of all hosts could not take at least.
    pub(super) fn undelivered(&self) -> u64 {
        self.marked.values().map(|marked| marked.undelivered).fold(0, u64::saturating_add)
    }
}

/// State of a report during a run. The memory is bounded, whatever comes in.
#[derive(Clone, Default)]
pub struct ReportCollector {
    /// Times of the first and the last sign: a reset, a header or a mark.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    pub(super) hosts: BTreeSet<Arc<str>>,
    pub(super) times: TimeBins<FaultCounts>,
    pub(super) losses: TimeBins<u64>,
    pub(super) silences: TimeBins<SilenceSteps>,
    pub(super) pairs: HeavyHitters<(Arc<str>, PeerKey, Fault)>,
    pub(super) ages: BTreeMap<&'static str, BTreeMap<i16, FaultCounts>>,
    pub(super) ttls: BTreeMap<(u8, u8), FaultCounts>,
    pub(super) signs: BTreeMap<(&'static str, bool), CommonSigns>,
    pub(super) kept: KeptIncidents,
    pub(super) recorders: RecorderSigns,
    /// Records of ignored and of forwarded resets.
    pub(super) unapplied: (u64, u64),
}

impl ReportCollector {
    /// Takes a record that passed the filters.
    pub fn count(&mut self, record: &Record) {
        match record {
            Record::Reset(reset) => self.observe(reset),
            Record::Lost(lost) => *self.losses.bin(lost.time.as_millisecond()) += lost.count,
            Record::Ignored(_) => self.unapplied.0 += 1,
            Record::Forwarded(_) => self.unapplied.1 += 1,
            Record::Summary(_) => {}
        }
    }

    /// Takes the header of a segment, which may be older than what is read of it.
    pub fn header(&mut self, header: &Arc<RecordingHeader>) {
        let signs = &mut self.recorders;
        signs.segments += 1;
        signs.filtered |= header.of.filtered;
        signs.unsynchronized |= header.clock.synchronized == Some(false);
        signs.clock_error_us = signs.clock_error_us.max(header.clock.estimated_error_us);
        if signs.headers.len() < HOSTS_MAX || signs.headers.contains_key(&header.host) {
            signs.headers.insert(Arc::clone(&header.host), Arc::clone(header));
        }
    }

    /// Takes a mark.
    pub fn mark(&mut self, mark: &Mark) {
        self.see(mark.time);
        let signs = &mut self.recorders;
        signs.marks += 1;
        let host = mark.host.clone().unwrap_or_default();
        let is_kept = signs.marked.len() < HOSTS_MAX || signs.marked.contains_key(&host);
        let marked = signs.marked.entry(if is_kept { host } else { Arc::default() }).or_default();
        marked.lost = marked.lost.max(mark.lost);
        marked.undelivered = marked.undelivered.max(mark.undelivered);
        marked.counters.clone_from(&mark.counters);
    }

    /// Takes a time at which was looked for resets, such as the beginning and the end of a run.
    pub fn see(&mut self, time: Timestamp) {
        let (first, last) = self.span.get_or_insert((time, time));
        (*first, *last) = (time.min(*first), time.max(*last));
    }

    /// The newest incidents that are held in full, the newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &KeptIncident> {
        self.kept.newest()
    }

    /// Names of the hosts, of which at most sixteen are kept. Untrusted.
    pub(crate) fn host_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.hosts.iter().chain(self.recorders.headers.keys()).map(|name| &**name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn observe(&mut self, reset: &Arc<Reset>) {
        self.see(reset.time);
        if self.hosts.len() < HOSTS_MAX && !self.hosts.contains(&reset.host) {
            self.hosts.insert(Arc::clone(&reset.host));
        }
        self.kept.add(reset);
        if !reset.begins_incident() {
            return;
        }
        let (fault, count) = (reset.cause.fault, reset.count);
        let time_ms = reset.time.as_millisecond();
        self.times.bin(time_ms).add(fault, count);
        if let Some(step) = silence_ms(reset).map(silence_step) {
            self.silences.bin(time_ms).0.entry(step).or_default().add(fault, count);
        }
        self.pairs.count((process_name(reset), PeerKey::of(reset), fault), count);
        if let Some(age_ms) = reset.socket.as_ref().and_then(|socket| socket.age_ms) {
            let ages = self.ages.entry(reset.cause.code).or_default();
            ages.entry(step_of(age_ms, AGE_STEP)).or_default().add(fault, count);
        }
        if let Some((ttl, own)) = reset.packet.as_ref().and_then(|packet| Some((packet.ttl, packet.handshake_ttl?)))
            && (self.ttls.len() < TTLS_MAX || self.ttls.contains_key(&(own, ttl)))
        {
            self.ttls.entry((own, ttl)).or_default().add(fault, count);
        }
        if fault != Fault::None {
            let key = (reset.cause.code, reset.direction == Direction::Sent);
            self.signs.entry(key).or_default().observe(reset);
        }
    }
}

/// Name of the owner, cut; `-` where it is not known.
pub(crate) fn process_name(reset: &Reset) -> Arc<str> {
    let Some(process) = &reset.process else { return "-".into() };
    let name = &process.comm;
    if name.len() <= NAME_MAX { Arc::clone(name) } else { name[..name.floor_char_boundary(NAME_MAX)].into() }
}

/// Silence before a reset, milliseconds: of a received one that which a timeout would match, of a sent one the time since data
/// were last sent either way. `None` where it is not known.
pub(crate) fn silence_ms(reset: &Reset) -> Option<f64> {
    if let Some((_, silence)) = patterns::silence_of(reset) {
        return Some(silence);
    }
    if reset.direction == Direction::Received {
        return None;
    }
    let socket = reset.socket.as_ref()?;
    match (socket.since_send_ms, socket.since_receive_ms) {
        (Some(send), Some(receive)) => Some(send.min(receive)),
        (one, other) => one.or(other),
    }
}

/// Step of a silence, milliseconds.
pub(super) fn silence_step(ms: f64) -> i16 {
    step_of(ms, SILENCE_STEP)
}

/// Middle of a step of silences, milliseconds.
pub(super) fn silence_of_step(step: i16) -> f64 {
    ((f64::from(step) + 0.5) * SILENCE_STEP).exp()
}

/// Beginning and end of a step of ages, milliseconds.
pub(super) fn ages_of_step(step: i16) -> (f64, f64) {
    ((f64::from(step) * AGE_STEP).exp(), (f64::from(step + 1) * AGE_STEP).exp())
}

fn step_of(ms: f64, width: f64) -> i16 {
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of at most 10 digits is small")]
    let step = (ms.clamp(TIMES_MS.0, TIMES_MS.1).ln() / width).floor() as i16;
    step
}
