//! Reclassification of `tcp_receive_reset` events that are not receives.
//!
//! When data arrives for a socket that this host has shut down for receiving, `tcp_rcv_state_process` calls `tcp_reset`,
//! although no reset has arrived, and then sends one. The kernel side flags such a `tcp_receive_reset` as ambiguous. When
//! the `tcp_send_reset` of that connection follows, there was one reset, sent by this host, and the ambiguous event is dropped.

use rsttrace_common::{
    abi::tcp,
    event::{EVENT_AMBIGUOUS, EVENT_HAS_PACKET, KIND_RECEIVED, KIND_SENT, ResetEvent},
};

/// Longest time between an ambiguous receive and the sent reset that resolves it, nanoseconds. They are microseconds apart in
/// the kernel; the rest is for a CPU that was preempted in between, and for the perf ring buffers, which are read one after
/// the other.
pub const MATCH_WINDOW_NS: u64 = 10_000_000;

/// Ambiguous receives that wait for the sent reset that would resolve them.
#[derive(Debug, Default)]
pub struct AmbiguousReceives {
    held: Vec<ResetEvent>,
}

impl AmbiguousReceives {
    /// Whether to process the next event now. `false` for an ambiguous receive, which is held until [`Self::release`]. A sent
    /// reset drops the held receive that it resolves.
    pub fn admit(&mut self, event: &ResetEvent) -> bool {
        if event.kind == KIND_RECEIVED && event.flags & EVENT_AMBIGUOUS != 0 {
            self.held.push(*event);
            return false;
        }
        if event.kind == KIND_SENT && event.flags & EVENT_HAS_PACKET != 0 && event.state == tcp::CLOSE {
            self.drop_resolved_by(event);
        }
        true
    }

    /// Drops the held receive that this sent reset resolves: at most one, the latest. The search begins at the end, where it
    /// is, since both events come from one CPU.
    fn drop_resolved_by(&mut self, sent: &ResetEvent) {
        if let Some(index) = self.held.iter().rposition(|held| resolves(sent, held)) {
            self.held.remove(index);
        }
    }

    /// Time at which the match window of the first held event ends, nanoseconds of the events' clock; `None` when none is held.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.held.iter().map(|event| event.ktime_ns.saturating_add(MATCH_WINDOW_NS)).min()
    }

    /// Takes the held events whose match window had ended by `seen_ns`, in their order: those resets were received. Every event
    /// up to `seen_ns` must have been admitted before; [`u64::MAX`] when no more can come.
    pub fn release(&mut self, seen_ns: u64) -> Vec<ResetEvent> {
        if self.deadline_ns().is_none_or(|deadline| deadline > seen_ns) {
            return Vec::new();
        }
        let (released, held) =
            self.held.drain(..).partition(|event| event.ktime_ns.saturating_add(MATCH_WINDOW_NS) <= seen_ns);
        self.held = held;
        released
    }
}

