//! Lookups of the processes that hold sockets which were reset.

use crate::event::Task;

wire! {
    /// Result of one lookup: a value of the map `HOLDER_LOOKUPS`. Each field has one writer.
    pub struct HolderLookup: 112 {
        /// Identity of the lookup, [`ResetEvent::lookup_id`](crate::event::ResetEvent::lookup_id) of the event that
        /// requested it; another value when the slot has been reused.
        0 => pub id: u64,
        /// First process that the scan of open files found with the socket; `tgid` 0 for none.
        8 => pub holder: Task,
        /// Process that closed the last descriptor in its own context; `tgid` 0 for none.
        40 => pub closer: Task,
        /// Time at which the socket was destroyed, nanoseconds of `CLOCK_MONOTONIC`; 0 while it exists.
        72 => pub destroyed_ns: u64,
        /// Start time of the expected holder, the event's owner, nanoseconds of `CLOCK_BOOTTIME`.
        80 => pub expected_start_boottime_ns: u64,
        /// PID of the expected holder; 0 when the event has no owner.
        88 => pub expected_tgid: u32,
        /// Number of the scan that wrote `holder` and the fields below; 0 before the first.
        92 => pub scan: u32,
        /// 1 when the scan found the socket in more than one process.
        96 => pub multiple_holders: u32,
        /// 1 when the scan found the socket in the expected process.
        100 => pub expected_holds: u32,
        /// Descriptors of the socket that the scan found, over all processes.
        104 => pub descriptors: u32,
        /// Zero.
        108 => pub padding: u32,
    }
}

impl HolderLookup {
    /// Low bits of an id that are the slot's index.
    pub const SLOT_BITS: u32 = 16;

    /// Index in `HOLDER_LOOKUPS` of the lookup with this id.
    pub const fn slot(id: u64) -> u32 {
        (id & ((1 << Self::SLOT_BITS) - 1)) as u32
    }
}
