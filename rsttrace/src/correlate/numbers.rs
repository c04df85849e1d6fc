//! Numbers of records: those in the order of events, and those under which they were output.

use super::EndedConnection;

/// Records that are remembered, a power of two.
const REMEMBERED: usize = 4096;

/// Longest chain of incidents that turned out to be one.
const CHAIN_MAX: usize = 8;

/// What has become of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shown {
    /// It waits.
    Held,
    /// It was output under this number.
    Output(u64),
    /// It was filtered out, it is the current one, or it is too long ago.
    #[default]
    Unknown,
}

/// The last records, and the incidents of which they are the first.
#[derive(Default)]
pub(super) struct RecordNumbers {
    /// By the record's number. Empty before the first record.
    records: Vec<Entry>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// Number of the record; 0 for none.
    record: u64,
    shown: Shown,
    /// What ended its connection.
    ended: Option<EndedConnection>,
    /// Incident that the one of this number turned out to be part of; 0 for none.
    merged_into: u64,
    /// Number under which the first record of the incident of this number was output that passed the filters; 0 for none.
    first_seq: u64,
}

impl RecordNumbers {
    /// Begins to remember a record.
    pub(super) fn begin(&mut self, record: u64) {
        if self.records.is_empty() {
            self.records.resize(REMEMBERED, Entry::default());
        }
        if let Some(entry) = self.records.get_mut(slot(record)).filter(|entry| entry.record < record) {
            *entry = Entry { record, ..Entry::default() };
        }
    }

    pub(super) fn hold(&mut self, record: u64) {
        self.set_shown(record, Shown::Held);
    }

    pub(super) fn output(&mut self, record: u64, seq: u64) {
        self.set_shown(record, Shown::Output(seq));
    }

    pub(super) fn discard(&mut self, record: u64) {
        self.set_shown(record, Shown::Unknown);
    }

    pub(super) fn shown(&self, record: u64) -> Shown {
        self.entry(record).map_or(Shown::Unknown, |entry| entry.shown)
    }

    /// Number under which a record was output; `None` if it was not.
    pub(super) fn seq(&self, record: u64) -> Option<u64> {
        match self.shown(record) {
            Shown::Output(seq) => Some(seq),
            Shown::Held | Shown::Unknown => None,
        }
    }

    /// Remembers what ended the connection of a record.
    pub(super) fn set_ended(&mut self, record: u64, ended: EndedConnection) {
        if let Some(entry) = self.entry_mut(record) {
            entry.ended = Some(ended);
        }
    }

    /// What ended the connection of a record.
    pub(super) fn ended(&self, record: u64) -> Option<EndedConnection> {
        self.entry(record)?.ended
    }

    /// Makes an incident part of another.
    pub(super) fn merge(&mut self, incident: u64, into: u64) {
        if self.root(into) != incident
            && let Some(entry) = self.entry_mut(incident)
        {
            entry.merged_into = into;
        }
    }

    /// The incident that an incident is part of; itself where it is part of none.
    pub(super) fn root(&self, incident: u64) -> u64 {
        let step = |&part: &u64| self.entry(part).map(|entry| entry.merged_into).filter(|&into| into != 0);
        std::iter::successors(Some(incident), step).take(CHAIN_MAX).last().unwrap_or(incident)
    }

    /// Number of the first record of an incident that was output. That is `seq`, of the current one, if there is none yet.
    pub(super) fn first_of(&mut self, incident: u64, seq: u64) -> u64 {
        // Where the incident began too long ago, the record stands for itself.
        let Some(entry) = self.entry_mut(incident) else { return seq };
        if entry.first_seq == 0 {
            entry.first_seq = seq;
        }
        entry.first_seq
    }

    fn set_shown(&mut self, record: u64, shown: Shown) {
        if let Some(entry) = self.entry_mut(record) {
            entry.shown = shown;
        }
    }

    fn entry(&self, record: u64) -> Option<&Entry> {
        self.records.get(slot(record)).filter(|entry| entry.record == record && record != 0)
    }

    fn entry_mut(&mut self, record: u64) -> Option<&mut Entry> {
        self.records.get_mut(slot(record)).filter(|entry| entry.record == record && record != 0)
    }
}

const fn slot(record: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder fits into every `usize`")]
    let slot = (record % REMEMBERED as u64) as usize;
    slot
}
