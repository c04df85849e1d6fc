//! Counts over the last minute and the last ten.

use jiff::Timestamp;

/// Slots of each of the two resolutions.
pub(super) const SLOTS: usize = 60;
/// As many, as a distance in time.
const UNITS: i64 = 60;
/// Seconds of a coarse slot: sixty of them are ten minutes.
const COARSE_S: i64 = 10;

/// Counts of the last sixty seconds by the second, and of the last ten minutes by ten seconds. The memory is fixed.
#[derive(Clone, Debug)]
pub(super) struct Window {
    fine: Slots,
    coarse: Slots,
}

/// A ring of counts, each of one unit of time.
#[derive(Clone, Debug)]
struct Slots {
    counts: [u32; SLOTS],
    /// The newest unit that has a slot, since 1970.
    head: i64,
}

impl Default for Window {
    fn default() -> Self {
        let slots = || Slots { counts: [0; SLOTS], head: i64::MIN / 2 };
        Self { fine: slots(), coarse: slots() }
    }
}

/// Slot of a unit.
fn slot(unit: i64) -> usize {
    usize::try_from(unit.rem_euclid(UNITS)).unwrap_or_default()
}

impl Slots {
    fn add(&mut self, unit: i64, count: u32) {
        let steps = unit.saturating_sub(self.head);
        if steps >= UNITS {
            self.counts = [0; SLOTS];
            self.head = unit;
        } else {
            while self.head < unit {
                self.head += 1;
                self.counts[slot(self.head)] = 0;
            }
        }
        // A record that comes late belongs to a slot that is there, or to none.
        if self.head - unit < UNITS {
            let of = &mut self.counts[slot(unit)];
            *of = of.saturating_add(count);
        }
    }

    /// The counts up to a unit, the oldest first.
    fn up_to(&self, unit: i64) -> [u32; SLOTS] {
        let mut counts = [0; SLOTS];
        for (ago, count) in (0_i64..).zip(counts.iter_mut().rev()) {
            let of = unit - ago;
            if of <= self.head && self.head - of < UNITS {
                *count = self.counts[slot(of)];
            }
        }
        counts
    }
}

impl Window {
    /// Adds resets of a time.
    pub(super) fn add(&mut self, time: Timestamp, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.fine.add(time.as_second(), count);
        self.coarse.add(time.as_second().div_euclid(COARSE_S), count);
    }

    /// Counts of each of the sixty seconds that end with this time, the oldest first.
    pub(super) fn seconds(&self, now: Timestamp) -> [u32; SLOTS] {
        self.fine.up_to(now.as_second())
    }

    /// Count of the ten minutes that end with this time, to ten seconds.
    pub(super) fn ten_minutes(&self, now: Timestamp) -> u64 {
        total(&self.coarse.up_to(now.as_second().div_euclid(COARSE_S)))
    }
}

/// Sum of counts.
pub(super) fn total(counts: &[u32]) -> u64 {
    counts.iter().copied().map(u64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn counts_leave_the_window_with_time() {
        let mut window = Window::default();
        for second in [1_000, 1_030, 1_030, 1_059] {
            window.add(at(second), 1);
        }
        let minute = |now: i64| total(&window.seconds(at(now)));
        assert_eq!([1_059, 1_060, 1_089, 1_090, 1_119, 10_000].map(minute), [4, 3, 3, 1, 0, 0]);
        assert_eq!([1_059, 1_590, 1_600, 1_630, 9_999].map(|now| window.ten_minutes(at(now))), [4, 4, 3, 1, 0]);
        // A view of an earlier time has what came until then.
        assert_eq!(minute(1_029), 1);
    }

    #[test]
    fn late_and_early_records_are_counted_where_they_belong() {
        let mut window = Window::default();
        window.add(at(1_000), 5);
        window.add(at(990), 2);
        // Too late for the minute, and not for the ten.
        window.add(at(900), 1);
        assert_eq!((total(&window.seconds(at(1_000))), window.ten_minutes(at(1_000))), (7, 8));
        window.add(at(-5), 1);
        window.add(at(100_000), 1);
        assert_eq!((total(&window.seconds(at(100_000))), window.ten_minutes(at(100_000))), (1, 1));
        window.add(at(100_000), u64::MAX);
        assert_eq!(total(&window.seconds(at(100_000))), u64::from(u32::MAX));
    }
}
