//! State of the view beside the summary's tally and the report's collector: what the rows show, and the newest records, from which
//! a narrowed view begins. In bounded memory.

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;

use super::{activity::Activity, narrowing::Narrowing};
use crate::{
    model::{Record, Reset},
    report::{self, ReportCollector},
    summary::Tally,
};

/// Newest records that are held for a narrowed view to begin with.
pub const HELD_RECORDS: usize = 4_096;

/// What the view needs of a run.
#[derive(Default)]
pub struct Board {
    /// What the rows show without a filter of the view.
    pub(super) whole: Activity,
    /// What is counted apart, with a filter of the view.
    pub(super) narrowed: Option<Narrowed>,
    newest: VecDeque<Arc<Reset>>,
    /// Time of the newest record that is no longer held.
    dropped: Option<Timestamp>,
}

/// A run as a filter of the view shows it.
pub(super) struct Narrowed {
    pub(super) of: Narrowing,
    pub(super) tally: Tally,
    pub(super) collector: ReportCollector,
    pub(super) activity: Activity,
    /// Records up to this time are not counted, because they were not held any more; `None` where all are.
    pub(super) since: Option<Timestamp>,
}

impl Narrowed {
    fn new(of: Narrowing, since: Option<Timestamp>) -> Self {
        let (tally, collector, activity) = (Tally::default(), ReportCollector::default(), Activity::default());
        Self { of, tally, collector, activity, since }
    }

    fn count(&mut self, reset: &Arc<Reset>) {
        if self.of.matches(reset) {
            self.tally.count(reset);
            self.collector.count(&Record::Reset(Arc::clone(reset)));
            self.activity.observe(reset);
        }
    }
}

impl Board {
    /// Takes a record that passed the filters of the run.
    pub fn count(&mut self, record: &Record) {
        match record {
            Record::Reset(reset) => {
                self.whole.observe(reset);
                if let Some(narrowed) = &mut self.narrowed {
                    narrowed.count(reset);
                }
                self.newest.push_back(report::bounded(reset));
                if self.newest.len() > HELD_RECORDS {
                    self.dropped = self.newest.pop_front().map(|reset| reset.time).max(self.dropped);
                }
            }
            Record::Lost(lost) => {
                if let Some(narrowed) = &mut self.narrowed {
                    narrowed.tally.count_lost(lost.count);
                    narrowed.collector.count(record);
                }
            }
            Record::Ignored(_) | Record::Forwarded(_) | Record::Summary(_) => {}
        }
    }

    /// Narrows the view to the records that match, beginning with those that are held; with `None` it shows all again.
    pub fn narrow(&mut self, narrowing: Option<Narrowing>) {
        self.narrowed = narrowing.map(|of| {
            let mut narrowed = Narrowed::new(of, self.dropped);
            self.newest.iter().for_each(|reset| narrowed.count(reset));
            narrowed
        });
    }

    /// Whether records that were counted are not held any more: a narrowed view lacks them unless they are read again.
    pub const fn has_dropped(&self) -> bool {
        self.dropped.is_some()
    }

    /// The board before the first record, with the filter of the view.
    #[must_use]
    pub fn emptied(self) -> Self {
        let narrowed = self.narrowed.map(|narrowed| Narrowed::new(narrowed.of, None));
        Self { narrowed, ..Self::default() }
    }

    /// The collector of what is shown: `whole` without a filter of the view.
    pub(crate) fn shown_collector<'a>(&'a self, whole: &'a ReportCollector) -> &'a ReportCollector {
        self.narrowed.as_ref().map_or(whole, |narrowed| &narrowed.collector)
    }

    /// The tally of what is shown: `whole` without a filter of the view.
    pub(crate) fn shown_tally<'a>(&'a self, whole: &'a Tally) -> &'a Tally {
        self.narrowed.as_ref().map_or(whole, |narrowed| &narrowed.tally)
    }

    /// The filter of the view; `None` where all is shown.
    pub fn narrowing(&self) -> Option<&Narrowing> {
        self.narrowed.as_ref().map(|narrowed| &narrowed.of)
    }

    /// Number of records that are held.
    pub(super) fn held(&self) -> usize {
        self.newest.len()
    }
}
