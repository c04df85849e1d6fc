//! Numbers of records: those under which they were admitted, and those under which they were output.

use crate::util::set_table::SetTable;

/// Records whose numbers are remembered, a power of two.
const REMEMBERED: usize = 4096;

/// What has become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It waits.
    Held,
    /// It was output under this number.
    Output(u64),
    /// It was filtered out, it is the current one, or it is too long ago.
    Unknown,
}

/// Incidents that are remembered as part of others.
const MERGED: usize = 1024;
/// Longest chain of incidents that turned out to be one.
const CHAIN_MAX: usize = 8;

/// Numbers of the last records.
#[derive(Default)]
pub(super) struct RecordNumbers {
    last: u64,
    /// By the record's number; each with the number itself. Empty before the first record.
    records: Vec<(u64, Shown)>,
    /// Number under which the first record of an incident was output that passed the filters; by the incident's number, each
    /// with that.
    firsts: Vec<(u64, u64)>,
    /// Incidents that turned out to be part of others.
    merged: SetTable<u64, u64, MERGED>,
}

impl RecordNumbers {
    /// Number for another record, from 1 on.
    pub(super) fn next(&mut self) -> u64 {
        if self.records.is_empty() {
            self.records.resize(REMEMBERED, (0, Shown::Unknown));
            self.firsts.resize(REMEMBERED, (0, 0));
        }
        self.last += 1;
        self.set(self.last, Shown::Unknown);
        self.last
    }

    pub(super) fn hold(&mut self, record: u64) {
        self.set(record, Shown::Held);
    }

    pub(super) fn output(&mut self, record: u64, seq: u64) {
        self.set(record, Shown::Output(seq));
    }

    pub(super) fn discard(&mut self, record: u64) {
        self.set(record, Shown::Unknown);
    }

    pub(super) fn shown(&self, record: u64) -> Shown {
        match self.records.get(slot(record)) {
            Some(&(own, shown)) if own == record => shown,
            _ => Shown::Unknown,
        }
    }

    /// Number under which a record was output; `None` if it was not.
    pub(super) fn seq(&self, record: u64) -> Option<u64> {
        match self.shown(record) {
            Shown::Output(seq) => Some(seq),
            Shown::Held | Shown::Unknown => None,
        }
    }

    /// Makes an incident part of another.
    pub(super) fn merge(&mut self, incident: u64, into: u64) {
        if self.root(into) != incident {
            self.merged.insert(incident, into);
        }
    }

    /// The incident that an incident is part of; itself where it is part of none.
    pub(super) fn root(&self, incident: u64) -> u64 {
        let step = |&part: &u64| self.merged.get(&part).copied();
        std::iter::successors(Some(incident), step).take(CHAIN_MAX).last().unwrap_or(incident)
    }

    /// Number of the first record of an incident that was output. That is `seq`, of the current one, if there is none yet.
    pub(super) fn first_of(&mut self, incident: u64, seq: u64) -> u64 {
        match self.firsts.get_mut(slot(incident)) {
            Some((own, first)) if *own == incident => *first,
            Some(entry) if entry.0 < incident => {
                *entry = (incident, seq);
                seq
            }
            // Too long ago: the record stands for itself.
            _ => seq,
        }
    }

    fn set(&mut self, record: u64, shown: Shown) {
        if let Some(entry) = self.records.get_mut(slot(record))
            && entry.0 <= record
        {
            *entry = (record, shown);
        }
    }
}

const fn slot(record: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder fits into every `usize`")]
    let slot = (record % REMEMBERED as u64) as usize;
    slot
}
