//! A finished report: everything that its forms show.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    both_ends::JoinedSection,
    collector::{PeerKey, RecorderSigns, ReportCollector, SilenceSteps, silence_ms, silence_step},
    fault_counts::FaultCounts,
    kept::KeptIncident,
    signs::CommonSigns,
    time_bins::TimeBins,
};
use crate::{
    diagnose::timeouts::Timeouts,
    model::{Direction, Fault, Finding, Summary},
    util::sanitize,
};

/// Where a report comes from, and what has to be said of that.
#[derive(Clone, Debug, Default)]
pub struct ReportOrigin {
    /// The command that makes it again, words quoted for a shell. Untrusted where a file's name is.
    pub command: String,
    /// Whether it is of a live run.
    pub is_live: bool,
    /// Whether filters of this command left resets out.
    pub is_filtered: bool,
    /// What has to be said of the inputs, one line each: gaps, jumps of the clock, lines that were skipped.
    pub notes: Vec<String>,
    /// Times in which nothing was recorded.
    pub gaps: Vec<(Timestamp, Timestamp)>,
    /// Whether an input could not be read to its end.
    pub is_damaged: bool,
    /// Whether an input was a packet capture.
    pub is_captured: bool,
    /// Resets that two of the inputs' hosts show; `None` where all is of one host.
    pub joined: Option<JoinedSection>,
}

/// Longest advice, characters.
const ADVICE: usize = 600;

/// Known timeouts of one length.
#[derive(Clone, Debug)]
pub(super) struct TimeoutLine {
    pub(super) ms: f64,
    pub(super) owners: Vec<String>,
    /// Whether a cluster of silences matches it.
    pub(super) is_matched: bool,
}

/// A pair of a process and the other side.
#[derive(Clone, Debug)]
pub(super) struct PairCount {
    pub(super) process: String,
    pub(super) peer: PeerKey,
    pub(super) counts: FaultCounts,
}

/// A finished report.
pub struct Report {
    pub(super) summary: Summary,
    pub(super) origin: ReportOrigin,
    pub(super) zone: TimeZone,
    /// Times of the first and the last sign; `None` where there is none.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    pub(super) hosts: Vec<String>,
    pub(super) times: TimeBins<FaultCounts>,
    pub(super) losses: TimeBins<u64>,
    /// Incidents with a silence that are not among `incidents`.
    pub(super) silences: TimeBins<SilenceSteps>,
    pub(super) timeouts: Vec<TimeoutLine>,
    /// Processes and peers, those with the most incidents first.
    pub(super) pairs: Vec<PairCount>,
    /// Largest amount by which a count of `pairs` may be too small.
    pub(super) pairs_error: u64,
    pub(super) ages: BTreeMap<&'static str, BTreeMap<i16, FaultCounts>>,
    pub(super) ttls: BTreeMap<(u8, u8), FaultCounts>,
    signs: BTreeMap<(&'static str, bool), CommonSigns>,
    /// Incidents that are held in full, in the order of time.
    pub(super) incidents: Vec<KeptIncident>,
    pub(super) recorders: RecorderSigns,
    pub(super) unapplied: (u64, u64),
}

impl ReportCollector {
    /// The report of what was taken. Its counts and its verdict are those of the summary.
    pub fn finish(self, summary: Summary, origin: ReportOrigin, timeouts: &Timeouts, zone: TimeZone) -> Report {
        let Self { span, hosts, times, losses, mut silences, pairs, ages, ttls, signs, kept, recorders, unapplied } =
            self;
        let middles = summary.idle_clusters.iter().map(|cluster| f64::midpoint(cluster.from_s, cluster.to_s) * 1_000.0);
        let matched: Vec<f64> =
            middles.flat_map(|middle| timeouts.matching(middle)).map(|row| row.seconds * 1_000.0).collect();
        let incidents = kept.chosen(&summary.findings);
        // Those have dots of their own.
        for incident in &incidents {
            let reset = &incident.first;
            if let Some(step) = silence_ms(reset).map(silence_step)
                && let Some(counts) = silences.bin(reset.time.as_millisecond()).0.get_mut(&step)
            {
                counts.remove(reset.cause.fault, reset.count);
            }
        }
        let hosts = hosts.iter().chain(recorders.headers.keys()).map(|host| super::shown::name(host));
        let mut hosts: Vec<String> = hosts.collect();
        hosts.sort();
        hosts.dedup();
        Report {
            pairs_error: pairs.error(),
            pairs: merged(pairs.rows()),
            summary,
            origin,
            zone,
            span,
            hosts,
            times,
            losses,
            silences,
            timeouts: timeout_lines(timeouts, &matched),
            ages,
            ttls,
            signs,
            incidents,
            recorders,
            unapplied,
        }
    }
}

/// Number of incidents of a process with a peer, by fault.
type PairRow = ((Arc<str>, PeerKey, Fault), u64);

/// Counts of each pair, those with the most first.
fn merged(rows: Vec<PairRow>) -> Vec<PairCount> {
    let mut pairs: BTreeMap<(Arc<str>, PeerKey), FaultCounts> = BTreeMap::new();
    for ((process, peer, fault), count) in rows {
        pairs.entry((process, peer)).or_default().add(fault, count);
    }
    let pair = |((process, peer), counts): ((Arc<str>, PeerKey), FaultCounts)| PairCount {
        process: super::shown::name(&process),
        peer,
        counts,
    };
    let mut pairs: Vec<PairCount> = pairs.into_iter().map(pair).collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse((pair.counts.harmful(), pair.counts.total())));
    pairs
}

