//! A run over what was recorded: records instead of events, the same filters, outputs and summary.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use jiff::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    captured::CapturedChain,
    joined_stream::JoinedStream,
    live::Results,
    processor::Output,
    rediagnose::Rediagnosis,
    setup::{OutputSetup, needs_of_sinks, prepare_sinks, time_zone},
};
use crate::{
    cli::OutputOptions,
    diagnose::Diagnosis,
    exit::Failure,
    filter::RecordFilter,
    model::{Coverage, Record, RecordingContext, Reset, SinkCount, Summary},
    replay::{Inputs, Line},
    report::{Report, ReportOrigin},
    sandbox,
    sink::{SinkLoss, outputs::Outputs},
    summary::{SummaryContext, Tally},
    util::{degraded::Degraded, messages::info},
};

/// Lines that are passed on together.
const BATCH: usize = 512;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 4;
/// Longest time for which lines wait for others: those of a pipe come one by one.
const BATCH_TIME: Duration = Duration::from_millis(100);

/// Time without lines after which a reset of a capture waits no longer for the other end's record: a pipe may have nothing more for
/// a long time.
pub(super) const QUIET_TIME: Duration = Duration::from_millis(100);

/// What is replayed, and how.
pub(crate) struct Replay {
    /// The inputs.
    pub(crate) inputs: Inputs,
    /// The filters.
    pub(crate) filter: RecordFilter,
    /// The known timeouts and hints, for the summary.
    pub(crate) diagnosis: Diagnosis,
    /// The outputs.
    pub(crate) output: OutputOptions,
    /// Whether resets are diagnosed again.
    pub(crate) rediagnose: bool,
    /// The stages for the resets of captures, with the same filters.
    pub(crate) captured: CapturedChain,
    /// Whether no other replay follows in this process.
    pub(crate) is_last: bool,
    /// Whether a report is made, and what it says of where it comes from.
    pub(crate) report: Option<ReportOrigin>,
    /// What joins the lines meanwhile; `None` where the report has its section already, or none.
    pub(crate) joined: Option<Box<dyn JoinedStream>>,
}

/// Result of a replay.
pub(crate) struct Replayed {
    /// The report, where one was to be made.
    pub(crate) report: Option<Report>,
    /// Whether an input could not be read to its end.
    is_damaged: bool,
    /// Whether a sink has lost records at the end, which it has reported.
    has_lost: bool,
}

impl Replayed {
    /// Fails with status 1 where an input could not be read to its end, or a sink has lost records at the end.
    pub(crate) fn checked(self) -> Result<(), Failure> {
        let damaged = || Failure::Running(anyhow!("an input could not be read to its end"));
        match self {
            Self { is_damaged: true, .. } => Err(damaged()),
            Self { has_lost: true, .. } => Err(Failure::RunningSaid),
            Self { .. } => Ok(()),
        }
    }
}

/// First and last time of the records, and the clock of the first.
#[derive(Default)]
pub(super) struct ReplayedSpan {
    first: Option<(Timestamp, u64)>,
    last: Option<Timestamp>,
    /// Host of the first record: sinks name one for all.
    host: Option<Arc<str>>,
    /// First and last time of headers, marks and captured packets: when a recorder ran, whether or not there were records.
    covered: Option<(Timestamp, Timestamp)>,
    /// First time that is read.
    since: Option<Timestamp>,
}

/// Replays until the inputs end or a signal comes. Blocks meanwhile. Fails with status 1 when an output cannot be opened or
/// written to, and with status 2 when the inputs are nothing that can be read.
pub(crate) fn run(replay: Replay) -> Result<Replayed, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let result = runtime.block_on(replay.run());
    // The reader may wait for a pipe, and a writer may be stuck in a write.
    runtime.shutdown_background();
    result
}

