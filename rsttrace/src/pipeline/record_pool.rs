//! Pool of record allocations: emitted records are recycled for new ones.
//!
//! A record is a kilobyte, and its evidence half of one more, which is more than the allocator caches. Allocating took
//! nine hundredths of the time in user space under load, with all other pieces of a record.

use std::{mem, sync::Arc};

use crate::model::{Record, Reset};

/// Records whose memory is kept: those of a batch, and as many that have waited for their owner.
const CAPACITY: usize = 512;

/// Records that are free.
#[derive(Default)]
pub(super) struct RecordPool(Vec<Arc<Reset>>);

impl RecordPool {
    /// Takes back the memory of a record that every output has written. One that is still shared is left to its last owner.
    pub(super) fn recycle(&mut self, record: Record) {
        if self.0.len() < CAPACITY
            && let Record::Reset(mut reset) = record
            && let Some(memory) = Arc::get_mut(&mut reset)
        {
            // Texts of processes are long, and their own memory is bounded.
            memory.process = None;
            self.0.push(reset);
        }
    }

    /// Makes a record in an allocation of the pool, where it stays until it is recycled, and completes it there.
    pub(super) fn acquire<T>(
        &mut self,
        make: impl FnOnce() -> Reset,
        complete: impl FnOnce(&mut Reset) -> T,
    ) -> (Arc<Reset>, T) {
        let Some(mut free) = self.0.pop() else {
            let mut reset = make();
            let completed = complete(&mut reset);
            return (Arc::new(reset), completed);
        };
        // It was not shared when it was recycled.
        let place = Arc::make_mut(&mut free);
        let evidence = mem::take(&mut place.cause.evidence).cleared();
        *place = make();
        place.cause.evidence = evidence;
        let completed = complete(place);
        (free, completed)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rsttrace_common::event::{KIND_SENT, ResetEvent};

    use super::*;
    use crate::decode::{BitFields, Decoder, Reasons, clock::WallClock};

    fn reset(local_port: u16) -> Reset {
        let event = ResetEvent { kind: KIND_SENT, local_port, ..ResetEvent::default() };
        let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
        Decoder::new("host".into(), Reasons::default(), BitFields::default(), None).reset(&event, &clock)
    }

    #[test]
    fn a_new_record_has_nothing_of_the_recycled_one() {
        let mut pool = RecordPool::default();
        let (mut first, ()) = pool.acquire(|| reset(1), |_| ());
        Arc::make_mut(&mut first).cause.evidence.push("of the first");
        let where_it_was = Arc::as_ptr(&first);
        pool.recycle(Record::Reset(first));
        let (second, ()) = pool.acquire(|| reset(2), |_| ());
        assert_eq!(Arc::as_ptr(&second), where_it_was);
        assert_eq!(second.local.port, 2);
        assert!(second.cause.evidence.is_empty());
    }

    #[test]
    fn a_shared_record_is_not_recycled() {
        let mut pool = RecordPool::default();
        let (elsewhere, ()) = pool.acquire(|| reset(1), |_| ());
        pool.recycle(Record::Reset(Arc::clone(&elsewhere)));
        assert_eq!(pool.acquire(|| reset(2), |_| ()).0.local.port, 2);
        assert_eq!(elsewhere.local.port, 1);
    }
}
