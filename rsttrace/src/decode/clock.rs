//! Conversion of the kernel's clocks: monotonic nanoseconds to wall time, and ticks (jiffies) to milliseconds.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A simultaneous reading of the monotonic and the wall clock, which converts times of the one to the other. Taken again for
/// every batch of events: the wall clock may be set during a run.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME` at that moment.
    pub wall: Timestamp,
}

impl WallClock {
    /// Wall time of a monotonic time in nanoseconds; the time of the reading when the result is out of range.
    pub fn at(&self, ktime_ns: u64) -> Timestamp {
        // 128 bits are divided by a function, and needed for no real time.
        let ago = match self.monotonic_ns.checked_signed_diff(ktime_ns) {
            Some(ago) => SignedDuration::from_nanos(ago),
            None => SignedDuration::from_nanos_i128(i128::from(self.monotonic_ns) - i128::from(ktime_ns)),
        };
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// Tick rate of the kernel (`CONFIG_HZ`).
///
/// The kernel reports it as the resolution of its coarse clocks, which advance at ticks only (`posix_get_coarse_res` in
/// `kernel/time/posix-timers.c`: `TICK_NSEC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    hz: u32,
}

impl Ticks {
    /// The rate for a resolution of `CLOCK_MONOTONIC_COARSE`. `None` outside 10 to 10,000 ticks a second: Linux has 24 to
    /// 1,200, and custom builds may have others.
    pub fn of_resolution(resolution: Duration) -> Option<Self> {
        let ns = u32::try_from(resolution.as_nanos()).ok().filter(|ns| *ns > 0)?;
        // Rounded, as the kernel has rounded the resolution to whole nanoseconds.
        let hz = (1_000_000_000 + ns / 2) / ns;
        (10..=10_000).contains(&hz).then_some(Self { hz })
    }

    /// Duration of this number of ticks in milliseconds.
    pub fn ms(self, ticks: u32) -> f64 {
        f64::from(ticks) * 1000.0 / f64::from(self.hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_rate_from_the_resolution_of_the_coarse_clock() {
        // `TICK_NSEC`: (NSEC_PER_SEC + HZ / 2) / HZ, for every rate that an architecture offers.
        for hz in [24, 32, 48, 64, 100, 128, 200, 250, 256, 300, 1000, 1024, 1200] {
            let tick_ns = (1_000_000_000 + hz / 2) / hz;
            let ticks = Ticks::of_resolution(Duration::from_nanos(u64::from(tick_ns)));
            assert_eq!(ticks, Some(Ticks { hz }));
        }
    }

    #[test]
    fn rejects_resolutions_that_are_no_tick() {
        for resolution in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1), Duration::MAX] {
            assert_eq!(Ticks::of_resolution(resolution), None, "{resolution:?}");
        }
    }

    #[test]
    fn converts_times_before_and_after_the_reading() {
        let clock = WallClock { monotonic_ns: 5_000_000_000, wall: Timestamp::UNIX_EPOCH };
        assert_eq!(clock.at(4_000_000_001).as_nanosecond(), -999_999_999);
        assert_eq!(clock.at(5_000_000_007).as_nanosecond(), 7);
        let _ignored = clock.at(u64::MAX);
        let _ignored = clock.at(0);
    }
}
