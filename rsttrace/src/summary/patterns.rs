//! Patterns over many resets: idle times that cluster, causes that recur at regular intervals, and bursts. The memory
//! is bounded.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroUsize, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use lru::LruCache;

use crate::{
    diagnose::{
        connection_view::{FinOrder, ReceivedReset},
        timeouts::{TimeoutOwner, Timeouts},
    },
    model::{Endpoint, FinOrderCounts, IdleCluster, IdleKind, Reset, Rhythm, Role, Summary},
    summary::{
        first_victims::HEALTH_PROBE,
        harm::Harmed,
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
/// Longest pauses between resets of one occurrence, nanoseconds. An occurrence goes on until the next longer pause: the first for
/// single resets, the second for occurrences of several, such as an attempt at each backend.
const SAME_OCCURRENCE_NS: [u64; 2] = [50_000_000, 500_000_000];
/// Intervals that a periodicity takes at least, and their largest deviation, relative to the mean.
const INTERVALS: (u64, f64) = (4, 0.1);
/// Longest occurrence, relative to the interval: in a steady stream no period stands out.
const OCCURRENCE_PART: f64 = 0.2;
/// Shortest interval that is a period, seconds: shorter ones are the rate of a stream.
const PERIOD_MIN_S: f64 = 0.2;
/// A burst: fewest resets, longest time between two, and longest time in all (nanoseconds). What lasts longer is a permanent state.
const BURST: (u64, u64, u64) = (5, 100_000_000, 1_000_000_000);
/// Rate of the resets of a burst, relative to that of all others, from which on it stands out.
const BURST_RATE: f64 = 5.0;
/// Most owners of timeouts that a sentence names.
const MAX_OWNERS: usize = 4;
/// Most clusters, periodicities and bursts that are reported.
const MAX_REPORTED: usize = 3;

/// State of the patterns during a run.
#[derive(Debug)]
pub(super) struct Patterns {
    idle_times: BTreeMap<(IdleKind, i32), IdleTimes>,
    periodicities: LruCache<(&'static str, Option<IpAddr>), Periodicity>,
    burst: Option<ResetBurst>,
    bursts: Vec<ResetBurst>,
    span: Span,
    pub(super) backends: HeavyHitters<Endpoint>,
    pub(super) fin_order: FinOrderCounts,
    silences: Silences,
}

/// Idle times of one step.
#[derive(Clone, Debug)]
struct IdleTimes {
    cluster: IdleCluster,
    /// Comm of the peer's process, where that is on this host and the same for all of them.
    peer: Option<Arc<str>>,
}

/// Regularity of one cause, with occurrences by each of [`SAME_OCCURRENCE_NS`].
#[derive(Debug, Default)]
struct Periodicity {
    scales: [Occurrences; 2],
    /// Occurrences before the first that had another cause, before this one was clear.
    first_victims: u64,
}

/// Occurrences, and the intervals between their beginnings by running mean and deviation.
#[derive(Debug, Default)]
struct Occurrences {
    count: u64,
    /// Begin and last reset of the last one, nanoseconds of `CLOCK_MONOTONIC`.
    began_ns: u64,
    last_ns: u64,
    /// Duration of the longest one, nanoseconds.
    longest_ns: u64,
    mean_s: f64,
    /// Sum of the squared differences from the mean (Welford's algorithm).
    spread: f64,
}

/// Time over which resets came, but those of floods, which come in records of many.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    resets: u64,
    first_ns: u64,
    last_ns: u64,
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
            span: Span::default(),
            backends: HeavyHitters::default(),
            fin_order: FinOrderCounts::default(),
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
    /// Adds a record, and what was counted as its harm. `first_victims` is the number of resets before it that belong to its burst
    /// or checks and had another cause.
    pub(super) fn observe(&mut self, reset: &Reset, harmed: Option<&Harmed>, first_victims: u64) {
        self.silences.observe(reset, harmed);
        if !silences::is_bound(reset) {
            self.observe_idle_time(reset);
        }
        self.observe_time(reset, first_victims);
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
        let peer = reset.other_end.as_ref().and_then(|other| other.process.as_ref()).map(|process| &process.comm);
        let IdleTimes { cluster, peer: known } = self.idle_times.entry((kind, step)).or_insert_with(|| IdleTimes {
            cluster: IdleCluster { kind, count: 0, from_s: seconds, to_s: seconds, matches: Vec::new() },
            peer: peer.cloned(),
        });
        cluster.count += reset.count;
        cluster.from_s = cluster.from_s.min(seconds);
        cluster.to_s = cluster.to_s.max(seconds);
        known.take_if(|known| Some(&*known) != peer);
    }

    fn observe_time(&mut self, reset: &Reset, first_victims: u64) {
        // Identical resets of a flood come in one record twice a second, which is no rhythm of theirs.
        if reset.count > 1 {
            return;
        }
        let now = reset.internals.ktime_ns;
        self.span.observe(now);
        for peer in [None, Some(reset.peer.address)] {
            let periodicity = self.periodicities.get_or_insert_mut((reset.cause.code, peer), Periodicity::default);
            periodicity.observe(now);
            if reset.cause.code == HEALTH_PROBE {
                periodicity.first_victims += first_victims;
            }
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
        let mut merged: Vec<(i32, IdleTimes)> = Vec::new();
        for (&(kind, step), times) in &self.idle_times {
            match merged.last_mut() {
                Some((last, wide)) if wide.cluster.kind == kind && step == *last + 1 => {
                    *last = step;
                    wide.cluster.count += times.cluster.count;
                    wide.cluster.to_s = times.cluster.to_s;
                    wide.peer.take_if(|peer| Some(&*peer) != times.peer.as_ref());
                }
                _ => merged.push((step, times.clone())),
            }
        }
        let total: u64 = merged.iter().map(|(_, times)| times.cluster.count).sum();
        let is_cluster = |IdleCluster { count, .. }: &IdleCluster| *count >= MIN_CLUSTER && count * 10 >= total;
        let mut clusters: Vec<IdleCluster> = merged
            .into_iter()
            .filter(|(_, times)| is_cluster(&times.cluster) && times.cluster.is_narrow())
            .map(|(_, IdleTimes { mut cluster, peer })| {
                let middle_ms = f64::midpoint(cluster.from_s, cluster.to_s) * 1000.0;
                let rows = timeouts.matching_of(middle_ms, peer.as_deref().map(TimeoutOwner::server));
                cluster.matches = rows.map(|row| format!("{} ({} s)", row.owner, row.seconds)).collect();
                cluster
            })
            .collect();
        clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.count));
        clusters.truncate(MAX_REPORTED);
        clusters
    }

    /// The limit of silences that connections survive, as a sentence without its full stop.
    pub(super) fn silence_limit(&self) -> Option<String> {
        self.silences.limits().into_iter().next()
    }

    /// What was counted for resets that a limit of silences explains, and whose records do not know.
    pub(super) fn settled_by_silence(&self) -> Vec<&Harmed> {
        self.silences.settled()
    }

    /// One sentence for each pattern but bursts.
    pub(super) fn sentences(&self, clusters: &[IdleCluster]) -> Vec<String> {
        let mut sentences = self.silences.limits();
        sentences.extend(clusters.iter().map(IdleCluster::sentence));
        sentences.extend(self.rhythms().iter().map(Rhythm::sentence));
        sentences
    }

    /// One sentence for each burst, with the time in UTC, and that time.
    pub(super) fn burst_sentences(&self) -> Vec<(String, Timestamp)> {
        let mut bursts = self.bursts.clone();
        bursts.extend(self.burst.clone().filter(ResetBurst::is_one));
        bursts.retain(|burst| burst.stands_out(self.span));
        bursts.sort_by_key(|burst| std::cmp::Reverse(burst.count));
        bursts.iter().take(MAX_REPORTED).map(|burst| (burst.sentence(), burst.start)).collect()
    }

    /// What is regular: a cause as a whole where it is, else a cause with one peer.
    pub(super) fn rhythms(&self) -> Vec<Rhythm> {
        let even = |is_of_peer: bool| {
            self.periodicities
                .iter()
                .filter(move |((_, peer), _)| peer.is_some() == is_of_peer)
                .filter_map(|(&(code, peer), periodicity)| Some((code, peer, periodicity.period()?)))
        };
        let whole: Vec<&str> = even(false).map(|(code, ..)| code).collect();
        let mut regular: Vec<_> = even(false).chain(even(true).filter(|(code, ..)| !whole.contains(code))).collect();
        regular.sort_by_key(|(.., (_, times))| std::cmp::Reverse(*times));
        let rhythm = |(code, peer, (period_s, occurrences)): (&'static str, Option<IpAddr>, (f64, u64))| Rhythm {
            code,
            peer,
            period_s,
            occurrences,
        };
        regular.into_iter().take(MAX_REPORTED).map(rhythm).collect()
    }
}

/// Time of day of a burst with its zone, in a sentence.
fn time_of_burst(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S %Z").to_string()
}

impl Summary {
    /// The summary with its times in this zone, for text.
    #[must_use]
    pub fn in_zone(&self, zone: &TimeZone) -> Self {
        let mut summary = self.clone();
        for &(place, time) in &self.burst_times {
            if let Some(sentence) = summary.patterns.get_mut(place) {
                *sentence = sentence.replacen(&time_of_burst(time, &TimeZone::UTC), &time_of_burst(time, zone), 1);
            }
        }
        summary
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

    /// The first few owners whose timeouts the cluster matches; `None` where it matches none.
    pub(crate) fn owners(&self) -> Option<String> {
        let (first, rest) = self.matches.split_at(self.matches.len().min(MAX_OWNERS));
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        (!first.is_empty()).then(|| format!("a default of {}{more}", first.join(", ")))
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
            Some(owners) => format!("{count} resets {what} {length}, {owners}"),
            None => {
                format!("{count} resets {what} {length}; no known timeout matches (add yours with --timeouts)")
            }
        }
    }
}

impl Periodicity {
    fn observe(&mut self, now_ns: u64) {
        for (scale, pause_ns) in self.scales.iter_mut().zip(SAME_OCCURRENCE_NS) {
            scale.observe(now_ns, pause_ns);
        }
    }

    /// The interval, in seconds, and the number of occurrences; `None` where no interval stands out.
    fn period(&self) -> Option<(f64, u64)> {
        let even = self.scales.iter().find(|scale| scale.are_even())?;
        Some((even.mean_s, even.count + self.first_victims))
    }
}

impl Occurrences {
    /// Adds a reset. One that follows the last within `pause_ns` belongs to its occurrence.
    fn observe(&mut self, now_ns: u64, pause_ns: u64) {
        if self.count > 0 && now_ns.saturating_sub(self.last_ns) <= pause_ns {
            self.last_ns = self.last_ns.max(now_ns);
            self.longest_ns = self.longest_ns.max(self.last_ns.saturating_sub(self.began_ns));
            return;
        }
        if self.count > 0 {
            let seconds = seconds(now_ns.saturating_sub(self.began_ns));
            let before = seconds - self.mean_s;
            self.mean_s += before / self.intervals_with(1);
            self.spread += before * (seconds - self.mean_s);
        }
        self.count += 1;
        (self.began_ns, self.last_ns) = (now_ns, now_ns);
    }

    /// Number of intervals so far, plus `more`.
    const fn intervals_with(&self, more: u64) -> f64 {
        number(self.count.saturating_sub(1) + more)
    }

    /// Whether they come at equal intervals, and are short beside these.
    fn are_even(&self) -> bool {
        let deviation = (self.spread / self.intervals_with(0).max(1.0)).sqrt();
        self.count > INTERVALS.0
            && self.mean_s >= PERIOD_MIN_S
            && deviation <= self.mean_s * INTERVALS.1
            && seconds(self.longest_ns) <= self.mean_s * OCCURRENCE_PART
    }
}

impl Span {
    fn observe(&mut self, now_ns: u64) {
        self.first_ns = if self.resets == 0 { now_ns } else { self.first_ns.min(now_ns) };
        self.last_ns = self.last_ns.max(now_ns);
        self.resets += 1;
    }
}

/// Nanoseconds as seconds.
const fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "no run has so many resets")]
const fn number(count: u64) -> f64 {
    count as f64
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

    fn is_one(&self) -> bool {
        self.count >= BURST.0 && self.last_ns.saturating_sub(self.start_ns) <= BURST.2
    }

    /// Whether its resets come much faster than all others: a part of a steady stream is no burst.
    fn stands_out(&self, all: Span) -> bool {
        let length_ns = self.last_ns.saturating_sub(self.start_ns);
        let rest_ns = all.last_ns.saturating_sub(all.first_ns).saturating_sub(length_ns);
        let others = all.resets.saturating_sub(self.count);
        number(self.count) * seconds(rest_ns) >= BURST_RATE * number(others) * seconds(length_ns)
    }

    fn sentence(&self) -> String {
        let Self { start, count, peer, code, .. } = self;
        let time = time_of_burst(*start, &TimeZone::UTC);
        let length = seconds(self.last_ns.saturating_sub(self.start_ns));
        let with = peer.map_or_else(|| "several peers".to_owned(), |peer| peer.to_string());
        let what = code.map_or_else(String::new, |code| format!(", all {code}"));
        format!("{count} resets within {} at {time}, with {with}{what}", human_duration(length * 1000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The period of resets at these milliseconds, in milliseconds and how often.
    fn period(times_ms: impl IntoIterator<Item = u64>) -> Option<(f64, u64)> {
        let mut periodicity = Periodicity::default();
        times_ms.into_iter().for_each(|ms| periodicity.observe((1 + ms) * 1_000_000));
        periodicity.period().map(|(mean_s, times)| ((mean_s * 1e3).round(), times))
    }

    /// Irregular steps between a tenth and two of the mean, milliseconds.
    fn irregular(count: u64, mean: u64) -> impl Iterator<Item = u64> {
        let mut at = 0;
        (0..count).map(move |number| {
            at += mean * (1 + number * 7 % 20) / 10;
            at
        })
    }

    #[test]
    fn periods_are_told_where_they_stand_out() {
        assert_eq!(period((0..10).map(|number| number * 5_000)), Some((5_000.0, 10)));
        // A health check, also a fast one.
        assert_eq!(period((0..30).map(|number| number * 300 + number % 3)), Some((300.0, 30)));
        // A loop that tries three backends, each a while after the other.
        let tries = (0..10).flat_map(|number| [0, 300, 600].map(|ms| number * 5_000 + ms));
        assert_eq!(period(tries), Some((5_000.0, 10)));
    }

    #[test]
    fn a_steady_stream_has_no_period() {
        for gap in [1, 10, 49, 51, 100, 199] {
            assert_eq!(period((0..3_000).map(|number| number * gap)), None, "{gap}");
        }
        for mean in [5, 30, 60, 200, 700] {
            assert_eq!(period(irregular(2_000, mean)), None, "{mean}");
        }
        // Half of the time something is wrong.
        let phases = (0..10).flat_map(|number| (0..50).map(move |step| number * 5_000 + step * 50));
        assert_eq!(period(phases), None);
    }
}
