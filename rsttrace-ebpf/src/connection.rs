//! What is remembered of a connection: the values of the tables.

use rsttrace_common::event::{PROVENANCE_NONE, ROLE_UNKNOWN, Task};

/// What is remembered of a connection, or of a listening socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connection {
    pub(crate) owner: Task,
    /// The listener that it was born of; 0 for any other connection.
    pub(crate) listener: u64,
    /// All times are nanoseconds of `CLOCK_MONOTONIC`, 0 when the moment was not seen.
    pub(crate) opened_ns: u64,
    pub(crate) established_ns: u64,
    pub(crate) fin_received_ns: u64,
    pub(crate) fin_sent_ns: u64,
    /// Under which number what is found of its holder is gathered; 0 while nobody asks.
    pub(crate) awaited: u64,
    /// See [`Connection::seal`].
    pub(crate) seal: u64,
    /// The state before CLOSE; 0 while it is open.
    pub(crate) previous_state: u8,
    pub(crate) provenance: u8,
    pub(crate) role: u8,
    /// 1 when several processes hold the socket.
    pub(crate) shared: u8,
    /// TTL or hop limit of the packet with which the peer finished the handshake; 0 when not seen.
    pub(crate) handshake_ttl: u8,
    pub(crate) padding: [u8; 3],
}

impl Connection {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self {
        owner: Task { start_boottime_ns: 0, tgid: 0, uid: 0, comm: [0; 16] },
        listener: 0,
        opened_ns: 0,
        established_ns: 0,
        fin_received_ns: 0,
        fin_sent_ns: 0,
        awaited: 0,
        seal: 0,
        previous_state: 0,
        provenance: PROVENANCE_NONE,
        role: ROLE_UNKNOWN,
        shared: 0,
        handshake_ttl: 0,
        padding: [0; 3],
    };

    /// Vouches that what is said of the owner is said of this socket. Two processors that take the same place in a table
    /// at the same instant would otherwise leave a mixture of two connections there, and a wrong name.
    #[inline(always)]
    pub(crate) fn seal(&mut self, sk: u64) {
        self.seal = self.sum(sk);
    }

    /// Whether there is anything to tell: only of nobody nothing was ever written.
    #[inline(always)]
    pub(crate) fn is_known(&self) -> bool {
        self.seal != 0
    }

    /// Whether it is whole, and this socket's.
    #[inline(always)]
    pub(crate) fn is_whole(&self, sk: u64) -> bool {
        self.seal == self.sum(sk)
    }

    #[inline(always)]
    fn sum(&self, sk: u64) -> u64 {
        let Task { start_boottime_ns, tgid, uid, .. } = self.owner;
        let [name, end_of_name] = self.owner.name();
        let ids = u64::from(tgid) << 32 | u64::from(uid);
        let kind = u64::from(self.provenance) << 16 | u64::from(self.role) << 8 | u64::from(self.shared);
        let words = [start_boottime_ns, ids, name, end_of_name, self.listener, self.opened_ns, kind];
        let mut sum = sk;
        for word in words {
            sum = sum.rotate_left(11) ^ word;
        }
        sum
    }
}
