//! The view of a run: requests of its keys, snapshots for its drawings, the report that it asks for.

use std::{
    future::pending,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use tokio::sync::mpsc;

use super::{
    Pipeline,
    report_file::{ReportFile, own_command},
    setup::time_zone,
    timers::sleep_until,
};
use crate::{
    format::TextOptions,
    model::{Coverage, Summary},
    report::{Report, ReportCollector, ReportOrigin},
    sink::outputs::Outputs,
    summary::{SummaryContext, coverage::CounterBaseline},
    top::{DRAW_INTERVAL, Painter, Request, Snapshot, SnapshotContext, Source, TerminalDevice, View},
    util::messages,
};

/// Longest time between two snapshots: windows move on without records.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// What a view is started with.
pub(crate) struct ViewSetup {
    /// The terminal, opened before the sandbox.
    pub(crate) device: Arc<TerminalDevice>,
    /// Whether it is colored.
    pub(crate) is_colored: bool,
}

/// A view that is on the terminal. Dropping it gives the terminal back, and prints the messages that were held.
pub(super) struct Viewing {
    /// `None` once the terminal has been given back.
    painter: Option<Painter>,
    requests: mpsc::UnboundedReceiver<Request>,
    pub(super) zone: TimeZone,
    /// When the next snapshot is due.
    next: Instant,
    shown: Option<Instant>,
    /// Answers of the thread that writes a report.
    answers: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    pub(super) answer: Option<(u64, String)>,
    writer: Option<JoinHandle<()>>,
    /// Whether a report has been asked for and could be made.
    has_written: bool,
}

/// What a view waits for.
#[derive(Debug)]
pub(super) enum ViewEvent {
    /// A key asks for something.
    Request(Request),
    /// A report has been written, or could not be.
    Answer(String),
    /// The next snapshot is due.
    Due,
}

impl Viewing {
    /// Takes the terminal, and holds messages from now on. Fails where the terminal has gone.
    pub(super) fn start(setup: ViewSetup, text: TextOptions) -> Result<Self> {
        messages::hold();
        let zone = text.zone.clone();
        let view = View::new(text, setup.is_colored);
        let started = Painter::start(setup.device, view).context("cannot draw on the terminal");
        let (painter, requests) = started.inspect_err(|_error| messages::release())?;
        Ok(Self {
            painter: Some(painter),
            requests,
            zone,
            next: Instant::now(),
            shown: None,
            answers: mpsc::unbounded_channel(),
            answer: None,
            writer: None,
            has_written: false,
        })
    }

    /// Waits for what comes next. Cancel safe.
    pub(super) async fn event(&mut self) -> ViewEvent {
        tokio::select! {
            biased;
            request = self.requests.recv() => ViewEvent::Request(request.unwrap_or(Request::Quit)),
            Some(answer) = self.answers.1.recv() => ViewEvent::Answer(answer),
            () = sleep_until(Some(self.next)) => ViewEvent::Due,
        }
    }

    /// Whether a snapshot is to be made, now that it is due: records have come, or none for some time.
    pub(super) fn is_wanted(&mut self, has_changed: bool) -> bool {
        let now = Instant::now();
        self.next = now + DRAW_INTERVAL;
        has_changed || self.shown.is_none_or(|shown| now.duration_since(shown) >= IDLE_INTERVAL)
    }

    /// Shows a snapshot.
    pub(super) fn show(&mut self, snapshot: Snapshot) {
        self.shown = Some(Instant::now());
        if let Some(painter) = &self.painter {
            painter.show(snapshot);
        }
    }

    /// Tells an answer with the next snapshot, which is due at once.
    pub(super) fn tell(&mut self, answer: String) {
        self.answer = Some((self.answer.as_ref().map_or(1, |(number, _)| number + 1), answer));
        (self.shown, self.next) = (None, Instant::now());
    }

    /// Makes the next snapshot due at once.
    pub(super) fn hurry(&mut self) {
        (self.shown, self.next) = (None, Instant::now());
    }

    /// Writes a report in a thread of its own, whose answer comes as an event.
    pub(super) fn write_report(&mut self, report: Report, file: Arc<ReportFile>) {
        self.wait_for_report();
        self.has_written = true;
        let answers = self.answers.0.clone();
        let write = move || {
            let format = ReportFile::format(file.path());
            let answer = match file.write(&report.document(format)) {
                Ok(()) => format!("report: {}", file.path().display()),
                Err(error) => messages::sentence(&error),
            };
            messages::info(&answer);
            // The run may have ended.
            let _ignored = answers.send(answer);
        };
        match thread::Builder::new().name("report".into()).spawn(write) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => self.tell(format!("cannot write the report: {error}")),
        }
    }

    /// Whether a report has been written for the key.
    pub(super) const fn has_written(&self) -> bool {
        self.has_written
    }

    /// Waits until no report is being written.
    fn wait_for_report(&mut self) {
        if let Some(writer) = self.writer.take() {
            // It has told what went wrong.
            let _ignored = writer.join();
        }
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        drop(self.painter.take());
        self.wait_for_report();
        messages::release();
    }
}

