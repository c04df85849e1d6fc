//! The chain of stages from events to records: reclassify, decode, diagnose, wait for the holder, attribute, correlate,
//! filter, explain.
//!
//! It has no clock and does no I/O of its own: what it needs of the loaded programs and of the host it asks through
//! [`KernelSide`] and [`Attribute`], and what it makes goes to an [`Output`]. The live run, the golden and hostile tests,
//! the benchmark and the fuzzers all feed this one chain.

use std::sync::Arc;

use anyhow::{Error, Result};
use rsttrace_common::{
    event::{KIND_FORWARDED, KIND_IGNORED, ResetEvent},
    flood::{Aggregates, FloodProgress},
    holder_lookup::HolderLookup,
    limits::AGGREGATES_PER_CPU,
};

use super::record_pool::RecordPool;
use crate::{
    attribute::{owner, pending::PendingRecords},
    correlate::{Correlator, Joined, TranslationRequest},
    decode::{
        self, Decoder,
        clock::WallClock,
        flood::{AggregatedEvent, FloodAggregator},
        reclassify::AmbiguousReceives,
    },
    diagnose::Diagnosis,
    filter::RecordFilter,
    model::internals::{Correlation, KernelTask},
    model::translation::{Answer, ConntrackLookup},
    model::{IncidentRole, Interface, Netns, Record, Reset, Translated, TranslationSource},
};

/// What the stages ask of the loaded programs.
pub trait KernelSide {
    /// Now, in nanoseconds of the events' clock (`CLOCK_MONOTONIC`); `None` when it cannot be read.
    fn now_ns(&self) -> Option<u64>;

    /// Scans the open files of all processes for the holders of reset sockets, under this number. Blocks for half a
    /// microsecond a file. Fails when the programs cannot scan.
    fn scan_open_files(&mut self, scan: u32) -> Result<()>;

    /// Result of the holder lookup of this id; `None` when its slot has been reused.
    fn holder_lookup(&self, id: u64) -> Option<HolderLookup>;

    /// The beginning of the command line of a process that has opened connections, each argument ended by a zero.
    fn command_line(&self, task: &KernelTask) -> Option<Vec<u8>>;

    /// The interface of `--forwarded` with this index, and its network namespace.
    fn interface(&self, index: u32) -> (Interface, Option<Netns>);

    /// Aggregates of each CPU: resets that it has counted instead of delivering each.
    fn aggregates(&self) -> Vec<Aggregates>;

    /// Releases each CPU's slots whose totals are still these.
    fn release_aggregates(&mut self, totals: &[[u64; AGGREGATES_PER_CPU]]);

    /// Publishes how far events have been read.
    fn publish_progress(&mut self, progress: FloodProgress);
}

/// The stage that says to which process a reset belongs.
pub trait Attribute {
    /// Prepares a record for attribution: whether a lookup of the socket's holder can make its owner better known.
    fn needs_lookup(&mut self, reset: &mut Reset) -> bool;

    /// Fills in process, actor, cgroup, unit, container, pod, and the names of container and peer. `command_line` is asked for the command line of a process that
    /// is gone.
    fn attribute(&mut self, reset: &mut Reset, command_line: &dyn Fn(&KernelTask) -> Option<Vec<u8>>);

    /// Names the peer after what stands behind its address, where that is translated and has no name of its own.
    fn name_translated(&self, reset: &mut Reset);
}

/// Where records go.
pub trait Output {
    /// Counts a reset with its owner, whether it passes the filter or not.
    fn observe(&mut self, reset: &Reset);

    /// Takes a record that has passed the filter.
    fn emit(&mut self, record: Record);

    /// Counts a reset of one of this process's own connections, which is left out.
    fn omit_own(&mut self, _reset: &Reset) {}
}

/// The stages that are configured.
pub struct Stages<A> {
    /// Events to records.
    pub decoder: Decoder,
    /// Causes.
    pub diagnosis: Diagnosis,
    /// Owners.
    pub attribution: A,
    /// The filters of the command line.
    pub filter: RecordFilter,
    /// Floods of resets to closed ports.
    pub flood: FloodAggregator,
}

/// What a run wants of its records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The evidence of causes.
    pub evidence: bool,
    /// No more records of resets than this; `None` for all.
    pub limit: Option<u64>,
    /// Leave out resets of this process's own connections. Not in a replay, where the process is another one.
    pub omits_own: bool,
}

/// What a lookup of holders came to.
#[derive(Debug)]
pub enum Lookup {
    /// No scan was due.
    NotDue,
    /// Open files were scanned.
    Scanned,
    /// They could not be.
    Failed(Error),
}

