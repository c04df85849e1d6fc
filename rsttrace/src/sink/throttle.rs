//! At once when it is quiet, in blocks when it is not.

use std::time::{Duration, Instant};

/// The longest that a record waits for others to go out with it.
const WINDOW: Duration = Duration::from_millis(200);

/// Times that something goes out at once in a window. With those at the end of windows this makes a hundred writes a
/// second at most, however many records there are.
const WRITES_PER_WINDOW: u32 = 20;

/// Tells whether what there is goes out now, or waits for more.
#[derive(Debug, Default)]
pub(crate) struct WriteThrottle {
    began: Option<Instant>,
    writes: u32,
}

impl WriteThrottle {
    /// How long to wait before the next write; zero is now, and counts as done.
    pub(crate) fn next_write_in(&mut self, now: Instant) -> Duration {
        let passed = self.began.map(|began| now.saturating_duration_since(began));
        match passed {
            Some(passed) if passed < WINDOW => {
                if self.writes >= WRITES_PER_WINDOW {
                    return WINDOW.saturating_sub(passed);
                }
                self.writes += 1;
            }
            _ => {
                self.began = Some(now);
                self.writes = 1;
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_when_it_is_quiet() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        for second in 0..100 {
            assert_eq!(throttle.next_write_in(start + Duration::from_secs(second)), Duration::ZERO);
        }
    }

    #[test]
    fn under_load_nothing_waits_longer_than_a_window() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        let (mut now, mut writes) = (Duration::ZERO, 0_u32);
        // A record every 100 µs, for ten seconds.
        while now < Duration::from_secs(10) {
            let delay = throttle.next_write_in(start + now);
            assert!(delay <= WINDOW);
            if delay.is_zero() {
                writes += 1;
                now += Duration::from_micros(100);
            } else {
                now += delay;
            }
        }
        assert!((500..=1_100).contains(&writes), "{writes}");
    }
}
