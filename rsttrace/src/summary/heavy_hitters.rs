//! The most frequent of very many keys, in bounded memory.

use std::{
    fmt::{self, Debug, Formatter},
    hash::Hash,
};

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};

/// Largest number of slots of the sketch; three quarters of them can be in use, and as many keys are counted exactly.
/// It starts small.
const SLOTS: usize = 8192;

/// Counts of keys by a frequent-items sketch. Exact up to some 6,000 different keys; beyond that a count may be too
/// small by [`HeavyHitters::error`].
#[derive(Clone)]
pub(crate) struct HeavyHitters<K>(Option<FrequentItemsSketch<K>>);

impl<K: Eq + Hash> Default for HeavyHitters<K> {
    fn default() -> Self {
        // Creating it cannot fail: the size is a power of two.
        Self(FrequentItemsSketch::new(SLOTS).ok())
    }
}

impl<K> Debug for HeavyHitters<K> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HeavyHitters").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash + Ord> HeavyHitters<K> {
    pub(crate) fn count(&mut self, key: K, count: u64) {
        if let Some(sketch) = &mut self.0 {
            sketch.update_with_count(key, count);
        }
    }

    /// Largest amount by which a count may be too small; 0 while all are exact.
    pub(crate) fn error(&self) -> u64 {
        self.0.as_ref().map_or(0, FrequentItemsSketch::maximum_error)
    }

    /// The keys that are known to be frequent with their lower bounds, the most frequent first.
    pub(crate) fn rows(&self) -> Vec<(K, u64)> {
        let rows = self.0.as_ref().map(|sketch| sketch.frequent_items(ErrorType::NoFalsePositives));
        let mut rows: Vec<(K, u64)> =
            rows.into_iter().flatten().map(|row| (row.item().clone(), row.lower_bound())).collect();
        rows.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_few_keys_exactly() {
        let mut heavy_hitters = HeavyHitters::default();
        for key in 0..5000_u32 {
            heavy_hitters.count(key, 1);
        }
        heavy_hitters.count(7, 41);
        assert_eq!((heavy_hitters.error(), heavy_hitters.rows().len(), heavy_hitters.rows()[0]), (0, 5000, (7, 42)));
        // Keys with equal counts are in ascending order.
        assert_eq!(heavy_hitters.rows()[1], (0, 1));
    }

    #[test]
    fn keeps_the_frequent_of_many_keys_with_an_error() {
        let mut heavy_hitters = HeavyHitters::default();
        for key in 0..200_000_u32 {
            heavy_hitters.count(key, 1);
            if key % 4 == 0 {
                heavy_hitters.count(1_000_000 + key % 16, 1);
            }
        }
        let (rows, error) = (heavy_hitters.rows(), heavy_hitters.error());
        assert!(error > 0 && rows.len() < SLOTS);
        for key in [0, 4, 8, 12] {
            let (_, count) = rows.iter().find(|row| row.0 == 1_000_000 + key).expect("a frequent key");
            assert!((12_500 - error..=12_500).contains(count), "{count} with an error of {error}");
        }
    }
}
