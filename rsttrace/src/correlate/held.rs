//! Records that wait for that of the other end of their connection.

use std::{collections::VecDeque, sync::Arc};

use crate::model::Reset;

/// Most records that wait at once. Under a flood the oldest goes without.
const HELD_MAX: usize = 512;

/// Shortest wait from the time at which a record was seen to wait, nanoseconds. Where this process was late, the kernel's other
/// report may be later still: its CPU had to run this process first.
const LEAST_NS: u64 = 3_000_000;

/// Longest further wait of a record for the answer on its translation, nanoseconds. An answer takes microseconds where its process
/// runs at once, and a busy machine may let that wait. As long as a request is under way at most (`PATIENCE` of the look-ups), so that
/// a late answer still has its record.
const ANSWER_NS: u64 = 100_000_000;

/// Waiting records, those that are due first at the front.
#[derive(Default)]
pub(super) struct HeldRecords {
    records: VecDeque<Held>,
    /// Those at the end that have not been seen to wait.
    new: usize,
}

struct Held {
    record: Arc<Reset>,
    /// Number of the record, which is looked for here without a look at the record.
    number: u64,
    deadline_ns: u64,
    /// Whether the translation of its connection has been asked for, and not answered.
    is_asked: bool,
}

impl Held {
    fn due_ns(&self) -> u64 {
        if self.is_asked { self.deadline_ns.saturating_add(ANSWER_NS) } else { self.deadline_ns }
    }
}

impl HeldRecords {
    /// Appends a record, which waits until so long after its event, and not shorter than those before it. Returns the
    /// oldest if there are too many.
    pub(super) fn push(&mut self, record: Arc<Reset>, hold_ns: u64) -> Option<Arc<Reset>> {
        let last_ns = self.records.back().map_or(0, |held| held.deadline_ns);
        let deadline_ns = record.internals.ktime_ns.saturating_add(hold_ns).max(last_ns);
        let number = record.internals.record;
        self.records.push_back(Held { record, number, deadline_ns, is_asked: false });
        self.new += 1;
        if self.records.len() <= HELD_MAX {
            return None;
        }
        self.records.pop_front().map(|held| held.record)
    }

    /// Removes the record of this number, the latest first.
    pub(super) fn take(&mut self, record: u64) -> Option<Arc<Reset>> {
        let position = self.records.iter().rposition(|held| held.number == record)?;
        if position >= self.records.len().saturating_sub(self.new) {
            self.new = self.new.saturating_sub(1);
        }
        self.records.remove(position).map(|held| held.record)
    }

    /// The record of this number.
    pub(super) fn get(&self, record: u64) -> Option<&Reset> {
        self.records.iter().rfind(|held| held.number == record).map(|held| &*held.record)
    }

    /// The record of this number, to be changed.
    pub(super) fn get_mut(&mut self, record: u64) -> Option<&mut Reset> {
        let held = self.records.iter_mut().rfind(|held| held.number == record)?;
        Some(Arc::make_mut(&mut held.record))
    }

    /// The records of these numbers, to be changed; the first of them is the first to be handed on from now on. `None` unless both
    /// wait.
    pub(super) fn get_pair_mut(&mut self, first: u64, second: u64) -> Option<[&mut Reset; 2]> {
        let position = |number: u64| self.records.iter().rposition(|held| held.number == number);
        let (mut before, mut behind) = (position(first)?, position(second)?);
        if before > behind {
            // The times at which they are due stay in order.
            let deadlines = [before, behind].map(|at| self.records.get(at).map(|held| held.deadline_ns));
            self.records.swap(before, behind);
            std::mem::swap(&mut before, &mut behind);
            for (at, deadline_ns) in [behind, before].into_iter().zip(deadlines) {
                if let Some((held, deadline_ns)) = self.records.get_mut(at).zip(deadline_ns) {
                    held.deadline_ns = deadline_ns;
                }
            }
        }
        let mut both = self.records.range_mut(before..=behind);
        let (first, second) = (both.next()?, both.next_back()?);
        Some([Arc::make_mut(&mut first.record), Arc::make_mut(&mut second.record)])
    }

    /// Lets records that have begun to wait since the last time wait for [`LEAST_NS`] from now on.
    pub(super) fn see(&mut self, now_ns: u64) {
        let least_ns = now_ns.saturating_add(LEAST_NS);
        let new = std::mem::take(&mut self.new);
        for held in self.records.iter_mut().rev().take(new) {
            held.deadline_ns = held.deadline_ns.max(least_ns);
        }
    }

    /// Notes whether the record of this number waits for an answer on its translation. That keeps those behind it, too: records
    /// stay in order.
    pub(super) fn set_asked(&mut self, record: u64, is_asked: bool) {
        if let Some(held) = self.records.iter_mut().rfind(|held| held.number == record) {
            held.is_asked = is_asked;
        }
    }

    /// Removes the first record if it is due.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Arc<Reset>> {
        self.records.pop_front_if(|held| held.due_ns() <= now_ns).map(|held| held.record)
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.records.front().map(Held::due_ns)
    }
}
