//! The corridor: the only file that knows every room. Events come in at one end, records go out at the other.

use std::{
    fs::File,
    future::pending,
    io::{self, Write as _},
    os::fd::{BorrowedFd, FromRawFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use anstream::ColorChoice;
use anyhow::{Context as _, Result};
use bytes::Buf as _;
use jiff::{Timestamp, tz::TimeZone};
use nix::time::{ClockId, clock_gettime};
use rsttrace_common::event::{KIND_FORWARDED, KIND_IGNORED, ResetEvent};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

use crate::{
    attribute::{Attribution, hold::Hold, owner},
    cli::{Format, TimeFormat, Trace},
    confine::{Needs, User, confine},
    decode::{self, Decoder, Reasons, clock::WallClock, sample, settle::Settle},
    degraded::{self, Degraded},
    diagnose::{Diagnosis, timeouts::Timeouts},
    exit::{Failure, note, sentence},
    load::{self, Choice, Kernel, Loaded, Object, preflight},
    metrics::{Metrics, Scrape},
    reset::Reset,
    select::Selection,
    service::Service,
    sink::{
        self, Look, Lost, LostWhere, Record,
        outlet::{Given, Reach, crew::Crew},
        ways::Ways,
    },
    summary::{Circumstances, Summary, Tally, coverage::Watch},
    transport::Transport,
};

/// Size of each CPU's perf ring buffer: 3,000 events.
const PERF_BYTES: u32 = 1 << 20;

/// Descriptors that the event loop and the signals take, and some.
const DESCRIPTORS: usize = 16;

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
    let result = runtime.block_on(Run::start(trace, selection, diagnosis)?.until_stopped(ready, user));
    // A writer that is stuck in a write must not keep the process.
    runtime.shutdown_background();
    result
}

/// Everything of one run.
struct Run {
    trace: Trace,
    selection: Selection,
    loaded: Loaded,
    kernel_types: Kernel,
    object: Object,
    decoder: Decoder,
    settle: Settle,
    attribution: Attribution,
    diagnosis: Diagnosis,
    hold: Hold,
    tally: Tally,
    watch: Watch,
    started: Instant,
    started_ns: u64,
    emitted: u64,
    lost_in_kernel: u64,
    lost_asides: u64,
    malformed: u64,
    walks_fail: bool,
    outbox: Vec<Record>,
    metrics: Option<Metrics>,
    service: Service,
}

impl Run {
    /// Loads what this kernel takes; nothing is attached yet.
    fn start(trace: Trace, selection: Selection, diagnosis: Diagnosis) -> Result<Self, Failure> {
        let kernel_types = Kernel::read()?;
        let choice = Choice {
            transport: trace.run.transport,
            debug: trace.run.debug_kernel,
            bytes: trace.run.buffer_size,
            remember: trace.run.remember,
            filters: selection.filters(),
            netns: selection.netns,
        };
        let (object, loaded) = load::choose(&kernel_types, &choice)?;
        let reasons = Reasons { reset: kernel_types.types.reset_reasons(), drop: kernel_types.types.drop_reasons() };
        let decoder = Decoder::new(host_name().into(), reasons, kernel_types.chrono_shift());
        Ok(Self {
            trace,
            selection,
            loaded,
            kernel_types,
            object,
            decoder,
            settle: Settle::default(),
            attribution: Attribution::default(),
            diagnosis,
            hold: Hold::new(false),
            tally: Tally::default(),
            watch: Watch::default(),
            started: Instant::now(),
            started_ns: monotonic_ns().unwrap_or(0),
            emitted: 0,
            lost_in_kernel: 0,
            lost_asides: 0,
            malformed: 0,
            walks_fail: false,
            outbox: Vec::new(),
            metrics: None,
            service: Service::find(),
        })
    }

    async fn until_stopped(mut self, ready: Option<File>, user: Option<User>) -> Result<(), Failure> {
        let per_cpu = self.trace.run.buffer_size.unwrap_or(PERF_BYTES);
        let events = self.loaded.take_events().map_err(Failure::Host)?;
        let mut transport = Transport::open(events, per_cpu).map_err(Failure::Host)?;
        // Signals are taken before anything is announced: whoever waits for the announcement may send one at once.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        let mut kernel_log = (self.object == Object::Debug).then(|| self.start_kernel_log()).flatten();
        // Without a file to begin anew it means what it always means: the terminal has gone.
        let mut hang_up = if self.trace.output.sink.is_empty() { None } else { Some(hang_up()?) };
        if !self.trace.output.no_summary || self.trace.output.metrics.is_some() {
            self.watch = Watch::start(!self.kernel_types.types.reset_reasons().is_empty());
        }
        self.loaded.attach(&self.kernel_types, &self.trace.more)?;
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
                scrape = asked(&mut scrapes) => {
                    self.count_losses();
                    self.answer(scrape, &ways);
                }
                read = transport.read(&mut keep) => {
                    read.context("cannot read events")?;
                    check_loss = true;
                }
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
                    sent = ways.send(&mut self.outbox) => break sent,
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
        while !transport.drain(&mut |head, tail| keep(head, tail, &mut batch, &mut self.malformed)) {}
        self.process(&mut batch, 0);
        self.hold.hurry();
        self.search();
        // Counters before the programs go: `missed` is theirs.
        let missed = self.loaded.missed();
        self.loaded.detach();
        while !transport.drain(&mut |head, tail| keep(head, tail, &mut batch, &mut self.malformed)) {}
        self.process(&mut batch, u64::MAX);
        self.release(u64::MAX);
        self.count_losses();
        self.lose(missed, LostWhere::Kernel);
        // What the outlets could not deliver is part of the summary, so they have what there is before it.
        if !self.trace.output.sink.is_empty() {
            ways.send(&mut self.outbox).await;
            ways.settle().await;
        }
        let summary = (!self.trace.output.no_summary).then(|| self.summary(true, &ways));
        if let Some(summary) = &summary {
            self.outbox.push(Record::Summary(Arc::new(summary.clone())));
        }
        let written = ways.finish(self.outbox).await;
        if let Some(summary) = summary {
            note(&summary);
        }
        written.map_err(Failure::Running)
    }

    /// Events to records, and those that are wanted to the outbox. Every event up to `seen_ns` has been read: what is
    /// held for a later one can go on if that has not come by then.
    fn process(&mut self, batch: &mut Vec<ResetEvent>, seen_ns: u64) {
        let Some(clock) = read_clocks() else { return };
        // Each CPU's perf ring is in order, all together they are not.
        batch.sort_by_key(|event| event.ktime_ns);
        let mut events = Vec::with_capacity(batch.len());
        for event in batch.drain(..) {
            events.extend(self.settle.next(event));
        }
        events.extend(self.settle.release(seen_ns));
        for event in events {
            if event.kind == KIND_FORWARDED {
                let forwarded = self.decoder.forwarded(&event, &clock, interface_name(event.interface));
                if self.selection.wants_forwarded(&forwarded) {
                    self.metrics.as_ref().inspect(|metrics| metrics.forward(&forwarded));
                    self.outbox.push(Record::Forwarded(Arc::new(forwarded)));
                }
                continue;
            }
            let mut reset = self.decoder.reset(&event, &clock);
            if event.kind == KIND_IGNORED {
                // Nothing was reset: neither the memory of neighbours nor any count may see it.
                self.attribution.attribute(&mut reset, |task| self.loaded.arguments(task.tgid, task.start_boottime_ns));
                if self.selection.wants(&reset) {
                    let ignored = reset.into();
                    self.metrics.as_ref().inspect(|metrics| metrics.ignore(&ignored));
                    self.outbox.push(Record::Ignored(Arc::new(ignored)));
                }
                continue;
            }
            // In the order of events, which the memory of earlier ones goes by.
            self.diagnosis.diagnose(&mut reset);
            let reset = if self.attribution.is_open(&mut reset) { self.hold.take(reset) } else { Some(reset) };
            if let Some(reset) = reset {
                self.conclude(reset);
            }
        }
    }

    /// Looks for the owners of the records that wait for theirs.
    fn search(&mut self) {
        let Some(began_ns) = monotonic_ns() else { return };
        if self.hold.deadline_ns().is_none_or(|deadline| deadline > began_ns) {
            return;
        }
        let mut now_ns = began_ns;
        if let Some(number) = self.hold.next_walk(began_ns) {
            match self.loaded.walk(number) {
                Ok(()) => {
                    now_ns = monotonic_ns().unwrap_or(began_ns);
                    self.hold.walked(began_ns, now_ns);
                    if std::mem::take(&mut self.walks_fail) {
                        note("open files are walked again");
                    }
                }
                Err(error) => {
                    self.hold.walk_failed(began_ns);
                    self.cannot_walk(&error);
                }
            }
        }
        self.release(now_ns);
    }

    /// Says that open files cannot be walked, once for each time that it begins.
    fn cannot_walk(&mut self, error: &anyhow::Error) {
        if std::mem::replace(&mut self.walks_fail, true) {
            return;
        }
        let degraded = Degraded {
            what: "walks of open files".to_owned(),
            why: sentence(error),
            loss: "owners of accepted connections are less sure meanwhile".to_owned(),
        };
        note(format_args!("degraded: {degraded}"));
        if !self.loaded.degraded.contains(&degraded) {
            self.loaded.degraded.push(degraded);
        }
    }

    /// Lets go of the records that need not wait any longer for their owner.
    fn release(&mut self, now_ns: u64) {
        let released = self.hold.release(now_ns, |number, first_walk| {
            let findings = self.loaded.findings(number);
            let mut found = findings.map(|findings| decode::found(&findings, first_walk)).unwrap_or_default();
            found.closer = found.closer.filter(|closer| !owner::only_walks(closer));
            found
        });
        for reset in released {
            self.conclude(reset);
        }
    }

    /// Says whose the reset was, and hands it on if it is wanted.
    fn conclude(&mut self, mut reset: Reset) {
        self.attribution.attribute(&mut reset, |task| self.loaded.arguments(task.tgid, task.start_boottime_ns));
        self.watch.see(&reset);
        if self.selection.wants(&reset) && !self.is_enough() {
            self.emit(reset);
        }
    }

    fn emit(&mut self, mut reset: Reset) {
        self.emitted += 1;
        reset.seq = self.emitted;
        if self.explains() {
            self.diagnosis.explain(&mut reset);
        }
        self.tally.count(&reset);
        if let Some(metrics) = &mut self.metrics {
            metrics.count(&reset);
        }
        self.outbox.push(Record::Reset(Arc::new(reset)));
    }

    fn is_enough(&self) -> bool {
        self.trace.run.count.is_some_and(|count| self.emitted >= count)
    }

    /// Reports what has been lost since the last time.
    fn count_losses(&mut self) {
        // The map is ours; reading it cannot fail once it could be opened.
        let lost = self.loaded.lost().unwrap_or(self.lost_in_kernel);
        self.lose(lost.saturating_sub(self.lost_in_kernel), LostWhere::Kernel);
        self.lost_in_kernel = lost;
        let asides = self.loaded.lost_asides().unwrap_or(self.lost_asides);
        if asides > self.lost_asides {
            let count = asides - self.lost_asides;
            note(format_args!("{count} ignored or forwarded resets were lost: {}", remedy(LostWhere::Kernel)));
            self.lost_asides = asides;
        }
        let malformed = std::mem::take(&mut self.malformed);
        self.lose(malformed, LostWhere::Userspace);
    }

    fn lose(&mut self, count: u64, place: LostWhere) {
        if count == 0 {
            return;
        }
        self.tally.lose(count);
        note(format_args!("{count} resets were lost: {}", remedy(place)));
        let lost = Lost { time: Timestamp::now(), count, r#where: place };
        self.metrics.as_ref().inspect(|metrics| metrics.lose(&lost));
        self.outbox.push(Record::Lost(lost));
    }

    /// Begins to count for Prometheus, if that is wanted.
    fn start_metrics(&mut self) -> Result<Option<mpsc::Receiver<Scrape>>> {
        let Some(address) = self.trace.output.metrics else { return Ok(None) };
        let (metrics, scrapes) = Metrics::start(address, self.trace.output.metrics_peers)?;
        self.metrics = Some(metrics);
        Ok(Some(scrapes))
    }

    /// Tells Prometheus.
    fn answer(&self, scrape: Scrape, ways: &Ways) {
        if let Some(metrics) = &self.metrics {
            // Whoever asked may have gone.
            scrape.send(metrics.show(&self.summary(false, ways))).unwrap_or_default();
        }
    }

    /// Whether somebody shows the evidence.
    fn explains(&self) -> bool {
        matches!(self.trace.output.output, Format::Long | Format::Json) || !self.trace.output.sink.is_empty()
    }

    /// The ways out.
    /// What the rest of the run does beside looking at processes and writing to what is open.
    fn needs(&self) -> Needs {
        let reaches = |reach| self.trace.output.sink.iter().any(|sink| sink.reach() == reach);
        Needs {
            files: reaches(Reach::Files),
            sockets: reaches(Reach::Sockets) || self.trace.output.metrics.is_some(),
            network_administration: self.loaded.detaches_through_netlink(),
        }
    }

    fn ways(&self) -> Result<Ways> {
        let output = &self.trace.output;
        let limit = output.sink_queue;
        let look = self.look();
        let given = Given { look: Look { color: false, time: TimeFormat::None, ..look.clone() } };
        let crew = Crew::start(&output.sink, limit, &given)?;
        let stdout = (output.output != Format::None).then(|| sink::sink(output.output, look));
        Ways::start(stdout, crew, limit)
    }

    /// When the next summary is due.
    fn next_summary(&self) -> Option<Instant> {
        self.trace.output.summary_interval.map(|interval| Instant::now() + interval)
    }

    /// Says what the run has come to so far.
    fn summarise(&mut self, ways: &Ways) {
        let summary = self.summary(false, ways);
        note(&summary);
        self.outbox.push(Record::Summary(Arc::new(summary)));
    }

    fn summary(&self, last: bool, ways: &Ways) -> Summary {
        let complete = self.selection.is_everything() && !self.tally.has_lost();
        self.tally.summary(Circumstances {
            time: Timestamp::now(),
            duration: self.started.elapsed(),
            last,
            timeouts: self.diagnosis.timeouts(),
            coverage: self.watch.finish(complete),
            degraded: &self.loaded.degraded,
            sinks: ways.counts(),
        })
    }

    fn look(&self) -> Look {
        let color = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Look {
            color,
            time: self.trace.output.time,
            started_ns: self.started_ns,
            zone: TimeZone::system(),
            names: !self.trace.output.numeric,
        }
    }

    /// One line that says what is watched, and one for each thing that is not.
    fn announce(&self, transport: &Transport) {
        let buffer = match transport {
            Transport::Perf(_) => "perf ring buffers",
            Transport::Ring(_) => "a BPF ring buffer",
        };
        let hooks: Vec<&str> = self.loaded.attached.iter().map(|attached| attached.hook).collect();
        note(format_args!("tracing {} through {buffer}; Ctrl-C stops", hooks.join(", ")));
        for degraded in degraded::grouped(&self.loaded.degraded) {
            note(format_args!("degraded: {degraded}"));
        }
    }

    fn start_kernel_log(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        env_logger::Builder::new().filter_level(log::LevelFilter::Debug).target(env_logger::Target::Stderr).init();
        self.loaded
            .kernel_log()
            .inspect_err(|error| note(format_args!("the kernel side's messages cannot be read: {}", sentence(error))))
            .ok()
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

/// The name of an interface of this namespace.
fn interface_name(index: u32) -> Option<Arc<str>> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    Some(name.to_string_lossy().into())
}

const fn remedy(place: LostWhere) -> &'static str {
    match place {
        LostWhere::Kernel => "they came faster than they were read; raise --buffer-size or filter",
        LostWhere::Userspace => "the kernel side and this program do not fit together",
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn read_clocks() -> Option<WallClock> {
    Some(WallClock { monotonic_ns: monotonic_ns()?, wall: Timestamp::now() })
}

/// The clock of the events.
fn monotonic_ns() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    Duration::from(now).as_nanos().try_into().ok()
}

/// SIGHUP.
fn hang_up() -> Result<Signal> {
    signal(SignalKind::hangup()).context("cannot watch for signals")
}

/// Waits for SIGHUP; for ever where it is not looked for.
async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// The next scrape; never where nobody may ask.
async fn asked(scrapes: &mut Option<mpsc::Receiver<Scrape>>) -> Scrape {
    match scrapes {
        Some(scrapes) => match scrapes.recv().await {
            Some(scrape) => scrape,
            // The server has ended.
            None => pending().await,
        },
        None => pending().await,
    }
}

/// Waits until a moment; for ever without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}

/// Waits until a moment on the clock of the events; for ever without one.
async fn after(deadline_ns: Option<u64>) {
    match deadline_ns {
        Some(deadline) => {
            let left = deadline.saturating_sub(monotonic_ns().unwrap_or(deadline));
            sleep(Duration::from_nanos(left)).await;
        }
        None => pending().await,
    }
}