/// Reads in a thread of its own: a pipe may have nothing for a long time, in which signals are answered. The inputs come back
/// at their end.
pub(super) fn read_ahead(mut inputs: Inputs) -> Result<(mpsc::Receiver<Vec<Line>>, mpsc::Receiver<Inputs>)> {
    let (lines, batches) = mpsc::channel(BATCHES_AHEAD);
    let (done, ended) = mpsc::channel(1);
    thread::Builder::new().name("reader".into()).spawn(move || {
        let mut batch = Vec::new();
        let mut begun = Instant::now();
        while let Some(line) = inputs.next() {
            if batch.is_empty() {
                begun = Instant::now();
            }
            batch.push(line);
            let is_due = batch.len() >= BATCH || begun.elapsed() >= BATCH_TIME || !inputs.has_more_at_once();
            if is_due && lines.blocking_send(std::mem::take(&mut batch)).is_err() {
                return;
            }
        }
        // The run may have ended without waiting.
        let _ignored = lines.blocking_send(batch);
        let _ignored = done.blocking_send(inputs);
    })?;
    Ok((batches, ended))
}

impl Replay {
    async fn run(self) -> Result<Replayed, Failure> {
        let Self { inputs, filter, diagnosis, output, rediagnose, captured, report, is_last, mut joined } = self;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        let needs = needs_of_sinks(&output.sink);
        if is_last {
            sandbox::enter_reader(needs);
        } else {
            sandbox::drop_capabilities_of_reader(needs);
        }
        let since = inputs.range().since;
        let (mut batches, mut ended) = read_ahead(inputs)?;
        let recorded = if rediagnose {
            RecordedChain::Rediagnosis(Box::new(Rediagnosis::new(diagnosis.renewed(), filter)))
        } else {
            RecordedChain::Filter(Box::new(filter))
        };
        let mut chain = Chain { recorded, captured };
        let results = Results {
            tally: Tally::grouped_by(output.group_by.clone()),
            report: report.is_some().then(Box::default),
            ..Results::default()
        };
        let mut counted = Counted::new(results, since);
        let mut outputs = None;
        loop {
            let batch = tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                batch = batches.recv() => batch,
                () = tokio::time::sleep(QUIET_TIME), if chain.is_waiting() => Some(Vec::new()),
            };
            let is_last = batch.is_none();
            if batch.as_ref().is_some_and(Vec::is_empty) {
                // The other end's record would have come by now.
                chain.finish_captured(&mut counted);
            }
            for line in batch.unwrap_or_default() {
                counted.take_sign(&line);
                if let Some(joined) = &mut joined {
                    joined.take(&line);
                }
                chain.take(line, &mut counted);
            }
            if is_last {
                chain.finish(&mut counted);
            }
            // The time of the first record is the start of the run.
            let outputs = match &mut outputs {
                Some(outputs) => outputs,
                none if counted.span.first.is_some() => none.insert(open(&output, &counted.span)?),
                _ if is_last => break,
                _ => continue,
            };
            let goes_on = tokio::select! {
                biased;
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                sent = outputs.send_all(&mut counted.results.outbox) => sent,
            };
            if !goes_on || is_last {
                break;
            }
        }
        chain.finish_captured(&mut counted);
        let inputs = ended.try_recv().ok();
        let is_captured = inputs.as_ref().is_some_and(|inputs| counted.take_captured(inputs));
        let Counted { results, span } = counted;
        let outputs = outputs.map_or_else(|| open(&output, &span), Ok)?;
        let mut said = inputs.as_ref().map(Inputs::notes).unwrap_or_default();
        said.extend(chain.notes());
        if inputs.as_ref().is_some_and(Inputs::is_foreign) {
            return Err(Failure::usage(format_args!("nothing to replay: {}", said.join("; "))));
        }
        if !output.quiet {
            inputs.iter().flat_map(Inputs::remarks).for_each(info);
        }
        // What is missing is a warning, which --quiet leaves.
        said.iter().for_each(info);
        let is_damaged = inputs.as_ref().is_some_and(Inputs::is_damaged);
        let degraded = inputs.as_ref().map(Inputs::degraded).unwrap_or_default();
        let gaps = inputs.as_ref().map(Inputs::gaps).unwrap_or_default();
        said.extend(inputs.iter().flat_map(Inputs::remarks).map(str::to_owned));
        let has_holes = inputs.as_ref().is_none_or(|inputs| inputs.holes() > 0 || inputs.is_damaged());
        let section = joined.as_mut().and_then(|joined| joined.section(has_holes));
        let origin = report.map(|origin| ReportOrigin {
            notes: said,
            gaps,
            is_damaged,
            is_captured,
            joined: origin.joined.or(section),
            ..origin
        });
        let (report, has_lost) = finish(outputs, results, &span, &output, &diagnosis, degraded, origin).await?;
        Ok(Replayed { report, is_damaged, has_lost })
    }
}

