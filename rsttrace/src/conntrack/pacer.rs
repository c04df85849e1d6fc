//! Requests that are under way: how many, how fast, and until when.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::model::Endpoint;

/// Most requests under way.
const IN_FLIGHT_MAX: usize = 256;
/// Most requests a second.
const PER_SECOND: u32 = 1_000;
/// Time after which an answer is not waited for any longer.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    /// Number in the packets to and from the helper.
    pub(super) serial: u64,
    /// Number that it was requested under.
    pub(super) id: u64,
    /// Ends as the socket has them.
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
    deadline: Instant,
}

/// The requests under way, in the order of their deadlines, and a token bucket.
#[derive(Debug)]
pub(super) struct Pacer {
    in_flight: VecDeque<InFlight>,
    next_serial: u64,
    /// Time at which the bucket would be full if nothing more was requested.
    full_at: Option<Instant>,
}

impl Pacer {
    pub(super) const fn new() -> Self {
        Self { in_flight: VecDeque::new(), next_serial: 0, full_at: None }
    }

    /// Admits a request; returns its serial number. `None` when as many as are allowed are under way or were made within the
    /// second before.
    pub(super) fn admit(&mut self, id: u64, local: Endpoint, peer: Endpoint, now: Instant) -> Option<u64> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + Duration::from_secs(1) / PER_SECOND;
        if self.in_flight.len() >= IN_FLIGHT_MAX || full_at > now + Duration::from_secs(1) {
            return None;
        }
        self.full_at = Some(full_at);
        let serial = self.next_serial;
        self.next_serial += 1;
        self.in_flight.push_back(InFlight { serial, id, local, peer, deadline: now + PATIENCE });
        Some(serial)
    }

    /// Takes the request that an answer is for; `None` when it has expired.
    pub(super) fn take(&mut self, serial: u64) -> Option<InFlight> {
        let index = self.in_flight.binary_search_by_key(&serial, |request| request.serial).ok()?;
        self.in_flight.remove(index)
    }

    /// Takes a request whose answer has not come in time.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<InFlight> {
        self.in_flight.pop_front_if(|request| request.deadline <= now)
    }

    /// Takes any request: no answers will come.
    pub(super) fn take_any(&mut self) -> Option<InFlight> {
        self.in_flight.pop_front()
    }

    /// When the next request expires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.in_flight.front().map(|request| request.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::tests::end, *};

    fn admit(pacer: &mut Pacer, id: u64, now: Instant) -> Option<u64> {
        pacer.admit(id, end("10.0.0.1:1"), end("10.0.0.2:2"), now)
    }

    #[test]
    fn no_more_than_the_bound_are_under_way() {
        let (mut pacer, now) = (Pacer::new(), Instant::now());
        for id in 0..256 {
            assert_eq!(admit(&mut pacer, id, now), Some(id));
        }
        assert_eq!(admit(&mut pacer, 256, now), None);
        assert_eq!(pacer.take(100).map(|request| request.id), Some(100));
        assert_eq!(pacer.take(100), None);
        assert!(admit(&mut pacer, 256, now).is_some());
    }

    #[test]
    fn no_more_than_the_rate_allows_are_made() {
        let (mut pacer, start) = (Pacer::new(), Instant::now());
        let mut made = 0;
        // Each is answered at once, for three seconds.
        for tenth_of_ms in 0..30_000 {
            if let Some(serial) = admit(&mut pacer, 0, start + Duration::from_micros(100) * tenth_of_ms) {
                pacer.take(serial);
                made += 1;
            }
        }
        // The bucket's contents, and a thousand for each second.
        assert!((3_990..=4_000).contains(&made), "{made}");
    }

    #[test]
    fn an_answer_that_is_late_is_not_taken() {
        let (mut pacer, now) = (Pacer::new(), Instant::now());
        let serials: Vec<u64> =
            (0..3).filter_map(|id| admit(&mut pacer, id, now + Duration::from_millis(id))).collect();
        assert_eq!(pacer.deadline(), Some(now + PATIENCE));
        assert_eq!(pacer.take_expired(now + PATIENCE / 2), None);
        let at = now + PATIENCE + Duration::from_millis(1);
        let expired: Vec<u64> = std::iter::from_fn(|| pacer.take_expired(at)).map(|request| request.id).collect();
        assert_eq!(expired, [0, 1]);
        assert_eq!((pacer.take(serials[0]), pacer.take(serials[2]).map(|request| request.id)), (None, Some(2)));
        assert_eq!(pacer.deadline(), None);
    }
}
