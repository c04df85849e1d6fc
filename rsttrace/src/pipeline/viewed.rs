//! The view of what was recorded: the inputs are read up to a time, which the view may set, and stay as they are then.
//!
//! To go to another time they are read again from their beginning, so that the counts are those of `--until`, and no state of every
//! time is held.

use std::{fs, mem, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, anyhow};
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{
    captured::CapturedChain,
    live::Results,
    replayed::{Chain, Counted, QUIET_TIME, RecordedChain, read_ahead, summary_of},
    report_file::{ReportFile, own_command},
    setup::{OutputSetup, time_zone},
    viewing::{ViewEvent, ViewSetup, Viewing},
};
use crate::{
    cli::OutputOptions,
    diagnose::Diagnosis,
    exit::Failure,
    filter::RecordFilter,
    model::{FilterOptions, Summary},
    replay::{CaptureView, Inputs, Line, TimeRange, parse_moment},
    report::{Report, ReportOrigin},
    sandbox::{self, Requirements},
    summary::Tally,
    top::{Board, Request, SnapshotContext, Source, step_s},
    util::{degraded::Degraded, messages},
};

/// What is looked at, and how.
pub(crate) struct ViewedInputs {
    /// The inputs, opened for the first time.
    pub(crate) opened: Inputs,
    /// Their paths, to open them again.
    pub(crate) paths: Vec<PathBuf>,
    /// Times that are read.
    pub(crate) range: TimeRange,
    /// How captures are read.
    pub(crate) view: CaptureView,
    /// The filters.
    pub(crate) filters: FilterOptions,
    /// The known timeouts, and the rules for captures.
    pub(crate) diagnosis: Diagnosis,
    /// How the summary is printed at the end, and the file of a report.
    pub(crate) output: OutputOptions,
    /// The terminal.
    pub(crate) setup: ViewSetup,
}

/// Shows the inputs until the view is quit or a signal comes. Blocks meanwhile. Fails with status 2 when the inputs are nothing that
/// can be read, and with status 1 when one could not be read to its end, the terminal has gone, or a report cannot be written.
pub(crate) fn run(inputs: ViewedInputs) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let result = runtime.block_on(show(inputs));
    // The reader may wait for a pipe.
    runtime.shutdown_background();
    result
}

/// Signals that end the view.
struct Signals([Signal; 3]);

