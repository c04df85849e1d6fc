//! Aggregation of floods of resets to closed ports, user side: events from the kernel side's aggregates, and flow control. Pure.
//!
//! A CPU that has passed on [`AGGREGATE_AFTER`] resets to closed ports in an epoch, or as many as its budget, aggregates the
//! rest of that epoch. User space reads half as many, over all CPUs, before that, which arms a drain of the aggregates at the
//! end of the epoch. Lost events arm it as well.

use std::collections::HashMap;

use rsttrace_common::{
    abi::{AF_INET, AF_INET6},
    event::{EVENT_HAS_PACKET, KIND_SENT, ResetEvent},
    flood::{Aggregate, Aggregates, FloodProgress},
    limits::{AGGREGATE_AFTER, AGGREGATES_PER_CPU},
};

/// Time from the first sign of a flood to the drain, which ends the epoch, nanoseconds.
const EPOCH_NS: u64 = 500_000_000;

/// Aggregated resets, and the progress that the kernel side gets to know.
#[derive(Debug)]
pub struct FloodAggregator {
    progress: FloodProgress,
    /// Resets to closed ports read since the epoch began.
    read_in_epoch: u32,
    /// Time of the last change of `progress.drained`, nanoseconds of the events' clock.
    credited_ns: u64,
    /// Resets to closed ports read that were sent at or after `credited_ns`.
    read_since_credit: u32,
    /// Resets to closed ports that may be in one CPU's buffer; at least 1.
    budget: u32,
    /// Time of the next drain, nanoseconds of the events' clock; `None` while the kernel side cannot be aggregating.
    drain_ns: Option<u64>,
    /// Total of each slot of each CPU at the last drain.
    drained: Vec<[u64; AGGREGATES_PER_CPU]>,
}

/// Resets that have their [`AggregateKey`] in common.
#[derive(Clone, Copy, Debug)]
pub struct AggregatedEvent {
    /// Event with the time of the latest one, and the peer's port and the packet of the first one.
    pub event: ResetEvent,
    /// Number of resets; at least 1.
    pub count: u64,
}

impl FloodAggregator {
    /// For this number of CPUs. `budget` is the number of resets to closed ports that may be in one CPU's buffer.
    pub fn new(cpus: u32, budget: u32) -> Self {
        let drained = vec![[0; AGGREGATES_PER_CPU]; cpus as usize];
        let progress = FloodProgress::default();
        Self { progress, read_in_epoch: 0, credited_ns: 0, read_since_credit: 0, budget, drain_ns: None, drained }
    }

    /// Counts an event that has been read; arms the drain when there have been as many as begin a flood.
    pub fn observe(&mut self, event: &ResetEvent, now_ns: u64) {
        if event.kind != KIND_SENT || event.sk != 0 {
            return;
        }
        self.read_in_epoch = self.read_in_epoch.saturating_add(1);
        if event.ktime_ns >= self.credited_ns {
            self.read_since_credit = self.read_since_credit.saturating_add(1);
        }
        if self.read_in_epoch >= (AGGREGATE_AFTER.min(self.budget) / 2).max(1) {
            self.arm(now_ns);
        }
    }

    /// Schedules a drain, unless one is scheduled: the kernel side may be aggregating.
    pub fn arm(&mut self, now_ns: u64) {
        if self.drain_ns.is_none() {
            self.drain_ns = Some(now_ns.saturating_add(EPOCH_NS));
        }
    }

    /// Time at which [`Self::drain`] is due, nanoseconds of the events' clock; `None` while there is nothing to drain.
    pub const fn deadline_ns(&self) -> Option<u64> {
        self.drain_ns
    }

    /// Progress to publish after a batch has been read, with which each CPU has its budget again. `None` until a quarter of the
    /// budget has been read since the last credit; `now_ns` must be a time before the publication.
    ///
    /// Only resets sent after the last credit count. So everything that was passed on before it has been read, however slowly
    /// user space reads, and a buffer holds less than three times the budget.
    pub fn next_progress(&mut self, now_ns: u64) -> Option<FloodProgress> {
        if self.read_since_credit < (self.budget / 4).max(1) {
            return None;
        }
        self.credit(now_ns);
        Some(self.progress)
    }