/// The results of a replay so far.
pub(super) struct Counted {
    pub(super) results: Results,
    pub(super) span: ReplayedSpan,
}

impl Counted {
    /// Begins with what is read from this time on.
    pub(super) fn new(results: Results, since: Option<Timestamp>) -> Self {
        Self { results, span: ReplayedSpan { since, ..ReplayedSpan::default() } }
    }

    /// Takes what a report and the summary need of a line that is no record.
    pub(super) fn take_sign(&mut self, line: &Line) {
        self.span.observe_recorder(line);
        self.results.take_sign(line, self.span.since);
    }

    /// Takes the times that captures cover, at the end of the inputs. Returns whether there were captures.
    pub(super) fn take_captured(&mut self, inputs: &Inputs) -> bool {
        let captured = inputs.captured();
        for time in captured.iter().flat_map(|(first, last)| [*first, *last]) {
            self.span.observe_coverage(time);
            if let Some(report) = &mut self.results.report {
                report.see(time);
            }
        }
        !captured.is_empty()
    }
}

impl Output for Counted {
    fn observe(&mut self, _: &Reset) {}

    fn emit(&mut self, record: Record) {
        self.span.observe(&record);
        if let Record::Lost(lost) = &record {
            self.results.tally.count_lost(lost.count);
        }
        self.results.emit(record);
    }
}

/// What records go through.
pub(super) struct Chain {
    pub(super) recorded: RecordedChain,
    pub(super) captured: CapturedChain,
}

/// What records go through that were recorded.
pub(super) enum RecordedChain {
    /// The filters alone.
    Filter(Box<RecordFilter>),
    /// The stages from the diagnosis on, with the filters.
    Rediagnosis(Box<Rediagnosis>),
}

impl Chain {
    /// Takes a line.
    pub(super) fn take(&mut self, line: Line, counted: &mut Counted) {
        self.captured.release_before(line.time(), counted);
        match (&mut self.recorded, line) {
            (_, Line::Captured(reset)) => self.captured.take(*reset, counted),
            (RecordedChain::Rediagnosis(rediagnosis), Line::Header(header)) => rediagnosis.header(&header, counted),
            // The filter may go by the new cause.
            (RecordedChain::Rediagnosis(rediagnosis), Line::Record(record @ Record::Reset(_))) => {
                rediagnosis.record(record, counted);
            }
            (RecordedChain::Rediagnosis(rediagnosis), Line::Record(record))
                if is_wanted(rediagnosis.filter(), &record) =>
            {
                rediagnosis.record(record, counted);
            }
            (RecordedChain::Filter(filter), Line::Record(record)) if is_wanted(filter, &record) => counted.emit(record),
            _ => {}
        }
    }

    /// Whether a reset of a capture waits for the other end's record.
    pub(super) fn is_waiting(&self) -> bool {
        self.captured.is_waiting()
    }

    /// Emits the resets of captures that wait.
    pub(super) fn finish_captured(&mut self, counted: &mut Counted) {
        self.captured.finish(counted);
    }

    /// Emits what is left at the end.
    pub(super) fn finish(&mut self, counted: &mut Counted) {
        if let RecordedChain::Rediagnosis(rediagnosis) = &mut self.recorded {
            rediagnosis.finish(counted);
        }
        self.captured.finish(counted);
    }

    /// What has to be said at the end.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let (count, is_filtered) = match &self.recorded {
            RecordedChain::Filter(_) => (0, false),
            RecordedChain::Rediagnosis(rediagnosis) => (rediagnosis.without_facts, rediagnosis.is_filtered),
        };
        let why = "records have no facts, as only recordings have them, and keep their causes";
        let without_facts = (count > 0).then(|| format!("{count} {why}"));
        let less = "filters had left resets out of the recording: what depends on others may be told otherwise";
        without_facts.into_iter().chain(is_filtered.then(|| less.to_owned()))
    }
}

/// Whether the filters let a record pass.
pub(crate) fn is_wanted(filter: &RecordFilter, record: &Record) -> bool {
    match record {
        Record::Reset(reset) => filter.matches(reset),
        Record::Ignored(ignored) => filter.matches(&ignored.as_reset()),
        Record::Forwarded(forwarded) => filter.matches_forwarded(forwarded),
        Record::Lost(_) | Record::Summary(_) => true,
    }
}

