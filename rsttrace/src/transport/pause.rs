//! Pauses between readings under load. Pure.
//!
//! Whoever reads each event as it comes is woken for each, and whatever is done once for a batch is done for one event. So
//! where events follow each other closely, some are left to gather; the first after a silence is read at once.

/// Longest pause. Whatever else a record waits for, it is read within this time.
const PAUSE_NS: u64 = 2_000_000;

/// Events that come this soon after the last are not the only ones.
const SOON_NS: u64 = 2 * PAUSE_NS;

/// What may gather in a pause, of all that the buffer holds.
const SHARE: u64 = 8;

/// When to read again.
#[derive(Debug)]
pub(crate) struct Pause {
    /// Events that the smallest buffer holds.
    capacity: u64,
    /// Read since the buffer was last seen empty.
    events: u64,
    last_ns: u64,
    until_ns: Option<u64>,
}

impl Pause {
    /// For buffers of this size.
    pub(crate) const fn new(capacity: u64) -> Self {
        Self { capacity, events: 0, last_ns: 0, until_ns: None }
    }

    /// So many events have been read, and the buffer was seen empty then, or not.
    pub(crate) fn read(&mut self, events: usize, emptied: bool, now_ns: u64) {
        self.events += events as u64;
        if !emptied {
            return;
        }
        let events = std::mem::take(&mut self.events).max(1);
        let since = now_ns.saturating_sub(self.last_ns).max(1);
        self.last_ns = now_ns;
        if since > SOON_NS {
            self.until_ns = None;
            return;
        }
        let may_gather = self.capacity / SHARE;
        // At the rate of now.
        let time = may_gather.saturating_mul(since) / events;
        self.until_ns = Some(now_ns.saturating_add(time.min(PAUSE_NS)));
    }

    /// Until when to leave the buffer alone; `None` to read at once.
    pub(crate) const fn until_ns(&self) -> Option<u64> {
        self.until_ns
    }

    /// It is over.
    pub(crate) const fn end(&mut self) {
        self.until_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_first_after_a_silence_is_read_at_once() {
        let mut pause = Pause::new(10_000);
        for now in [100 * MS, 200 * MS, 205 * MS] {
            pause.read(1, true, now);
            assert_eq!(pause.until_ns(), None);
        }
    }

    #[test]
    fn what_follows_closely_gathers() {
        let mut pause = Pause::new(10_000);
        pause.read(1, true, 100 * MS);
        pause.read(1, true, 101 * MS);
        assert_eq!(pause.until_ns(), Some(103 * MS));
        pause.read(300, true, 103 * MS);
        assert_eq!(pause.until_ns(), Some(105 * MS));
        pause.end();
        assert_eq!(pause.until_ns(), None);
    }

    #[test]
    fn nothing_gathers_while_there_is_more() {
        let mut pause = Pause::new(8_000);
        pause.read(1, true, 100 * MS);
        for now in [100 * MS + MS / 2, 101 * MS] {
            pause.read(500, false, now);
            assert_eq!(pause.until_ns(), None);
        }
        // All of them came in this time.
        pause.read(1_000, true, 102 * MS);
        assert_eq!(pause.until_ns(), Some(103 * MS));
    }

    #[test]
    fn a_small_buffer_leaves_no_time() {
        let mut pause = Pause::new(80);
        pause.read(1, true, 100 * MS);
        pause.read(100, true, 101 * MS);
        assert_eq!(pause.until_ns(), Some(101 * MS + MS / 10));
        let mut tiny = Pause::new(7);
        tiny.read(1, true, 100 * MS);
        tiny.read(1, true, 101 * MS);
        assert_eq!(tiny.until_ns(), Some(101 * MS));
    }
}
