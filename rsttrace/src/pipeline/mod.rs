//! The live run: the event loop around the chain of stages ([`processor`]).

pub(crate) mod captured;
mod feed;
pub(crate) mod joined_stream;
mod live;
mod netns_watch;
mod own_addresses;
pub mod processor;
mod ready;
mod record_pool;
mod recorder;
mod rediagnose;
pub(crate) mod replayed;
pub(crate) mod report_file;
mod reporting;
mod setup;
#[doc(hidden)]
pub mod testing;
mod timers;
pub(crate) mod viewed;
pub(crate) mod viewing;

use std::{
    fs::File,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use self::{
    feed::{Batch, now_ns},
    live::Results,
    processor::{Processor, Stages, Wanted},
    ready::Ready,
    report_file::ReportFile,
    reporting::Losses,
    setup::PreparedOutputs,
    timers::{catch_sighup, lookups_answered, next_scrape, sighup, sleep_until, sleep_until_ktime},
    viewing::{ViewSetup, Viewing, view_event},
};
use crate::{
    attribute::{Attribution, NamesFile},
    cli::TraceOptions,
    conntrack::{Conntrack, Presence},
    decode::{BitFields, Decoder, Reasons, flood::FloodAggregator},
    diagnose::{Diagnosis, program_hints::ProgramHints, timeouts::Timeouts},
    exit::Failure,
    filter::{RecordFilter, netns::NetnsFilter},
    load::{self, Interfaces, KernelInfo, LoadOptions, Loaded, Object, preflight},
    model::{LostWhere, Record},
    sandbox::{self, User},
    sd_notify::ServiceNotifier,
    sink::{SinkLoss, outputs::Outputs},
    summary::{Tally, coverage::CounterBaseline},
    transport::{ReadCoalescer, Transport},
    util::{buffer_size::PERF_BYTES, system_clock::monotonic_ns},
};

/// Descriptors that a run with a sink and metrics takes, beside those that it is started with: programs, maps, links, the
/// event loops, signals. It takes up to 53 before Linux 7.0, and 66 from then on, where there are more programs.
const DESCRIPTORS: usize = 67;

/// Batches that are read at the end while more may come. The rest is read when none can.
const FINAL_READS: usize = 128;

/// How long after the last event the kernel's loss counters are still looked at. Loss without a later event shows
/// there; an idle run looks at nothing.
const LOSS_CHECK: Duration = Duration::from_millis(500);

/// Traces until a signal, `--duration` or `--count` ends it. Blocks meanwhile. Fails with status 2 when a value names nothing
/// on this host, 3 when this host or this user cannot trace, and 1 when an output cannot be opened or written to.
pub(crate) fn run(trace: TraceOptions) -> Result<(), Failure> {
    run_viewed(trace, None)
}

/// [`run`], with a view of it on the terminal.
pub(crate) fn run_viewed(trace: TraceOptions, view: Option<ViewSetup>) -> Result<(), Failure> {
    let selection = RecordFilter::new(trace.filters.clone())?;
    let timeouts = Timeouts::read(trace.run.timeouts.as_deref())?;
    let diagnosis = Diagnosis::new(timeouts, ProgramHints::read(trace.run.hints.as_deref())?);
    let attribution = Attribution::with_names(NamesFile::read(trace.run.names.as_deref())?);
    let interfaces = find_interfaces(&trace.more.forwarded, &selection)?;
    let user = trace.run.user.as_deref().map(User::find).transpose()?;
    let ready = trace.run.ready_fd.map(Ready::take).transpose()?;
    let prepared = PreparedOutputs::read(&trace.output)?;
    if let Some(obstacle) = preflight::obstacle() {
        return Err(Failure::host(obstacle));
    }
    reserve_descriptors()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let kernel = KernelInfo::read()?;
    let pipeline = Pipeline::load(trace, selection, diagnosis, attribution, &kernel, view.is_some())?;
    let result = runtime.block_on(pipeline.event_loop(kernel, interfaces, ready, user, prepared, view));
    // A writer that is stuck in a write must not keep the process.
    runtime.shutdown_background();
    result
}

/// Interfaces of `--forwarded`, in the network namespace of `--netns`. Fails when one of them is not there.
fn find_interfaces(names: &[String], filter: &RecordFilter) -> Result<Interfaces, Failure> {
    let netns = filter.netns.as_ref().filter(|_| !names.is_empty());
    Ok(Interfaces::find(names, netns.map(NetnsFilter::open).transpose()?)?)
}

/// One live run.
struct Pipeline {
    trace: TraceOptions,
    loaded: Loaded,
    object: Object,
    processor: Processor<Attribution>,
    results: Results,
    losses: Losses,
    /// The last scan of open files has failed.
    scans_fail: bool,
    /// Resets of the last summary at an interval.
    summarized: u64,
    /// Whether there is a view of the run.
    is_viewed: bool,
    /// Resets and losses that the view has shown.
    viewed: u64,
    started: Instant,
    /// Start of the run on the events' clock, nanoseconds.
    started_ns: u64,
    /// Addresses of the network namespace that is recorded; `None` without a recording.
    addresses: Option<Vec<IpAddr>>,
    service: ServiceNotifier,
}

/// Positions of the bit fields that events carry.
fn bit_fields(kernel: &KernelInfo) -> BitFields {
    BitFields {
        chrono_type: kernel.shift("TP_CHRONO_TYPE"),
        saw_timestamp: kernel.shift("TP_SAW_TSTAMP"),
        timestamps_ok: kernel.shift("TP_TSTAMP_OK"),
        is_mptcp: kernel.shift("TP_IS_MPTCP"),
    }
}

impl Pipeline {
    /// Loads the object that this kernel takes; nothing is attached yet.
    fn load(
        trace: TraceOptions,
        filter: RecordFilter,
        diagnosis: Diagnosis,
        attribution: Attribution,
        kernel: &KernelInfo,
        is_viewed: bool,
    ) -> Result<Self, Failure> {
        let run = &trace.run;
        let options = LoadOptions {
            buffer_bytes: run.buffer_size,
            remember: run.remember,
            filters: filter.filters(),
            netns: filter.netns.as_ref().map(NetnsFilter::number),
        };
        let (object, loaded) = load::load_for_transport(kernel, run.transport, run.debug_kernel, &options)?;
        let reasons = Reasons { reset: kernel.reset_reasons.clone(), drop: kernel.drop_reasons.clone() };
        let host: Arc<str> = host_name().into();
        let stages = Stages {
            decoder: Decoder::new(Arc::clone(&host), reasons, bit_fields(kernel), timers::ticks()),
            diagnosis,
            attribution,
            filter,
            flood: FloodAggregator::new(loaded.aggregating_cpus(), loaded.flood_budget()),
        };
        let output = &trace.output;
        let has_report = output.report.is_some() || is_viewed;
        let wanted = Wanted {
            evidence: output.output.shows_evidence() || !output.sink.is_empty() || has_report,
            limit: trace.run.count,
            omits_own: !trace.more.own_connections,
        };
        Ok(Self {
            processor: Processor::new(stages, wanted),
            results: Results {
                host: Some(host),
                tally: Tally::grouped_by(trace.output.group_by.clone()),
                report: has_report.then(Box::default),
                board: is_viewed.then(Box::default),
                ..Results::default()
            },
            trace,
            loaded,
            object,
            losses: Losses::default(),
            scans_fail: false,
            summarized: 0,
            is_viewed,
            viewed: 0,
            started: Instant::now(),
            started_ns: now_ns(),
            addresses: None,
            service: ServiceNotifier::from_env(),
        })
    }

    async fn event_loop(
        mut self,
        kernel: KernelInfo,
        interfaces: Interfaces,
        ready: Option<Ready>,
        user: Option<User>,
        prepared: PreparedOutputs,
        view: Option<ViewSetup>,
    ) -> Result<(), Failure> {
        // Signals are caught before anything is announced: a process that waits for the announcement may send one at once.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
        // With other outputs than standard output it means that log files have been rotated; otherwise, that the terminal has
        // gone.
        let has_others = !self.trace.output.sink.is_empty() || self.trace.output.metrics.is_some() || self.is_viewed;
        let mut hang_up = has_others.then(catch_sighup).transpose()?;
        let mut kernel_log = (self.object == Object::Debug).then(|| self.start_kernel_log()).flatten();
        let presence = Presence::detect(kernel.has_conntrack_netlink);
        let mut transport = self.attach(kernel, interfaces)?;
        // Before the sandbox, which takes the capability that its helper needs.
        let (mut conntrack, missing) = Conntrack::start_as(presence, user.as_ref());
        self.loaded.degraded.extend(missing);
        if conntrack.is_some() {
            self.processor.enable_lookups();
        }
        let absences = self.absences();
        self.create_recordings(user.as_ref())?;
        let report = self.trace.output.report.as_deref().map(ReportFile::create).transpose()?.map(Arc::new);
        // Before there is any other thread, which would keep its privileges.
        self.loaded.degraded.extend(sandbox::enter(self.needs(), user.as_ref())?);
        // What cannot be opened with what is left could not be opened anew later either.
        let mut outputs = self.open_outputs(prepared.sinks)?;
        let mut scrapes = self.start_metrics(prepared.metrics)?;
        self.processor.enable_scans(self.loaded.can_scan());
        self.processor.stages_mut().attribution.prefetch();
        let absences = self.absence_notes(absences);
        self.announce(absences);
        ready.map_or(Ok(()), Ready::announce)?;
        self.service.ready();
        self.results.set_ready(true);
        let mut viewing = self.start_view(view)?;
        let deadline = self.trace.run.duration.map(|duration| self.started + duration);
        let (mut next_summary, mut next_mark) = (self.next_summary(), self.next_mark());
        let mut batch = Batch::default();
        let mut check_loss = false;
        // Reading may be put off for as long as the kernel side has room for.
        let mut coalescer = ReadCoalescer::new(self.loaded.flood_budget().into());
        loop {
            let mut push = |head: &[u8], tail: &[u8]| batch.push(head, tail);
            // Every event up to here has been read, nanoseconds of the events' clock.
            let mut seen_ns = 0;
            tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = sighup(&mut hang_up) => if viewing.is_some() { break } else { outputs.reopen() },
                () = outputs.failed() => break,
                () = sleep_until(deadline) => break,
                () = sleep_until(self.service.next_ping()) => {}
                () = sleep_until(self.processor.stages().filter.next_look()) => self.check_netns_path(),
                event = view_event(&mut viewing) => {
                    if !self.on_view(event, &mut viewing, &outputs, report.as_ref()) { break; }
                }
                () = sleep_until(next_summary) => {
                    self.report_summary(&outputs);
                    next_summary = self.next_summary();
                }
                () = sleep_until(next_mark) => {
                    self.mark(&outputs, false);
                    next_mark = self.next_mark();
                }
                () = sleep_until_ktime(self.processor.ambiguous_deadline_ns()) => {
                    // First the clock, then the buffers: this process may not have run for longer than an event is
                    // held, and the other half of a pair may lie in there.
                    let now_ns = monotonic_ns();
                    let emptied = transport.drain(&mut push);
                    seen_ns = Self::seen_ns(emptied, now_ns, &batch);
                }
                () = sleep_until_ktime(self.processor.lookup_deadline_ns()) => {}
                () = sleep_until_ktime(self.processor.held_deadline_ns()) => {
                    // The record of the other end may lie in the buffers.
                    transport.drain(&mut push);
                }
                () = sleep_until_ktime(outputs.folded_deadline_ns()) => {}
                () = lookups_answered(conntrack.as_ref()) => {}
                () = sleep_until_ktime(self.processor.flood_deadline_ns()) => self.process_aggregates(),
                scrape = next_scrape(&mut scrapes) => {
                    // Drained first: a client that scrapes without a pause must not starve the reading of events.
                    transport.drain(&mut push);
                    check_loss = true;
                    self.count_losses(false);
                    self.answer(scrape, &outputs);
                }
                read = transport.read(&mut push), if coalescer.hold_off_until_ns().is_none() => {
                    let emptied = read.context("cannot read events")?;
                    check_loss = true;
                    coalescer.on_read(batch.events.len(), emptied, now_ns());
                }
                () = sleep_until_ktime(coalescer.hold_off_until_ns()) => coalescer.end_hold_off(),
                () = sleep_until(self.next_loss_report()) => {}
                () = sleep(LOSS_CHECK), if check_loss => check_loss = false,
            }
            self.service.ping_watchdog();
            if let Some(log) = &mut kernel_log {
                log.flush();
            }
            self.process(&mut batch, seen_ns);
            self.look_up_holders();
            self.look_up_translations(conntrack.as_mut());
            self.processor.release_held(now_ns(), &mut self.results);
            self.count_losses(false);
            let goes_on = self.send_records(&mut outputs, &mut interrupt, &mut terminate).await;
            if !goes_on || self.processor.has_reached_limit() {
                break;
            }
        }
        // What the key of a view has written stays.
        let report = report.filter(|_| !viewing.as_ref().is_some_and(Viewing::has_written));
        drop(viewing);
        // In memory of its own: the future would not fit beside the loop.
        Box::pin(self.finish(transport, batch, outputs, report)).await
    }

    /// Sends what is in the outbox. Returns false where the run ends: by a signal, or since standard output cannot be written to.
    async fn send_records(&mut self, outputs: &mut Outputs, interrupt: &mut Signal, terminate: &mut Signal) -> bool {
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => return false,
                _ = terminate.recv() => return false,
                sent = async {
                    outputs.flush_folded(now_ns()).await;
                    outputs.send(&mut self.results.outbox, |record| self.processor.recycle(record)).await
                } => return sent,
                // Standard output takes nothing; what that costs is reported while it happens.
                () = sleep(LOSS_CHECK) => {
                    self.service.ping_watchdog();
                    self.count_losses(false);
                }
            }
        }
    }

    /// Attaches every probe, and opens the buffer that their events come from.
    fn attach(&mut self, kernel: KernelInfo, interfaces: Interfaces) -> Result<Transport, Failure> {
        let per_cpu = self.trace.run.buffer_size.unwrap_or(PERF_BYTES);
        let events = self.loaded.take_events()?;
        // Perf ring buffers lose what comes before they are open. The BPF ring buffer is there, and to map it can wait until
        // the memory that the start takes has been given back: it counts as this process's.
        let opened =
            if self.object == Object::Perf { Transport::open(events, per_cpu).map(Ok) } else { Ok(Err(events)) };
        let opened = opened.map_err(Failure::Host)?;
        let output = &self.trace.output;
        if !output.no_summary || output.metrics.is_some() || output.report.is_some() {
            self.results.baseline = CounterBaseline::start(!kernel.reset_reasons.is_empty());
        }
        self.loaded.attach(&kernel, &self.trace.more, interfaces)?;
        drop(kernel);
        load::trim_heap();
        opened.or_else(|events| Transport::open(events, per_cpu)).map_err(Failure::Host)
    }

    /// Detaches the programs, reads what the kernel still has, and reports what the run came to.
    async fn finish(
        mut self,
        mut transport: Transport,
        mut batch: Batch,
        mut outputs: Outputs,
        report: Option<Arc<ReportFile>>,
    ) -> Result<(), Failure> {
        self.service.stopping();
        self.results.set_ready(false);
        // As long as the programs are attached, holders can still be looked up.
        for _ in 0..FINAL_READS {
            if transport.drain(&mut |head, tail| batch.push(head, tail)) {
                break;
            }
        }
        self.process(&mut batch, 0);
        self.processor.expedite_scan();
        self.look_up_holders();
        // Counted before the programs go: the misses are theirs.
        let missed = self.loaded.recursion_misses();
        self.loaded.detach();
        while !transport.drain(&mut |head, tail| batch.push(head, tail)) {}
        self.process(&mut batch, u64::MAX);
        self.process_aggregates();
        self.processor.finish_all(&self.loaded, &mut self.results);
        self.count_losses(true);
        self.results.report_loss(
            missed,
            LostWhere::Kernel,
            "they came in the middle of others on their CPU, where the kernel runs no program",
        );
        // What the sinks could not deliver is part of the summary, so they get everything else before it.
        if !self.trace.output.sink.is_empty() {
            outputs.send(&mut self.results.outbox, drop).await;
            outputs.flush().await;
        }
        let mut summary =
            (!self.trace.output.no_summary).then(|| self.summary(true, CounterBaseline::compare_all, &outputs));
        if let Some(summary) = &summary {
            self.results.outbox.push(Record::Summary(Arc::new(summary.clone())));
        }
        let reported = report.map_or(Ok(()), |file| self.write_report(&file, &outputs));
        self.mark_end(&mut outputs).await;
        let (written, losses) = outputs.finish(std::mem::take(&mut self.results.outbox)).await;
        if let Some(summary) = &mut summary {
            SinkLoss::settle(&losses, &mut summary.sinks);
            self.output_setup().print_summary(summary);
        }
        match (Failure::of_outputs(written, &losses), reported) {
            // It has not been said yet.
            (Err(Failure::RunningSaid), Err(error)) => Err(error.into()),
            (ended, reported) => ended.and(reported.map_err(Failure::from)),
        }
    }
}

/// Makes sure that there are descriptors: the event loop panics without, and the programs would be refused halfway. Later
/// failures for want of descriptors are reported where they occur.
fn reserve_descriptors() -> Result<(), Failure> {
    // Every process has the root directory, whatever is in it.
    let all: io::Result<Vec<File>> = (0..DESCRIPTORS).map(|_| File::open("/")).collect();
    all.map(drop).map_err(|error| {
        Failure::host(format_args!("{DESCRIPTORS} descriptors cannot be had: {error}; raise the limit ('ulimit -n')"))
    })
}

fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}