    const fn credit(&mut self, now_ns: u64) {
        self.read_since_credit = 0;
        self.credited_ns = now_ns;
        self.progress.drained = self.progress.drained.wrapping_add(1);
    }

    /// Takes what has been added to the aggregates since the last drain, ordered by time, and begins an epoch. Also returns the
    /// drained totals, to be released, and the progress to publish; `now_ns` must be a time before the publication.
    pub fn drain(
        &mut self,
        aggregates: &[Aggregates],
        now_ns: u64,
    ) -> (Vec<AggregatedEvent>, &[[u64; AGGREGATES_PER_CPU]], FloodProgress) {
        let mut by_key: HashMap<AggregateKey, AggregatedEvent> = HashMap::new();
        for (slots, drained) in aggregates.iter().zip(&mut self.drained) {
            for (slot, drained) in slots.iter().zip(drained) {
                // A slot that is being written is consistent at the next drain.
                if slot.total == *drained || !slot.is_consistent() {
                    continue;
                }
                let count = slot.total.wrapping_sub(*drained);
                *drained = slot.total;
                let aggregated = by_key
                    .entry(AggregateKey::of(slot))
                    .or_insert_with(|| AggregatedEvent { event: event(slot), count: 0 });
                aggregated.count += count;
                aggregated.event.ktime_ns = aggregated.event.ktime_ns.max(slot.last_ns);
            }
        }
        let mut aggregated: Vec<_> = by_key.into_values().collect();
        aggregated.sort_by_key(|aggregated| aggregated.event.ktime_ns);
        // Until the next sign of it the flood is over.
        self.drain_ns = None;
        self.read_in_epoch = 0;
        self.progress.epoch = self.progress.epoch.wrapping_add(1);
        // Resets that the kernel side has charged to the budget may never be read: they were lost after all.
        self.credit(now_ns);
        (aggregated, &self.drained, self.progress)
    }
}

/// Fields that aggregated resets have in common: all but the peer's port.
#[derive(PartialEq, Eq, Hash)]
struct AggregateKey {
    local_address: [u32; 4],
    peer_address: [u32; 4],
    netns: u32,
    netns_cookie: u64,
    local_port: u16,
    reason: u32,
    packet_flags: u8,
}

impl AggregateKey {
    const fn of(aggregate: &Aggregate) -> Self {
        Self {
            local_address: aggregate.local_address,
            peer_address: aggregate.peer_address,
            netns: aggregate.netns,
            netns_cookie: aggregate.netns_cookie,
            local_port: aggregate.local_port,
            reason: aggregate.reason,
            packet_flags: aggregate.packet.flags,
        }
    }
}

