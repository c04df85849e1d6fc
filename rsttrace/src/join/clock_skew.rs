//! Difference of two hosts' clocks, from the resets that both have recorded.

use crate::model::PairClock;

/// What is added to the spread of the matches: a reset's record has the time of its report, which on a loaded host comes later
/// than the packet, nanoseconds.
const MARGIN_NS: i64 = 1_000_000_000;
/// What is added for a packet of a capture, which has the time of the packet, nanoseconds.
const WIRE_MARGIN_NS: i64 = 100_000_000;
/// Drift that is allowed for since the nearest match, as a part of that time: 1/2000 (500 ppm), what `adjtimex` can slew.
const DRIFT_PART: i64 = 2_000;

/// Difference of two clocks, nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct ClockSkew {
    median: i64,
    least: i64,
    most: i64,
    /// Times of the matches by the first host's clock, nanoseconds since 1970, sorted.
    times: Vec<i64>,
}

impl ClockSkew {
    /// The difference from matches: the time by the first host's clock, and by the second's. `None` without a match.
    pub(super) fn of(mut matches: Vec<(i64, i64)>) -> Option<Self> {
        let mut differences: Vec<i64> = matches.iter().map(|(first, second)| second.saturating_sub(*first)).collect();
        differences.sort_unstable();
        matches.sort_unstable();
        Some(Self {
            median: *differences.get(differences.len() / 2)?,
            least: *differences.first()?,
            most: *differences.last()?,
            times: matches.into_iter().map(|(first, _)| first).collect(),
        })
    }

    /// The difference as the second host sees it.
    pub(super) fn reversed(&self) -> Self {
        Self {
            median: -self.median,
            least: -self.most,
            most: -self.least,
            times: self.times.iter().map(|time| time.saturating_add(self.median)).collect(),
        }
    }

    /// A time of the first host by the clock of the second, nanoseconds.
    pub(super) const fn translate(&self, time_ns: i64) -> i64 {
        time_ns.saturating_add(self.median)
    }

    /// How far the translation of this time may be off, nanoseconds; `is_wire`: where packets of a capture are looked for.
    pub(super) fn uncertainty_of_ns(&self, time_ns: i64, is_wire: bool) -> i64 {
        let margin = if is_wire { WIRE_MARGIN_NS } else { MARGIN_NS };
        self.uncertainty_ns(time_ns).saturating_sub(MARGIN_NS).saturating_add(margin)
    }

    /// How far the translation of this time may be off, nanoseconds.
    pub(super) fn uncertainty_ns(&self, time_ns: i64) -> i64 {
        let spread = (self.most - self.median).max(self.median - self.least);
        let after = self.times.partition_point(|time| *time < time_ns);
        let neighbours = [after.checked_sub(1).and_then(|before| self.times.get(before)), self.times.get(after)];
        let nearest = neighbours.into_iter().flatten().map(|time| (time_ns - time).abs()).min().unwrap_or(0);
        spread.saturating_add(MARGIN_NS).saturating_add(nearest / DRIFT_PART)
    }

    /// How far from the expected time the second host's record of an event is, nanoseconds.
    pub(super) fn distance_ns(&self, first_ns: i64, second_ns: i64) -> i64 {
        self.translate(first_ns).saturating_sub(second_ns).saturating_abs()
    }

    /// What a pair shows of it: the second host's clock less the first's.
    pub(super) fn shown(&self) -> PairClock {
        PairClock {
            skew_us: self.median / 1_000,
            least_us: self.least / 1_000,
            most_us: self.most / 1_000,
            matches: u64::try_from(self.times.len()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn the_median_is_not_moved_by_an_outlier_and_the_uncertainty_is() {
        let close: Vec<(i64, i64)> = (0..9).map(|at| (at * SECOND, at * SECOND + 49 * SECOND + at)).collect();
        let skew = ClockSkew::of(close.clone()).expect("matches");
        assert_eq!((skew.translate(0), skew.uncertainty_ns(4 * SECOND)), (49 * SECOND + 4, MARGIN_NS + 4));
        let outlier = ClockSkew::of([close, vec![(9 * SECOND, 90 * SECOND)]].concat()).expect("matches");
        assert_eq!(outlier.translate(0), 49 * SECOND + 5);
        assert!(outlier.uncertainty_ns(0) > 30 * SECOND);
        assert!(ClockSkew::of(Vec::new()).is_none());
    }

    #[test]
    fn a_clock_may_drift_from_the_nearest_match_on() {
        let skew = ClockSkew::of(vec![(0, 7), (10 * SECOND, 10 * SECOND + 7)]).expect("matches");
        assert_eq!(skew.uncertainty_ns(2_010 * SECOND), MARGIN_NS + SECOND);
        assert_eq!(skew.reversed().translate(skew.translate(5)), 5);
    }
}
