//! Records that wait for that of the other end of their connection.

use std::{collections::VecDeque, sync::Arc};

use crate::model::Reset;

/// Most records that wait at once. Under a flood the oldest goes without.
const HELD_MAX: usize = 512;

/// Waiting records, those that are due first at the front.
#[derive(Default)]
pub(super) struct HeldRecords(VecDeque<Held>);

struct Held {
    record: Arc<Reset>,
    /// Number of the record, which is looked for here without a look at the record.
    number: u64,
    deadline_ns: u64,
}

impl HeldRecords {
    /// Appends a record, which waits until so long after its event, and not shorter than those before it. Returns the
    /// oldest if there are too many.
    pub(super) fn push(&mut self, record: Arc<Reset>, hold_ns: u64) -> Option<Arc<Reset>> {
        let last_ns = self.0.back().map_or(0, |held| held.deadline_ns);
        let deadline_ns = record.internals.ktime_ns.saturating_add(hold_ns).max(last_ns);
        let number = record.internals.record;
        self.0.push_back(Held { record, number, deadline_ns });
        if self.0.len() <= HELD_MAX {
            return None;
        }
        self.0.pop_front().map(|held| held.record)
    }

    /// Removes the record of this number, the latest first.
    pub(super) fn take(&mut self, record: u64) -> Option<Arc<Reset>> {
        let position = self.0.iter().rposition(|held| held.number == record)?;
        self.0.remove(position).map(|held| held.record)
    }

    /// The record of this number.
    pub(super) fn get(&self, record: u64) -> Option<&Reset> {
        self.0.iter().rfind(|held| held.number == record).map(|held| &*held.record)
    }

    /// The record of this number, to be changed.
    pub(super) fn get_mut(&mut self, record: u64) -> Option<&mut Reset> {
        let held = self.0.iter_mut().rfind(|held| held.number == record)?;
        Some(Arc::make_mut(&mut held.record))
    }

    /// Removes the first record if it is due.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Arc<Reset>> {
        self.0.pop_front_if(|held| held.deadline_ns <= now_ns).map(|held| held.record)
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.0.front().map(|held| held.deadline_ns)
    }
}