/// The event of a socketless sent reset with the fields of an aggregate.
fn event(aggregate: &Aggregate) -> ResetEvent {
    let is_v4_mapped = aggregate.peer_address[..3] == [0, 0, 0xffff_u32.to_be()];
    ResetEvent {
        ktime_ns: aggregate.last_ns,
        kind: KIND_SENT,
        flags: aggregate.flags | EVENT_HAS_PACKET,
        reason: aggregate.reason,
        netns: aggregate.netns,
        netns_cookie: aggregate.netns_cookie,
        local_address: aggregate.local_address,
        peer_address: aggregate.peer_address,
        local_port: aggregate.local_port,
        peer_port: aggregate.peer_port,
        family: if is_v4_mapped { AF_INET } else { AF_INET6 },
        packet: aggregate.packet,
        ..ResetEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A reset to a closed port.
    fn unsolicited() -> ResetEvent {
        ResetEvent { kind: KIND_SENT, ..ResetEvent::default() }
    }

    fn aggregate(local_port: u16, total: u64, last_ns: u64) -> Aggregate {
        let mut aggregate = Aggregate { local_port, total, last_ns, ..Aggregate::default() };
        aggregate.update_checksum();
        aggregate
    }

    fn slots(used: Aggregate) -> Aggregates {
        let mut slots = [Aggregate::default(); AGGREGATES_PER_CPU];
        slots[5] = used;
        slots
    }

    fn counts(aggregated: &[AggregatedEvent]) -> Vec<(u16, u64)> {
        aggregated.iter().map(|aggregated| (aggregated.event.local_port, aggregated.count)).collect()
    }

    #[test]
    fn few_resets_are_no_flood() {
        let mut flood = FloodAggregator::new(2, 512);
        for _ in 0..AGGREGATE_AFTER / 2 - 1 {
            flood.observe(&unsolicited(), 0);
        }
        assert_eq!((flood.deadline_ns(), flood.next_progress(0)), (None, None));
        let with_socket = ResetEvent { sk: 7, ..unsolicited() };
        flood.observe(&with_socket, 0);
        assert_eq!(flood.deadline_ns(), None);
        flood.observe(&unsolicited(), 3 * MS);
        flood.observe(&unsolicited(), 4 * MS);
        assert_eq!(flood.deadline_ns(), Some(503 * MS));
    }

    #[test]
    fn credits_the_budget_before_it_is_used_up() {
        let mut flood = FloodAggregator::new(1, 8);
        flood.observe(&unsolicited(), 0);
        assert_eq!(flood.next_progress(0), None);
        flood.observe(&unsolicited(), 0);
        assert_eq!(flood.next_progress(5 * MS), Some(FloodProgress { epoch: 0, drained: 1 }));
        assert_eq!(flood.next_progress(5 * MS), None);
        // Sent before the credit.
        for _ in 0..8 {
            flood.observe(&ResetEvent { ktime_ns: 5 * MS - 1, ..unsolicited() }, 6 * MS);
        }
        assert_eq!(flood.next_progress(6 * MS), None);
        for _ in 0..2 {
            flood.observe(&ResetEvent { ktime_ns: 5 * MS, ..unsolicited() }, 6 * MS);
        }
        assert_eq!(flood.next_progress(6 * MS), Some(FloodProgress { epoch: 0, drained: 2 }));
    }

    #[test]
    fn drains_what_was_added_on_all_cpus() {
        let mut flood = FloodAggregator::new(2, 512);
        flood.arm(0);
        let (aggregated, drained, progress) =
            flood.drain(&[slots(aggregate(80, 10, 3)), slots(aggregate(80, 5, 7))], 0);
        assert_eq!(counts(&aggregated), [(80, 15)]);
        assert_eq!(aggregated[0].event.ktime_ns, 7);
        assert_eq!((drained[0][5], drained[1][5], progress.epoch), (10, 5, 1));
        assert_eq!(flood.deadline_ns(), None);
        // The second CPU has reused its slot for another port since.
        let (aggregated, ..) = flood.drain(&[slots(aggregate(80, 12, 9)), slots(aggregate(81, 6, 8))], 0);
        assert_eq!(counts(&aggregated), [(81, 1), (80, 2)]);
        assert!(flood.drain(&[slots(aggregate(80, 12, 9)), slots(aggregate(81, 6, 8))], 0).0.is_empty());
    }

    #[test]
    fn a_drain_credits_the_budget_that_lost_resets_used() {
        let mut flood = FloodAggregator::new(1, 8);
        flood.observe(&unsolicited(), 0);
        // The rest of the budget was lost.
        flood.arm(0);
        let (.., progress) = flood.drain(&[], 500 * MS);
        assert_eq!(progress, FloodProgress { epoch: 1, drained: 1 });
        flood.observe(&unsolicited(), 501 * MS);
        assert_eq!(flood.next_progress(501 * MS), None);
    }

    #[test]
    fn a_slot_that_is_being_written_is_drained_later() {
        let mut flood = FloodAggregator::new(1, 512);
        let mut torn = aggregate(80, 10, 3);
        torn.total += 1;
        assert!(flood.drain(&[slots(torn)], 0).0.is_empty());
        assert_eq!(counts(&flood.drain(&[slots(aggregate(80, 11, 3))], 0).0), [(80, 11)]);
    }
}
