//! The corridor: the only room that knows every other. Events come in at one end, records go out at the other.

mod netns;
mod out;
mod ready;
mod records;
mod say;
mod spare;
mod wait;

use std::{
    fs::File,
    io,
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
    ready::Ready,
    spare::Spare,
    wait::{after, asked, at, hang_up, hung_up, monotonic_ns},
};
use crate::{
    attribute::{Attribution, pending::PendingRecords},
    cli::Trace,
    decode::{Decoder, Reasons, sample, settle::Settle},
    diagnose::{Diagnosis, timeouts::Timeouts},
    exit::{Failure, note},
    load::{self, Choice, Kernel, Loaded, Object, preflight},
    metrics::Metrics,
    sandbox::{self, User},
    select::{Selection, flood::Flood, netns::Netns},
    service::Service,
    sink::{LostWhere, Record, ways::Ways},
    summary::{Tally, coverage::Watch},
    transport::{PERF_BYTES, ReadCoalescer, Transport},
};

/// Descriptors that a run with a sink and metrics takes, beside those that it is started with: programs, maps, links, the
/// event loops, signals. It takes up to 51.
const DESCRIPTORS: usize = 52;

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
    let ready = trace.run.ready_fd.map(Ready::take).transpose()?;
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
    pending: PendingRecords,
    flood: Flood,
    tally: Tally,
    watch: Watch,
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
    service: Service,
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
            netns: selection.netns.as_ref().map(Netns::number),
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
            attribution: Attribution::detect(),
            diagnosis,
            pending: PendingRecords::new(false),
            flood,
            tally: Tally::default(),
            watch: Watch::default(),
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
            service: Service::find(),
        })
    }

    async fn until_stopped(mut self, kernel: Kernel, ready: Option<Ready>, user: Option<User>) -> Result<(), Failure> {
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
            self.watch = Watch::start(!kernel.reset_reasons.is_empty());
        }
        self.loaded.attach(&kernel, &self.trace.more)?;
        drop(kernel);
        load::give_memory_back();
        let mut transport = opened.or_else(|events| Transport::open(events, per_cpu)).map_err(Failure::Host)?;
        // Before there is any other thread, which would keep what it has.
        self.loaded.degraded.extend(sandbox::enter(self.needs(), user.as_ref())?);
        // What cannot be opened with what is left could not be opened anew later either.
        let mut ways = self.ways()?;
        let mut scrapes = self.start_metrics()?;
        self.pending = PendingRecords::new(self.loaded.can_walk());
        self.attribution.prefetch_processes();
        self.announce(&transport);
        ready.map_or(Ok(()), Ready::announce)?;
        self.service.ready();
        let deadline = self.trace.run.duration.map(|duration| self.started + duration);
        let mut next_summary = self.next_summary();
        let mut batch: Vec<ResetEvent> = Vec::new();
        let mut check_loss = false;
        // A part of what is read is not read at once, but no more than the kernel has room for.
        let mut coalescer = ReadCoalescer::new(self.loaded.noise_limit().into());
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
                () = at(self.service.next()) => {}
                () = at(self.selection.next_look()) => self.look_at_netns(),
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
                () = after(self.pending.deadline_ns()) => {}
                () = after(self.flood.deadline_ns()) => self.fetch_counted(),
                scrape = asked(&mut scrapes) => {
                    // Whoever asks without end must not keep events from being read.
                    transport.drain(&mut keep);
                    check_loss = true;
                    self.count_losses();
                    self.answer(scrape, &ways);
                }
                read = transport.read(&mut keep), if coalescer.hold_off_until_ns().is_none() => {
                    let emptied = read.context("cannot read events")?;
                    check_loss = true;
                    coalescer.on_read(batch.len(), emptied, monotonic_ns().unwrap_or(0));
                }
                () = after(coalescer.hold_off_until_ns()) => coalescer.end_hold_off(),
                () = sleep(LOSS_CHECK), if check_loss => check_loss = false,
            }
            self.service.is_alive();
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
                        self.service.is_alive();
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
        mut ways: Ways,
    ) -> Result<(), Failure> {
        self.service.stopping();
        // While the programs are there, what waits for its owner can still be looked for.
        for _ in 0..LAST_READINGS {
            if transport.drain(&mut |head, tail| keep(head, tail, &mut batch, &mut self.malformed)) {
                break;
            }
        }
        self.process(&mut batch, 0);
        self.pending.expedite_scan();
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
            ways.settle().await;
        }
        let summary = (!self.trace.output.no_summary).then(|| self.summary(true, Watch::finish, &ways));
        if let Some(summary) = &summary {
            self.outbox.push(Record::Summary(Arc::new(summary.clone())));
        }
        let written = ways.finish(self.outbox).await;
        if let Some(summary) = summary {
            note(&summary);
        }
        written
    }
}

/// Makes sure that there are descriptors: the event loop panics without, and the programs would be refused halfway. What
/// comes after says itself what it lacks.
fn reserve_descriptors() -> Result<(), Failure> {
    let all: io::Result<Vec<File>> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    all.map(drop).map_err(|error| {
        Failure::host(format_args!("{DESCRIPTORS} descriptors cannot be had: {error}; raise the limit ('ulimit -n')"))
    })
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
