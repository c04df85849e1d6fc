//! Patterns over many resets: idle times that cluster, causes that recur at regular intervals, and bursts. The memory
//! is bounded.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroUsize};

use jiff::Timestamp;
use lru::LruCache;

use crate::{
    diagnose::{
        connection_view::{FinOrder, ReceivedReset},
        timeouts::Timeouts,
    },
    model::{Endpoint, FinOrderCounts, IdleCluster, IdleKind, Reset, Rhythm, Role},
    summary::{
        heavy_hitters::HeavyHitters,
        silences::{self, Silences},
    },
    util::human_duration,
};

/// Fewest resets of a cluster.
const MIN_CLUSTER: u64 = 3;
/// Width of the steps in which idle times are counted: 2 %.
const STEP: f64 = 0.02;
/// Widest cluster of idle times: relative to the shortest, or in milliseconds.
const MAX_CLUSTER_WIDTH: (f64, f64) = (0.1, 1_000.0);
/// Most causes and peers whose intervals are measured.
const MAX_PERIODICITIES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Resets of one cause within this time are one occurrence.
const SAME_OCCURRENCE_NS: u64 = 500_000_000;
/// Intervals that a periodicity takes at least, and their largest deviation, relative to the mean.
const INTERVALS: (u64, f64) = (4, 0.1);
/// A burst: fewest resets, longest time between two, and longest time in all (nanoseconds).
const BURST: (u64, u64, u64) = (5, 100_000_000, 10_000_000_000);
/// Most owners of timeouts that a sentence names.
const MAX_OWNERS: usize = 4;
/// Most clusters, periodicities and bursts that are reported.
const MAX_REPORTED: usize = 3;

/// State of the patterns during a run.
#[derive(Debug)]
pub(super) struct Patterns {
    idle_times: BTreeMap<(IdleKind, i32), IdleCluster>,
    periodicities: LruCache<(&'static str, Option<IpAddr>), Periodicity>,
    burst: Option<ResetBurst>,
    bursts: Vec<ResetBurst>,
    pub(super) backends: HeavyHitters<Endpoint>,
    pub(super) fin_order: FinOrderCounts,
    /// Resets of each cause that only a burst shows, and those before them that turned out to belong to it.
    by_burst: BTreeMap<&'static str, (u64, u64)>,
    silences: Silences,
}

/// Regularity of the occurrences of one cause, by running mean and deviation.
#[derive(Debug, Default)]
struct Periodicity {
    occurrences: u64,
    last_ns: u64,
    mean_s: f64,
    /// Sum of the squared differences from the mean (Welford's algorithm).
    spread: f64,
}

/// Resets in quick succession.
#[derive(Clone, Debug)]
struct ResetBurst {
    start: Timestamp,
    start_ns: u64,
    last_ns: u64,
    count: u64,
    /// The only peer and the only cause; `None` where there are several.
    peer: Option<IpAddr>,
    code: Option<&'static str>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            idle_times: BTreeMap::new(),
            periodicities: LruCache::new(MAX_PERIODICITIES),
            burst: None,
            bursts: Vec::new(),
            backends: HeavyHitters::default(),
            fin_order: FinOrderCounts::default(),
            by_burst: BTreeMap::new(),
            silences: Silences::default(),
        }
    }
}

/// The silence before a received reset of a connection in use, which a timeout would match, milliseconds. `None` where it is
/// not known, and for other resets.
pub(crate) fn silence_of(reset: &Reset) -> Option<(IdleKind, f64)> {
    let is_used = |view: &ReceivedReset<'_>| view.in_use() || view.closed_with_request();
    let view = ReceivedReset::of(reset).filter(is_used)?;
    let (kind, silence) = if view.request_outstanding() && !view.answers_our_send() {
        (IdleKind::Waiting, view.idle_ms())
    } else if view.has_unacked() {
        (IdleKind::BeforeSend, view.relevant_idle_ms())
    } else {
        (IdleKind::Idle, view.idle_ms())
    };
    Some((kind, silence?))
}

impl Patterns {
    /// Adds a record. `first_victims` is the number of resets before it that belong to its burst and had another cause.
    pub(super) fn observe(&mut self, reset: &Reset, first_victims: u64) {
        self.silences.observe(reset);
        if !silences::is_bound(reset) {
            self.observe_idle_time(reset);
        }
        self.observe_time(reset);
        if matches!(reset.cause.code, "peer-restarted" | "client-ended" | "health-probe") {
            let (known, first) = self.by_burst.entry(reset.cause.code).or_default();
            *known += reset.count;
            *first += first_victims;
        }
        let is_used = |view: &ReceivedReset<'_>| view.in_use() || view.closed_with_request();
        let Some(view) = ReceivedReset::of(reset).filter(|view| view.has_role(Role::Client) && is_used(view)) else {
            return;
        };
        self.backends.count(reset.peer.end(), reset.count);
        let order = match view.fin_order() {
            FinOrder::BeforeSend => &mut self.fin_order.fin_first,
            FinOrder::AfterSend => &mut self.fin_order.send_first,
            FinOrder::None => &mut self.fin_order.no_fin,
        };
        *order += reset.count;
    }

