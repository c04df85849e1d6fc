//! The kernel's clocks: monotonic nanoseconds to wall time, and ticks (jiffies) to milliseconds.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};

/// The two clocks read together, so that a time of one can be told as a time of the other. Taken anew for every batch
/// of events: somebody may set the wall clock while we run.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME` at the same moment.
    pub wall: Timestamp,
}

impl WallClock {
    /// The wall time of an event.
    pub fn at(&self, ktime_ns: u64) -> Timestamp {
        let ago = i128::from(self.monotonic_ns) - i128::from(ktime_ns);
        self.wall.checked_sub(SignedDuration::from_nanos_i128(ago)).unwrap_or(self.wall)
    }
}

/// Rates that Linux is built with (`CONFIG_HZ` of every architecture), the common ones first.
const RATES_HZ: [u32; 12] = [250, 1000, 100, 300, 128, 64, 32, 24, 48, 200, 256, 1024];

/// Those that distributions choose.
const COMMON_RATES_HZ: [u32; 4] = [250, 1000, 100, 300];

/// How far the tick counter may be behind the monotonic clock, and for rounding before it: they start some tens of
/// milliseconds apart.
const SOON_MS: RangeInclusive<i64> = -500..=500;

/// The same where what the kernel does between the two starts takes seconds: all that it has said so far goes out by a slow
/// serial line, or its processor is emulated. The counter is never before the clock.
const LATE_MS: RangeInclusive<i64> = 0..=10_000;

/// Ticks to milliseconds.
///
/// The kernel does not tell user space its tick rate everywhere (`CONFIG_HZ`; /proc/config.gz is often not there), but
/// it starts the tick counter at `-300 * HZ` (`INITIAL_JIFFIES`), so a pair of readings tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    hz: u32,
}

impl Ticks {
    /// From a reading of the monotonic clock and of the low half of the tick counter at the same moment.
    ///
    /// `None` when several rates would give the reading, as they all do five minutes after the start of the system,
    /// or none does.
    pub fn from_reading(ktime_ns: u64, jiffies: u32) -> Option<Self> {
        let uptime_ms = ktime_ns / 1_000_000;
        // How far the counter is behind the clock, if it counts at this rate.
        let lag_ms = |hz: u32| {
            let lag = low_half(uptime_ms, hz).wrapping_sub(jiffies).cast_signed();
            i64::from(lag) * 1000 / i64::from(hz)
        };
        let mut fits = RATES_HZ.into_iter().filter(|hz| {
            let lag_ms = lag_ms(*hz);
            SOON_MS.contains(&lag_ms) || COMMON_RATES_HZ.contains(hz) && LATE_MS.contains(&lag_ms)
        });
        match (fits.next(), fits.next()) {
            (Some(hz), None) => Some(Self { hz }),
            _ => None,
        }
    }

    /// Milliseconds of a number of ticks.
    pub fn ms(self, ticks: u32) -> f64 {
        f64::from(ticks) * 1000.0 / f64::from(self.hz)
    }
}

/// The low half of the tick counter after so much uptime.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low_half(uptime_ms: u64, hz: u32) -> u32 {
    let ticks = u128::from(uptime_ms) * u128::from(hz) / 1000;
    (ticks as u32).wrapping_sub(300 * hz)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jiffies(hz: u32, uptime_ms: u64) -> u32 {
        low_half(uptime_ms, hz)
    }

    #[test]
    fn the_rate_shows_in_one_reading() {
        for hz in COMMON_RATES_HZ {
            assert_eq!(Ticks::from_reading(100_000_000_000, jiffies(hz, 100_000)), Some(Ticks { hz }));
        }
        for hz in RATES_HZ {
            for uptime_ms in [1_000_000, 299_000_000, 3_600_000, 86_400_000 * 400] {
                let ticks = Ticks::from_reading(uptime_ms * 1_000_000, jiffies(hz, uptime_ms));
                assert_eq!(ticks, Some(Ticks { hz }), "{hz} Hz after {uptime_ms} ms");
            }
        }
    }

    #[test]
    fn a_counter_that_started_late_is_understood() {
        for hz in COMMON_RATES_HZ {
            for uptime_ms in [60_000, 900_000, 86_400_000 * 400] {
                let ticks = Ticks::from_reading(uptime_ms * 1_000_000, jiffies(hz, uptime_ms - 2_000));
                assert_eq!(ticks, Some(Ticks { hz }), "{hz} Hz after {uptime_ms} ms");
            }
        }
        // It cannot have started before the clock.
        assert_eq!(Ticks::from_reading(900_000_000_000, jiffies(250, 902_000)), None);
    }

    #[test]
    fn no_rate_is_taken_for_another() {
        for (hz, uptime_s, lag_ms) in COMMON_RATES_HZ
            .into_iter()
            .flat_map(|hz| (10..1200).flat_map(move |s| [0, 700, 2_000, 9_900].map(|lag| (hz, s, lag))))
        {
            let ticks = Ticks::from_reading(uptime_s * 1_000_000_000, jiffies(hz, uptime_s * 1000 - lag_ms));
            assert!(
                ticks.is_none_or(|ticks| ticks.hz == hz),
                "{hz} Hz {lag_ms} ms late, after {uptime_s} s: {ticks:?}"
            );
            let is_known = !(70..=370).contains(&uptime_s);
            assert!(!is_known || ticks.is_some(), "{hz} Hz {lag_ms} ms late, after {uptime_s} s");
        }
    }

    #[test]
    fn five_minutes_after_the_start_it_cannot() {
        assert_eq!(Ticks::from_reading(300_000_000_000, 0), None);
    }

    #[test]
    fn nonsense_has_no_rate() {
        assert_eq!(Ticks::from_reading(1_000_000_000_000, 0x1234_5678), None);
    }

    #[test]
    fn wall_time_of_an_earlier_and_a_later_event() {
        let clock = WallClock { monotonic_ns: 5_000_000_000, wall: Timestamp::UNIX_EPOCH };
        assert_eq!(clock.at(4_000_000_001).as_nanosecond(), -999_999_999);
        assert_eq!(clock.at(5_000_000_007).as_nanosecond(), 7);
        let _ = clock.at(u64::MAX);
        let _ = clock.at(0);
    }
}
