//! `rsttrace join`: who really sent the resets, by the recordings of both ends.

use std::{
    io::{self, BufWriter, Write},
    mem,
    path::PathBuf,
    sync::Arc,
};

use anyhow::anyhow;
use foldhash::HashSet;
use jiff::{Zoned, tz::TimeZone};

use super::{
    join_inputs::{Read, open, read},
    replay,
};
use crate::{
    cli::{JoinFormat, JoinOptions, ReportZone},
    exit::Failure,
    format::json::JsonFormatter,
    join::{JoinError, JoinText, Joined, Joiner, PairFilter},
    model::Record,
    pipeline::joined_stream::JoinedStream,
    replay::{CaptureView, Line, TimeRange, has_several_hosts},
    report::JoinedSection,
    sandbox::{self, Requirements},
    util::messages::info,
};

/// Joins the inputs and writes the result to standard output. Blocks meanwhile. Fails with status 2 when an input cannot be read or
/// all are of one host, and with status 1 when standard output cannot be written to, or an input is damaged.
pub(crate) fn run(options: &JoinOptions) -> Result<(), Failure> {
    let range = replay::range(&options.times, &Zoned::now())?;
    let view = CaptureView { hosts: options.captures.local.clone(), ..CaptureView::default() };
    let opened = open(&options.inputs, &view)?;
    let zone = time_zone(options.zone);
    sandbox::enter_reader(Requirements::default());
    let Read { joined, notes, is_damaged } = read(opened)?;
    // Why an input has nothing may be among them.
    notes.iter().for_each(info);
    let joined = joined.map_err(Failure::usage)?;
    let is_port = |port: u16| options.port.is_empty() || options.port.iter().any(|range| range.contains(port));
    let wanted = PairFilter {
        verdicts: &options.verdict,
        is_port: &is_port,
        since: range.since,
        until: range.until,
        ..PairFilter::ALL
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match options.output {
        JoinFormat::Text => JoinText { zone: zone.clone(), wanted }.write(&joined.in_zone(zone), &mut out),
        JoinFormat::Json => write_json(&joined, &wanted, &mut out),
    };
    written.and_then(|()| out.flush()).map_err(Failure::stdout)?;
    if is_damaged { Err(Failure::Running(anyhow!("an input could not be read to its end"))) } else { Ok(()) }
}

/// The zone of an option.
pub(super) fn time_zone(zone: ReportZone) -> TimeZone {
    match zone {
        ReportZone::Local => TimeZone::system(),
        ReportZone::Utc => TimeZone::UTC,
    }
}

/// Writes each pair as a line, and the summary as the last.
fn write_json(joined: &Joined, wanted: &PairFilter<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut verdicts = Vec::new();
    for pair in joined.pairs(wanted) {
        verdicts.push(pair.verdict);
        JsonFormatter::write_pair(&pair, out)?;
    }
    JsonFormatter::write_join(&joined.summary(verdicts.into_iter()), out)
}

/// What a report says of its inputs as recordings of several hosts, of pairs within these times; `None` where they are of one, or
/// cannot be joined, which is reported. Blocks while it reads them.
pub(super) fn section(
    paths: &[PathBuf],
    range: TimeRange,
    zone: TimeZone,
    view: &CaptureView,
) -> Option<JoinedSection> {
    // What cannot be read is told by the report itself.
    let opened = open(paths, view).ok()?;
    sandbox::drop_capabilities_of_reader(Requirements::default());
    // A look at the lines costs less than reading what is of one host.
    if let [path] = paths
        && !has_several_hosts(path).unwrap_or(false)
    {
        return None;
    }
    section_of(read(opened).ok()?.joined, range, zone)
}

/// The section of what was joined.
fn section_of(joined: Result<Joined, JoinError>, range: TimeRange, zone: TimeZone) -> Option<JoinedSection> {
    let joined = match joined {
        Ok(joined) => joined.in_zone(zone),
        Err(JoinError::OneHost(_) | JoinError::NoHost) => return None,
        Err(error) => {
            info(format_args!("{NO_SECTION}: {error}"));
            return None;
        }
    };
    let wanted = PairFilter { with_others: Some(false), since: range.since, until: range.until, ..PairFilter::ALL };
    let mut section = JoinedSection::default();
    let mut verdicts = Vec::new();
    for pair in joined.pairs(&wanted) {
        verdicts.push(pair.verdict);
        section.take(pair);
    }
    Some(section.with(joined.summary(verdicts.into_iter())))
}

/// Begin of what is said where a section is missing.
const NO_SECTION: &str = "the report has no section on both ends";
/// Most resets of a stream that are kept for it.
const STREAM_RESETS_MAX: usize = 200_000;

/// Joins the lines of standard input while a report is made of them.
pub(super) struct StreamedJoin {
    joiner: Joiner,
    resets: usize,
    /// The first two names of hosts.
    hosts: HashSet<Arc<str>>,
    zone: TimeZone,
    /// Why there is no section of several hosts; `None` where there is one.
    missing: Option<String>,
}

impl StreamedJoin {
    /// Begins; with times, what is outside of them is not read, so nothing can be proven.
    pub(super) fn new(zone: TimeZone, range: TimeRange) -> Self {
        let is_cut = range.since.is_some() || range.until.is_some();
        let why = "with --since or --until it takes the lines from a file, not from standard input";
        let mut joiner = Joiner::default();
        joiner.begin("standard input");
        Self { joiner, resets: 0, hosts: HashSet::default(), zone, missing: is_cut.then(|| why.to_owned()) }
    }

    /// Keeps nothing any more.
    fn give_up(&mut self, why: String) {
        self.missing = Some(why);
        self.joiner = Joiner::default();
    }
}

impl JoinedStream for StreamedJoin {
    fn take(&mut self, line: &Line) {
        let host = match line {
            Line::Header(header) => Some(&header.host),
            Line::Record(Record::Reset(reset)) => Some(&reset.host),
            _ => None,
        };
        if let Some(host) = host
            && self.hosts.len() < 2
            && !self.hosts.contains(host)
        {
            self.hosts.insert(Arc::clone(host));
        }
        if self.missing.is_some() {
            return;
        }
        let taken = match line {
            Line::Header(header) => self.joiner.header(header),
            Line::Mark(mark) => {
                self.joiner.mark(mark);
                Ok(())
            }
            Line::Record(record) => {
                self.resets += 1;
                self.joiner.record(record, false)
            }
            Line::Captured(_) | Line::Summary(_) => Ok(()),
        };
        if let Err(error) = taken {
            self.give_up(error.to_string());
        } else if self.resets > STREAM_RESETS_MAX {
            self.give_up(format!("of standard input it takes {STREAM_RESETS_MAX} resets at most, of a file more"));
        }
    }

    fn section(&mut self, has_holes: bool) -> Option<JoinedSection> {
        if self.hosts.len() < 2 {
            return None;
        }
        let holes = has_holes.then(|| "lines of standard input could not be read".to_owned());
        if let Some(why) = self.missing.take().or(holes) {
            info(format_args!("{NO_SECTION}: {why}"));
            return None;
        }
        let mut joiner = mem::take(&mut self.joiner);
        joiner.take_notes().iter().for_each(info);
        section_of(joiner.finish(), TimeRange::default(), self.zone.clone())
    }
}
