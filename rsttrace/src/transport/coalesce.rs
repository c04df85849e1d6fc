//! Adaptive read coalescing: under load the buffer is left to fill for up to 2 ms, so that one wake-up serves many
//! events. Pure.
//!
//! Without it the reader is woken for every event, and the work that is done once a batch is done once an event. The
//! first event after an idle period is read at once.

/// Longest hold-off, nanoseconds: the latency that coalescing adds to an event.
const HOLD_OFF_MAX_NS: u64 = 2_000_000;

/// Longest interval between two reads of an emptied buffer that counts as a burst, nanoseconds.
const BURST_GAP_NS: u64 = 2 * HOLD_OFF_MAX_NS;

/// Part of the buffer that may fill during a hold-off: one in so many.
const FILL_FRACTION: u64 = 8;

/// Decides when the buffer is read next, from the rate of the last reads.
///
/// All times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub(crate) struct ReadCoalescer {
    /// Events that the smallest buffer holds.
    capacity: u64,
    /// Events read since the buffer was last emptied.
    events: u64,
    /// Time of the last read that emptied the buffer; 0 before the first.
    last_emptied_ns: u64,
    hold_off_until_ns: Option<u64>,
}

impl ReadCoalescer {
    /// Creates a coalescer for buffers that hold `capacity` events each.
    pub(crate) const fn new(capacity: u64) -> Self {
        Self { capacity, events: 0, last_emptied_ns: 0, hold_off_until_ns: None }
    }

    /// Records a read of `events` events at `now_ns`; `emptied` if it left the buffer empty. A buffer that still has
    /// events is read on without a hold-off.
    pub(crate) fn on_read(&mut self, events: usize, emptied: bool, now_ns: u64) {
        self.events += events as u64;
        if !emptied {
            return;
        }
        let events = std::mem::take(&mut self.events).max(1);
        let elapsed_ns = now_ns.saturating_sub(self.last_emptied_ns).max(1);
        self.last_emptied_ns = now_ns;
        if elapsed_ns > BURST_GAP_NS {
            self.hold_off_until_ns = None;
            return;
        }
        // The time in which that part of the buffer fills at the current rate.
        let fill_ns = (self.capacity / FILL_FRACTION).saturating_mul(elapsed_ns) / events;
        self.hold_off_until_ns = Some(now_ns.saturating_add(fill_ns.min(HOLD_OFF_MAX_NS)));
    }

    /// End of the current hold-off, during which the buffer is not read; `None` to read as soon as there are events.
    pub(crate) const fn hold_off_until_ns(&self) -> Option<u64> {
        self.hold_off_until_ns
    }

    /// Ends the hold-off.
    pub(crate) const fn end_hold_off(&mut self) {
        self.hold_off_until_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn reads_the_first_event_after_an_idle_period_immediately() {
        let mut coalescer = ReadCoalescer::new(10_000);
        for now in [100 * MS, 200 * MS, 205 * MS] {
            coalescer.on_read(1, true, now);
            assert_eq!(coalescer.hold_off_until_ns(), None);
        }
    }

    #[test]
    fn holds_off_in_a_burst() {
        let mut coalescer = ReadCoalescer::new(10_000);
        coalescer.on_read(1, true, 100 * MS);
        coalescer.on_read(1, true, 101 * MS);
        assert_eq!(coalescer.hold_off_until_ns(), Some(103 * MS));
        coalescer.on_read(300, true, 103 * MS);
        assert_eq!(coalescer.hold_off_until_ns(), Some(105 * MS));
        coalescer.end_hold_off();
        assert_eq!(coalescer.hold_off_until_ns(), None);
    }

    #[test]
    fn does_not_hold_off_while_the_buffer_has_events() {
        let mut coalescer = ReadCoalescer::new(8_000);
        coalescer.on_read(1, true, 100 * MS);
        for now in [100 * MS + MS / 2, 101 * MS] {
            coalescer.on_read(500, false, now);
            assert_eq!(coalescer.hold_off_until_ns(), None);
        }
        // All 2,000 arrived within these 2 ms.
        coalescer.on_read(1_000, true, 102 * MS);
        assert_eq!(coalescer.hold_off_until_ns(), Some(103 * MS));
    }

    #[test]
    fn holds_off_only_briefly_for_a_small_buffer() {
        let mut coalescer = ReadCoalescer::new(80);
        coalescer.on_read(1, true, 100 * MS);
        coalescer.on_read(100, true, 101 * MS);
        assert_eq!(coalescer.hold_off_until_ns(), Some(101 * MS + MS / 10));
        let mut tiny = ReadCoalescer::new(7);
        tiny.on_read(1, true, 100 * MS);
        tiny.on_read(1, true, 101 * MS);
        assert_eq!(tiny.hold_off_until_ns(), Some(101 * MS));
    }
}
