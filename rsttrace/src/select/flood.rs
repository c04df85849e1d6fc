//! Folding of floods: what the kernel side has counted, as records that stand for many. Pure.
//!
//! A CPU that has handed over [`AGGREGATE_AFTER`] resets to closed ports, or as many as its buffer may hold, begins to count them.
//! So a flood is seen coming: half as many, of all CPUs together, are the sign to fetch a while later what is counted, and
//! to begin anew. Another is that something was lost.

use std::collections::HashMap;

use rsttrace_common::{
    abi::{AF_INET, AF_INET6},
    event::{EVENT_HAS_PACKET, KIND_SENT, ResetEvent},
    flood::{Aggregate, Aggregates, FloodProgress},
    limits::{AGGREGATE_AFTER, AGGREGATES_PER_CPU},
};

/// How long the kernel side counts until it is asked.
const TICK_NS: u64 = 500_000_000;

/// How far floods have been followed.
#[derive(Debug)]
pub struct Flood {
    pace: FloodProgress,
    /// Resets to closed ports read since `pace.epoch` was told.
    in_tick: u32,
    /// When `pace.drained` was told, and how many of those that came after that have been read.
    told_ns: u64,
    since: u32,
    /// What one CPU's buffer may hold of them.
    limit: u32,
    /// When to fetch, nanoseconds of the events' clock.
    fetch_ns: Option<u64>,
    /// Of each CPU, how many of each place have been fetched.
    seen: Vec<[u64; AGGREGATES_PER_CPU]>,
}

/// Resets that are alike: an event of the last of them, and how many they are.
pub type Alike = (ResetEvent, u64);

impl Flood {
    /// `limit` is how many resets to closed ports one CPU's buffer may hold, before any that it would hold more are lost.
    pub fn new(cpus: u32, limit: u32) -> Self {
        let seen = vec![[0; AGGREGATES_PER_CPU]; cpus as usize];
        Self { pace: FloodProgress::default(), in_tick: 0, told_ns: 0, since: 0, limit, fetch_ns: None, seen }
    }

    /// An event has been read.
    pub fn see(&mut self, event: &ResetEvent, now_ns: u64) {
        if event.kind != KIND_SENT || event.sk != 0 {
            return;
        }
        self.in_tick = self.in_tick.saturating_add(1);
        if event.ktime_ns >= self.told_ns {
            self.since = self.since.saturating_add(1);
        }
        if self.in_tick >= (AGGREGATE_AFTER.min(self.limit) / 2).max(1) {
            self.suspect(now_ns);
        }
    }

    /// The kernel side may be counting.
    pub fn suspect(&mut self, now_ns: u64) {
        if self.fetch_ns.is_none() {
            self.fetch_ns = Some(now_ns.saturating_add(TICK_NS));
        }
    }

    /// When to fetch what is counted; `None` while nothing can be.
    pub const fn deadline_ns(&self) -> Option<u64> {
        self.fetch_ns
    }

    /// What the kernel side has to be told, after a batch has been read: that there is room again. What it handed over before
    /// it was told so the last time has been read by then, however slowly this side reads, so that less than three times the
    /// limit is ever in a buffer. `now_ns` is a time before it is told: of what comes after that, as much as the limit counts.
    pub fn next_pace(&mut self, now_ns: u64) -> Option<FloodProgress> {
        if self.since < (self.limit / 4).max(1) {
            return None;
        }
        self.grant(now_ns);
        Some(self.pace)
    }

    const fn grant(&mut self, now_ns: u64) {
        self.since = 0;
        self.told_ns = now_ns;
        self.pace.drained = self.pace.drained.wrapping_add(1);
    }

    /// Takes what each CPU has counted by now. Returns it, with what the kernel side has to be told: how far each place has
    /// been fetched, and that the next tick has begun. `now_ns` is a time before it is told.
    pub fn fetch(
        &mut self,
        folds: &[Aggregates],
        now_ns: u64,
    ) -> (Vec<Alike>, &[[u64; AGGREGATES_PER_CPU]], FloodProgress) {
        let mut alike: HashMap<Like, Alike> = HashMap::new();
        for (folds, seen) in folds.iter().zip(&mut self.seen) {
            for (fold, seen) in folds.iter().zip(seen) {
                // One that is being written is whole the next time.
                if fold.total == *seen || !fold.is_consistent() {
                    continue;
                }
                let count = fold.total.wrapping_sub(*seen);
                *seen = fold.total;
                let (event, sum) = alike.entry(Like::of(fold)).or_insert_with(|| (event(fold), 0));
                *sum += count;
                event.ktime_ns = event.ktime_ns.max(fold.last_ns);
            }
        }
        let mut alike: Vec<_> = alike.into_values().collect();
        alike.sort_by_key(|(event, _)| event.ktime_ns);
        // Without another sign of it the flood is over.
        self.fetch_ns = None;
        self.in_tick = 0;
        self.pace.epoch = self.pace.epoch.wrapping_add(1);
        // Of those that the kernel side has counted as handed over, none may ever come: they found no room after all.
        self.grant(now_ns);
        (alike, &self.seen, self.pace)
    }
}

/// What makes resets alike.
#[derive(PartialEq, Eq, Hash)]
struct Like {
    local_address: [u32; 4],
    peer_address: [u32; 4],
    netns: u32,
    netns_cookie: u64,
    local_port: u16,
    reason: u32,
    packet_flags: u8,
}

