//! Records that wait a moment for their owner to be found. Pure.
//!
//! One walk of the open files serves all that wait. Walks are rationed, so that they cost a small part of one CPU at
//! most; what is not found in time goes on with its honest, lower confidence.

use std::sync::Arc;

use crate::{facts::Found, model::Reset};

/// Longest wait of a record, from the reset on: for where looking takes long, since open files are hundreds of thousands or
/// this process gets no CPU. Elsewhere it is over within a millisecond.
const PATIENCE_NS: u64 = 500_000_000;

/// After a walk nobody walks for so many times as long as it took: 5 % of one CPU.
const REST: u64 = 19;

/// When to look again for what a walk has not found: a descriptor may be on its way from one process to another, or its
/// process be ending, which shows it to walks no more and closes it when it gets a CPU. Each time four times as long.
const AGAIN_NS: u64 = 1_000_000;

/// When to try again after a walk that failed.
const PAUSE_NS: u64 = 1_000_000_000;

/// Records that wait at once.
const HELD_MAX: usize = 2048;

/// A record that waits.
#[derive(Debug)]
struct Held {
    /// Nobody else has it.
    reset: Arc<Reset>,
    /// Number of the first walk that began after it came.
    first_walk: u32,
    /// Walks since then.
    walks: u32,
    /// When the next one may serve it, nanoseconds of the events' clock.
    next_walk_ns: u64,
}

/// The records that wait.
#[derive(Debug)]
pub struct Hold {
    held: Vec<Held>,
    /// Number of the last walk.
    walk: u32,
    /// When the next walk may begin, nanoseconds of the events' clock.
    next_walk_ns: u64,
    /// Whether walks are possible.
    can_walk: bool,
}

impl Hold {
    /// `can_walk` where the kernel has taken the program that walks.
    pub const fn new(can_walk: bool) -> Self {
        Self { held: Vec::new(), walk: 0, next_walk_ns: 0, can_walk }
    }

    /// Takes a record; gives it back when too many wait already.
    pub fn take(&mut self, reset: Arc<Reset>) -> Option<Arc<Reset>> {
        if self.held.len() >= HELD_MAX {
            return Some(reset);
        }
        self.held.push(Held { reset, first_walk: self.walk.wrapping_add(1), walks: 0, next_walk_ns: 0 });
        None
    }

    /// When to look after the records again; `None` while none waits.
    pub fn deadline_ns(&self) -> Option<u64> {
        let patience = self.held.iter().map(|held| held.reset.facts.ktime_ns.saturating_add(PATIENCE_NS)).min()?;
        Some(self.walk_due_ns().map_or(patience, |walk| patience.min(walk)))
    }

    /// When somebody wants the next walk, and it may begin.
    fn walk_due_ns(&self) -> Option<u64> {
        let wanted = self.held.iter().map(|held| held.next_walk_ns).min()?;
        self.can_walk.then(|| wanted.max(self.next_walk_ns))
    }

    /// The number of the walk that is to begin now, if one is.
    pub fn next_walk(&mut self, now_ns: u64) -> Option<u32> {
        if self.walk_due_ns().is_none_or(|due| now_ns < due) {
            return None;
        }
        // 0 is the walk at start.
        self.walk = self.walk.wrapping_add(1).max(1);
        Some(self.walk)
    }

    /// The run ends: one more walk, whatever the last one took.
    pub fn hurry(&mut self) {
        self.next_walk_ns = 0;
        for held in &mut self.held {
            held.next_walk_ns = 0;
        }
    }

    /// The walk has been done.
    pub fn walked(&mut self, began_ns: u64, ended_ns: u64) {
        let rest = ended_ns.saturating_sub(began_ns).saturating_mul(REST).max(AGAIN_NS);
        self.next_walk_ns = ended_ns.saturating_add(rest);
        for held in &mut self.held {
            let pause = AGAIN_NS.saturating_mul(4_u64.saturating_pow(held.walks));
            held.next_walk_ns = ended_ns.saturating_add(pause);
            held.walks += 1;
        }
    }

    /// A walk has failed: for a while only closing sockets tell. It may be for want of a descriptor, and pass.
    pub const fn walk_failed(&mut self, now_ns: u64) {
        self.next_walk_ns = now_ns.saturating_add(PAUSE_NS);
    }

