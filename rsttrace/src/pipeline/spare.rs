//! The memory of records that have gone out, for those that come.
//!
//! A record is a kilobyte, and its evidence half of one more, which is more than the allocator keeps at hand. Allocating took
//! nine hundredths of the time in user space under load, with all other pieces of a record.

use std::{mem, sync::Arc};

use crate::model::{Record, Reset};

/// Records whose memory is kept: as many as there are in a batch.
const MOST: usize = 512;

/// Memory that is free.
#[derive(Default)]
pub(super) struct Spare(Vec<Arc<Reset>>);

impl Spare {
    /// Takes a record that has gone out everywhere. Where somebody else still has it, its memory is theirs.
    pub(super) fn keep(&mut self, record: Record) {
        if self.0.len() < MOST
            && let Record::Reset(mut reset) = record
            && let Some(memory) = Arc::get_mut(&mut reset)
        {
            // Texts of processes are long, and their own memory is bounded.
            memory.process = None;
            self.0.push(reset);
        }
    }

    /// A place for a record, where it stays until it has gone out.
    pub(super) fn place(&mut self, mut reset: Reset) -> Arc<Reset> {
        let Some(mut spare) = self.0.pop() else { return Arc::new(reset) };
        // Nobody else had it when it came here.
        let place = Arc::make_mut(&mut spare);
        reset.cause.evidence = mem::take(&mut place.cause.evidence).cleared();
        *place = reset;
        spare
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rsttrace_common::event::{KIND_SENT, ResetEvent};

    use super::*;
    use crate::decode::{Decoder, Reasons, clock::WallClock};

    fn reset(local_port: u16) -> Reset {
        let event = ResetEvent { kind: KIND_SENT, local_port, ..ResetEvent::default() };
        let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
        Decoder::new("host".into(), Reasons::default(), None, None).reset(&event, &clock)
    }

    #[test]
    fn what_comes_has_nothing_of_what_was_there() {
        let mut spare = Spare::default();
        let mut first = spare.place(reset(1));
        Arc::make_mut(&mut first).cause.evidence.push("of the first");
        let where_it_was = Arc::as_ptr(&first);
        spare.keep(Record::Reset(first));
        let second = spare.place(reset(2));
        assert_eq!(Arc::as_ptr(&second), where_it_was);
        assert_eq!(second.local.port, 2);
        assert!(second.cause.evidence.is_empty());
    }

    #[test]
    fn what_somebody_else_has_stays_as_it_is() {
        let mut spare = Spare::default();
        let elsewhere = spare.place(reset(1));
        spare.keep(Record::Reset(Arc::clone(&elsewhere)));
        assert_eq!(spare.place(reset(2)).local.port, 2);
        assert_eq!(elsewhere.local.port, 1);
    }
}