    fn observe_idle_time(&mut self, reset: &Reset) {
        let Some((kind, ms)) = silence_of(reset).filter(|&(_, silence)| silence >= 900.0) else { return };
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of seconds is small")]
        let step = ((ms / 1000.0).ln() / STEP).floor() as i32;
        let seconds = ms / 1000.0;
        let cluster = self.idle_times.entry((kind, step)).or_insert(IdleCluster {
            kind,
            count: 0,
            from_s: seconds,
            to_s: seconds,
            matches: Vec::new(),
        });
        cluster.count += reset.count;
        cluster.from_s = cluster.from_s.min(seconds);
        cluster.to_s = cluster.to_s.max(seconds);
    }

    fn observe_time(&mut self, reset: &Reset) {
        // Identical resets of a flood come in one record twice a second, which is no rhythm of theirs.
        if reset.count > 1 {
            return;
        }
        let now = reset.internals.ktime_ns;
        for peer in [None, Some(reset.peer.address)] {
            self.periodicities.get_or_insert_mut((reset.cause.code, peer), Periodicity::default).observe(now);
        }
        match &mut self.burst {
            Some(burst) if now.saturating_sub(burst.last_ns) <= BURST.1 => burst.grow(reset),
            _ => {
                self.end_burst();
                self.burst = Some(ResetBurst::of(reset));
            }
        }
    }

    fn end_burst(&mut self) {
        self.bursts.extend(self.burst.take().filter(ResetBurst::is_one));
        self.bursts.sort_by_key(|burst| std::cmp::Reverse(burst.count));
        self.bursts.truncate(MAX_REPORTED);
    }

    /// Clusters of idle times, the largest first.
    pub(super) fn clusters(&self, timeouts: &Timeouts) -> Vec<IdleCluster> {
        let mut merged: Vec<(i32, IdleCluster)> = Vec::new();
        for (&(kind, step), cluster) in &self.idle_times {
            match merged.last_mut() {
                Some((last, wide)) if wide.kind == kind && step == *last + 1 => {
                    *last = step;
                    wide.count += cluster.count;
                    wide.to_s = cluster.to_s;
                }
                _ => merged.push((step, cluster.clone())),
            }
        }
        let total: u64 = merged.iter().map(|(_, cluster)| cluster.count).sum();
        let mut clusters: Vec<IdleCluster> = merged
            .into_iter()
            .map(|(_, cluster)| cluster)
            .filter(|cluster| cluster.count >= MIN_CLUSTER && cluster.count * 10 >= total && cluster.is_narrow())
            .collect();
        for cluster in &mut clusters {
            let middle = f64::midpoint(cluster.from_s, cluster.to_s);
            cluster.matches =
                timeouts.matching(middle * 1000.0).map(|row| format!("{} ({} s)", row.owner, row.seconds)).collect();
        }
        clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.count));
        clusters.truncate(MAX_REPORTED);
        clusters
    }

    /// The limit of silences that connections survive, as a sentence without its full stop.
    pub(super) fn silence_limit(&self) -> Option<String> {
        self.silences.limit()
    }

    /// One sentence for each pattern.
    pub(super) fn sentences(&self, clusters: &[IdleCluster]) -> Vec<String> {
        let mut sentences: Vec<String> = self.silences.limit().into_iter().collect();
        sentences.extend(clusters.iter().map(IdleCluster::sentence));
        sentences.extend(self.rhythms().iter().map(Rhythm::sentence));
        let mut bursts = self.bursts.clone();
        bursts.extend(self.burst.clone().filter(ResetBurst::is_one));
        bursts.sort_by_key(|burst| std::cmp::Reverse(burst.count));
        sentences.extend(bursts.iter().take(MAX_REPORTED).map(ResetBurst::sentence));
        sentences.extend(self.by_burst.iter().filter(|(_, (_, first))| *first > 0).map(|(code, (known, first))| {
            let all = known + first;
            format!("{code} is really {all}, not {known}: the first were shown before that was clear")
        }));
        sentences
    }

    /// What is regular: a cause as a whole where it is, else a cause with one peer.
    pub(super) fn rhythms(&self) -> Vec<Rhythm> {
        let even = |peer: bool| {
            self.periodicities
                .iter()
                .filter(move |((_, of), periodicity)| of.is_some() == peer && periodicity.is_even())
        };
        let whole: Vec<&str> = even(false).map(|(&(code, _), _)| code).collect();
        let mut regular: Vec<_> =
            even(false).chain(even(true).filter(|((code, _), _)| !whole.contains(code))).collect();
        regular.sort_by_key(|(_, periodicity)| std::cmp::Reverse(periodicity.occurrences));
        let rhythm = |(&(code, peer), periodicity): (&(&'static str, Option<IpAddr>), &Periodicity)| Rhythm {
            code,
            peer,
            period_s: periodicity.mean_s,
            occurrences: periodicity.occurrences,
        };
        regular.into_iter().take(MAX_REPORTED).map(rhythm).collect()
    }
}