    /// Records that need not wait any longer, in their order. `find` is asked for what has been gathered of the
    /// holder under a number since a walk. [`u64::MAX`] for now releases everything.
    pub fn release(&mut self, now_ns: u64, mut find: impl FnMut(u64, u32) -> Found) -> Vec<Arc<Reset>> {
        let mut released = Vec::new();
        for mut held in std::mem::take(&mut self.held) {
            let facts = &mut Arc::make_mut(&mut held.reset).facts;
            let Some(number) = facts.findings else {
                released.push(held.reset);
                continue;
            };
            facts.found = find(number, held.first_walk);
            let is_over = facts.found.holder.is_some()
                || facts.found.gone
                || now_ns >= facts.ktime_ns.saturating_add(PATIENCE_NS);
            if is_over {
                released.push(held.reset);
            } else {
                self.held.push(held);
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
        decode::{Decoder, Reasons, clock::WallClock},
        facts::KernelTask,
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
        Arc::new(Decoder::new("host".into(), Reasons::default(), None, None).reset(&event, &clock))
    }

    fn hold(sockets: impl IntoIterator<Item = u64>, ktime_ns: u64) -> Hold {
        let mut hold = Hold::new(true);
        for sk in sockets {
            assert!(hold.take(reset(sk, ktime_ns)).is_none());
        }
        hold
    }

    fn somebody() -> Found {
        let task = KernelTask { tgid: 7, start_boottime_ns: 7, uid: None, comm: "x".into() };
        Found { holder: Some(task), ..Found::default() }
    }

    fn sockets(released: &[Arc<Reset>]) -> Vec<Option<u64>> {
        released.iter().map(|reset| reset.facts.findings).collect()
    }

    #[test]
    fn nothing_to_do_while_nothing_waits() {
        let mut hold = Hold::new(true);
        assert_eq!((hold.deadline_ns(), hold.next_walk(u64::MAX)), (None, None));
    }

    #[test]
    fn the_first_walk_begins_at_once_and_serves_all() {
        let mut hold = hold([1, 2], 100 * MS);
        assert!(hold.deadline_ns().is_some_and(|deadline| deadline <= 100 * MS));
        let walk = hold.next_walk(100 * MS);
        assert_eq!(walk, Some(1));
        hold.walked(100 * MS, 101 * MS);
        let released = hold.release(101 * MS, |_, first_walk| {
            assert_eq!(Some(first_walk), walk);
            somebody()
        });
        assert_eq!(sockets(&released), [Some(1), Some(2)]);
        assert!(released.iter().all(|reset| reset.facts.found == somebody()));
        assert_eq!(hold.deadline_ns(), None);
    }

    #[test]
    fn walks_take_a_twentieth_of_the_time_at_most() {
        let mut hold = hold([1], 100 * MS);
        assert!(hold.next_walk(100 * MS).is_some());
        hold.walked(100 * MS, 103 * MS);
        assert!(hold.release(103 * MS, |_, _| somebody()).len() == 1);
        assert!(hold.take(reset(2, 150 * MS)).is_none());
        assert_eq!(hold.next_walk(103 * MS + 57 * MS - 1), None);
        assert_eq!(hold.next_walk(103 * MS + 57 * MS), Some(2));
    }

    #[test]
    fn what_is_not_found_is_looked_for_less_and_less_often() {
        let mut hold = hold([1], 100 * MS);
        let mut walks = vec![];
        let mut now = 100 * MS;
        loop {
            if hold.next_walk(now).is_some() {
                walks.push(now / MS - 100);
                hold.walked(now, now);
            }
            if !hold.release(now, |_, _| Found::default()).is_empty() {
                break;
            }
            now = hold.deadline_ns().expect("one waits");
        }
        assert_eq!((now, walks), (600 * MS, vec![0, 1, 5, 21, 85, 341]));
    }

    #[test]
    fn one_that_came_later_is_looked_for_at_once() {
        let mut hold = hold([1], 100 * MS);
        for now in [100 * MS, 101 * MS, 105 * MS] {
            assert!(hold.next_walk(now).is_some());
            hold.walked(now, now);
        }
        assert!(hold.take(reset(2, 110 * MS)).is_none());
        assert!(hold.next_walk(110 * MS).is_some());
    }

    #[test]
    fn patience_ends_without_a_walk() {
        let mut hold = hold([1], 100 * MS);
        hold.walk_failed(100 * MS);
        assert_eq!(hold.next_walk(100 * MS), None);
        let deadline = hold.deadline_ns().expect("one waits");
        assert_eq!(deadline, 600 * MS);
        assert!(hold.release(deadline - 1, |_, _| Found::default()).is_empty());
        assert_eq!(hold.release(deadline, |_, _| Found::default()).len(), 1);
        assert!(hold.take(reset(1, 1_090 * MS)).is_none());
        assert_eq!((hold.next_walk(1_099 * MS), hold.next_walk(1_100 * MS).is_some()), (None, true));
    }

    #[test]
    fn a_socket_that_is_gone_tells_no_more() {
        let mut hold = hold([1], 100 * MS);
        let gone = Found { gone: true, ..Found::default() };
        assert_eq!(hold.release(100 * MS, |_, _| gone.clone()).len(), 1);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut hold = hold(1..=HELD_MAX as u64, 1);
        assert!(hold.take(reset(9999, 1)).is_some());
        assert_eq!(hold.release(u64::MAX, |_, _| Found::default()).len(), HELD_MAX);
    }
}
