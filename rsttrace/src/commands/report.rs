//! `rsttrace report`: a page, or text for a ticket, of what was recorded.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use jiff::Zoned;

use super::{join, replay};
use crate::{
    cli::{OutputOptions, ReportOptions, ReportZone, TraceOptions},
    diagnose::{Diagnosis, program_hints::ProgramHints, timeouts::Timeouts},
    exit::Failure,
    filter::RecordFilter,
    format::{Format, TimeFormat},
    pipeline::{
        captured::CapturedChain,
        joined_stream::JoinedStream,
        replayed::{self, Replay, Replayed},
        report_file::{ReportFile, own_command},
    },
    replay::{CaptureView, Inputs, TimeRange},
    report::{Comparison, JoinedSection, ReportFormat, ReportOrigin},
    util::messages::info,
};

/// Makes the report. Blocks meanwhile. Fails with status 2 when an input or a file of options cannot be read, and with status 1
/// when the report cannot be written.
pub(crate) fn run(options: ReportOptions) -> Result<(), Failure> {
    let format =
        options.report_format.unwrap_or_else(|| options.file.as_deref().map_or(ReportFormat::Html, ReportFile::format));
    check(&options, format)?;
    let range = replay::range(&options.times, &Zoned::now())?;
    let file = options.file.as_deref().map(ReportFile::create).transpose()?;
    let joined = joined(&options, range);
    let mut ended = Vec::new();
    let document = if let [before, after] = options.inputs.as_slice()
        && options.compare
    {
        let mut report = |input: &PathBuf, is_last: bool| {
            let mut replayed = read(&options, std::slice::from_ref(input), range, is_last, None)?;
            let report = replayed.report.take();
            ended.push(replayed);
            Ok::<_, Failure>(report)
        };
        let reports = report(before, false)?.zip(report(after, true)?);
        reports.map(|(before, after)| Comparison::new(before, after).document(format))
    } else {
        let replayed = read(&options, &options.inputs, range, true, joined)?;
        let document = replayed.report.as_ref().map(|report| report.document(format));
        ended.push(replayed);
        document
    };
    let document = document.unwrap_or_default();
    match file {
        Some(file) => {
            let path = file.path().display().to_string();
            file.write(&document)?;
            if !options.quiet {
                info(format_args!("report: {path}"));
            }
        }
        None => io::stdout().lock().write_all(document.as_bytes()).map_err(Failure::stdout)?,
    }
    ended.into_iter().try_for_each(Replayed::checked)
}

/// Refuses what makes no report. Fails with status 2.
fn check(options: &ReportOptions, format: ReportFormat) -> Result<(), Failure> {
    let inputs = options.inputs.len();
    if options.compare && inputs != 2 {
        return Err(Failure::usage(format_args!("--compare takes two INPUTs, BEFORE and AFTER, and not {inputs}")));
    }
    if options.compare && format == ReportFormat::Svg {
        return Err(Failure::usage("--compare makes a page or text; the format svg is the main plot of one report"));
    }
    if options.diagnosis.rediagnose && inputs > 1 && !options.compare {
        return Err(Failure::usage("--rediagnose takes one INPUT: the memory of earlier resets is of one host"));
    }
    if let Some(path) = options.file.as_deref().filter(|_| options.report_format.is_none())
        && let Err(other) = ReportFormat::of_file(path)
    {
        return Err(Failure::usage(format_args!(
            "'.{other}' is no format of a report: --format names one (html, markdown, svg), or the extension (.html, .md, .svg)"
        )));
    }
    if options.file.is_none() && format == ReportFormat::Html && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a page is for a file: add '-o resets.html'; '--format markdown' is for a terminal",
        ));
    }
    Ok(())
}

/// Whether the only input can be read once alone.
fn is_stream(options: &ReportOptions) -> bool {
    matches!(options.inputs.as_slice(), [path] if !is_file(path))
}

fn is_file(input: &Path) -> bool {
    input.as_os_str() != "-" && (input.is_file() || input.is_dir())
}

/// The join of the inputs. Standard input cannot be read twice: beside other inputs there is none.
fn joined(options: &ReportOptions, range: TimeRange) -> Option<JoinedSection> {
    if options.compare || !options.inputs.iter().all(|input| is_file(input)) {
        return None;
    }
    join::section(
        &options.inputs,
        range,
        join::time_zone(options.zone),
        &CaptureView { hosts: options.captures.local.clone(), ..CaptureView::default() },
    )
}

/// Reads inputs into a report. `is_last` tells whether no others are read afterwards.
fn read(
    options: &ReportOptions,
    inputs: &[PathBuf],
    range: TimeRange,
    is_last: bool,
    joined: Option<JoinedSection>,
) -> Result<Replayed, Failure> {
    let diagnosis = Diagnosis::new(
        Timeouts::read(options.diagnosis.timeouts.as_deref())?,
        ProgramHints::read(options.diagnosis.hints.as_deref())?,
    );
    let captured = CapturedChain::new(&diagnosis, RecordFilter::for_recording(options.filters.clone())?);
    let filter = RecordFilter::for_recording(options.filters.clone())?;
    let is_filtered = !filter.is_everything() || range.since.is_some() || range.until.is_some();
    let view = replay::view(options.captures.clone(), &options.filters);
    let TraceOptions { output, .. } = TraceOptions::without_arguments().map_err(Failure::usage)?;
    let time = match options.zone {
        ReportZone::Local => TimeFormat::Local,
        ReportZone::Utc => TimeFormat::Utc,
    };
    replayed::run(Replay {
        filter,
        diagnosis,
        captured,
        is_last,
        output: OutputOptions { output: Format::None, no_summary: true, quiet: true, time, ..output },
        rediagnose: options.diagnosis.rediagnose,
        inputs: Inputs::open(inputs, range, view).map_err(Failure::usage)?,
        report: Some(ReportOrigin { command: own_command(), is_filtered, joined, ..ReportOrigin::default() }),
        joined: is_stream(options).then(|| {
            let stream: Box<dyn JoinedStream> = Box::new(join::StreamedJoin::new(join::time_zone(options.zone), range));
            stream
        }),
    })
}
