//! The history of one connection: the values of the history tables.

use rsttrace_common::event::{PROVENANCE_NONE, ROLE_UNKNOWN, Task};

/// History of a connection, or of a listening socket. All times are nanoseconds of `CLOCK_MONOTONIC`, 0 when not seen.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connection {
    /// Process that owns the socket; see `provenance`.
    pub(crate) owner: Task,
    /// Address of the listener that the connection is a child of; 0 for any other.
    pub(crate) listener: u64,
    /// Connect, or creation as the child of a listener.
    pub(crate) opened_ns: u64,
    pub(crate) established_ns: u64,
    pub(crate) fin_received_ns: u64,
    pub(crate) fin_sent_ns: u64,
    /// Id of the pending lookup of the socket's holder; 0 for none.
    pub(crate) lookup_id: u64,
    /// See [`Connection::update_checksum`].
    pub(crate) checksum: u64,
    /// State before CLOSE; 0 while the connection is open.
    pub(crate) previous_state: u8,
    /// `PROVENANCE_*` of `owner`.
    pub(crate) provenance: u8,
    /// `ROLE_*`.
    pub(crate) role: u8,
    /// 1 when several processes hold the socket.
    pub(crate) shared: u8,
    /// TTL or hop limit of the packet with which the peer finished the handshake; 0 when not seen.
    pub(crate) handshake_ttl: u8,
    pub(crate) padding: [u8; 3],
}

impl Connection {
    /// A history without any entry.
    pub(crate) const UNKNOWN: Self = Self {
        owner: Task::NONE,
        listener: 0,
        opened_ns: 0,
        established_ns: 0,
        fin_received_ns: 0,
        fin_sent_ns: 0,
        lookup_id: 0,
        checksum: 0,
        previous_state: 0,
        provenance: PROVENANCE_NONE,
        role: ROLE_UNKNOWN,
        shared: 0,
        handshake_ttl: 0,
        padding: [0; 3],
    };

    /// Stores the checksum of what concerns the owner, and of the socket's address. Two CPUs that claim one slot of a table
    /// at once would otherwise leave a mixture of two connections there, and a wrong owner. To be called after each change.
    #[inline(always)]
    pub(crate) fn update_checksum(&mut self, sk: u64) {
        self.checksum = self.sum(sk);
    }

    /// Whether anything is recorded: only the placeholder for sockets without a history was never written.
    #[inline(always)]
    pub(crate) fn is_tracked(&self) -> bool {
        self.checksum != 0
    }

    /// Whether one writer wrote it, and for this socket.
    #[inline(always)]
    pub(crate) fn is_consistent(&self, sk: u64) -> bool {
        self.checksum == self.sum(sk)
    }

    #[inline(always)]
    fn sum(&self, sk: u64) -> u64 {
        let Task { start_boottime_ns, tgid, uid, .. } = self.owner;
        let [comm, comm_end] = self.owner.comm_words();
        let ids = u64::from(tgid) << 32 | u64::from(uid);
        let kind = u64::from(self.provenance) << 16 | u64::from(self.role) << 8 | u64::from(self.shared);
        let words = [start_boottime_ns, ids, comm, comm_end, self.listener, self.opened_ns, kind];
        let mut sum = sk;
        for word in words {
            sum = sum.rotate_left(11) ^ word;
        }
        sum
    }
}
