//! The chain of stages over recorded resets with their facts, from the diagnosis on: `replay --rediagnose`.
//!
//! A recording has the records in the order of output. The diagnosis goes by the order of events and the correlation by the order
//! in which records were finished; both differ from it by as long as records wait, so each is restored within a window.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
};

use jiff::Timestamp;

use super::processor::{Attribute, Output, Processor, Stages, Wanted};
use crate::{
    decode::{BitFields, Decoder, Reasons, flood::FloodAggregator},
    diagnose::Diagnosis,
    filter::RecordFilter,
    model::{Record, RecordingHeader, Reset, internals::KernelTask},
};

/// Records within which an order is restored: those of the time for which records wait, in a flood.
const WINDOW: usize = 16_384;

/// Attribution that is done: the records have it.
pub(super) struct Recorded;

impl Attribute for Recorded {
    fn needs_lookup(&mut self, _: &mut Reset) -> bool {
        false
    }

    fn attribute(&mut self, _: &mut Reset, _: &dyn Fn(&KernelTask) -> Option<Vec<u8>>) {}

    fn name_translated(&self, _: &mut Reset) {}
}

/// An item that is put in order by its key.
struct Keyed<T> {
    key: (u64, u64),
    item: T,
}

impl<T> PartialEq for Keyed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Keyed<T> {}

impl<T> PartialOrd for Keyed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Keyed<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// Items in the order of their keys, as far as the window reaches.
struct Reordered<T> {
    items: BinaryHeap<Reverse<Keyed<T>>>,
    /// Items taken so far: those with one key stay in their order.
    taken: u64,
}

impl<T> Default for Reordered<T> {
    fn default() -> Self {
        Self { items: BinaryHeap::new(), taken: 0 }
    }
}

impl<T> Reordered<T> {
    fn push(&mut self, key: u64, item: T) {
        self.taken += 1;
        self.items.push(Reverse(Keyed { key: (key, self.taken), item }));
    }

    /// The next item, if its key is less than this.
    fn pop_before(&mut self, key: u64) -> Option<T> {
        self.items.peek().filter(|Reverse(next)| next.key.0 < key)?;
        self.pop(0)
    }

    /// The next item, while there are more than `kept`.
    fn pop(&mut self, kept: usize) -> Option<T> {
        if self.items.len() > kept { self.items.pop().map(|Reverse(keyed)| keyed.item) } else { None }
    }
}

/// Diagnoses recorded resets again.
pub(super) struct Rediagnosis {
    /// The known timeouts and hints, and no earlier resets.
    diagnosis: Diagnosis,
    processor: Processor<Recorded>,
    /// Start of the run that is read.
    run: Option<Timestamp>,
    /// In the order of events.
    events: Reordered<Reset>,
    /// In the order in which they were finished.
    finished: Reordered<Arc<Reset>>,
    /// Times at which records that had waited were output, nanoseconds of the events' clock.
    releases: Reordered<u64>,
    /// The last of them that was read.
    last_released_ns: u64,
    /// When the last record was finished.
    finished_ns: u64,
    /// In the order of output.
    output: Reordered<Record>,
    /// Number of the last record that was read.
    last_seq: u64,
    /// Records without facts, which keep their causes.
    pub(super) without_facts: u64,
    /// Whether filters had left resets out of what is read.
    pub(super) is_filtered: bool,
}

/// Stages without memory of earlier resets, for what needs neither decoding nor attribution.
pub(super) fn stages(diagnosis: &Diagnosis, filter: RecordFilter) -> Stages<Recorded> {
    Stages {
        decoder: Decoder::new("".into(), Reasons::default(), BitFields::LOWEST, None),
        diagnosis: diagnosis.renewed(),
        attribution: Recorded,
        filter,
        flood: FloodAggregator::new(0, 1),
    }
}

/// A chain without memory of earlier resets.
fn processor(diagnosis: &Diagnosis, filter: RecordFilter) -> Processor<Recorded> {
    let mut processor = Processor::new(stages(diagnosis, filter), Wanted { evidence: true, ..Wanted::default() });
    processor.enable_lookups();
    processor
}