/// All stages, and the records that wait between them.
pub struct Processor<A> {
    stages: Stages<A>,
    wanted: Wanted,
    ambiguous: AmbiguousReceives,
    pending: PendingRecords,
    correlator: Correlator,
    pool: RecordPool,
    /// Records of resets emitted, which is the last one's number.
    emitted: u64,
}

impl<A: Attribute> Processor<A> {
    /// A chain in which no record waits for a scan of open files; see [`Self::enable_scans`].
    pub fn new(stages: Stages<A>, wanted: Wanted) -> Self {
        let (ambiguous, pending, pool) =
            (AmbiguousReceives::default(), PendingRecords::new(false), RecordPool::default());
        Self { stages, wanted, ambiguous, pending, correlator: Correlator::default(), pool, emitted: 0 }
    }

    /// Lets records wait for scans of open files, where the kernel has taken the programs for it.
    pub fn enable_scans(&mut self, can_scan: bool) {
        self.pending = PendingRecords::new(can_scan);
    }

    /// The stages.
    pub const fn stages(&self) -> &Stages<A> {
        &self.stages
    }

    /// The stages, to be changed.
    pub const fn stages_mut(&mut self) -> &mut Stages<A> {
        &mut self.stages
    }

    /// Turns events into records. Every event up to `seen_ns` (nanoseconds of the events' clock) is among these or was fed
    /// before: an ambiguous receive whose counterpart has not come by then is a receive. `u64::MAX` when no more can come.
    pub fn feed(
        &mut self,
        events: &mut Vec<ResetEvent>,
        seen_ns: u64,
        clock: &WallClock,
        kernel: &mut impl KernelSide,
        out: &mut impl Output,
    ) {
        // Each CPU's perf ring is in order, all together they are not.
        events.sort_by_key(|event| event.ktime_ns);
        for event in &*events {
            self.stages.flood.observe(event, clock.monotonic_ns);
        }
        if let Some(progress) = self.stages.flood.next_progress(clock.monotonic_ns) {
            kernel.publish_progress(progress);
        }
        for event in &*events {
            if self.ambiguous.admit(event) {
                self.process_event(event, 1, clock, kernel, out);
            }
        }
        events.clear();
        for event in self.ambiguous.release(seen_ns) {
            self.process_event(&event, 1, clock, kernel, out);
        }
    }

    /// Turns the resets that the kernel side has counted into records, one for those that are alike.
    pub fn feed_aggregates(&mut self, clock: &WallClock, kernel: &mut impl KernelSide, out: &mut impl Output) {
        let aggregates = kernel.aggregates();
        let (aggregated, totals, progress) = self.stages.flood.drain(&aggregates, clock.monotonic_ns);
        kernel.release_aggregates(totals);
        kernel.publish_progress(progress);
        for AggregatedEvent { event, count } in aggregated {
            self.process_event(&event, count, clock, kernel, out);
        }
    }

    /// Turns one event into a record that stands for `count` resets.
    pub fn process_event(
        &mut self,
        event: &ResetEvent,
        count: u64,
        clock: &WallClock,
        kernel: &impl KernelSide,
        out: &mut impl Output,
    ) {
        let Stages { decoder, diagnosis, attribution, filter, .. } = &mut self.stages;
        if event.kind == KIND_FORWARDED {
            let forwarded = decoder.forwarded(event, clock, kernel.interface(event.interface));
            if filter.matches_forwarded(&forwarded) {
                out.emit(Record::Forwarded(Arc::new(forwarded)));
            }
            return;
        }
        if event.kind == KIND_IGNORED {
            let mut reset = decoder.reset(event, clock);
            reset.count = count;
            // Nothing was reset: neither the memory of earlier resets nor any count may see it.
            attribution.attribute(&mut reset, &|task| kernel.command_line(task));
            if filter.matches(&reset) {
                out.emit(Record::Ignored(Arc::new(reset.into())));
            }
            return;
        }
        let correlator = &mut self.correlator;
        let complete = |reset: &mut Reset| {
            reset.count = count;
            reset.internals.finished_ns = clock.monotonic_ns;
            // In the order of events, which the memory of earlier ones goes by.
            diagnosis.diagnose(reset);
            if attribution.needs_lookup(reset) {
                return None;
            }
            attribution.attribute(reset, &|task| kernel.command_line(task));
            out.observe(reset);
            Some(correlator.join(reset))
        };
        match self.pool.acquire(|| decoder.reset(event, clock), complete) {
            (record, Some(joined)) => self.pass_on(record, joined, out),
            (record, None) => {
                if let Some(record) = self.pending.push(record) {
                    self.finish_record(record, kernel, out);
                }
            }
        }
    }

