//! The corridor: the only room that knows every other. Events come in at one end, records go out at the other.

mod say;
mod wait;

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{BorrowedFd, FromRawFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use anstream::ColorChoice;
use anyhow::{Context as _, Result};
use bytes::Buf as _;
use jiff::tz::TimeZone;
use rsttrace_common::{
    event::{KIND_FORWARDED, KIND_IGNORED, ResetEvent},
    flood::Pace,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

use self::wait::{after, asked, at, hang_up, hung_up, monotonic_ns, read_clocks};
use crate::{
    attribute::{Attribution, hold::Hold, owner},
    cli::{Format, TimeFormat, Trace},
    confine::{Needs, User, confine},
    decode::{self, Decoder, Reasons, clock::WallClock, sample, settle::Settle},
    diagnose::{Diagnosis, timeouts::Timeouts},
    exit::{Failure, note, sentence},
    load::{self, Choice, Kernel, Loaded, Object, preflight},
    metrics::{Metrics, Scrape},
    reset::Reset,
    select::{Selection, flood::Flood},
    service::Service,
    sink::{
        self, Look, LostWhere, Record,
        outlet::{Given, Reach, crew::Crew},
        ways::Ways,
    },
    summary::{Tally, coverage::Watch},
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
    let kernel_types = Kernel::read()?;
    let run = Run::start(trace, selection, diagnosis, &kernel_types)?;
    let result = runtime.block_on(run.until_stopped(kernel_types, ready, user));
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
    fn start(trace: Trace, selection: Selection, diagnosis: Diagnosis, kernel_types: &Kernel) -> Result<Self, Failure> {
        let choice = Choice {
            transport: trace.run.transport,
            debug: trace.run.debug_kernel,
            bytes: trace.run.buffer_size,
            remember: trace.run.remember,
            filters: selection.filters(),
            netns: selection.netns,
        };
        let (object, loaded) = load::choose(kernel_types, &choice)?;
        let reasons = Reasons { reset: kernel_types.types.reset_reasons(), drop: kernel_types.types.drop_reasons() };
        let decoder = Decoder::new(host_name().into(), reasons, kernel_types.chrono_shift(), wait::ticks());
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

    async fn until_stopped(
        mut self,
        kernel_types: Kernel,
        ready: Option<File>,
        user: Option<User>,
    ) -> Result<(), Failure> {
        let per_cpu = self.trace.run.buffer_size.unwrap_or(PERF_BYTES);
        let events = self.loaded.take_events().map_err(Failure::Host)?;
        let mut transport = Transport::open(events, per_cpu).map_err(Failure::Host)?;
        // Signals are taken before anything is announced: whoever waits for the announcement may send one at once.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        let mut kernel_log = (self.object == Object::Debug).then(|| self.start_kernel_log()).flatten();
        // To a run with other ways out it says to begin new files; to any other that the terminal has gone.
        let has_others = !self.trace.output.sink.is_empty() || self.trace.output.metrics.is_some();
        let mut hang_up = has_others.then(hang_up).transpose()?;
        if !self.trace.output.no_summary || self.trace.output.metrics.is_some() {
            self.watch = Watch::start(!kernel_types.types.reset_reasons().is_empty());
        }
        self.loaded.attach(&kernel_types, &self.trace.more)?;
        drop(kernel_types);
        load::give_memory_back();
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
        self.lose(missed, LostWhere::Kernel);
        // What the outlets could not deliver is part of the summary, so they have what there is before it.
        if !self.trace.output.sink.is_empty() {
            ways.send(&mut self.outbox).await;
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
            self.flood.see(&event, clock.monotonic_ns);
            events.extend(self.settle.next(event));
        }
        if let Some(pace) = self.flood.next_pace(clock.monotonic_ns) {
            self.keep_pace(pace);
        }
        events.extend(self.settle.release(seen_ns));
        for event in events {
            self.take(&event, 1, &clock);
        }
    }

    /// An event to a record that stands for `count` resets.
    fn take(&mut self, event: &ResetEvent, count: u64, clock: &WallClock) {
        if event.kind == KIND_FORWARDED {
            let forwarded = self.decoder.forwarded(event, clock, interface_name(event.interface));
            if self.selection.wants_forwarded(&forwarded) {
                self.metrics.as_ref().inspect(|metrics| metrics.forward(&forwarded));
                self.outbox.push(Record::Forwarded(Arc::new(forwarded)));
            }
            return;
        }
        let mut reset = self.decoder.reset(event, clock);
        reset.count = count;
        if event.kind == KIND_IGNORED {
            // Nothing was reset: neither the memory of neighbours nor any count may see it.
            self.attribute(&mut reset);
            if self.selection.wants(&reset) {
                let ignored = reset.into();
                self.metrics.as_ref().inspect(|metrics| metrics.ignore(&ignored));
                self.outbox.push(Record::Ignored(Arc::new(ignored)));
            }
            return;
        }
        // In the order of events, which the memory of earlier ones goes by.
        self.diagnosis.diagnose(&mut reset);
        let is_open = self.attribution.is_open(&mut reset);
        // From here on it stays where it is in memory.
        let reset = Arc::new(reset);
        let reset = if is_open { self.hold.take(reset) } else { Some(reset) };
        if let Some(reset) = reset {
            self.conclude(reset);
        }
    }

    /// Takes the resets that the kernel side has counted instead of handing them over.
    fn fetch_counted(&mut self) {
        let Some(clock) = read_clocks() else { return };
        // The maps are ours; reading them cannot fail once they could be opened.
        let folds: Vec<_> = (0..self.loaded.counting_cpus()).filter_map(|cpu| self.loaded.folds(cpu).ok()).collect();
        let (alike, seen, pace) = self.flood.fetch(&folds, clock.monotonic_ns);
        for (cpu, totals) in (0..).zip(seen) {
            self.loaded.have_seen(cpu, *totals).unwrap_or_default();
        }
        self.keep_pace(pace);
        for (event, count) in alike {
            self.take(&event, count, &clock);
        }
    }

    fn keep_pace(&mut self, pace: Pace) {
        // As above; without it more is counted or lost, and both are said.
        self.loaded.keep_pace(pace).unwrap_or_default();
    }

    /// Looks for the owners of the records that wait for theirs.
    fn search(&mut self) {
        let Some(began_ns) = monotonic_ns() else { return };
        if self.hold.deadline_ns().is_none_or(|deadline| deadline > began_ns) {
            return;
        }
        let mut now_ns = began_ns;
        // Where the end of the socket tells it already, nobody need walk.
        self.release(began_ns);
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

    fn attribute(&mut self, reset: &mut Reset) {
        self.attribution.attribute(reset, |task| self.loaded.arguments(task.tgid, task.start_boottime_ns));
    }

    /// Says whose the reset was, and hands it on if it is wanted.
    fn conclude(&mut self, mut record: Arc<Reset>) {
        // Nobody else has it yet, so nothing is copied.
        let reset = Arc::make_mut(&mut record);
        self.attribute(reset);
        self.watch.see(reset);
        if !self.selection.wants(reset) || self.is_enough() {
            return;
        }
        self.emitted += 1;
        reset.seq = self.emitted;
        if self.explains() {
            self.diagnosis.explain(reset);
        }
        self.tally.count(reset);
        if let Some(metrics) = &mut self.metrics {
            metrics.count(reset);
        }
        self.outbox.push(Record::Reset(record));
    }

    fn is_enough(&self) -> bool {
        self.trace.run.count.is_some_and(|count| self.emitted >= count)
    }

    /// Begins to count for Prometheus, if that is wanted.
    fn start_metrics(&mut self) -> Result<Option<mpsc::Receiver<Scrape>>> {
        let Some(address) = self.trace.output.metrics else { return Ok(None) };
        let (metrics, scrapes) = Metrics::start(address, self.trace.output.metrics_peers)?;
        self.metrics = Some(metrics);
        Ok(Some(scrapes))
    }

    /// Whether somebody shows the evidence.
    fn explains(&self) -> bool {
        matches!(self.trace.output.output, Format::Long | Format::Json) || !self.trace.output.sink.is_empty()
    }

    /// What the rest of the run does beside looking at processes and writing to what is open.
    fn needs(&self) -> Needs {
        let reaches = |reach| self.trace.output.sink.iter().any(|sink| sink.reach() == reach);
        Needs {
            files: reaches(Reach::Files),
            sockets: reaches(Reach::Sockets) || self.trace.output.metrics.is_some(),
            network_administration: self.loaded.detaches_through_netlink(),
        }
    }

    /// The ways out.
    fn ways(&self) -> Result<Ways> {
        let output = &self.trace.output;
        let limit = output.sink_queue;
        let look = self.look();
        let look_of_lines = Look { color: false, time: TimeFormat::None, ..look.clone() };
        let given = Given { look: look_of_lines, host: Arc::clone(self.decoder.host()) };
        let crew = Crew::start(&output.sink, limit, &given)?;
        let stdout = (output.output != Format::None).then(|| sink::sink(output.output, look));
        let is_one_of_many = !crew.is_empty() || output.metrics.is_some();
        Ways::start(stdout, crew, is_one_of_many.then_some(limit))
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

fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}