impl Signals {
    /// Catches them. Fails when no handler can be installed.
    fn catch() -> Result<Self> {
        let caught = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self([caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?, caught(SignalKind::hangup())?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hang_up] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}

async fn show(inputs: ViewedInputs) -> Result<(), Failure> {
    let ViewedInputs { opened, paths, range, view, filters, diagnosis, output, setup } = inputs;
    let mut signals = Signals::catch()?;
    let file = output.report.as_deref().map(ReportFile::create).transpose()?.map(Arc::new);
    // Named as a part of the command line, a namespace is looked for before the sandbox.
    let filter = RecordFilter::for_recording(filters.clone())?;
    let is_filtered = !filter.is_everything() || range.since.is_some() || range.until.is_some();
    let can_seek = paths.iter().all(|path| fs::metadata(path).is_ok_and(|path| path.is_file() || path.is_dir()));
    // Without a file for the report, one is created when it is asked for.
    sandbox::enter_reader(Requirements { terminal: true, files: file.is_none(), ..Requirements::default() });
    let text = OutputSetup { options: &output, started_ns: 0 }.text_options();
    let mut reading = Reading {
        progress: Progress::new(opened, filter, &diagnosis)?,
        paths,
        range,
        view,
        filters,
        diagnosis,
        until: None,
        end: None,
        can_seek,
        is_filtered,
        began: Timestamp::now(),
        findings: None,
    };
    let mut viewing = Viewing::start(setup, text)?;
    loop {
        tokio::select! {
            biased;
            () = signals.any() => break,
            event = viewing.event() => {
                if !reading.on_view(event, &mut viewing, file.as_ref()) {
                    break;
                }
            }
            lines = reading.progress.lines() => {
                if let Err(failure) = reading.take(lines) {
                    drop(viewing);
                    return Err(failure);
                }
            }
        }
    }
    // What the key has written stays.
    let file = file.filter(|_| !viewing.has_written());
    drop(viewing);
    reading.finish(&output, file.as_deref())
}

/// What there is to say of the inputs, once they have been read to their end.
#[derive(Clone, Default)]
struct Findings {
    notes: Vec<String>,
    gaps: Vec<(Timestamp, Timestamp)>,
    degraded: Vec<Degraded>,
    is_damaged: bool,
    is_captured: bool,
}

/// One reading of the inputs, from their beginning.
struct Progress {
    batches: mpsc::Receiver<Vec<Line>>,
    ended: mpsc::Receiver<Inputs>,
    chain: Chain,
    counted: Counted,
    is_done: bool,
    /// Times of the first and the last line, and when the last one came.
    first: Option<Timestamp>,
    last: Option<(Timestamp, Instant)>,
}

impl Progress {
    fn new(inputs: Inputs, filter: RecordFilter, diagnosis: &Diagnosis) -> Result<Self, Failure> {
        let captured = CapturedChain::new(diagnosis, RecordFilter::for_recording(filter.filters().clone())?);
        let chain = Chain { recorded: RecordedChain::Filter(Box::new(filter)), captured };
        let since = inputs.range().since;
        let (batches, ended) = read_ahead(inputs)?;
        let results = Results { report: Some(Box::default()), board: Some(Box::default()), ..Results::default() };
        let counted = Counted::new(results, since);
        Ok(Self { batches, ended, chain, counted, is_done: false, first: None, last: None })
    }

    /// The next lines; empty where a reset of a capture waits no longer, `None` at the end, and never after it.
    async fn lines(&mut self) -> Option<Vec<Line>> {
        if self.is_done {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            lines = self.batches.recv() => lines,
            () = tokio::time::sleep(QUIET_TIME), if self.chain.is_waiting() => Some(Vec::new()),
        }
    }

    fn take(&mut self, lines: Option<Vec<Line>>) {
        self.is_done = lines.is_none();
        let lines = lines.unwrap_or_default();
        if lines.is_empty() {
            self.chain.finish_captured(&mut self.counted);
        }
        for line in lines {
            let time = line.time();
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some((self.last.map_or(time, |(last, _)| last.max(time)), Instant::now()));
            self.counted.take_sign(&line);
            self.chain.take(line, &mut self.counted);
        }
        if self.is_done {
            self.chain.finish(&mut self.counted);
        }
        // They go nowhere else.
        self.counted.results.outbox.clear();
    }
}

/// The inputs, as far as they are read.
struct Reading {
    progress: Progress,
    paths: Vec<PathBuf>,
    range: TimeRange,
    view: CaptureView,
    filters: FilterOptions,
    diagnosis: Diagnosis,
    /// Time up to which is read; `None` for the end.
    until: Option<Timestamp>,
    /// Time of the last line of all; `None` before it has been read.
    end: Option<Timestamp>,
    can_seek: bool,
    is_filtered: bool,
    /// When the view began: what it tells where there is no line.
    began: Timestamp,
    /// `None` before the inputs have been read to their end.
    findings: Option<Findings>,
}

impl Reading {
    fn take(&mut self, lines: Option<Vec<Line>>) -> Result<(), Failure> {
        self.progress.take(lines);
        if !self.progress.is_done || self.findings.is_some() {
            return Ok(());
        }
        let inputs = self.progress.ended.try_recv().ok();
        if self.until.is_some() {
            return Ok(());
        }
        self.end = self.progress.last.map(|(last, _)| last);
        let Some(inputs) = inputs else { return Ok(()) };
        let is_captured = self.progress.counted.take_captured(&inputs);
        let notes: Vec<String> = inputs.notes().into_iter().chain(self.progress.chain.notes()).collect();
        if inputs.is_foreign() {
            return Err(Failure::usage(format_args!("nothing to show: {}", notes.join("; "))));
        }
        notes.iter().map(String::as_str).chain(inputs.remarks()).for_each(messages::info);
        let degraded = |loss| Degraded { what: "recording".into(), why: String::new(), loss };
        self.findings = Some(Findings {
            gaps: inputs.gaps(),
            degraded: inputs.degraded().into_iter().map(degraded).collect(),
            is_damaged: inputs.is_damaged(),
            is_captured,
            notes: notes.into_iter().chain(inputs.remarks().map(str::to_owned)).collect(),
        });
        Ok(())
    }

    /// Does what the view asks for. Returns false where it ends.
    fn on_view(&mut self, event: ViewEvent, viewing: &mut Viewing, file: Option<&Arc<ReportFile>>) -> bool {
        match event {
            ViewEvent::Request(Request::Quit) => return false,
            ViewEvent::Request(Request::Narrow(narrowing)) => {
                let lacks = self.board().has_dropped();
                self.board_mut().narrow(narrowing.map(|narrowing| *narrowing));
                // What is not held any more is read again, where there is a filter and that can be done.
                if lacks && self.can_seek && self.board().narrowing().is_some() {
                    self.read_up_to(self.until, viewing);
                }
                viewing.hurry();
            }
            ViewEvent::Request(Request::Step { forward }) => self.step(forward, viewing),
            ViewEvent::Request(Request::Go(text)) => self.go(&text, viewing),
            ViewEvent::Request(Request::Report) => self.write_report(viewing, file),
            ViewEvent::Answer(answer) => viewing.tell(answer),
            ViewEvent::Due => {
                // While nothing comes, the clock of an input that has not ended goes on.
                if viewing.is_wanted(!self.progress.is_done) {
                    self.show(viewing);
                }
            }
        }
        true
    }

    fn board(&self) -> &Board {
        static NONE: std::sync::LazyLock<Board> = std::sync::LazyLock::new(Board::default);
        self.progress.counted.results.board.as_deref().unwrap_or(&NONE)
    }

    fn board_mut(&mut self) -> &mut Board {
        self.progress.counted.results.board.get_or_insert_default()
    }

    fn source(&self) -> Source {
        match (self.can_seek, self.progress.is_done, self.until) {
            (false, false, _) => Source::Input,
            (false, true, _) => Source::Ended,
            (true, false, _) => Source::Reading,
            (true, true, None) => Source::Recording,
            (true, true, Some(_)) => Source::Moment,
        }
    }

    /// The end of the windows.
    fn clock(&self) -> Timestamp {
        let Some((last, came)) = self.progress.last else { return self.until.unwrap_or(self.began) };
        match self.source() {
            Source::Moment => self.until.unwrap_or(last),
            Source::Input => {
                let since = SignedDuration::try_from(came.elapsed()).unwrap_or_default();
                last.checked_add(since).unwrap_or(last)
            }
            _ => last,
        }
    }

    fn step(&mut self, forward: bool, viewing: &mut Viewing) {
        let Some(first) = self.progress.first.or(self.range.since) else { return };
        let (now, end) = (self.clock(), self.end.unwrap_or_else(|| self.clock()));
        let step = SignedDuration::from_secs(step_s(first, end));
        let to = if forward { now.checked_add(step) } else { now.checked_sub(step) };
        if let Ok(to) = to {
            self.go_to(to, viewing);
        }
    }

    fn go(&mut self, text: &str, viewing: &mut Viewing) {
        // A time of day is one of the last day, and a time ago before the end.
        let end = Zoned::new(self.end.unwrap_or_else(|| self.clock()), viewing.zone.clone());
        match parse_moment(text, &end) {
            Ok(to) => self.go_to(to, viewing),
            Err(why) => viewing.tell(why),
        }
    }

    /// Shows what was up to a time, or all where nothing comes after it.
    fn go_to(&mut self, to: Timestamp, viewing: &mut Viewing) {
        let until = Some(to).filter(|to| self.end.is_none_or(|end| *to <= end));
        if until.is_none() && self.until.is_none() {
            viewing.tell("this is the end".to_owned());
            return;
        }
        // Before the beginning there is nothing; once is enough.
        let until = until.map(|until| self.progress.first.map_or(until, |first| until.max(first)));
        if until == self.until && self.until.is_some() {
            viewing.tell("this is the beginning".to_owned());
            return;
        }
        self.read_up_to(until, viewing);
    }

    /// Reads the inputs again. Where they cannot be opened any more, what is shown stays.
    fn read_up_to(&mut self, until: Option<Timestamp>, viewing: &mut Viewing) {
        let earlier = [until, self.range.until].into_iter().flatten().min();
        let range = TimeRange { until: earlier, ..self.range };
        let opened = Inputs::open(&self.paths, range, self.view.clone()).map_err(|error| error.to_string());
        let filter = RecordFilter::for_recording(self.filters.clone()).map_err(|error| error.to_string());
        let begun = opened.and_then(|inputs| {
            let progress = Progress::new(inputs, filter?, &self.diagnosis.renewed());
            progress.map_err(|_failure| "the inputs cannot be read again".to_owned())
        });
        match begun {
            Ok(mut progress) => {
                let board = mem::take(self.board_mut());
                progress.counted.results.board = Some(Box::new(board.emptied()));
                // What the view goes by until the first line has been read again.
                progress.first = self.progress.first;
                (self.progress, self.until) = (progress, until);
                viewing.hurry();
            }
            Err(why) => viewing.tell(why),
        }
    }

    fn show(&self, viewing: &mut Viewing) {
        let results = &self.progress.counted.results;
        let (Some(board), Some(collector)) = (&results.board, &results.report) else { return };
        let context = SnapshotContext {
            source: self.source(),
            clock: self.clock(),
            zone: viewing.zone.clone(),
            host: String::new(),
            summary: self.summary(self.board().shown_tally(&results.tally), false),
            messages: messages::held(),
            answer: viewing.answer.clone(),
        };
        viewing.show(board.snapshot(&results.tally, collector, context));
    }

    fn summary(&self, tally: &Tally, last: bool) -> Summary {
        let degraded = self.findings.as_ref().map_or(&[][..], |findings| &findings.degraded);
        summary_of(tally, &self.progress.counted.span, &self.diagnosis, degraded, last, Vec::new())
    }

    /// The report of what is shown, or of all that was read.
    fn report(&self, is_whole: bool, zone: TimeZone) -> Option<Report> {
        let results = &self.progress.counted.results;
        let (board, whole) = (self.board(), results.report.as_deref()?);
        let (tally, collector) = if is_whole {
            (&results.tally, whole)
        } else {
            (board.shown_tally(&results.tally), board.shown_collector(whole))
        };
        let narrowing = board.narrowing().filter(|_| !is_whole);
        let findings = self.findings.clone().unwrap_or_default();
        let mut notes = findings.notes;
        notes.extend(self.until.map(|until| format!("The view showed what was before {until:.3}.")));
        notes.extend(narrowing.map(|narrowing| format!("The view had the filter '{}'.", narrowing.text())));
        let origin = ReportOrigin {
            command: own_command(),
            is_filtered: self.is_filtered || narrowing.is_some(),
            is_live: false,
            notes,
            gaps: findings.gaps,
            is_damaged: findings.is_damaged,
            is_captured: findings.is_captured,
            joined: None,
        };
        Some(collector.clone().finish(self.summary(tally, true), origin, self.diagnosis.timeouts(), zone))
    }

    fn write_report(&self, viewing: &mut Viewing, file: Option<&Arc<ReportFile>>) {
        let file = match file {
            Some(file) => Ok(Arc::clone(file)),
            None => ReportFile::create_new(Timestamp::now()).map(Arc::new),
        };
        match (file, self.report(false, viewing.zone.clone())) {
            (Ok(file), Some(report)) => viewing.write_report(report, file),
            (Err(error), _) => viewing.tell(messages::sentence(&error)),
            (Ok(_), None) => {}
        }
    }

    /// Prints the summary, and writes the report of the command line.
    fn finish(self, output: &OutputOptions, file: Option<&ReportFile>) -> Result<(), Failure> {
        OutputSetup { options: output, started_ns: 0 }
            .print_summary(&self.summary(&self.progress.counted.results.tally, true));
        if let Some((file, report)) = file.zip(self.report(true, time_zone(output.time))) {
            file.write(&report.document(ReportFile::format(file.path())))?;
            if !output.quiet {
                messages::info(format_args!("report: {}", file.path().display()));
            }
        }
        let damaged = || Failure::Running(anyhow!("an input could not be read to its end"));
        if self.findings.is_some_and(|findings| findings.is_damaged) { Err(damaged()) } else { Ok(()) }
    }
}