impl Like {
    const fn of(fold: &Aggregate) -> Self {
        Self {
            local_address: fold.local_address,
            peer_address: fold.peer_address,
            netns: fold.netns,
            netns_cookie: fold.netns_cookie,
            local_port: fold.local_port,
            reason: fold.reason,
            packet_flags: fold.packet.flags,
        }
    }
}

fn event(fold: &Aggregate) -> ResetEvent {
    ResetEvent {
        ktime_ns: fold.last_ns,
        kind: KIND_SENT,
        flags: fold.flags | EVENT_HAS_PACKET,
        reason: fold.reason,
        netns: fold.netns,
        netns_cookie: fold.netns_cookie,
        local_address: fold.local_address,
        peer_address: fold.peer_address,
        local_port: fold.local_port,
        peer_port: fold.peer_port,
        family: if fold.peer_address[..3] == [0, 0, 0xffff_u32.to_be()] { AF_INET } else { AF_INET6 },
        packet: fold.packet,
        ..ResetEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn noise() -> ResetEvent {
        ResetEvent { kind: KIND_SENT, ..ResetEvent::default() }
    }

    fn fold(local_port: u16, total: u64, last_ns: u64) -> Aggregate {
        let mut fold = Aggregate { local_port, total, last_ns, ..Aggregate::default() };
        fold.update_checksum();
        fold
    }

    fn places(first: Aggregate) -> Aggregates {
        let mut folds = [Aggregate::default(); AGGREGATES_PER_CPU];
        folds[5] = first;
        folds
    }

    fn told(alike: &[Alike]) -> Vec<(u16, u64)> {
        alike.iter().map(|(event, count)| (event.local_port, *count)).collect()
    }

    #[test]
    fn a_few_are_no_flood() {
        let mut flood = Flood::new(2, 512);
        for _ in 0..AGGREGATE_AFTER / 2 - 1 {
            flood.see(&noise(), 0);
        }
        assert_eq!((flood.deadline_ns(), flood.next_pace(0)), (None, None));
        let of_a_connection = ResetEvent { sk: 7, ..noise() };
        flood.see(&of_a_connection, 0);
        assert_eq!(flood.deadline_ns(), None);
        flood.see(&noise(), 3 * MS);
        flood.see(&noise(), 4 * MS);
        assert_eq!(flood.deadline_ns(), Some(503 * MS));
    }

    #[test]
    fn the_kernel_side_is_told_of_room_before_it_has_none() {
        let mut flood = Flood::new(1, 8);
        flood.see(&noise(), 0);
        assert_eq!(flood.next_pace(0), None);
        flood.see(&noise(), 0);
        assert_eq!(flood.next_pace(5 * MS), Some(FloodProgress { epoch: 0, drained: 1 }));
        assert_eq!(flood.next_pace(5 * MS), None);
        // These were in the buffer then.
        for _ in 0..8 {
            flood.see(&ResetEvent { ktime_ns: 5 * MS - 1, ..noise() }, 6 * MS);
        }
        assert_eq!(flood.next_pace(6 * MS), None);
        for _ in 0..2 {
            flood.see(&ResetEvent { ktime_ns: 5 * MS, ..noise() }, 6 * MS);
        }
        assert_eq!(flood.next_pace(6 * MS), Some(FloodProgress { epoch: 0, drained: 2 }));
    }

    #[test]
    fn what_is_new_since_the_last_time_is_told_once_for_all_cpus() {
        let mut flood = Flood::new(2, 512);
        flood.suspect(0);
        let (alike, seen, pace) = flood.fetch(&[places(fold(80, 10, 3)), places(fold(80, 5, 7))], 0);
        assert_eq!(told(&alike), [(80, 15)]);
        assert_eq!(alike[0].0.ktime_ns, 7);
        assert_eq!((seen[0][5], seen[1][5], pace.epoch), (10, 5, 1));
        assert_eq!(flood.deadline_ns(), None);
        // The second CPU's place has gone to another port since.
        let (alike, ..) = flood.fetch(&[places(fold(80, 12, 9)), places(fold(81, 6, 8))], 0);
        assert_eq!(told(&alike), [(81, 1), (80, 2)]);
        assert!(flood.fetch(&[places(fold(80, 12, 9)), places(fold(81, 6, 8))], 0).0.is_empty());
    }

    #[test]
    fn what_found_no_room_does_not_keep_others_out() {
        let mut flood = Flood::new(1, 8);
        flood.see(&noise(), 0);
        // The rest of its limit was lost.
        flood.suspect(0);
        let (.., pace) = flood.fetch(&[], 500 * MS);
        assert_eq!(pace, FloodProgress { epoch: 1, drained: 1 });
        flood.see(&noise(), 501 * MS);
        assert_eq!(flood.next_pace(501 * MS), None);
    }

    #[test]
    fn what_is_being_written_waits() {
        let mut flood = Flood::new(1, 512);
        let mut torn = fold(80, 10, 3);
        torn.total += 1;
        assert!(flood.fetch(&[places(torn)], 0).0.is_empty());
        assert_eq!(told(&flood.fetch(&[places(fold(80, 11, 3))], 0).0), [(80, 11)]);
    }
}
