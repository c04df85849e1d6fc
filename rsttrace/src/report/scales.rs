//! Scales: values to positions in a drawing, and the values that an axis names.

use jiff::{Timestamp, civil::Time, tz::TimeZone};

use crate::util::human_duration;

/// Steps between the times that an axis names, milliseconds.
const TIME_STEPS_MS: [i64; 27] = [
    10,
    100,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    604_800_000,
    1_209_600_000,
    2_419_200_000,
    7_257_600_000,
    29_030_400_000,
];
const DAY_MS: i64 = 86_400_000;

/// Times from left to right.
#[derive(Clone, Debug)]
pub(super) struct TimeScale {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    /// Positions of the ends.
    pub(super) left: f64,
    pub(super) right: f64,
    zone: TimeZone,
}

impl TimeScale {
    /// A scale of the times between two, milliseconds since 1970, with a margin, and at least a second.
    pub(super) fn new(from_ms: i64, to_ms: i64, left: f64, right: f64, zone: &TimeZone) -> Self {
        let margin = (to_ms.saturating_sub(from_ms) / 60).max(500);
        let (from_ms, to_ms) = (from_ms.saturating_sub(margin), to_ms.saturating_add(margin));
        Self { from_ms, to_ms, left, right, zone: zone.clone() }
    }

    /// Position of a time; of one outside, the nearer end.
    pub(super) fn x(&self, time_ms: i64) -> f64 {
        let part = as_f64(time_ms.saturating_sub(self.from_ms)) / as_f64(self.to_ms - self.from_ms);
        self.left + part.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// Positions and names of round times, as many as there is room for.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        // A name takes up to 60 units.
        let room = ((self.right - self.left) / 72.0).floor().max(2.0);
        let range = self.to_ms - self.from_ms;
        let fits = |step: &&i64| as_f64(range / **step) <= room;
        let step = TIME_STEPS_MS.iter().find(fits).copied().unwrap_or(range / 4 + 1);
        // Times of day are round where this host is.
        let offset = timestamp(self.from_ms).map_or(0, |time| self.zone.to_offset(time).seconds());
        let offset_ms = i64::from(offset) * 1_000;
        let first = (self.from_ms + offset_ms).div_euclid(step) + 1;
        let times = (first..first + 40).map(|number| number * step - offset_ms).take_while(|&time| time <= self.to_ms);
        times.map(|time| (self.x(time), self.name(time, step))).collect()
    }

    fn is_midnight(&self, time: Timestamp) -> bool {
        time.to_zoned(self.zone.clone()).time() == Time::midnight()
    }

    fn name(&self, time_ms: i64, step_ms: i64) -> String {
        let Some(time) = timestamp(time_ms) else { return String::new() };
        let form = match step_ms {
            ..1_000 => "%H:%M:%S%.1f",
            1_000..60_000 => "%H:%M:%S",
            // A day begins with its name.
            60_000..DAY_MS if !self.is_midnight(time) => "%H:%M",
            60_000..DAY_MS => "%d %b",
            _ if self.to_ms - self.from_ms < 300 * DAY_MS => "%d %b",
            _ => "%b %Y",
        };
        time.to_zoned(self.zone.clone()).strftime(form).to_string()
    }
}

/// Durations in milliseconds on a logarithmic scale, from `low` at the beginning to `high` at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogScale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) begin: f64,
    pub(super) end: f64,
}

impl LogScale {
    /// A scale that has room for values between two, and covers a factor of ten at least. Values are above 0.
    pub(super) fn around(low: f64, high: f64, begin: f64, end: f64) -> Self {
        let (low, high) = (low / 1.35, high * 1.35);
        let spread = (10.0 / (high / low)).max(1.0).sqrt();
        Self { low: low / spread, high: high * spread, begin, end }
    }