impl Rediagnosis {
    pub(super) fn new(diagnosis: Diagnosis, filter: RecordFilter) -> Self {
        Self {
            processor: processor(&diagnosis, filter),
            diagnosis,
            run: None,
            events: Reordered::default(),
            finished: Reordered::default(),
            releases: Reordered::default(),
            last_released_ns: 0,
            finished_ns: 0,
            output: Reordered::default(),
            last_seq: 0,
            without_facts: 0,
            is_filtered: false,
        }
    }

    /// Takes the header of a segment: another run begins without memory of the one before.
    pub(super) fn header(&mut self, header: &RecordingHeader, out: &mut impl Output) {
        if self.run.is_some_and(|run| run != header.run) {
            self.finish(out);
            let filter = std::mem::take(&mut self.processor.stages_mut().filter);
            self.processor = processor(&self.diagnosis, filter);
            self.last_seq = 0;
        }
        self.run = Some(header.run);
        self.is_filtered |= header.of.filtered;
    }

    /// Takes a record, and emits those whose turn it is.
    pub(super) fn record(&mut self, record: Record, out: &mut impl Output) {
        match record {
            Record::Reset(reset) if reset.internals.record > 0 => {
                self.last_seq = reset.seq;
                let mut reset = Arc::unwrap_or_clone(reset);
                let released_ns = std::mem::take(&mut reset.internals.released_ns);
                if released_ns > 0 && self.last_released_ns != released_ns {
                    self.releases.push(released_ns, released_ns);
                    self.last_released_ns = released_ns;
                }
                self.events.push(reset.internals.record, reset);
            }
            Record::Reset(reset) => {
                self.last_seq = reset.seq;
                self.without_facts += 1;
                if self.processor.stages().filter.matches(&reset) {
                    let record = Record::Reset(reset);
                    self.output.push(place(&record, self.last_seq), record);
                }
            }
            other => self.output.push(place(&other, self.last_seq), other),
        }
        self.advance(WINDOW, out);
    }

    /// The filters.
    pub(super) const fn filter(&self) -> &RecordFilter {
        &self.processor.stages().filter
    }

    /// Emits everything that is left.
    pub(super) fn finish(&mut self, out: &mut impl Output) {
        self.advance(0, out);
    }

    /// Lets the records go on, but for so many at each step.
    fn advance(&mut self, kept: usize, out: &mut impl Output) {
        while let Some(mut reset) = self.events.pop(kept) {
            self.processor.diagnose_recorded(&mut reset);
            self.finished.push(reset.internals.finished_ns, Arc::new(reset));
        }
        let mut to_output = ToOutput(&mut self.output);
        while let Some(record) = self.finished.pop(kept) {
            let finished_ns = record.internals.finished_ns;
            if finished_ns > self.finished_ns {
                // The live run looks at what waits after each batch.
                self.processor.see_held(self.finished_ns);
                while let Some(release_ns) = self.releases.pop_before(finished_ns) {
                    self.processor.release_held(release_ns, &mut to_output);
                }
                self.finished_ns = finished_ns;
            }
            self.processor.finish_recorded(record, &mut to_output);
        }
        if kept == 0 {
            self.processor.release_held(u64::MAX, &mut to_output);
            (self.releases, self.finished_ns) = (Reordered::default(), 0);
        }
        while let Some(record) = self.output.pop(kept) {
            out.emit(record);
        }
    }
}

/// Place in the order of output: other records come behind the reset of number `last_seq`, which was read before them.
fn place(record: &Record, last_seq: u64) -> u64 {
    match record {
        Record::Reset(reset) => reset.seq.saturating_mul(2),
        _ => last_seq.saturating_mul(2).saturating_add(1),
    }
}

/// Resets on their way to the order of output.
struct ToOutput<'a>(&'a mut Reordered<Record>);

impl Output for ToOutput<'_> {
    fn observe(&mut self, _: &Reset) {}

    fn emit(&mut self, record: Record) {
        self.0.push(place(&record, 0), record);
    }
}
