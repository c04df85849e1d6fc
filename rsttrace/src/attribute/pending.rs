//! Records that wait until the holder of their socket is found. Pure.
//!
//! One scan of open files serves all records that wait. Scans are rationed to a small part of one CPU; a record whose
//! holder is not found in time is finished with the lower confidence that it has.

use std::sync::Arc;

use crate::{model::Reset, model::internals::HolderFindings};

/// Longest wait of a record, nanoseconds from the reset on. Reached only where a scan is slow, because there are
/// hundreds of thousands of open files or this process gets no CPU; elsewhere a lookup takes less than a millisecond.
const LOOKUP_TIMEOUT_NS: u64 = 500_000_000;

/// Minimum idle time after a scan, as a multiple of the scan's duration (19 = at most 5 % of one CPU).
const SCAN_IDLE_FACTOR: u64 = 19;

/// Shortest interval between two scans for one record, nanoseconds; it quadruples with each scan. A scan misses a
/// descriptor that is being passed from one process to another, and those of a process that exits: they are out of its
/// file table then and closed once it gets a CPU.
const RETRY_MIN_NS: u64 = 1_000_000;

/// Idle time after a failed scan, nanoseconds.
const SCAN_FAILURE_BACKOFF_NS: u64 = 1_000_000_000;

/// Most records that wait at once.
const PENDING_MAX: usize = 2048;

/// One waiting record.
#[derive(Debug)]
struct Pending {
    /// The record, of which this is the only reference.
    reset: Arc<Reset>,
    /// Number of the first scan that began after the record was pushed.
    first_scan: u32,
    /// Scans since then.
    scans: u32,
    /// Time from which on another scan may serve the record, nanoseconds of `CLOCK_MONOTONIC`.
    next_scan_ns: u64,
}

/// Queue of the records that wait for a holder lookup, in the order of events.
///
/// The caller runs the scans: it asks [`next_scan`](Self::next_scan) for the number of one that is due, and reports the
/// end by [`scan_finished`](Self::scan_finished) or [`scan_failed`](Self::scan_failed). All times are nanoseconds of
/// `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub struct PendingRecords {
    pending: Vec<Pending>,
    /// Number of the last scan.
    scan: u32,
    /// Time from which on the next scan may begin.
    next_scan_ns: u64,
    can_scan: bool,
}

impl PendingRecords {
    /// Creates an empty queue. Without `can_scan`, if the kernel refused the iterator program, records wait for the
    /// last close of their socket alone.
    pub const fn new(can_scan: bool) -> Self {
        Self { pending: Vec::new(), scan: 0, next_scan_ns: 0, can_scan }
    }

    /// Appends a record. Returns it if `PENDING_MAX` records wait already.
    #[must_use = "a record that is returned does not wait and has to be finished"]
    pub fn push(&mut self, reset: Arc<Reset>) -> Option<Arc<Reset>> {
        if self.pending.len() >= PENDING_MAX {
            return Some(reset);
        }
        self.pending.push(Pending { reset, first_scan: self.scan.wrapping_add(1), scans: 0, next_scan_ns: 0 });
        None
    }

    /// Time of the next scan or timeout; `None` if no record waits.
    pub fn deadline_ns(&self) -> Option<u64> {
        let timeouts =
            self.pending.iter().map(|pending| pending.reset.internals.ktime_ns.saturating_add(LOOKUP_TIMEOUT_NS));
        let timeout = timeouts.min()?;
        Some(self.scan_due_ns().map_or(timeout, |scan| timeout.min(scan)))
    }

    /// Time at which a record wants the next scan and it may begin; `None` if there is none to come.
    fn scan_due_ns(&self) -> Option<u64> {
        let wanted = self.pending.iter().map(|pending| pending.next_scan_ns).min()?;
        self.can_scan.then(|| wanted.max(self.next_scan_ns))
    }

