//! Received resets that are really sent ones.
//!
//! When data arrives for a socket that this host has shut down for receiving, the kernel runs `tcp_reset` as if a
//! reset had come, and then sends one (`tcp_rcv_state_process`). The kernel side marks such a `tcp_receive_reset`; if
//! a `tcp_send_reset` in answer to a packet follows for the same socket, there was one reset and we sent it.

use rsttrace_common::event::{EVENT_HAS_PACKET, EVENT_MAYBE_SENT, KIND_RECEIVED, KIND_SENT, ResetEvent};

/// How long a marked event waits for the other. The two are microseconds apart in the kernel; the rest is for a CPU
/// that was taken away in between and for the perf rings, which are read one after the other.
pub const HOLD_NS: u64 = 10_000_000;

/// Holds back marked events until it is known what they are.
#[derive(Debug, Default)]
pub struct Settle {
    held: Vec<ResetEvent>,
}

impl Settle {
    /// Looks at the next event: whether it can go on. If not, it is held here.
    pub fn lets_go_on(&mut self, event: &ResetEvent) -> bool {
        if event.kind == KIND_RECEIVED && event.flags & EVENT_MAYBE_SENT != 0 {
            self.held.push(*event);
            return false;
        }
        if event.kind == KIND_SENT && event.flags & EVENT_HAS_PACKET != 0 && event.sk != 0 {
            self.held.retain(|held| held.sk != event.sk || held.ktime_ns > event.ktime_ns);
        }
        true
    }

    /// When the next held event can go on, in nanoseconds of the events' clock.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.held.iter().map(|event| event.ktime_ns.saturating_add(HOLD_NS)).min()
    }

    /// Events that have waited long enough once every event up to this time has been taken, in their order: the resets
    /// did come. [`u64::MAX`] when no more events can come.
    pub fn release(&mut self, seen_ns: u64) -> Vec<ResetEvent> {
        if self.deadline_ns().is_none_or(|deadline| deadline > seen_ns) {
            return Vec::new();
        }
        let (released, held) = self.held.drain(..).partition(|event| event.ktime_ns.saturating_add(HOLD_NS) <= seen_ns);
        self.held = held;
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(sk: u64, ktime_ns: u64) -> ResetEvent {
        ResetEvent { kind: KIND_RECEIVED, flags: EVENT_MAYBE_SENT, sk, ktime_ns, ..ResetEvent::default() }
    }

    fn sent(sk: u64, ktime_ns: u64, flags: u32) -> ResetEvent {
        ResetEvent { kind: KIND_SENT, flags, sk, ktime_ns, ..ResetEvent::default() }
    }

    #[test]
    fn a_reset_in_answer_to_data_swallows_the_false_one() {
        let mut settle = Settle::default();
        assert!(!settle.lets_go_on(&received(7, 1)));
        assert!(settle.lets_go_on(&sent(7, 2, EVENT_HAS_PACKET)));
        assert_eq!(settle.release(u64::MAX), []);
    }

    #[test]
    fn another_socket_or_a_reset_of_our_own_accord_swallows_nothing() {
        let mut settle = Settle::default();
        let held = received(7, 1);
        assert!(!settle.lets_go_on(&held));
        assert!(settle.lets_go_on(&sent(8, 2, EVENT_HAS_PACKET)));
        assert!(settle.lets_go_on(&sent(7, 2, 0)));
        assert_eq!(settle.release(u64::MAX), [held]);
    }

    #[test]
    fn a_true_one_goes_on_after_the_wait() {
        let mut settle = Settle::default();
        let held = received(7, 5);
        assert!(!settle.lets_go_on(&held));
        let deadline = settle.deadline_ns().expect("something is held");
        assert_eq!(settle.release(deadline - 1), []);
        assert_eq!(settle.release(deadline), [held]);
        assert_eq!(settle.deadline_ns(), None);
    }

    #[test]
    fn what_is_not_marked_never_waits() {
        let mut settle = Settle::default();
        assert!(settle.lets_go_on(&ResetEvent { kind: KIND_RECEIVED, sk: 7, ..ResetEvent::default() }));
    }
}