fn open(output: &OutputOptions, span: &ReplayedSpan) -> Result<Outputs, Failure> {
    let setup = OutputSetup { options: output, started_ns: span.first.map_or(0, |(_, ktime_ns)| ktime_ns) };
    let sinks = prepare_sinks(&output.sink)?;
    let host = span.host.clone().unwrap_or_else(|| "localhost".into());
    Ok(setup.open(sinks, &host, RecordingContext::default(), false)?)
}

/// Makes the summary, and closes the outputs. Returns the report, and whether a sink has lost records at the end.
async fn finish(
    outputs: Outputs,
    mut results: Results,
    span: &ReplayedSpan,
    output: &OutputOptions,
    diagnosis: &Diagnosis,
    degraded: Vec<String>,
    origin: Option<ReportOrigin>,
) -> Result<(Option<Report>, bool), Failure> {
    outputs.flush().await;
    let lacking = |loss: String| Degraded { what: "recording".into(), why: String::new(), loss };
    let degraded: Vec<Degraded> = degraded.into_iter().map(lacking).collect();
    let make = || summary_of(&results.tally, span, diagnosis, &degraded, true, outputs.counts());
    let mut summary: Option<Summary> = (!output.no_summary).then(make);
    let report = results.report.take().zip(origin).map(|(collector, origin)| {
        let summary = summary.clone().unwrap_or_else(make);
        collector.finish(summary, origin, diagnosis.timeouts(), time_zone(output.time))
    });
    if let Some(summary) = &summary {
        results.outbox.push(Record::Summary(Arc::new(summary.clone())));
    }
    let (written, losses) = outputs.finish(std::mem::take(&mut results.outbox)).await;
    if let Some(summary) = &mut summary {
        SinkLoss::settle(&losses, &mut summary.sinks);
        OutputSetup { options: output, started_ns: 0 }.print_summary(summary);
    }
    match Failure::of_outputs(written, &losses) {
        Err(Failure::RunningSaid) => Ok((report, true)),
        ended => ended.map(|()| (report, false)),
    }
}

/// The summary of what was recorded.
pub(super) fn summary_of(
    tally: &Tally,
    span: &ReplayedSpan,
    diagnosis: &Diagnosis,
    degraded: &[Degraded],
    last: bool,
    sinks: Vec<SinkCount>,
) -> Summary {
    tally.summary(SummaryContext {
        time: span.last.unwrap_or_else(Timestamp::now),
        duration: span.duration(),
        last,
        timeouts: diagnosis.timeouts(),
        coverage: Coverage::default(),
        degraded,
        sinks,
    })
}

impl ReplayedSpan {
    fn observe(&mut self, record: &Record) {
        let time = record.time();
        if let Record::Reset(reset) = record {
            self.host.get_or_insert_with(|| Arc::clone(&reset.host));
            let (_, ktime_ns) = self.first.get_or_insert((time, reset.internals.ktime_ns));
            // The two ends of a connection come in another order than their events.
            *ktime_ns = reset.internals.ktime_ns.min(*ktime_ns);
        }
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }

    /// Takes the time of a header or a mark.
    fn observe_recorder(&mut self, line: &Line) {
        if let Line::Header(_) | Line::Mark(_) = line {
            // A header is read that describes what comes after this time.
            let time = self.since.map_or(line.time(), |since| line.time().max(since));
            self.observe_coverage(time);
        }
    }

    /// Takes a time at which resets would have been seen.
    fn observe_coverage(&mut self, time: Timestamp) {
        let (first, last) = self.covered.unwrap_or((time, time));
        self.covered = Some((first.min(time), last.max(time)));
    }

    /// Time from the first record, header, mark or captured packet to the last.
    fn duration(&self) -> Duration {
        let records = self.first.map(|(first, _)| first).zip(self.last);
        let spans = [records, self.covered];
        let first = spans.iter().flatten().map(|(first, _)| *first).min();
        let last = spans.iter().flatten().map(|(_, last)| *last).max();
        let (Some(first), Some(last)) = (first, last) else { return Duration::ZERO };
        Duration::try_from(last.duration_since(first)).unwrap_or_default()
    }
}
