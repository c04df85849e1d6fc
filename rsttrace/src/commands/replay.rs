//! `rsttrace replay`: what was recorded, as the live run prints it.

use jiff::Zoned;

pub(super) use crate::pipeline::replayed::is_wanted;
use crate::{
    cli::{CaptureOptions, DiagnosisOptions, ReplayOptions, TimeOptions},
    diagnose::{Diagnosis, program_hints::ProgramHints, timeouts::Timeouts},
    exit::Failure,
    filter::RecordFilter,
    model::FilterOptions,
    pipeline::{
        captured::CapturedChain,
        replayed::{self, Replay},
        report_file::{ReportFile, own_command},
    },
    replay::{CaptureView, Inputs, TimeRange, parse_moment},
    report::ReportOrigin,
};

/// Replays the inputs. Blocks meanwhile. Fails with status 2 when an input or a file of options cannot be read, and as
/// [`replayed::run`] does.
pub(crate) fn run(options: ReplayOptions) -> Result<(), Failure> {
    let ReplayOptions { inputs, captures, times, diagnosis, filters, output } = options;
    let DiagnosisOptions { rediagnose, timeouts, hints } = diagnosis;
    for (name, is_given) in
        [("--metrics", output.metrics.is_some()), ("--summary-interval", output.summary_interval.is_some())]
    {
        if is_given {
            return Err(Failure::usage(format_args!("{name} is for a live run, and not for 'replay'")));
        }
    }
    if output.sink.iter().any(|sink| sink.recording_directory().is_some()) {
        let instead = "'rsttrace export' writes what was recorded as lines that can be replayed";
        return Err(Failure::usage(format_args!("--sink recording: is for a live run; {instead}")));
    }
    let range = range(&times, &Zoned::now())?;
    if rediagnose && inputs.len() > 1 {
        return Err(Failure::usage("--rediagnose takes one INPUT: the memory of earlier resets is of one host"));
    }
    let diagnosis = Diagnosis::new(Timeouts::read(timeouts.as_deref())?, ProgramHints::read(hints.as_deref())?);
    let view = view(captures, &filters);
    let captured = CapturedChain::new(&diagnosis, RecordFilter::for_recording(filters.clone())?);
    let filter = RecordFilter::for_recording(filters)?;
    let is_filtered = !filter.is_everything() || times.since.is_some() || times.until.is_some();
    let origin = || ReportOrigin { command: own_command(), is_filtered, ..ReportOrigin::default() };
    let file = output.report.as_deref().map(ReportFile::create).transpose()?;
    let replayed = replayed::run(Replay {
        report: file.is_some().then(origin),
        joined: None,
        filter,
        diagnosis,
        captured,
        is_last: true,
        output,
        rediagnose,
        inputs: Inputs::open(&inputs, range, view).map_err(Failure::usage)?,
    })?;
    if let (Some(file), Some(report)) = (file, &replayed.report) {
        let format = ReportFile::format(file.path());
        file.write(&report.document(format))?;
    }
    replayed.checked()
}

/// How captures are read.
pub(super) fn view(options: CaptureOptions, filters: &FilterOptions) -> CaptureView {
    let CaptureOptions { local, ignored } = options;
    let of_captures = [("--local", !local.is_empty()), ("--ignored", ignored)];
    CaptureView {
        options_of_captures: of_captures.into_iter().filter_map(|(name, is_used)| is_used.then_some(name)).collect(),
        hosts: local,
        ignored,
        filters_of_kernel: filters.of_kernel(),
        paths: false,
    }
}

/// The times that are read. Fails with status 2 where they are none, or none is between them.
pub(super) fn range(times: &TimeOptions, now: &Zoned) -> Result<TimeRange, Failure> {
    let (since, until) = (times.since.as_deref(), times.until.as_deref());
    let moment = |name: &str, text: Option<&str>| {
        let moment = text.map(|text| parse_moment(text, now).map_err(|error| format!("{name} '{text}': {error}")));
        moment.transpose().map_err(Failure::usage)
    };
    let range = TimeRange { since: moment("--since", since)?, until: moment("--until", until)? };
    if let Some((since, text)) = range.since.zip(since).filter(|(since, _)| *since > now.timestamp()) {
        // A time of the day alone is of this day.
        let is_of_day = text.contains(':') && !text.contains('-');
        let remedy = if is_of_day { "; name the day" } else { "" };
        return Err(Failure::usage(format_args!("--since {text} is {since}, which is still to come{remedy}")));
    }
    match (range.since, range.until) {
        (Some(since), Some(until)) if since >= until => {
            Err(Failure::usage(format_args!("--since {since} is not before --until {until}")))
        }
        _ => Ok(range),
    }
}
