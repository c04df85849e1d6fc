//! Patterns over many resets: silences that cluster, what comes at regular intervals, and what comes at once. All of it
//! in bounded memory.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroUsize};

use jiff::Timestamp;
use lru::LruCache;
use serde::Serialize;

use crate::{
    diagnose::{
        connection_view::{FinOrder, ReceivedReset},
        evidence::human_duration,
        timeouts::Timeouts,
    },
    reset::{Endpoint, Reset, Role},
    summary::top::Top,
};

/// Resets that make a pattern.
const ENOUGH: u64 = 3;
/// Silences are gathered in steps of 2 %.
const STEP: f64 = 0.02;
/// A cluster of silences is no wider than this part of them, or this many milliseconds.
const NARROW: (f64, f64) = (0.1, 1_000.0);
/// Causes and peers whose intervals are measured.
const RHYTHMS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Resets of one cause within this time are one beat.
const BEAT_NS: u64 = 500_000_000;
/// Intervals before a rhythm is believed, and how even they have to be.
const INTERVALS: (u64, f64) = (4, 0.1);
/// A burst: so many resets with no more than this time between two, all within the longest.
const BURST: (u64, u64, u64) = (5, 100_000_000, 10_000_000_000);
/// Owners of timeouts that a sentence names.
const NAMED: usize = 4;
/// Bursts and rhythms that are told.
const TOLD: usize = 3;

/// What is gathered while the run goes on.
#[derive(Debug)]
pub(super) struct Patterns {
    silences: BTreeMap<(Silence, i32), Cluster>,
    rhythms: LruCache<(&'static str, Option<IpAddr>), Rhythm>,
    burst: Option<Burst>,
    bursts: Vec<Burst>,
    pub(super) backends: Top<Endpoint>,
    pub(super) orders: Orders,
    restarts: u64,
    first_victims: u64,
}

/// Which came first on connections that this host had opened, the peer's FIN or our next data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Orders {
    /// The FIN had come before the data were sent.
    pub fin_first: u64,
    /// The data were on their way when the FIN came.
    pub crossed: u64,
    /// No FIN came: the reset was the first word.
    pub no_fin: u64,
}

/// What kind of silence there was before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Before our last send, which the reset answers.
    BeforeSend,
    /// Before the reset, nothing being under way.
    Idle,
    /// Before the reset, a request waiting for its answer.
    Waiting,
}

/// Resets after silences of about the same length.
#[derive(Clone, Debug, Serialize)]
pub struct Cluster {
    /// What kind of silence.
    pub kind: Silence,
    /// How many resets.
    pub count: u64,
    /// The shortest, in seconds.
    pub from_s: f64,
    /// The longest, in seconds.
    pub to_s: f64,
    /// Owners of known timeouts that it matches.
    pub matches: Vec<String>,
}

/// How regularly something comes.
#[derive(Debug, Default)]
struct Rhythm {
    beats: u64,
    last_ns: u64,
    mean_s: f64,
    /// Sum of the squared differences from the mean (Welford).
    spread: f64,
}

/// Resets that came together.
#[derive(Clone, Debug)]
struct Burst {
    start: Timestamp,
    start_ns: u64,
    last_ns: u64,
    count: u64,
    /// The only peer and the only cause, where there is but one.
    peer: Option<IpAddr>,
    code: Option<&'static str>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            silences: BTreeMap::new(),
            rhythms: LruCache::new(RHYTHMS),
            burst: None,
            bursts: Vec::new(),
            backends: Top::default(),
            orders: Orders::default(),
            restarts: 0,
            first_victims: 0,
        }
    }
}

impl Patterns {
    pub(super) fn see(&mut self, reset: &Reset) {
        self.see_silence(reset);
        self.see_time(reset);
        if reset.cause.code == "peer-restarted" {
            self.restarts += 1;
            // The first of a restart is told before it can be known.
            self.first_victims += u64::from(reset.facts.neighbours.broken == 1);
        }
        let Some(story) = ReceivedReset::of(reset).filter(|story| story.has_role(Role::Client) && story.in_use())
        else {
            return;
        };
        self.backends.count(reset.peer, reset.count);
        let order = match story.fin_order() {
            FinOrder::BeforeSend => &mut self.orders.fin_first,
            FinOrder::AfterSend => &mut self.orders.crossed,
            FinOrder::None => &mut self.orders.no_fin,
        };
        *order += reset.count;
    }