    /// Diagnoses a reset that was recorded with its facts, as if its event came now: in the order of events.
    pub fn diagnose_recorded(&mut self, reset: &mut Reset) {
        let internals = &mut reset.internals;
        internals.correlation = Correlation::default();
        // What conntrack said is told again; without its entry, what the record has.
        let is_kept =
            |translated: &Translated| translated.by == TranslationSource::Conntrack && internals.conntrack.is_none();
        reset.translated = reset.translated.filter(is_kept);
        (reset.incident_role, reset.other_end) = (IncidentRole::First, None);
        // A live run diagnoses before it attributes.
        let (process, actor) = (reset.process.take(), reset.actor.take());
        let (unit, container, pod) = (reset.unit.take(), reset.container.take(), reset.pod.take());
        self.stages.diagnosis.diagnose(reset);
        (reset.process, reset.actor) = (process, actor);
        (reset.unit, reset.container, reset.pod) = (unit, container, pod);
    }

    /// Joins a recorded reset that was diagnosed with others, and emits those that need not wait any longer. It keeps its number.
    /// In the order in which the records were finished, with [`Self::release_held`] at the times at which it was called.
    pub fn finish_recorded(&mut self, mut record: Arc<Reset>, out: &mut impl Output) {
        let reset = Arc::make_mut(&mut record);
        let entry = reset.internals.conntrack.take();
        let number = reset.internals.record;
        let joined = self.correlator.join(reset);
        self.pass_on(record, joined, out);
        let is_asked = self.correlator.take_lookups().iter().any(|lookup| lookup.id == number);
        if let Some(entry) = entry.filter(|_| is_asked) {
            self.correlator.answer(number, Some(&entry));
        }
    }

    /// Looks up the holders of the sockets whose records wait, if that is due, and finishes the records that need not wait
    /// any longer. Blocks for as long as a scan of open files takes.
    pub fn look_up_holders(&mut self, kernel: &mut impl KernelSide, out: &mut impl Output) -> Lookup {
        let Some(began_ns) = kernel.now_ns() else { return Lookup::NotDue };
        if self.pending.deadline_ns().is_none_or(|deadline| deadline > began_ns) {
            return Lookup::NotDue;
        }
        // Where the end of the socket shows the holder already, no scan is needed.
        self.finish_found(began_ns, kernel, out);
        let Some(scan) = self.pending.next_scan(began_ns) else { return Lookup::NotDue };
        if let Err(error) = kernel.scan_open_files(scan) {
            self.pending.scan_failed(began_ns);
            self.finish_found(began_ns, kernel, out);
            return Lookup::Failed(error);
        }
        let ended_ns = kernel.now_ns().unwrap_or(began_ns);
        self.pending.scan_finished(began_ns, ended_ns);
        self.finish_found(ended_ns, kernel, out);
        Lookup::Scanned
    }

    /// Makes the next scan due at once: the run ends.
    pub fn expedite_scan(&mut self) {
        self.pending.expedite_scan();
    }

    /// Emits the records that have waited long enough for the other end of their connection.
    pub fn release_held(&mut self, now_ns: u64, out: &mut impl Output) {
        let mut end = ChainEnd { stages: &self.stages, wanted: self.wanted, emitted: &mut self.emitted, out };
        self.correlator.release(now_ns, &mut |correlator, mut record| {
            if now_ns != u64::MAX {
                Arc::make_mut(&mut record).internals.released_ns = now_ns;
            }
            end.emit(correlator, record);
        });
    }

    /// Notes that the records that wait for the other end have been seen to wait at this time, as [`Self::release_held`] does.
    pub fn see_held(&mut self, now_ns: u64) {
        self.correlator.see(now_ns);
    }

    /// Finishes every record that waits for its owner or for the other end of its connection, with what is known by now.
    pub fn finish_all(&mut self, kernel: &impl KernelSide, out: &mut impl Output) {
        self.finish_found(u64::MAX, kernel, out);
        self.release_held(u64::MAX, out);
    }

    /// Lets the translations of connections be asked for ([`Self::take_lookups`]).
    pub fn enable_lookups(&mut self) {
        self.correlator.enable_lookups();
    }

    /// The connections whose translation is to be asked for.
    pub fn take_lookups(&mut self) -> Vec<TranslationRequest> {
        self.correlator.take_lookups()
    }