/// Whether the sent reset is of the connection of the ambiguous receive, and within the match window after it.
///
/// The address of the socket does not identify a connection: the kernel reuses a freed socket at once, and a client may reuse
/// its port. The time of opening does, where it is known (0 for connections from before the start, and for those that the
/// history table has evicted).
fn resolves(sent: &ResetEvent, received: &ResetEvent) -> bool {
    let tuple = |event: &ResetEvent| {
        let ResetEvent { netns, netns_cookie, local_address, local_port, peer_address, peer_port, .. } = *event;
        (netns, netns_cookie, (local_address, local_port), (peer_address, peer_port))
    };
    let equal_or_unknown = |one: u64, other: u64| one == other || one == 0 || other == 0;
    received.sk == sent.sk
        && tuple(received) == tuple(sent)
        && equal_or_unknown(received.opened_ns, sent.opened_ns)
        && equal_or_unknown(received.cookie, sent.cookie)
        && sent.ktime_ns.checked_sub(received.ktime_ns).is_some_and(|apart_ns| apart_ns <= MATCH_WINDOW_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Identity of a connection: address of its socket, the client's port, time of opening, network namespace.
    #[derive(Clone, Copy)]
    struct Connection {
        sk: u64,
        port: u16,
        opened_ns: u64,
        netns_cookie: u64,
    }

    const ONE: Connection = Connection { sk: 7, port: 1024, opened_ns: 100, netns_cookie: 3 };

    fn event(connection: Connection, kind: u8, flags: u32, ktime_ns: u64) -> ResetEvent {
        let Connection { sk, port: peer_port, opened_ns, netns_cookie } = connection;
        let state = if kind == KIND_SENT { tcp::CLOSE } else { tcp::CLOSE_WAIT };
        ResetEvent { kind, flags, sk, peer_port, opened_ns, netns_cookie, state, ktime_ns, ..ResetEvent::default() }
    }

    fn received(connection: Connection, ktime_ns: u64) -> ResetEvent {
        event(connection, KIND_RECEIVED, EVENT_AMBIGUOUS, ktime_ns)
    }

    /// A reset that answers a packet.
    fn sent(connection: Connection, ktime_ns: u64) -> ResetEvent {
        event(connection, KIND_SENT, EVENT_HAS_PACKET, ktime_ns)
    }

    /// The receives that are left when these are all events.
    fn receives(events: &[ResetEvent]) -> Vec<ResetEvent> {
        let mut ambiguous = AmbiguousReceives::default();
        for event in events {
            assert_eq!(ambiguous.admit(event), event.kind == KIND_SENT);
        }
        ambiguous.release(u64::MAX)
    }

    #[test]
    fn a_sent_reset_drops_the_receive_that_it_resolves() {
        assert_eq!(receives(&[received(ONE, 1_001), sent(ONE, 1_002)]), []);
    }

    #[test]
    fn an_unknown_time_of_opening_matches_any() {
        let unknown = Connection { opened_ns: 0, ..ONE };
        assert_eq!(receives(&[received(ONE, 1_001), sent(unknown, 1_002)]), []);
        assert_eq!(receives(&[received(unknown, 1_001), sent(ONE, 1_002)]), []);
    }

    #[test]
    fn a_sent_reset_of_another_connection_drops_nothing() {
        let others = [
            Connection { port: 1025, opened_ns: 1_001, ..ONE },
            Connection { port: 1025, opened_ns: 0, ..ONE },
            // The client has reused its port.
            Connection { opened_ns: 1_001, ..ONE },
            // In another network namespace, with the same addresses and ports.
            Connection { opened_ns: 0, netns_cookie: 4, ..ONE },
            Connection { sk: 8, ..ONE },
        ];
        let held = received(ONE, 1_001);
        for other in others {
            assert_eq!(receives(&[held, sent(other, 1_002)]), [held]);
        }
    }

    #[test]
    fn one_sent_reset_drops_one_receive() {
        // Both were opened before the start, so that their times of opening are unknown.
        let unknown = Connection { opened_ns: 0, ..ONE };
        let (genuine, resolved) = (received(unknown, 1_001), received(unknown, 2_001));
        assert_eq!(receives(&[genuine, resolved, sent(unknown, 2_002)]), [genuine]);
    }

    #[test]
    fn a_sent_reset_without_packet_or_outside_the_window_drops_nothing() {
        let held = received(ONE, 50 * MATCH_WINDOW_NS);
        let without_packet = event(ONE, KIND_SENT, 0, held.ktime_ns + 1);
        let still_open = ResetEvent { state: tcp::SYN_SENT, ..sent(ONE, held.ktime_ns + 1) };
        let before = sent(ONE, held.ktime_ns - 1);
        let long_after = sent(ONE, held.ktime_ns + MATCH_WINDOW_NS + 1);
        for other in [without_packet, still_open, before, long_after] {
            assert_eq!(receives(&[held, other]), [held]);
        }
        // Sockets have different cookies, where a program has asked for one.
        let (one, other) = (ResetEvent { cookie: 5, ..held }, ResetEvent { cookie: 6, ..sent(ONE, held.ktime_ns + 1) });
        assert_eq!(receives(&[one, other]), [one]);
    }

    #[test]
    fn a_genuine_receive_is_released_after_the_window() {
        let mut ambiguous = AmbiguousReceives::default();
        let held = received(ONE, 5);
        assert!(!ambiguous.admit(&held));
        let deadline = ambiguous.deadline_ns().expect("an event is held");
        assert_eq!(ambiguous.release(deadline - 1), []);
        assert_eq!(ambiguous.release(deadline), [held]);
        assert_eq!(ambiguous.deadline_ns(), None);
    }

    #[test]
    fn an_unambiguous_receive_is_admitted_immediately() {
        let mut ambiguous = AmbiguousReceives::default();
        assert!(ambiguous.admit(&event(ONE, KIND_RECEIVED, 0, 1)));
    }
}