    fn see_silence(&mut self, reset: &Reset) {
        let Some(story) = ReceivedReset::of(reset).filter(|story| story.in_use()) else { return };
        let (kind, silence) = if story.request_outstanding() && !story.answers_our_send() {
            (Silence::Waiting, story.idle_ms())
        } else if story.has_unacked() {
            (Silence::BeforeSend, story.relevant_idle_ms())
        } else {
            (Silence::Idle, story.idle_ms())
        };
        let Some(ms) = silence.filter(|&silence| silence >= 900.0) else { return };
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of seconds is small")]
        let step = ((ms / 1000.0).ln() / STEP).floor() as i32;
        let seconds = ms / 1000.0;
        let cluster = self.silences.entry((kind, step)).or_insert(Cluster {
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

    fn see_time(&mut self, reset: &Reset) {
        let now = reset.facts.ktime_ns;
        for peer in [None, Some(reset.peer.address)] {
            self.rhythms.get_or_insert_mut((reset.cause.code, peer), Rhythm::default).beat(now);
        }
        match &mut self.burst {
            Some(burst) if now.saturating_sub(burst.last_ns) <= BURST.1 => burst.grow(reset),
            _ => {
                self.end_burst();
                self.burst = Some(Burst::of(reset));
            }
        }
    }

    fn end_burst(&mut self) {
        self.bursts.extend(self.burst.take().filter(Burst::is_one));
        self.bursts.sort_by_key(|burst| std::cmp::Reverse(burst.count));
        self.bursts.truncate(TOLD);
    }

    /// Silences that cluster, the largest cluster first.
    pub(super) fn clusters(&self, timeouts: &Timeouts) -> Vec<Cluster> {
        let mut merged: Vec<(i32, Cluster)> = Vec::new();
        for (&(kind, step), cluster) in &self.silences {
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
        let mut clusters: Vec<Cluster> = merged
            .into_iter()
            .map(|(_, cluster)| cluster)
            .filter(|cluster| cluster.count >= ENOUGH && cluster.count * 10 >= total && cluster.is_narrow())
            .collect();
        for cluster in &mut clusters {
            let middle = f64::midpoint(cluster.from_s, cluster.to_s);
            cluster.matches =
                timeouts.matching(middle * 1000.0).map(|row| format!("{} ({} s)", row.owner, row.seconds)).collect();
        }
        clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.count));
        clusters.truncate(TOLD);
        clusters
    }

    /// Each pattern in a sentence.
    pub(super) fn sentences(&self, clusters: &[Cluster]) -> Vec<String> {
        let mut sentences: Vec<String> = clusters.iter().map(Cluster::sentence).collect();
        sentences.extend(self.regular());
        let mut bursts = self.bursts.clone();
        bursts.extend(self.burst.clone().filter(Burst::is_one));
        bursts.sort_by_key(|burst| std::cmp::Reverse(burst.count));
        sentences.extend(bursts.iter().take(TOLD).map(Burst::sentence));
        if self.first_victims > 0 {
            sentences.push(format!(
                "peer-restarted stands for {} and not {} resets: the first of each restart was told before that could be known",
                self.restarts + self.first_victims,
                self.restarts
            ));
        }
        sentences
    }

    /// What comes regularly: of a cause where all of it does, else of a cause and a peer.
    fn regular(&self) -> Vec<String> {
        let even =
            |peer: bool| self.rhythms.iter().filter(move |((_, of), rhythm)| of.is_some() == peer && rhythm.is_even());
        let whole: Vec<&str> = even(false).map(|(&(code, _), _)| code).collect();
        let mut regular: Vec<_> =
            even(false).chain(even(true).filter(|((code, _), _)| !whole.contains(code))).collect();
        regular.sort_by_key(|(_, rhythm)| std::cmp::Reverse(rhythm.beats));
        let sentence = |(&(code, peer), rhythm): (&(&str, Option<IpAddr>), &Rhythm)| {
            let of = peer.map_or_else(String::new, |peer| format!(" with {peer}"));
            format!("{code}{of} every {}, {} times", human_duration(rhythm.mean_s * 1000.0), rhythm.beats)
        };
        regular.into_iter().take(TOLD).map(sentence).collect()
    }
}

impl Cluster {
    fn is_narrow(&self) -> bool {
        self.to_s - self.from_s <= (self.from_s * NARROW.0).max(NARROW.1 / 1000.0)
    }

    /// `60.0 s to 60.1 s`.
    fn length(&self) -> String {
        let [from, to] = [self.from_s, self.to_s].map(|seconds| human_duration(seconds * 1000.0).to_string());
        if from == to { from } else { format!("{from} to {to}") }
    }

    /// The first few timeouts that it matches.
    fn owners(&self) -> Option<String> {
        let (first, rest) = self.matches.split_at(self.matches.len().min(NAMED));
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        (!first.is_empty()).then(|| format!("{}{more}", first.join(", ")))
    }

    /// Without the rest of a sentence.
    pub(super) fn in_short(&self) -> String {
        let owners = self.owners().unwrap_or_else(|| "no known timeout".to_owned());
        format!("{} after a silence of {} ({owners})", self.count, self.length())
    }

    fn sentence(&self) -> String {
        let Self { kind, count, .. } = self;
        let length = self.length();
        let what = match kind {
            Silence::BeforeSend => "came at once after we sent, before which there was silence for",
            Silence::Idle => "hit connections that had been idle for",
            Silence::Waiting => "ended requests that had waited for an answer for",
        };
        match self.owners() {
            Some(owners) => format!("{count} resets {what} {length}: {owners}"),
            None => {
                format!("{count} resets {what} {length}, which is no known timeout (--timeouts FILE names your own)")
            }
        }
    }
}

impl Rhythm {
    fn beat(&mut self, now: u64) {
        let gap = now.saturating_sub(self.last_ns);
        if self.beats > 0 && gap <= BEAT_NS {
            return;
        }
        if self.beats > 0 {
            let seconds = std::time::Duration::from_nanos(gap).as_secs_f64();
            let before = seconds - self.mean_s;
            self.mean_s += before / self.intervals_with(1);
            self.spread += before * (seconds - self.mean_s);
        }
        self.beats += 1;
        self.last_ns = now;
    }

    /// The intervals so far, and so many more.
    fn intervals_with(&self, more: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "no run has so many beats")]
        let intervals = (self.beats.saturating_sub(1) + more) as f64;
        intervals
    }

    fn is_even(&self) -> bool {
        let deviation = (self.spread / self.intervals_with(0).max(1.0)).sqrt();
        self.beats > INTERVALS.0 && deviation <= self.mean_s * INTERVALS.1
    }
}

impl Burst {
    fn of(reset: &Reset) -> Self {
        let now = reset.facts.ktime_ns;
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
        self.last_ns = self.last_ns.max(reset.facts.ktime_ns);
        self.count += reset.count;
        self.peer = self.peer.filter(|&peer| peer == reset.peer.address);
        self.code = self.code.filter(|&code| code == reset.cause.code);
    }

    /// What goes on for longer is no burst but a state of things.
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
