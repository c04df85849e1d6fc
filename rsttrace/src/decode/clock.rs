//! The kernel's clocks: monotonic nanoseconds to wall time, and ticks (jiffies) to milliseconds.

use std::time::Duration;

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

/// Ticks to milliseconds.
///
/// The tick rate (`CONFIG_HZ`) is what the kernel gives as the resolution of its coarse clocks, which are only set forward
/// at a tick (`posix_get_coarse_res` in `kernel/time/posix-timers.c`: `TICK_NSEC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    hz: u32,
}

impl Ticks {
    /// From the resolution of `CLOCK_MONOTONIC_COARSE`. `None` for what is no tick of any Linux, 24 to 1,200 a second, with
    /// some room for those who build their own.
    pub fn of_resolution(resolution: Duration) -> Option<Self> {
        let ns = u32::try_from(resolution.as_nanos()).ok().filter(|ns| *ns > 0)?;
        // The kernel has rounded to whole nanoseconds.
        let hz = (1_000_000_000 + ns / 2) / ns;
        (10..=10_000).contains(&hz).then_some(Self { hz })
    }

    /// Milliseconds of a number of ticks.
    pub fn ms(self, ticks: u32) -> f64 {
        f64::from(ticks) * 1000.0 / f64::from(self.hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_resolution_of_the_coarse_clock() {
        // `TICK_NSEC`: (NSEC_PER_SEC + HZ / 2) / HZ, for every rate that an architecture offers.
        for hz in [24, 32, 48, 64, 100, 128, 200, 250, 256, 300, 1000, 1024, 1200] {
            let tick_ns = (1_000_000_000 + hz / 2) / hz;
            let ticks = Ticks::of_resolution(Duration::from_nanos(u64::from(tick_ns)));
            assert_eq!(ticks, Some(Ticks { hz }));
        }
    }

    #[test]
    fn what_is_no_tick_has_no_rate() {
        for resolution in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1), Duration::MAX] {
            assert_eq!(Ticks::of_resolution(resolution), None, "{resolution:?}");
        }
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
