//! The corridor: the only room that knows every other. Events come in at one end, records go out at the other.

mod out;
mod records;
mod say;
mod spare;
mod wait;

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{BorrowedFd, FromRawFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Buf as _;
use rsttrace_common::event::ResetEvent;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use self::{
    spare::Spare,
    wait::{after, asked, at, hang_up, hung_up, monotonic_ns},
};
use crate::{
    attribute::{Attribution, hold::Hold},
    cli::Trace,
    confine::{User, confine},
    decode::{Decoder, Reasons, sample, settle::Settle},
    diagnose::{Diagnosis, timeouts::Timeouts},
    exit::{Failure, note},
    load::{self, Choice, Kernel, Loaded, Object, preflight},
    metrics::Metrics,
    model::{LostWhere, Record},
    sd_notify::ServiceNotifier,
    select::{Selection, flood::Flood},
    sink::outputs::Outputs,
    summary::{Tally, coverage::CounterBaseline},
    transport::{PERF_BYTES, Pause, Transport},
};

/// Descriptors that the event loop and the signals take, and some.
const DESCRIPTORS: usize = 16;

/// Batches that are read at the end while more may come. What is left is read when none can.
const LAST_READINGS: usize = 64;

/// How long after the last event the kernel's loss counters are still looked at. Loss without a later event shows
/// there; an idle run looks at nothing.
const LOSS_CHECK: Duration = Duration::from_millis(500);

/// Traces until it is told to stop.
pub(crate) fn run(trace: Trace) -> Result<(), Failure> {
    let selection = Selection::new(trace.filters.clone())?;
    let diagnosis = Diagnosis::new(Timeouts::read(trace.run.timeouts.as_deref())?);
    if let Some(name) = trace.more.forwarded.iter().find(|name| nix::net::if_::if_nametoindex(name.as_str()).is_err()) {
        return Err(Failure::usage(format_args!("there is no interface '{name}': 'ip link' lists them")));
    }
    let user = trace.run.user.as_deref().map(User::find).transpose()?;
    let ready = trace.run.ready_fd.map(ready_file).transpose()?;
    if let Some(obstacle) = preflight::obstacle() {
        return Err(Failure::host(obstacle));
    }
    reserve_descriptors()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let kernel = Kernel::read()?;
    let run = Run::start(trace, selection, diagnosis, &kernel)?;
    let result = runtime.block_on(run.until_stopped(kernel, ready, user));
    // A writer that is stuck in a write must not keep the process.
    runtime.shutdown_background();
    result
}

/// Everything of one run.
struct Run {
    trace: Trace,
    selection: Selection,
    loaded: Loaded,
    object: Object,
    decoder: Decoder,
    settle: Settle,
    attribution: Attribution,
    diagnosis: Diagnosis,
    hold: Hold,
    flood: Flood,
    tally: Tally,
    watch: CounterBaseline,
    started: Instant,
    started_ns: u64,
    emitted: u64,
    lost_in_kernel: u64,
    lost_asides: u64,
    /// Resets told in the wrong direction, as far as that has been said.
    unsettled: u64,
    malformed: u64,
    walks_fail: bool,
    outbox: Vec<Record>,
    spare: Spare,
    metrics: Option<Metrics>,
    service: ServiceNotifier,
}

impl Run {
    /// Loads what this kernel takes; nothing is attached yet.
    fn start(trace: Trace, selection: Selection, diagnosis: Diagnosis, kernel: &Kernel) -> Result<Self, Failure> {
        let choice = Choice {
            transport: trace.run.transport,
            debug: trace.run.debug_kernel,
            bytes: trace.run.buffer_size,
            remember: trace.run.remember,
            filters: selection.filters(),
            netns: selection.netns,
        };
        let (object, loaded) = load::choose(kernel, &choice)?;
        let reasons = Reasons { reset: kernel.reset_reasons.clone(), drop: kernel.drop_reasons.clone() };
        let decoder = Decoder::new(host_name().into(), reasons, kernel.chrono_shift(), wait::ticks());
        let flood = Flood::new(loaded.counting_cpus(), loaded.noise_limit());
        Ok(Self {
            trace,
            selection,
            loaded,
            object,
            decoder,
            settle: Settle::default(),
            attribution: Attribution::default(),
            diagnosis,
            hold: Hold::new(false),
            flood,
            tally: Tally::default(),
            watch: CounterBaseline::default(),
            started: Instant::now(),
            started_ns: monotonic_ns().unwrap_or(0),
            emitted: 0,
            lost_in_kernel: 0,
            lost_asides: 0,
            unsettled: 0,
            malformed: 0,
            walks_fail: false,
            outbox: Vec::new(),
            spare: Spare::default(),
            metrics: None,
            service: ServiceNotifier::from_env(),
        })
    }

    async fn until_stopped(mut self, kernel: Kernel, ready: Option<File>, user: Option<User>) -> Result<(), Failure> {
        let per_cpu = self.trace.run.buffer_size.unwrap_or(PERF_BYTES);
        let events = self.loaded.take_events().map_err(Failure::Host)?;
        // Perf ring buffers lose what comes before they are open. The BPF ring buffer is there, and to map it can wait until
        // the memory that the start takes has been given back: it counts as this process's.
        let opened =
            if self.object == Object::Perf { Transport::open(events, per_cpu).map(Ok) } else { Ok(Err(events)) };
        let opened = opened.map_err(Failure::Host)?;
        // Signals are taken before anything is announced: whoever waits for the announcement may send one at once.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        let mut kernel_log = (self.object == Object::Debug).then(|| self.start_kernel_log()).flatten();
        // To a run with other ways out it says to begin new files; to any other that the terminal has gone.
        let has_others = !self.trace.output.sink.is_empty() || self.trace.output.metrics.is_some();
        let mut hang_up = has_others.then(hang_up).transpose()?;
        if !self.trace.output.no_summary || self.trace.output.metrics.is_some() {
            self.watch = CounterBaseline::start(!kernel.reset_reasons.is_empty());
        }
        self.loaded.attach(&kernel, &self.trace.more)?;
        drop(kernel);
        load::give_memory_back();
        let mut transport = opened.or_else(|events| Transport::open(events, per_cpu)).map_err(Failure::Host)?;
        // Before there is any other thread, which would keep what it has.
        self.loaded.degraded.extend(confine(self.needs(), user.as_ref())?);
        // What cannot be opened with what is left could not be opened anew later either.
        let mut ways = self.ways()?;
        let mut scrapes = self.start_metrics()?;
        self.hold = Hold::new(self.loaded.can_walk());
        self.attribution.look_around();
        self.announce(&transport);
        if let Some(mut ready) = ready {
            ready.write_all(b"\n").context("cannot write to the descriptor of --ready-fd")?;
        }

        self.service.ready();
        let deadline = self.trace.run.duration.map(|duration| self.started + duration);
        let mut next_summary = self.next_summary();
        let mut batch: Vec<ResetEvent> = Vec::new();
        let mut check_loss = false;
        // A part of what is read is not read at once, but no more than the kernel has room for.
        let mut pause = Pause::new(self.loaded.noise_limit().into());
        loop {
            let mut keep = |head: &[u8], tail: &[u8]| keep(head, tail, &mut batch, &mut self.malformed);
            // Every event up to here has been read.
            let mut seen_ns = 0;
            tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = hung_up(&mut hang_up) => ways.reopen(),
                () = ways.failed() => break,
                () = at(deadline) => break,
                () = at(self.service.next_ping()) => {}
                () = at(next_summary) => {
                    self.summarise(&ways);
                    next_summary = self.next_summary();
                }
                () = after(self.settle.deadline_ns()) => {
                    // First the clock, then the buffers: this process may not have run for longer than an event is
                    // held, and the other half of a pair may lie in there.
                    let now_ns = monotonic_ns().unwrap_or(0);
                    let emptied = transport.drain(&mut keep);
                    // In a flood the last of a batch shows how far the events have come.
                    seen_ns = if emptied { now_ns } else { batch.last().map_or(0, |event| event.ktime_ns) };
                }
                () = after(self.hold.deadline_ns()) => {}
                () = after(self.flood.deadline_ns()) => self.fetch_counted(),
                scrape = asked(&mut scrapes) => {
                    // Whoever asks without end must not keep events from being read.
                    transport.drain(&mut keep);
                    check_loss = true;
                    self.count_losses();
                    self.answer(scrape, &ways);
                }
                read = transport.read(&mut keep), if pause.until_ns().is_none() => {
                    let emptied = read.context("cannot read events")?;
                    check_loss = true;
                    pause.read(batch.len(), emptied, monotonic_ns().unwrap_or(0));
                }
                () = after(pause.until_ns()) => pause.end(),
                () = sleep(LOSS_CHECK), if check_loss => check_loss = false,
            }
            self.service.ping_watchdog();
            if let Some(log) = &mut kernel_log {
                log.flush();
            }
            self.process(&mut batch, seen_ns);
            self.search();
            self.count_losses();
            let goes_on = loop {
                tokio::select! {
                    biased;
                    _ = interrupt.recv() => break false,
                    _ = terminate.recv() => break false,
                    sent = ways.send(&mut self.outbox, |record| self.spare.keep(record)) => break sent,
                    // Nobody reads; what that costs is said while it happens.
                    () = sleep(LOSS_CHECK) => {
                        self.service.ping_watchdog();
                        self.count_losses();
                    }
                }
            };
            if !goes_on || self.is_enough() {
                break;
            }
        }
        self.finish(transport, batch, ways).await
    }

    /// Stops the programs, takes what the kernel still has, and says what the run came to.
    async fn finish(
        mut self,
        mut transport: Transport,
        mut batch: Vec<ResetEvent>,
        mut ways: Outputs,
    ) -> Result<(), Failure> {
        self.service.stopping();
        // While the programs are there, what waits for its owner can still be looked for.
        for _ in 0..LAST_READINGS {
            if transport.drain(&mut |head, tail| keep(head, tail, &mut batch, &mut self.malformed)) {
                break;
            }
        }
        self.process(&mut batch, 0);
        self.hold.hurry();
        self.search();
        // Counters before the programs go: `missed` is theirs.
        let missed = self.loaded.missed();
        self.loaded.detach();
        while !transport.drain(&mut |head, tail| keep(head, tail, &mut batch, &mut self.malformed)) {}
        self.process(&mut batch, u64::MAX);
        self.fetch_counted();
        self.release(u64::MAX);
        self.count_losses();
        self.lose(
            missed,
            LostWhere::Kernel,
            "they came in the middle of others on their CPU, where the kernel runs no program",
        );
        // What the outlets could not deliver is part of the summary, so they have what there is before it.
        if !self.trace.output.sink.is_empty() {
            ways.send(&mut self.outbox, drop).await;
            ways.flush().await;
        }
        let summary = (!self.trace.output.no_summary).then(|| self.summary(true, CounterBaseline::compare_all, &ways));
        if let Some(summary) = &summary {
            self.outbox.push(Record::Summary(Arc::new(summary.clone())));
        }
        let written = ways.finish(self.outbox).await;
        if let Some(summary) = summary {
            note(&summary);
        }
        written.map_err(Failure::Running)
    }
}

/// Makes sure that there are descriptors for the event loop, which panics without. What comes after says itself what it
/// lacks.
fn reserve_descriptors() -> Result<(), Failure> {
    let all: io::Result<Vec<File>> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    all.map(drop).map_err(|error| {
        Failure::host(format_args!("{DESCRIPTORS} descriptors cannot be had: {error}; raise the limit ('ulimit -n')"))
    })
}

/// The descriptor that somebody waits at, who left it open for us.
fn ready_file(fd: i32) -> Result<File, Failure> {
    // SAFETY: nothing is done with the descriptor but asking whether there is one.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD)
        .map_err(|_error| Failure::usage(format_args!("descriptor {fd} of --ready-fd is not open")))?;
    // SAFETY: it is open, and was handed to this process for this purpose.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Keeps the event of a sample that may lie in two parts.
fn keep(head: &[u8], tail: &[u8], batch: &mut Vec<ResetEvent>, malformed: &mut u64) {
    match sample::event(head.chain(tail)) {
        Ok(event) => batch.push(event),
        Err(error) => {
            log::warn!("{error}");
            *malformed += 1;
        }
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}