    /// Position of a value; of one outside, the nearer end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.begin + part.clamp(0.0, 1.0) * (self.end - self.begin)
    }

    /// Whether a value is on the scale.
    pub(super) fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Positions and names of round durations.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        const ROUND: [(f64, &str); 29] = [
            (0.001, "1 µs"),
            (0.01, "10 µs"),
            (0.1, "100 µs"),
            (1.0, "1 ms"),
            (10.0, "10 ms"),
            (100.0, "100 ms"),
            (1_000.0, "1 s"),
            (2_000.0, "2 s"),
            (5_000.0, "5 s"),
            (10_000.0, "10 s"),
            (20_000.0, "20 s"),
            (30_000.0, "30 s"),
            (60_000.0, "1 min"),
            (120_000.0, "2 min"),
            (300_000.0, "5 min"),
            (600_000.0, "10 min"),
            (1_200_000.0, "20 min"),
            (3_600_000.0, "1 h"),
            (7_200_000.0, "2 h"),
            (18_000_000.0, "5 h"),
            (43_200_000.0, "12 h"),
            (86_400_000.0, "1 d"),
            (172_800_000.0, "2 d"),
            (604_800_000.0, "7 d"),
            (1_209_600_000.0, "14 d"),
            (2_592_000_000.0, "30 d"),
            (7_776_000_000.0, "90 d"),
            (31_536_000_000.0, "1 y"),
            (157_680_000_000.0, "5 y"),
        ];
        let on_scale: Vec<_> = ROUND.into_iter().filter(|(value, _)| self.contains(*value)).collect();
        let mut ticks: Vec<(f64, String)> = Vec::new();
        // Vertical axes have room for a name every 26 units, horizontal ones every 56.
        let room = if self.end < self.begin { 26.0 } else { 56.0 };
        // Decades and minutes have precedence.
        let is_main = |value: f64| value < 1_000.0 || [1e3, 1e4, 6e4, 6e5, 3.6e6, 8.64e7, 6.048e8].contains(&value);
        for wanted in [true, false] {
            for &(value, name) in on_scale.iter().filter(|(value, _)| is_main(*value) == wanted) {
                let at = self.at(value);
                if ticks.iter().all(|(other, _)| (other - at).abs() >= room) {
                    ticks.push((at, name.to_owned()));
                }
            }
        }
        if ticks.is_empty() {
            let middle = (self.low * self.high).sqrt();
            ticks.push((self.at(middle), human_duration(middle).to_string()));
        }
        ticks
    }
}

/// Counts from 0 up.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountScale {
    /// Count at the end, at least 1.
    pub(super) most: u64,
    pub(super) begin: f64,
    pub(super) end: f64,
}

impl CountScale {
    /// Position of a count.
    pub(super) fn at(&self, count: u64) -> f64 {
        self.begin + count_f64(count) / count_f64(self.most.max(1)) * (self.end - self.begin)
    }

    /// Round counts: the largest that is on the scale, and its half where that is one.
    pub(super) fn ticks(&self) -> Vec<u64> {
        let mut unit = 1_u64;
        while unit.saturating_mul(10) <= self.most {
            unit *= 10;
        }
        let largest = [5, 2, 1].into_iter().map(|times| unit * times).find(|&count| count <= self.most).unwrap_or(1);
        if largest % 2 == 0 { vec![largest / 2, largest] } else { vec![largest] }
    }
}

/// A time; `None` outside of what can be a time.
pub(super) fn timestamp(time_ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(time_ms).ok()
}

/// Milliseconds as a floating-point number.
pub(super) fn as_f64(ms: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a position in a drawing, and times have 49 bits")]
    let value = ms as f64;
    value
}

/// A count as a floating-point number.
pub(super) fn count_f64(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a position in a drawing, or a rate")]
    let value = count as f64;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_round_names() {
        let scale = TimeScale::new(1_800_000_000_000, 1_800_000_600_000, 0.0, 500.0, &TimeZone::UTC);
        let names: Vec<String> = scale.ticks().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["08:00", "08:02", "08:04", "08:06", "08:08", "08:10"]);
        let week = TimeScale::new(1_800_000_000_000, 1_800_600_000_000, 0.0, 900.0, &TimeZone::UTC);
        assert!(week.ticks().len() >= 3 && week.ticks().iter().all(|(x, _)| (0.0..=900.0).contains(x)));
        // The longest time that a file can claim, and none at all.
        for (from, to) in [(-377_705_116_800_000, 253_402_207_200_000), (0, 0)] {
            let ticks = TimeScale::new(from, to, 0.0, 900.0, &TimeZone::UTC).ticks();
            assert!((1..=40).contains(&ticks.len()), "{ticks:?}");
        }
    }

    #[test]
    fn durations_are_spread_by_their_logarithm() {
        let scale = LogScale::around(60_000.0, 60_100.0, 300.0, 0.0);
        assert!(scale.high / scale.low >= 9.99 && scale.at(1.0) >= 300.0 && scale.at(1e12) <= 0.0);
        assert!(scale.ticks().iter().any(|(_, name)| name == "1 min"), "{:?}", scale.ticks());
        let wide = LogScale::around(0.1, 1e9, 300.0, 0.0);
        let ticks = wide.ticks();
        assert!((5..=12).contains(&ticks.len()), "{ticks:?}");
    }

    #[test]
    fn counts_have_round_names() {
        for (most, expected) in [(0, vec![1]), (1, vec![1]), (7, vec![5]), (24, vec![10, 20]), (199, vec![50, 100])] {
            assert_eq!(CountScale { most, begin: 0.0, end: 1.0 }.ticks(), expected, "{most}");
        }
    }
}
