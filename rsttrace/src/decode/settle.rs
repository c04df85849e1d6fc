//! Received resets that are really sent ones.
//!
//! When data arrives for a socket that this host has shut down for receiving, the kernel runs `tcp_reset` as if a
//! reset had come, and then sends one (`tcp_rcv_state_process`). The kernel side marks such a `tcp_receive_reset`; if
//! the `tcp_send_reset` of the same connection follows, there was one reset and this host sent it.

use rsttrace_common::{
    abi::tcp,
    event::{EVENT_AMBIGUOUS, EVENT_HAS_PACKET, KIND_RECEIVED, KIND_SENT, ResetEvent},
};

/// Longest wait of a marked event for the other. The two are microseconds apart in the kernel; the rest is for a CPU
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
        if event.kind == KIND_RECEIVED && event.flags & EVENT_AMBIGUOUS != 0 {
            self.held.push(*event);
            return false;
        }
        if event.kind == KIND_SENT && event.flags & EVENT_HAS_PACKET != 0 && event.state == tcp::CLOSE {
            self.drop_announcement_of(event);
        }
        true
    }

    /// Drops the held event that announced this sent reset: one at most, the last that came before it.
    fn drop_announcement_of(&mut self, sent: &ResetEvent) {
        let candidates = self.held.iter().enumerate().filter(|(_, held)| announces(held, sent));
        if let Some((index, _)) = candidates.max_by_key(|(_, held)| held.ktime_ns) {
            self.held.remove(index);
        }
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

/// Whether the marked receive and the sent reset are of one connection, and the receive came just before.
///
/// The address of the socket is no identity: the kernel gives a freed socket to the next connection at once, and a client
/// may use its port again. What tells two connections apart is when they were opened (0 where that is not known: before the
/// start, or forgotten when the table was full).
fn announces(received: &ResetEvent, sent: &ResetEvent) -> bool {
    let ends = |event: &ResetEvent| {
        let ResetEvent { netns, netns_cookie, local_address, local_port, peer_address, peer_port, .. } = *event;
        (netns, netns_cookie, (local_address, local_port), (peer_address, peer_port))
    };
    let same_or_unknown = |one: u64, other: u64| one == other || one == 0 || other == 0;
    received.sk == sent.sk
        && ends(received) == ends(sent)
        && same_or_unknown(received.opened_ns, sent.opened_ns)
        && same_or_unknown(received.cookie, sent.cookie)
        && sent.ktime_ns.checked_sub(received.ktime_ns).is_some_and(|apart_ns| apart_ns <= HOLD_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection: the address of its socket, the client's port, when it was opened, and the network namespace.
    #[derive(Clone, Copy)]
    struct Of {
        sk: u64,
        port: u16,
        opened_ns: u64,
        netns_cookie: u64,
    }

    const ONE: Of = Of { sk: 7, port: 1024, opened_ns: 100, netns_cookie: 3 };

    fn event(of: Of, kind: u8, flags: u32, ktime_ns: u64) -> ResetEvent {
        let Of { sk, port: peer_port, opened_ns, netns_cookie } = of;
        let state = if kind == KIND_SENT { tcp::CLOSE } else { tcp::CLOSE_WAIT };
        ResetEvent { kind, flags, sk, peer_port, opened_ns, netns_cookie, state, ktime_ns, ..ResetEvent::default() }
    }

    fn received(of: Of, ktime_ns: u64) -> ResetEvent {
        event(of, KIND_RECEIVED, EVENT_AMBIGUOUS, ktime_ns)
    }

    /// In answer to a packet.
    fn sent(of: Of, ktime_ns: u64) -> ResetEvent {
        event(of, KIND_SENT, EVENT_HAS_PACKET, ktime_ns)
    }

    /// What goes on as received when these events are all.
    fn receives(events: &[ResetEvent]) -> Vec<ResetEvent> {
        let mut settle = Settle::default();
        for event in events {
            assert_eq!(settle.lets_go_on(event), event.kind == KIND_SENT);
        }
        settle.release(u64::MAX)
    }

    #[test]
    fn a_reset_in_answer_to_data_drops_its_announcement() {
        assert_eq!(receives(&[received(ONE, 1_001), sent(ONE, 1_002)]), []);
    }

    #[test]
    fn where_the_opening_is_not_known_the_ends_tell() {
        let unknown = Of { opened_ns: 0, ..ONE };
        assert_eq!(receives(&[received(ONE, 1_001), sent(unknown, 1_002)]), []);
        assert_eq!(receives(&[received(unknown, 1_001), sent(ONE, 1_002)]), []);
    }

    #[test]
    fn another_connection_with_the_socket_at_the_same_address_drops_nothing() {
        let others = [
            Of { port: 1025, opened_ns: 1_001, ..ONE },
            Of { port: 1025, opened_ns: 0, ..ONE },
            // The client has used its port again.
            Of { opened_ns: 1_001, ..ONE },
            // In another network namespace, with the same ends.
            Of { opened_ns: 0, netns_cookie: 4, ..ONE },
            Of { sk: 8, ..ONE },
        ];
        let held = received(ONE, 1_001);
        for other in others {
            assert_eq!(receives(&[held, sent(other, 1_002)]), [held]);
        }
    }

    #[test]
    fn one_sent_reset_drops_one_announcement() {
        // Both were opened before the start, so that the times of opening do not tell them apart.
        let unknown = Of { opened_ns: 0, ..ONE };
        let (true_one, announcement) = (received(unknown, 1_001), received(unknown, 2_001));
        assert_eq!(receives(&[true_one, announcement, sent(unknown, 2_002)]), [true_one]);
    }

    #[test]
    fn what_is_sent_for_another_reason_or_at_another_time_drops_nothing() {
        let held = received(ONE, 50 * HOLD_NS);
        let without_packet = event(ONE, KIND_SENT, 0, held.ktime_ns + 1);
        let still_open = ResetEvent { state: tcp::SYN_SENT, ..sent(ONE, held.ktime_ns + 1) };
        let before = sent(ONE, held.ktime_ns - 1);
        let long_after = sent(ONE, held.ktime_ns + HOLD_NS + 1);
        for other in [without_packet, still_open, before, long_after] {
            assert_eq!(receives(&[held, other]), [held]);
        }
        // Another is generated by the socket's cookie, where a program has asked for one.
        let (one, other) = (ResetEvent { cookie: 5, ..held }, ResetEvent { cookie: 6, ..sent(ONE, held.ktime_ns + 1) });
        assert_eq!(receives(&[one, other]), [one]);
    }

    #[test]
    fn a_true_one_goes_on_after_the_wait() {
        let mut settle = Settle::default();
        let held = received(ONE, 5);
        assert!(!settle.lets_go_on(&held));
        let deadline = settle.deadline_ns().expect("something is held");
        assert_eq!(settle.release(deadline - 1), []);
        assert_eq!(settle.release(deadline), [held]);
        assert_eq!(settle.deadline_ns(), None);
    }

    #[test]
    fn what_is_not_marked_never_waits() {
        let mut settle = Settle::default();
        assert!(settle.lets_go_on(&event(ONE, KIND_RECEIVED, 0, 1)));
    }
}
