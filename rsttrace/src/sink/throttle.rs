//! Write throttling: writes go out immediately when idle; under load they are batched for up to 200 ms, which makes
//! about 100 writes a second at most.

use std::time::{Duration, Instant};

/// Longest time that a record waits to be written together with later ones.
const WINDOW: Duration = Duration::from_millis(200);

/// Immediate writes in a window. With the write at the end of each window this makes a hundred writes a second at most,
/// whatever the rate of records.
const WRITES_PER_WINDOW: u32 = 20;

/// Decides when the next write goes out.
#[derive(Debug, Default)]
pub(crate) struct WriteThrottle {
    began: Option<Instant>,
    writes: u32,
}

impl WriteThrottle {
    /// Delay until the next write. Zero means to write now, and counts as a write.
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
    fn writes_immediately_when_idle() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        for second in 0..100 {
            assert_eq!(throttle.next_write_in(start + Duration::from_secs(second)), Duration::ZERO);
        }
    }

    #[test]
    fn delays_at_most_one_window_under_load() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        let (mut now, mut writes) = (Duration::ZERO, 0_u32);
        // A record every 100 µs for ten seconds.
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
