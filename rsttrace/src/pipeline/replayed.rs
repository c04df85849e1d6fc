//! A run over what was recorded: records instead of events, the same filters, outputs and summary.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{live::Results, processor::Output as _, setup::OutputSetup};
use crate::{
    cli::OutputOptions,
    diagnose::Diagnosis,
    exit::Failure,
    filter::RecordFilter,
    model::{Coverage, Record, RecordingContext, Summary},
    replay::{Inputs, Line},
    sink::outputs::Outputs,
    summary::{SummaryContext, Tally},
    util::{degraded::Degraded, messages::info},
};

/// Lines that are passed on together.
const BATCH: usize = 512;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 4;
/// Longest time for which lines wait for others: those of a pipe come one by one.
const BATCH_TIME: Duration = Duration::from_millis(100);

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
}

/// First and last time of the records, and the clock of the first.
#[derive(Default)]
struct Span {
    first: Option<(Timestamp, u64)>,
    last: Option<Timestamp>,
}

/// Replays until the inputs end or a signal comes. Blocks meanwhile. Fails with status 1 when an output cannot be opened or
/// written to, and with status 2 when the inputs are nothing that can be read.
pub(crate) fn run(replay: Replay) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let result = runtime.block_on(replay.run());
    // The reader may wait for a pipe, and a writer may be stuck in a write.
    runtime.shutdown_background();
    result
}

/// Reads in a thread of its own: a pipe may have nothing for a long time, in which signals are answered. The inputs come back
/// at their end.
fn read_ahead(mut inputs: Inputs) -> Result<(mpsc::Receiver<Vec<Line>>, mpsc::Receiver<Inputs>)> {
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
    async fn run(self) -> Result<(), Failure> {
        let Self { inputs, filter, diagnosis, output, .. } = self;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        let (mut batches, mut ended) = read_ahead(inputs)?;
        let mut results = Results { tally: Tally::grouped_by(output.group_by.clone()), ..Results::default() };
        let mut span = Span::default();
        let mut outputs = None;
        loop {
            let batch = tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                batch = batches.recv() => batch,
            };
            let Some(batch) = batch else { break };
            for line in batch {
                let Line::Record(record) = line else { continue };
                if is_wanted(&filter, &record) {
                    span.observe(&record);
                    if let Record::Lost(lost) = &record {
                        results.tally.count_lost(lost.count);
                    }
                    results.emit(record);
                }
            }
            // The time of the first record is the start of the run.
            let outputs = match &mut outputs {
                Some(outputs) => outputs,
                none if span.first.is_some() => none.insert(open(&output, &span)?),
                _ => continue,
            };
            let goes_on = tokio::select! {
                biased;
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                sent = outputs.send_all(&mut results.outbox) => sent,
            };
            if !goes_on {
                break;
            }
        }
        let inputs = ended.try_recv().ok();
        let outputs = outputs.map_or_else(|| open(&output, &span), Ok)?;
        let said = inputs.as_ref().map(Inputs::notes).unwrap_or_default();
        if inputs.as_ref().is_some_and(Inputs::is_foreign) {
            return Err(Failure::usage(format_args!("nothing to replay: {}", said.join("; "))));
        }
        if !output.quiet {
            said.into_iter().for_each(info);
        }
        let degraded = inputs.as_ref().map(Inputs::degraded).unwrap_or_default();
        finish(outputs, results, &span, &output, &diagnosis, degraded).await
    }
}

/// Whether the filters let a record pass.
fn is_wanted(filter: &RecordFilter, record: &Record) -> bool {
    match record {
        Record::Reset(reset) => filter.matches(reset),
        Record::Ignored(ignored) => filter.matches(&ignored.as_reset()),
        Record::Forwarded(forwarded) => filter.matches_forwarded(forwarded),
        Record::Lost(_) | Record::Summary(_) => true,
    }
}

fn open(output: &OutputOptions, span: &Span) -> Result<Outputs> {
    let setup = OutputSetup { options: output, started_ns: span.first.map_or(0, |(_, ktime_ns)| ktime_ns) };
    setup.open(&"localhost".into(), RecordingContext::default(), false)
}

/// Makes the summary, and closes the outputs.
async fn finish(
    outputs: Outputs,
    mut results: Results,
    span: &Span,
    output: &OutputOptions,
    diagnosis: &Diagnosis,
    degraded: Vec<String>,
) -> Result<(), Failure> {
    outputs.flush().await;
    let lacking = |loss: String| Degraded { what: "recording".into(), why: String::new(), loss };
    let degraded: Vec<Degraded> = degraded.into_iter().map(lacking).collect();
    let summary: Option<Summary> = (!output.no_summary).then(|| {
        results.tally.summary(SummaryContext {
            time: span.last.unwrap_or_else(Timestamp::now),
            duration: span.duration(),
            last: true,
            timeouts: diagnosis.timeouts(),
            coverage: Coverage::default(),
            degraded: &degraded,
            sinks: outputs.counts(),
        })
    });
    if let Some(summary) = &summary {
        results.outbox.push(Record::Summary(Arc::new(summary.clone())));
    }
    let written = outputs.finish(std::mem::take(&mut results.outbox)).await;
    if let Some(summary) = summary {
        OutputSetup { options: output, started_ns: 0 }.print_summary(&summary);
    }
    written.map_err(Failure::from)
}

impl Span {
    fn observe(&mut self, record: &Record) {
        let time = record.time();
        if let Record::Reset(reset) = record {
            self.first.get_or_insert((time, reset.internals.ktime_ns));
        }
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }

    fn duration(&self) -> Duration {
        let (Some((first, _)), Some(last)) = (self.first, self.last) else { return Duration::ZERO };
        Duration::try_from(last.duration_since(first)).unwrap_or_default()
    }
}
