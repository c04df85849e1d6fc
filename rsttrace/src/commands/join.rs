//! `rsttrace join`: who really sent the resets, by the recordings of both ends.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use jiff::{Zoned, tz::TimeZone};

use super::replay;
use crate::{
    cli::{JoinFormat, JoinOptions, ReportZone},
    diagnose::Diagnosis,
    exit::Failure,
    filter::RecordFilter,
    format::json::JsonFormatter,
    join::{JoinError, JoinText, Joined, Joiner, PairFilter},
    model::{FilterOptions, Record, Reset},
    pipeline::{captured::CapturedChain, processor::Output},
    replay::{CaptureView, Inputs, Line, TimeRange},
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
    let joined = joined.map_err(Failure::usage)?;
    notes.iter().for_each(info);
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

/// Inputs that are open, each with its name.
pub(super) type Opened = Vec<(String, Inputs)>;

/// What was read.
pub(super) struct Read {
    /// The result; an error where the inputs cannot be joined.
    pub(super) joined: Result<Joined, JoinError>,
    /// What has to be said of the inputs.
    pub(super) notes: Vec<String>,
    /// Whether one could not be read to its end.
    pub(super) is_damaged: bool,
}

/// Opens each input on its own: joining has to know which one a line is of. All times are read, since what is outside of those that
/// are shown may be the proof. Fails with status 2 when one cannot be read.
pub(super) fn open(paths: &[PathBuf], view: &CaptureView) -> Result<Opened, Failure> {
    let name =
        |path: &Path| if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let one = |path: &PathBuf| {
        // What ended nothing tells whether a reset has arrived.
        let view = CaptureView { paths: true, ignored: true, ..view.clone() };
        let inputs = Inputs::open(std::slice::from_ref(path), TimeRange::default(), view).map_err(Failure::usage)?;
        Ok((name(path), inputs))
    };
    paths.iter().map(one).collect()
}

/// Reads and joins inputs. Blocks meanwhile. Fails with status 2 when one is nothing that can be read.
pub(super) fn read(opened: Opened) -> Result<Read, Failure> {
    let mut joiner = Joiner::default();
    let (mut notes, mut is_damaged) = (Vec::new(), false);
    for (name, mut inputs) in opened {
        joiner.begin(&name);
        let taken = take(&mut joiner, &mut inputs)?;
        notes.extend(joiner.take_notes());
        let said = inputs.notes();
        if inputs.is_foreign() {
            return Err(Failure::usage(format_args!("nothing to join in {name}: {}", said.join("; "))));
        }
        notes.extend(inputs.remarks().map(str::to_owned));
        notes.extend(said.into_iter().map(|note| if note.contains(&name) { note } else { format!("{name}: {note}") }));
        is_damaged |= inputs.is_damaged();
        if let Err(error) = taken {
            return Ok(Read { joined: Err(error), notes, is_damaged });
        }
    }
    Ok(Read { joined: joiner.finish(), notes, is_damaged })
}

/// Takes one input. The inner result fails where there is too much of it.
fn take(joiner: &mut Joiner, inputs: &mut Inputs) -> Result<Result<(), JoinError>, Failure> {
    let everything = RecordFilter::for_recording(FilterOptions::default())?;
    let mut captured = CapturedChain::new(&Diagnosis::default(), everything);
    let mut ready = Ready::default();
    let (mut holes, is_capture) = (0, inputs.has_captures());
    while let Some(line) = inputs.next() {
        if inputs.holes() > holes {
            holes = inputs.holes();
            joiner.hole();
        }
        let taken = match line {
            Line::Header(header) => joiner.header(&header),
            Line::Mark(mark) => {
                joiner.mark(&mark);
                Ok(())
            }
            Line::Captured(reset) => {
                captured.take(*reset, &mut ready);
                ready.hand_on(joiner)
            }
            Line::Record(record) => joiner.record(&record, is_capture),
            Line::Summary(_) => Ok(()),
        };
        if taken.is_err() {
            return Ok(taken);
        }
    }
    captured.finish(&mut ready);
    let taken = ready.hand_on(joiner).and_then(|()| inputs.paths().try_for_each(|path| joiner.path(path)));
    Ok(taken)
}

/// Records of a capture.
#[derive(Default)]
struct Ready(Vec<Record>);

impl Ready {
    fn hand_on(&mut self, joiner: &mut Joiner) -> Result<(), JoinError> {
        self.0.drain(..).try_for_each(|record| joiner.record(&record, true))
    }
}

impl Output for Ready {
    fn observe(&mut self, _: &Reset) {}

    fn emit(&mut self, record: Record) {
        self.0.push(record);
    }
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
    let joined = match read(opened).ok()?.joined {
        Ok(joined) => joined,
        Err(JoinError::OneHost(_) | JoinError::NoHost) => return None,
        Err(error) => {
            info(format_args!("the report has no section on both ends: {error}"));
            return None;
        }
    };
    let joined = joined.in_zone(zone);
    let wanted = PairFilter { with_others: Some(false), since: range.since, until: range.until, ..PairFilter::ALL };
    let mut section = JoinedSection::default();
    let mut verdicts = Vec::new();
    for pair in joined.pairs(&wanted) {
        verdicts.push(pair.verdict);
        section.take(pair);
    }
    Some(section.with(joined.summary(verdicts.into_iter())))
}
