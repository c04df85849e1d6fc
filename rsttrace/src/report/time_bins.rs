//! Values in bins of time whose width grows with the time that they cover, so that their number is bounded.

use std::collections::BTreeMap;

/// Largest distance between the first and the last bin, in bins.
const BINS_MAX: i64 = 240;
/// Widths of bins, milliseconds; each divides the next. Further ones are twice as wide.
const WIDTHS_MS: [i64; 15] = [
    100,
    500,
    1_000,
    5_000,
    10_000,
    30_000,
    60_000,
    300_000,
    600_000,
    1_800_000,
    3_600_000,
    21_600_000,
    43_200_000,
    86_400_000,
    604_800_000,
];

/// A value that can take in another one.
pub(super) trait Merge: Default {
    /// Adds another value.
    fn merge(&mut self, other: Self);
}

/// Values by time.
#[derive(Clone, Debug)]
pub(super) struct TimeBins<T> {
    /// Number of the width.
    step: usize,
    bins: BTreeMap<i64, T>,
}

impl<T> Default for TimeBins<T> {
    fn default() -> Self {
        Self { step: 0, bins: BTreeMap::new() }
    }
}

/// Width of a step, milliseconds.
fn width_of(step: usize) -> i64 {
    let last = WIDTHS_MS.len() - 1;
    let doublings = u32::try_from(step.saturating_sub(last)).unwrap_or(u32::MAX);
    // Times have some 49 bits of milliseconds.
    WIDTHS_MS[step.min(last)].saturating_mul(1_i64.checked_shl(doublings).unwrap_or(i64::MAX))
}

impl<T: Merge> TimeBins<T> {
    /// Width of a bin, milliseconds.
    pub(super) fn width_ms(&self) -> i64 {
        width_of(self.step)
    }

    /// Value of the bin of a time, milliseconds since 1970.
    pub(super) fn bin(&mut self, time_ms: i64) -> &mut T {
        loop {
            let key = time_ms.div_euclid(self.width_ms());
            let first = self.bins.first_key_value().map_or(key, |(&first, _)| first.min(key));
            let last = self.bins.last_key_value().map_or(key, |(&last, _)| last.max(key));
            if last - first < BINS_MAX {
                return self.bins.entry(key).or_default();
            }
            self.coarsen();
        }
    }

    /// Beginnings of the bins that have a value, milliseconds, with the values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &T)> {
        let width = self.width_ms();
        self.bins.iter().map(move |(key, value)| (key.saturating_mul(width), value))
    }

    /// Makes the bins wider by a step.
    fn coarsen(&mut self) {
        let before = self.width_ms();
        self.step += 1;
        let ratio = (self.width_ms() / before).max(1);
        for (key, value) in std::mem::take(&mut self.bins) {
            self.bins.entry(key.div_euclid(ratio)).or_default().merge(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_width_divides_the_next() {
        assert!((1..30).all(|step| width_of(step) % width_of(step - 1) == 0));
    }

    #[test]
    fn bins_are_bounded_and_lose_nothing() {
        let mut bins = TimeBins::<u64>::default();
        for second in 0..10_000_i64 {
            *bins.bin(second * 1_000) += 1;
        }
        assert_eq!((bins.iter().map(|(_, count)| count).sum::<u64>(), bins.width_ms()), (10_000, 60_000));
        // The first and the last time that a record can have.
        for time in [-377_705_116_800_000, 253_402_207_200_000] {
            *bins.bin(time) += 1;
        }
        assert_eq!(bins.iter().map(|(_, count)| count).sum::<u64>(), 10_002);
        assert!(bins.bins.len() <= 4 && bins.iter().all(|(time, _)| time < 253_402_207_200_000));
    }

    #[test]
    fn a_bin_begins_at_a_multiple_of_its_width() {
        let mut bins = TimeBins::<u64>::default();
        *bins.bin(-1) += 1;
        *bins.bin(250) += 1;
        assert_eq!(bins.iter().map(|(time, &count)| (time, count)).collect::<Vec<_>>(), [(-100, 1), (200, 1)]);
    }
}