/// Waits for what the view does next; forever without a view. Cancel safe.
pub(super) async fn view_event(viewing: &mut Option<Viewing>) -> ViewEvent {
    match viewing {
        Some(viewing) => viewing.event().await,
        None => pending().await,
    }
}

impl Pipeline {
    /// Starts the view, if there is one to be. Fails where the terminal has gone.
    pub(super) fn start_view(&self, setup: Option<ViewSetup>) -> Result<Option<Viewing>> {
        setup.map(|setup| Viewing::start(setup, self.text_options())).transpose()
    }

    /// Does what the view asks for. Returns false where the run ends.
    pub(super) fn on_view(
        &mut self,
        event: ViewEvent,
        viewing: &mut Option<Viewing>,
        outputs: &Outputs,
        report: Option<&Arc<ReportFile>>,
    ) -> bool {
        let Some(viewing) = viewing else { return true };
        match event {
            ViewEvent::Request(Request::Quit) => return false,
            ViewEvent::Request(Request::Narrow(narrowing)) => {
                if let Some(board) = &mut self.results.board {
                    board.narrow(narrowing.map(|narrowing| *narrowing));
                }
                viewing.hurry();
            }
            ViewEvent::Request(Request::Report) => match report {
                Some(file) => match self.shown_report(outputs) {
                    Some(report) => viewing.write_report(report, Arc::clone(file)),
                    None => viewing.tell("there is nothing to report".to_owned()),
                },
                None => viewing.tell(
                    "start with --report FILE: once a live run has dropped its privileges, it creates no file"
                        .to_owned(),
                ),
            },
            ViewEvent::Request(Request::Step { .. } | Request::Go(_)) => {}
            ViewEvent::Answer(answer) => viewing.tell(answer),
            ViewEvent::Due => self.show(viewing, outputs),
        }
        true
    }

    /// Shows how far the run has come, where that has changed.
    fn show(&mut self, viewing: &mut Viewing, outputs: &Outputs) {
        let (resets, lost) = self.results.tally.totals();
        let has_changed = std::mem::replace(&mut self.viewed, resets + lost) != resets + lost;
        if !viewing.is_wanted(has_changed) {
            return;
        }
        let summary = self.shown_summary(outputs);
        let (Some(board), Some(collector)) = (&self.results.board, &self.results.report) else { return };
        let context = SnapshotContext {
            source: Source::Live,
            clock: Timestamp::now(),
            zone: viewing.zone.clone(),
            host: self.processor.stages().decoder.host().to_string(),
            summary,
            messages: messages::held(),
            answer: viewing.answer.clone(),
        };
        viewing.show(board.snapshot(&self.results.tally, collector, context));
    }

    /// The summary of what is shown: with a filter of the view, of the records that match.
    fn shown_summary(&self, outputs: &Outputs) -> Summary {
        let whole = self.summary(false, CounterBaseline::compare_own, outputs);
        match &self.results.board {
            Some(board) if board.narrowing().is_some() => {
                board.shown_tally(&self.results.tally).summary(SummaryContext {
                    time: whole.time,
                    duration: self.started.elapsed(),
                    last: false,
                    timeouts: self.processor.stages().diagnosis.timeouts(),
                    coverage: Coverage::default(),
                    degraded: &self.loaded.degraded,
                    sinks: whole.sinks,
                })
            }
            _ => whole,
        }
    }

    /// The report of what is shown.
    fn shown_report(&self, outputs: &Outputs) -> Option<Report> {
        let board = self.results.board.as_ref()?;
        let collector = board.shown_collector(self.results.report.as_ref()?).clone();
        Some(self.report_of(collector, self.shown_summary(outputs), board.narrowing().is_some()))
    }

    /// The report of these records.
    pub(super) fn report_of(&self, mut collector: ReportCollector, summary: Summary, is_narrowed: bool) -> Report {
        let ran_for = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        collector.see(summary.time.saturating_sub(ran_for).unwrap_or(summary.time));
        collector.see(summary.time);
        let stages = self.processor.stages();
        let origin = ReportOrigin {
            command: own_command(),
            is_live: true,
            is_filtered: is_narrowed || !stages.filter.is_everything(),
            ..ReportOrigin::default()
        };
        let zone = time_zone(self.trace.output.time);
        collector.finish(summary, origin, stages.diagnosis.timeouts(), zone)
    }
}