fn timeout_lines(timeouts: &Timeouts, matched: &[f64]) -> Vec<TimeoutLine> {
    let mut lines: Vec<TimeoutLine> = Vec::new();
    for row in timeouts.rows() {
        let (ms, owner) = (row.seconds * 1_000.0, super::shown::name(&row.owner));
        if let Some(line) = lines.last_mut().filter(|line| (line.ms - ms).abs() < 1.0) {
            line.owners.push(owner);
        } else {
            let is_matched = matched.iter().any(|other| (other - ms).abs() < 1.0);
            lines.push(TimeoutLine { ms, owners: vec![owner], is_matched });
        }
    }
    lines
}

impl Report {
    /// The cause to look at first; `None` where nothing has to be mended.
    pub(super) fn main_finding(&self) -> Option<&Finding> {
        self.summary.findings.first()
    }

    /// What the incidents of a finding have in common.
    pub(super) fn signs_of(&self, finding: &Finding) -> CommonSigns {
        let key = (finding.code, finding.direction == Direction::Sent);
        self.signs.get(&key).cloned().unwrap_or_default()
    }

    /// Advice for a finding: that of its newest incident, which may name the setting of the owner's program, where it is held.
    pub(super) fn advice_for(&self, finding: &Finding) -> String {
        let is_of = |kept: &&KeptIncident| {
            kept.first.cause.code == finding.code
                && kept.first.direction == finding.direction
                && kept.first.cause.advice.starts_with(finding.advice)
        };
        let newest = self.incidents.iter().rev().find(is_of);
        // A file may have any text behind that of the catalogue.
        let advice = newest.map_or(finding.advice, |kept| &kept.first.cause.advice);
        sanitize::truncate(advice, ADVICE).into_owned()
    }

    /// Time that the data cover, seconds, without the gaps.
    pub(super) fn covered_s(&self) -> f64 {
        let Some((from, to)) = self.span else { return 0.0 };
        let gaps: f64 = self.origin.gaps.iter().map(|(from, to)| to.duration_since(*from).as_secs_f64()).sum();
        (to.duration_since(from).as_secs_f64() - gaps).max(0.0)
    }

    /// Incidents of a fault, as the verdict counts them.
    pub(super) fn settled(&self, fault: Fault) -> u64 {
        self.summary.settled_faults.get(&fault).copied().unwrap_or(0)
    }

    /// What makes the numbers unsure, one sentence each; none where nothing is known to be missing.
    pub(super) fn doubts(&self) -> Vec<String> {
        use super::shown::{counted, duration};
        let mut doubts = Vec::new();
        let lost = self.summary.lost.max(self.recorders.lost());
        if lost > 0 {
            doubts.push(format!("{} lost before they became records.", were(counted(lost, "reset"), lost)));
        }
        let undelivered = self.recorders.undelivered();
        if undelivered > 0 {
            let records = were(counted(undelivered, "record"), undelivered);
            doubts.push(format!("{records} not taken by the recording."));
        }
        let gaps = &self.origin.gaps;
        if !gaps.is_empty() {
            let ms: f64 = gaps.iter().map(|(from, to)| to.duration_since(*from).as_secs_f64() * 1e3).sum();
            let count = counted(u64::try_from(gaps.len()).unwrap_or(u64::MAX), "gap");
            doubts.push(format!("The recording has {count}, {} in all, in which nothing was recorded.", duration(ms)));
        }
        if self.origin.is_damaged {
            doubts.push("An input could not be read to its end.".to_owned());
        }
        doubts
    }
}

fn were(subject: String, count: u64) -> String {
    format!("{subject} {}", if count == 1 { "was" } else { "were" })
}
