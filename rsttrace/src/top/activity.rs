//! What the rows of the view show beside the counts of the summary: when, how fast, with which others. In bounded memory.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::Hash,
    net::IpAddr,
    num::NonZeroUsize,
    sync::Arc,
};

use jiff::Timestamp;
use lru::LruCache;

use super::window::Window;
use crate::{
    model::{Fault, Reset},
    report,
};

/// Most peers, and most processes, whose times are kept; those not seen for the longest time go first.
pub(super) const KEPT_KEYS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Most names that are counted beside a row.
const NAMES: usize = 8;
/// Most peers of a cause that are told apart.
pub(super) const PEERS: usize = 256;
/// Newest ages and silences of a cause of which the median is shown.
const SAMPLES: usize = 256;

/// What a run does, by cause, peer and process.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) all: Window,
    /// Resets that are not harmless.
    pub(super) harmful: Window,
    /// By code of the cause. The codes are those of the catalogue, so that the memory is bounded.
    pub(super) causes: BTreeMap<&'static str, CauseActivity>,
    pub(super) peers: LruCache<IpAddr, RowActivity>,
    /// By name of the process.
    pub(super) processes: LruCache<Arc<str>, RowActivity>,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            all: Window::default(),
            harmful: Window::default(),
            causes: BTreeMap::new(),
            peers: LruCache::new(KEPT_KEYS),
            processes: LruCache::new(KEPT_KEYS),
        }
    }
}

/// Resets of one row.
#[derive(Clone, Debug, Default)]
pub(super) struct RowActivity {
    pub(super) window: Window,
    pub(super) last: Option<Timestamp>,
    /// Resets that are not harmless.
    pub(super) harmful: u64,
    /// The first names that came with it; their counts choose the one that is shown.
    pub(super) causes: Names<&'static str>,
    pub(super) processes: Names<Arc<str>>,
    pub(super) peers: Names<IpAddr>,
}

/// Resets of one cause.
#[derive(Clone, Debug)]
pub(super) struct CauseActivity {
    pub(super) row: RowActivity,
    /// Side that has something to change, by the last record.
    pub(super) fault: Fault,
    /// Peers, up to [`PEERS`].
    pub(super) peers: HashSet<IpAddr>,
    /// Ages of connections and silences before resets, milliseconds.
    pub(super) ages: Samples,
    pub(super) silences: Samples,
}

/// Counts of a few names.
#[derive(Clone, Debug)]
pub(super) struct Names<T>(Vec<(T, u64)>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    fn count(&mut self, name: &T, count: u64) {
        if let Some((_, counted)) = self.0.iter_mut().find(|(known, _)| known == name) {
            *counted += count;
        } else if self.0.len() < NAMES {
            self.0.push((name.clone(), count));
        }
    }

    /// The most frequent one, of equally frequent ones the first, and the number of others.
    pub(super) fn main(&self) -> Option<(&T, usize)> {
        let main = self.0.iter().rev().max_by_key(|(_, count)| *count)?;
        Some((&main.0, self.0.len() - 1))
    }
}

/// The newest values.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(VecDeque<f64>);

impl Samples {
    fn add(&mut self, value: f64) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The median; `None` without values.
    pub(super) fn median(&self) -> Option<f64> {
        let mut values: Vec<f64> = self.0.iter().copied().collect();
        let middle = values.len().checked_sub(1)? / 2;
        Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
    }
}

impl RowActivity {
    fn observe(&mut self, reset: &Reset, process: Option<&Arc<str>>) {
        self.window.add(reset.time, reset.count);
        self.last = self.last.max(Some(reset.time));
        if reset.cause.fault != Fault::None {
            self.harmful += reset.count;
        }
        self.causes.count(&reset.cause.code, reset.count);
        self.peers.count(&reset.peer.address, reset.count);
        if let Some(process) = process {
            self.processes.count(process, reset.count);
        }
    }
}

impl Activity {
    /// Takes a record that passed the filters.
    pub(super) fn observe(&mut self, reset: &Reset) {
        let process = reset.process.as_ref().map(|_| report::process_name(reset));
        self.all.add(reset.time, reset.count);
        if reset.cause.fault != Fault::None {
            self.harmful.add(reset.time, reset.count);
        }
        let cause = self.causes.entry(reset.cause.code).or_insert_with(|| CauseActivity {
            row: RowActivity::default(),
            fault: reset.cause.fault,
            peers: HashSet::new(),
            ages: Samples::default(),
            silences: Samples::default(),
        });
        cause.row.observe(reset, process.as_ref());
        cause.fault = reset.cause.fault;
        if cause.peers.len() < PEERS {
            cause.peers.insert(reset.peer.address);
        }
        if let Some(age_ms) = reset.socket.as_ref().and_then(|socket| socket.age_ms) {
            cause.ages.add(age_ms);
        }
        if let Some(silence_ms) = report::silence_ms(reset) {
            cause.silences.add(silence_ms);
        }
        self.peers.get_or_insert_mut(reset.peer.address, RowActivity::default).observe(reset, process.as_ref());
        if let Some(process) = &process {
            self.processes.get_or_insert_mut(Arc::clone(process), RowActivity::default).observe(reset, Some(process));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_newest() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), None);
        for value in 0..1_000 {
            samples.add(f64::from(value));
        }
        // 744 to 999.
        assert_eq!((samples.median(), samples.0.len()), (Some(871.0), SAMPLES));
    }

    #[test]
    fn the_most_frequent_name_is_shown() {
        let mut names = Names::default();
        assert!(names.main().is_none());
        for (name, count) in [("a", 1), ("b", 2), ("a", 1), ("c", 1)] {
            names.count(&name, count);
        }
        assert_eq!(names.main(), Some((&"a", 2)));
        for number in 0..100 {
            names.count(&["x", "y", "z", "u", "v", "w"][number % 6], 1);
        }
        assert_eq!(names.0.len(), NAMES);
    }
}