    /// Notes that one of [`Self::take_lookups`] will be answered, found or not.
    pub fn await_answer(&mut self, id: u64) {
        self.correlator.await_answer(id);
    }

    /// Takes the answer to one of [`Self::take_lookups`].
    pub fn answer(&mut self, answer: Answer) {
        let entry = match &answer.lookup {
            ConntrackLookup::Found(entry) => Some(entry),
            ConntrackLookup::Absent | ConntrackLookup::Unknown => None,
        };
        self.correlator.answer(answer.id, entry);
    }

    /// When [`Self::release_held`] is due, nanoseconds of the events' clock.
    pub fn held_deadline_ns(&self) -> Option<u64> {
        self.correlator.deadline_ns()
    }

    /// When the next ambiguous receive has waited long enough, nanoseconds of the events' clock.
    pub fn ambiguous_deadline_ns(&self) -> Option<u64> {
        self.ambiguous.deadline_ns()
    }

    /// When [`Self::look_up_holders`] is due, nanoseconds of the events' clock.
    pub fn lookup_deadline_ns(&self) -> Option<u64> {
        self.pending.deadline_ns()
    }

    /// When [`Self::feed_aggregates`] is due, nanoseconds of the events' clock.
    pub const fn flood_deadline_ns(&self) -> Option<u64> {
        self.stages.flood.deadline_ns()
    }

    /// Whether as many records have been emitted as are wanted.
    pub fn has_reached_limit(&self) -> bool {
        self.wanted.limit.is_some_and(|limit| self.emitted >= limit)
    }

    /// Takes back the memory of a record that has been written.
    pub fn recycle(&mut self, record: Record) {
        self.pool.recycle(record);
    }

    /// Finishes the records that need not wait any longer for their owner.
    fn finish_found(&mut self, now_ns: u64, kernel: &impl KernelSide, out: &mut impl Output) {
        let released = self.pending.release(now_ns, |id, first_scan| {
            let lookup = kernel.holder_lookup(id);
            let mut found = lookup.map(|lookup| decode::holder_findings(&lookup, first_scan)).unwrap_or_default();
            found.closer = found.closer.filter(|closer| !owner::is_tracer_itself(closer));
            found
        });
        for reset in released {
            self.finish_record(reset, kernel, out);
        }
    }

    /// Attributes a record that has waited for its owner, and emits those that need not wait any longer.
    fn finish_record(&mut self, mut record: Arc<Reset>, kernel: &impl KernelSide, out: &mut impl Output) {
        // Nothing else has it yet, so nothing is copied.
        let reset = Arc::make_mut(&mut record);
        if let Some(now_ns) = kernel.now_ns() {
            reset.internals.finished_ns = now_ns;
        }
        self.stages.attribution.attribute(reset, &|task| kernel.command_line(task));
        out.observe(reset);
        let joined = self.correlator.join(reset);
        self.pass_on(record, joined, out);
    }

    /// Emits a record and those that were joined with it, where they need not wait for the other end of their connection.
    fn pass_on(&mut self, record: Arc<Reset>, joined: Joined, out: &mut impl Output) {
        let mut end = ChainEnd { stages: &self.stages, wanted: self.wanted, emitted: &mut self.emitted, out };
        self.correlator.admit(record, joined, &mut |correlator, record| end.emit(correlator, record));
    }
}

/// The end of the chain: filter, number, explain.
struct ChainEnd<'a, A, O> {
    stages: &'a Stages<A>,
    wanted: Wanted,
    emitted: &'a mut u64,
    out: &'a mut O,
}

impl<A: Attribute, O: Output> ChainEnd<'_, A, O> {
    /// Emits a record that passes the filter.
    fn emit(&mut self, correlator: &mut Correlator, mut record: Arc<Reset>) {
        // It is still the only reference.
        let reset = Arc::make_mut(&mut record);
        let is_enough = self.wanted.limit.is_some_and(|limit| *self.emitted >= limit);
        if is_enough || !self.stages.filter.matches(reset) {
            correlator.discard(reset);
            return;
        }
        if self.wanted.omits_own && owner::is_own_connection(reset) {
            self.out.omit_own(reset);
            correlator.discard(reset);
            return;
        }
        if reset.peer.name.is_none() && reset.translated.is_some() {
            self.stages.attribution.name_translated(reset);
        }
        *self.emitted += 1;
        if reset.seq == 0 {
            reset.seq = *self.emitted;
        }
        correlator.number(reset, reset.seq);
        if self.wanted.evidence {
            self.stages.diagnosis.explain(reset);
        }
        self.out.emit(Record::Reset(record));
    }
}
