//! Connections that end at the same time, because their process has ended or has dropped them.

use super::correlation::{AT_ONCE_NS, SECOND_NS, count, elapsed_ms, is_equal_idle, push_bounded};

/// Connections that ended at the same time, of one process or one client. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Default)]
pub(super) struct Burst {
    /// Time of the first and of the last end; 0 before the first.
    began: u64,
    last: u64,
    count: u32,
    /// For how long the requests of the newest of them had waited, milliseconds; `None` for one without a request.
    waits: Vec<Option<f64>>,
}

/// End of one connection.
pub(super) struct ConnectionEnd {
    /// Time of its end.
    pub(super) at: u64,
    /// Time of its opening; `None` if it was open before the start of the trace.
    pub(super) opened: Option<u64>,
    /// For how long its last request had waited for an answer, milliseconds; `None` where none was outstanding.
    pub(super) waited: Option<f64>,
}

/// Place of a connection in a burst.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    /// Connections that ended before it in the burst.
    pub(super) earlier: u32,
    /// Those of the newest of them whose requests had waited for another time: no timeout ended these together.
    pub(super) otherwise: u32,
    /// Time since the first of them ended, milliseconds.
    pub(super) since_ms: f64,
}

impl Burst {
    /// Adds the end of a connection. A burst takes a second at most, and each of its connections was open when it began: those
    /// of a service that opens and ends connections all the time are not.
    pub(super) fn observe(&mut self, end: &ConnectionEnd) -> Place {
        let is_close =
            end.at <= self.last.saturating_add(AT_ONCE_NS) && self.began <= end.at.saturating_add(AT_ONCE_NS);
        let is_short = end.at.saturating_sub(self.began) <= SECOND_NS;
        let began = self.began.min(end.at);
        let was_open = end.opened.is_none_or(|opened| opened < began);
        if self.count == 0 || !(is_close && is_short && was_open) {
            *self = Self { began: end.at, last: end.at, count: 1, waits: vec![end.waited] };
            return Place::default();
        }
        let otherwise = self.waits.iter().filter(|&&waited| !is_equal_idle(waited, end.waited)).count();
        let place =
            Place { earlier: self.count, otherwise: count(otherwise), since_ms: elapsed_ms(end.at, self.began) };
        (self.began, self.last) = (began, self.last.max(end.at));
        self.count = self.count.saturating_add(1);
        push_bounded(&mut self.waits, end.waited);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(at_ms: u64, opened_ms: u64, waited: Option<f64>) -> ConnectionEnd {
        ConnectionEnd { at: at_ms * 1_000_000, opened: Some(opened_ms * 1_000_000), waited }
    }

    #[test]
    fn connections_that_end_together_are_one_burst() {
        let mut burst = Burst::default();
        let places: Vec<u32> =
            (0..20).map(|number| burst.observe(&end(10_000 + number, 5_000 + number, None)).earlier).collect();
        assert_eq!(places, (0..20).collect::<Vec<_>>());
        assert_eq!(burst.observe(&end(10_200, 5_000, None)).earlier, 0);
    }

    #[test]
    fn short_connections_one_after_the_other_are_no_burst() {
        let mut burst = Burst::default();
        assert!(
            (0..20).all(|number| burst.observe(&end(10_000 + 10 * number, 9_995 + 10 * number, None)).earlier == 0)
        );
    }

    #[test]
    fn a_burst_has_an_end() {
        let mut burst = Burst::default();
        let places = (0..30).map(|number| burst.observe(&end(10_000 + 50 * number, 1, None)).earlier);
        assert_eq!(places.max(), Some(20));
    }

    #[test]
    fn ends_that_are_reported_late_belong_to_their_burst() {
        let mut burst = Burst::default();
        burst.observe(&end(10_010, 1, None));
        assert_eq!(burst.observe(&end(10_000, 1, None)).earlier, 1);
        assert_eq!(burst.observe(&end(9_000, 1, None)).earlier, 0);
    }

    #[test]
    fn equal_waits_are_told_from_others() {
        let mut burst = Burst::default();
        for waited in [5_000.0, 5_004.0, 5_100.0] {
            assert_eq!(burst.observe(&end(10_000, 1, Some(waited))).otherwise, 0);
        }
        let place = burst.observe(&end(10_000, 1, None));
        assert_eq!((place.earlier, place.otherwise), (3, 3));
    }
}