    /// Allocates the number of the scan that has to run now; `None` if none is due.
    pub fn next_scan(&mut self, now_ns: u64) -> Option<u32> {
        if self.scan_due_ns().is_none_or(|due| now_ns < due) {
            return None;
        }
        // 0 is the scan at the start of the run.
        self.scan = self.scan.wrapping_add(1).max(1);
        Some(self.scan)
    }

    /// Makes a scan due at once, whatever the last ones took: the run ends.
    pub fn expedite_scan(&mut self) {
        self.next_scan_ns = 0;
        for pending in &mut self.pending {
            pending.next_scan_ns = 0;
        }
    }

    /// Records the end of the scan that [`next_scan`](Self::next_scan) asked for.
    pub fn scan_finished(&mut self, began_ns: u64, ended_ns: u64) {
        let idle_ns = ended_ns.saturating_sub(began_ns).saturating_mul(SCAN_IDLE_FACTOR).max(RETRY_MIN_NS);
        self.next_scan_ns = ended_ns.saturating_add(idle_ns);
        for pending in &mut self.pending {
            let retry_ns = RETRY_MIN_NS.saturating_mul(4_u64.saturating_pow(pending.scans));
            pending.next_scan_ns = ended_ns.saturating_add(retry_ns);
            pending.scans += 1;
        }
    }

    /// Records that the scan failed, say for lack of a descriptor, which may pass. Until the next attempt only the
    /// close of a socket shows its holder.
    pub const fn scan_failed(&mut self, now_ns: u64) {
        self.next_scan_ns = now_ns.saturating_add(SCAN_FAILURE_BACKOFF_NS);
    }