impl Rhythm {
    fn sentence(&self) -> String {
        let Self { code, peer, period_s, occurrences } = self;
        let of = peer.map_or_else(String::new, |peer| format!(" with {peer}"));
        format!("{code}{of} every {}, {occurrences} times", human_duration(period_s * 1000.0))
    }
}

impl IdleCluster {
    fn is_narrow(&self) -> bool {
        self.to_s - self.from_s <= (self.from_s * MAX_CLUSTER_WIDTH.0).max(MAX_CLUSTER_WIDTH.1 / 1000.0)
    }

    /// The range of idle times, as `60.0 s to 60.1 s`.
    pub(crate) fn length(&self) -> String {
        let [from, to] = [self.from_s, self.to_s].map(|seconds| human_duration(seconds * 1000.0).to_string());
        if from == to { from } else { format!("{from} to {to}") }
    }

    /// The first few timeouts that the cluster matches; `None` where it matches none.
    pub(crate) fn owners(&self) -> Option<String> {
        let (first, rest) = self.matches.split_at(self.matches.len().min(MAX_OWNERS));
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        (!first.is_empty()).then(|| format!("{}{more}", first.join(", ")))
    }

    /// The cluster as a part of a sentence.
    pub(super) fn summary_clause(&self) -> String {
        let owners = self.owners().unwrap_or_else(|| "matches no known timeout".to_owned());
        format!("{} came after {} of silence ({owners})", self.count, self.length())
    }

    pub(crate) fn sentence(&self) -> String {
        let Self { kind, count, .. } = self;
        let length = self.length();
        let what = match kind {
            IdleKind::BeforeSend => "answered data sent after a silence of",
            IdleKind::Idle => "hit connections that had been idle for",
            IdleKind::Waiting => "ended requests that had waited for an answer for",
        };
        match self.owners() {
            Some(owners) => format!("{count} resets {what} {length}: {owners}"),
            None => {
                format!("{count} resets {what} {length}; no known timeout matches (add yours with --timeouts)")
            }
        }
    }
}

impl Periodicity {
    fn observe(&mut self, now: u64) {
        let gap = now.saturating_sub(self.last_ns);
        if self.occurrences > 0 && gap <= SAME_OCCURRENCE_NS {
            return;
        }
        if self.occurrences > 0 {
            let seconds = std::time::Duration::from_nanos(gap).as_secs_f64();
            let before = seconds - self.mean_s;
            self.mean_s += before / self.intervals_with(1);
            self.spread += before * (seconds - self.mean_s);
        }
        self.occurrences += 1;
        self.last_ns = now;
    }

    /// Number of intervals so far, plus `more`.
    fn intervals_with(&self, more: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "no run has so many occurrences")]
        let intervals = (self.occurrences.saturating_sub(1) + more) as f64;
        intervals
    }

    fn is_even(&self) -> bool {
        let deviation = (self.spread / self.intervals_with(0).max(1.0)).sqrt();
        self.occurrences > INTERVALS.0 && deviation <= self.mean_s * INTERVALS.1
    }
}

impl ResetBurst {
    fn of(reset: &Reset) -> Self {
        let now = reset.internals.ktime_ns;
        Self {
            start: reset.time,
            start_ns: now,
            last_ns: now,
            count: reset.count,
            peer: Some(reset.peer.address),
            code: Some(reset.cause.code),
        }
    }

    fn grow(&mut self, reset: &Reset) {
        self.last_ns = self.last_ns.max(reset.internals.ktime_ns);
        self.count += reset.count;
        self.peer = self.peer.filter(|&peer| peer == reset.peer.address);
        self.code = self.code.filter(|&code| code == reset.cause.code);
    }

    /// Whether the resets are a burst. What lasts longer is a permanent state.
    fn is_one(&self) -> bool {
        self.count >= BURST.0 && self.last_ns.saturating_sub(self.start_ns) <= BURST.2
    }

    fn sentence(&self) -> String {
        let Self { start, count, peer, code, .. } = self;
        let time = start.strftime("%H:%M:%S UTC");
        let length = std::time::Duration::from_nanos(self.last_ns.saturating_sub(self.start_ns)).as_secs_f64();
        let with = peer.map_or_else(|| "several peers".to_owned(), |peer| peer.to_string());
        let what = code.map_or_else(String::new, |code| format!(", all {code}"));
        format!("{count} resets within {} at {time}, with {with}{what}", human_duration(length * 1000.0))
    }
}
