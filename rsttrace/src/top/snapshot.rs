//! What one drawing shows: made by the run, read by the thread of the view.

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    activity::{CauseActivity, Names, PEERS, RowActivity},
    board::{Board, HELD_RECORDS},
    window::{self, SLOTS},
};
use crate::{
    diagnose::catalogue,
    model::{Fault, Summary},
    report::{KeptIncident, ReportCollector},
    summary::Tally,
    util::{counted, sanitize},
};

/// Most rows of peers, and of processes.
const ROWS: usize = 200;
/// Most incidents that can be looked at, the newest.
const INCIDENTS: usize = 600;
/// Longest name, characters.
const NAME: usize = 64;

/// Where the records come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This host, as they happen.
    Live,
    /// Standard input, which has not ended.
    Input,
    /// Standard input, which has ended.
    Ended,
    /// Files, which are being read.
    Reading,
    /// Files, up to their end.
    Recording,
    /// Files, up to a time.
    Moment,
}

impl Source {
    /// Whether the view can go to other times.
    pub const fn can_seek(self) -> bool {
        matches!(self, Self::Reading | Self::Recording | Self::Moment)
    }
}

/// What a row stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowKey {
    /// Code of a cause.
    Cause(&'static str),
    /// Address of a peer.
    Peer(std::net::IpAddr),
    /// Name of a process.
    Process(Arc<str>),
}

/// One row of the causes, peers or processes.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) key: RowKey,
    /// Name to show, sanitized.
    pub(super) name: String,
    /// Side that has something to change; of a peer or process `None`.
    pub(super) fault: Option<Fault>,
    /// Records of the last minute and of the last ten.
    pub(super) minute: u64,
    pub(super) ten_minutes: u64,
    /// Resets as the summary counts them.
    pub(super) total: u64,
    /// Resets that are not harmless.
    pub(super) harmful: u64,
    pub(super) last: Option<Timestamp>,
    pub(super) seconds: [u32; SLOTS],
    /// The most frequent cause, process and peer, with the number of others.
    pub(super) cause: String,
    pub(super) process: String,
    pub(super) peer: String,
    /// Number of peers; of a cause alone.
    pub(super) peers: String,
    /// Medians of the newest ages and silences, milliseconds; of a cause alone.
    pub(super) age_ms: Option<f64>,
    pub(super) silence_ms: Option<f64>,
}

/// Everything that a drawing shows.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) host: String,
    /// The end of the windows.
    pub(super) clock: Timestamp,
    pub(super) zone: TimeZone,
    pub(super) source: Source,
    /// Resets of each of the last sixty seconds, all and those that are not harmless.
    pub(super) seconds: ([u32; SLOTS], [u32; SLOTS]),
    /// Counts, patterns and verdict.
    pub(super) summary: Arc<Summary>,
    pub(super) causes: Vec<Row>,
    pub(super) peers: Vec<Row>,
    pub(super) processes: Vec<Row>,
    /// Incidents that can be opened, the newest first.
    pub(super) incidents: Vec<KeptIncident>,
    /// The filter of the view, and the time up to which it lacks records.
    pub(super) narrowing: Option<(String, Option<Timestamp>)>,
    /// What is held, in one sentence.
    pub(super) held: String,
    /// Messages of the run, the oldest first.
    pub(super) messages: Vec<String>,
    /// The last answer to a request, and its number.
    pub(super) answer: Option<(u64, String)>,
}

/// What a snapshot needs beside the records.
pub struct SnapshotContext {
    /// Where the records come from.
    pub source: Source,
    /// The end of the windows.
    pub clock: Timestamp,
    /// Time zone of the times.
    pub zone: TimeZone,
    /// Name of the host; where it is empty, that of the records.
    pub host: String,
    /// Counts and verdict of what is shown: [`Board::narrowing`] tells whether that is a part.
    pub summary: Summary,
    /// Messages of the run, the oldest first.
    pub messages: Vec<String>,
    /// The last answer to a request, and its number.
    pub answer: Option<(u64, String)>,
}