    /// Removes the records whose wait is over, in their order: the holder was found, the socket is gone, or
    /// `LOOKUP_TIMEOUT_NS` has passed. With [`u64::MAX`] for `now_ns`, all.
    ///
    /// `find` returns what is known of the holder under a lookup id, from scans since a number.
    pub fn release(&mut self, now_ns: u64, mut find: impl FnMut(u64, u32) -> HolderFindings) -> Vec<Arc<Reset>> {
        let mut released = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let internals = &mut Arc::make_mut(&mut pending.reset).internals;
            let Some(lookup_id) = internals.lookup_id else {
                released.push(pending.reset);
                continue;
            };
            internals.holder_findings = find(lookup_id, pending.first_scan);
            let is_over = internals.holder_findings.holder.is_some()
                || internals.holder_findings.gone
                || now_ns >= internals.ktime_ns.saturating_add(LOOKUP_TIMEOUT_NS);
            if is_over {
                released.push(pending.reset);
            } else {
                self.pending.push(pending);
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rsttrace_common::event::{EVENT_HAS_SOCKET, KIND_RECEIVED, ResetEvent};

    use super::*;
    use crate::{
        decode::{BitFields, Decoder, Reasons, clock::WallClock},
        model::internals::KernelTask,
    };

    const MS: u64 = 1_000_000;

    fn reset(sk: u64, ktime_ns: u64) -> Arc<Reset> {
        let event = ResetEvent {
            kind: KIND_RECEIVED,
            flags: EVENT_HAS_SOCKET,
            lookup_id: sk,
            ktime_ns,
            ..ResetEvent::default()
        };
        let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
        Arc::new(Decoder::new("host".into(), Reasons::default(), BitFields::default(), None).reset(&event, &clock))
    }

    fn waiting(sockets: impl IntoIterator<Item = u64>, ktime_ns: u64) -> PendingRecords {
        let mut pending = PendingRecords::new(true);
        for sk in sockets {
            assert!(pending.push(reset(sk, ktime_ns)).is_none());
        }
        pending
    }

    fn a_holder() -> HolderFindings {
        let task = KernelTask { tgid: 7, start_boottime_ns: 7, uid: None, comm: "x".into() };
        HolderFindings { holder: Some(task), ..HolderFindings::default() }
    }

    fn sockets(released: &[Arc<Reset>]) -> Vec<Option<u64>> {
        released.iter().map(|reset| reset.internals.lookup_id).collect()
    }

    #[test]
    fn an_empty_queue_has_no_deadline() {
        let mut pending = PendingRecords::new(true);
        assert_eq!((pending.deadline_ns(), pending.next_scan(u64::MAX)), (None, None));
    }

    #[test]
    fn the_first_scan_is_due_immediately_and_serves_all() {
        let mut pending = waiting([1, 2], 100 * MS);
        assert!(pending.deadline_ns().is_some_and(|deadline| deadline <= 100 * MS));
        let scan = pending.next_scan(100 * MS);
        assert_eq!(scan, Some(1));
        pending.scan_finished(100 * MS, 101 * MS);
        let released = pending.release(101 * MS, |_, first_scan| {
            assert_eq!(Some(first_scan), scan);
            a_holder()
        });
        assert_eq!(sockets(&released), [Some(1), Some(2)]);
        assert!(released.iter().all(|reset| reset.internals.holder_findings == a_holder()));
        assert_eq!(pending.deadline_ns(), None);
    }

    #[test]
    fn scans_take_at_most_a_twentieth_of_the_time() {
        let mut pending = waiting([1], 100 * MS);
        assert!(pending.next_scan(100 * MS).is_some());
        pending.scan_finished(100 * MS, 103 * MS);
        assert!(pending.release(103 * MS, |_, _| a_holder()).len() == 1);
        assert!(pending.push(reset(2, 150 * MS)).is_none());
        assert_eq!(pending.next_scan(103 * MS + 57 * MS - 1), None);
        assert_eq!(pending.next_scan(103 * MS + 57 * MS), Some(2));
    }

    #[test]
    fn retries_at_growing_intervals() {
        let mut pending = waiting([1], 100 * MS);
        let mut scans = vec![];
        let mut now = 100 * MS;
        loop {
            if pending.next_scan(now).is_some() {
                scans.push(now / MS - 100);
                pending.scan_finished(now, now);
            }
            if !pending.release(now, |_, _| HolderFindings::default()).is_empty() {
                break;
            }
            now = pending.deadline_ns().expect("one waits");
        }
        assert_eq!((now, scans), (600 * MS, vec![0, 1, 5, 21, 85, 341]));
    }

    #[test]
    fn a_later_record_is_looked_up_immediately() {
        let mut pending = waiting([1], 100 * MS);
        for now in [100 * MS, 101 * MS, 105 * MS] {
            assert!(pending.next_scan(now).is_some());
            pending.scan_finished(now, now);
        }
        assert!(pending.push(reset(2, 110 * MS)).is_none());
        assert!(pending.next_scan(110 * MS).is_some());
    }

    #[test]
    fn a_record_times_out_without_a_scan() {
        let mut pending = waiting([1], 100 * MS);
        pending.scan_failed(100 * MS);
        assert_eq!(pending.next_scan(100 * MS), None);
        let deadline = pending.deadline_ns().expect("one waits");
        assert_eq!(deadline, 600 * MS);
        assert!(pending.release(deadline - 1, |_, _| HolderFindings::default()).is_empty());
        assert_eq!(pending.release(deadline, |_, _| HolderFindings::default()).len(), 1);
        assert!(pending.push(reset(1, 1_090 * MS)).is_none());
        assert_eq!((pending.next_scan(1_099 * MS), pending.next_scan(1_100 * MS).is_some()), (None, true));
    }

    #[test]
    fn a_socket_that_is_gone_ends_the_wait() {
        let mut pending = waiting([1], 100 * MS);
        let gone = HolderFindings { gone: true, ..HolderFindings::default() };
        assert_eq!(pending.release(100 * MS, |_, _| gone.clone()).len(), 1);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut pending = waiting(1..=PENDING_MAX as u64, 1);
        assert!(pending.push(reset(9999, 1)).is_some());
        assert_eq!(pending.release(u64::MAX, |_, _| HolderFindings::default()).len(), PENDING_MAX);
    }
}