impl Board {
    /// What is to be drawn now. The counts are those of `tally` and `collector`, or of those with the filter of the view.
    pub fn snapshot(&self, tally: &Tally, collector: &ReportCollector, context: SnapshotContext) -> Snapshot {
        let SnapshotContext { source, clock, zone, host, summary, messages, answer } = context;
        let (tally, collector) = (self.shown_tally(tally), self.shown_collector(collector));
        let activity = self.narrowed.as_ref().map_or(&self.whole, |narrowed| &narrowed.activity);
        let none = RowActivity::default();
        let causes = summary.settled_by_cause.iter().map(|(&code, &total)| {
            let of = activity.causes.get(code);
            cause_row(code, of, total, clock)
        });
        let peers = tally.peers(ROWS).into_iter().map(|peer| {
            let of = activity.peers.peek(&peer.address).unwrap_or(&none);
            let name = match &peer.name {
                Some(name) => format!("{} ({})", peer.address, sanitize::truncate(name, NAME)),
                None => peer.address.to_string(),
            };
            Row { name, ..row(RowKey::Peer(peer.address), of, peer.count, clock) }
        });
        let processes = tally.processes(ROWS).into_iter().map(|process| {
            let of = activity.processes.peek(&process.comm).unwrap_or(&none);
            let pid = if let [pid] = process.pids.as_slice() { format!("[{pid}]") } else { String::new() };
            let name = format!("{}{pid}", sanitize::truncate(&process.comm, NAME));
            Row { name, ..row(RowKey::Process(Arc::clone(&process.comm)), of, process.count, clock) }
        });
        let (causes, peers, processes) = (causes.collect(), peers.collect(), processes.collect());
        let host = if host.is_empty() { collector.host_names().join(", ") } else { host };
        let incidents: Vec<KeptIncident> = collector.newest().take(INCIDENTS).cloned().collect();
        let held = format!(
            "{} in full (600 at most), {} for filters ({HELD_RECORDS} at most), {ROWS} peers and {ROWS} processes at most in the \
             tables; every record is counted",
            counted(incidents.len() as u64, "incident"),
            counted(self.held() as u64, "record")
        );
        Snapshot {
            host: sanitize::truncate(&host, NAME).into_owned(),
            clock,
            zone,
            source,
            seconds: (activity.all.seconds(clock), activity.harmful.seconds(clock)),
            summary: Arc::new(summary),
            causes,
            peers,
            processes,
            incidents,
            narrowing: self.narrowed.as_ref().map(|narrowed| (narrowed.of.text().to_owned(), narrowed.since)),
            held,
            messages,
            answer,
        }
    }
}

fn cause_row(code: &'static str, of: Option<&CauseActivity>, total: u64, clock: Timestamp) -> Row {
    let none = RowActivity::default();
    let row = row(RowKey::Cause(code), of.map_or(&none, |of| &of.row), total, clock);
    let fault = of.map(|of| of.fault).or_else(|| catalogue::find(code).next().map(|spec| spec.fault));
    let peers = of.map_or_else(String::new, |of| match of.peers.len() {
        PEERS => format!("{PEERS}+"),
        count => count.to_string(),
    });
    Row {
        name: code.to_owned(),
        fault,
        peers,
        age_ms: of.and_then(|of| of.ages.median()),
        silence_ms: of.and_then(|of| of.silences.median()),
        ..row
    }
}

fn row(key: RowKey, of: &RowActivity, total: u64, clock: Timestamp) -> Row {
    let seconds = of.window.seconds(clock);
    Row {
        key,
        name: String::new(),
        fault: None,
        // Records whose cause later ones have shown to be another are not in the total.
        minute: window::total(&seconds).min(total),
        ten_minutes: of.window.ten_minutes(clock).min(total),
        total,
        harmful: of.harmful,
        last: of.last,
        seconds,
        cause: main(&of.causes, |code| (*code).to_owned()),
        process: main(&of.processes, |name| sanitize::truncate(name, NAME).into_owned()),
        peer: main(&of.peers, ToString::to_string),
        peers: String::new(),
        age_ms: None,
        silence_ms: None,
    }
}

/// The most frequent name, with the number of others: `nginx +2`.
fn main<T: Clone + Eq + std::hash::Hash>(names: &Names<T>, shown: impl Fn(&T) -> String) -> String {
    match names.main() {
        None => String::new(),
        Some((name, 0)) => shown(name),
        Some((name, others)) => format!("{} +{others}", shown(name)),
    }
}

impl Snapshot {
    /// Resets a second over the last ten, all and those that are not harmless.
    pub(super) fn rates(&self) -> (f64, f64) {
        let rate = |seconds: &[u32; SLOTS]| {
            let count = u32::try_from(window::total(&seconds[SLOTS - 10..])).unwrap_or(u32::MAX);
            f64::from(count) / 10.0
        };
        (rate(&self.seconds.0), rate(&self.seconds.1))
    }
}
