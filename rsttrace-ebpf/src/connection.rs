//! What is remembered of a connection: the values of the maps.

use rsttrace_common::event::{PROVENANCE_NONE, ROLE_UNKNOWN, Task};

/// What is remembered of a connection, or of a listening socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connection {
    pub(crate) owner: Task,
    /// All times are nanoseconds of `CLOCK_MONOTONIC`, 0 when the moment was not seen.
    pub(crate) opened_ns: u64,
    pub(crate) established_ns: u64,
    pub(crate) fin_received_ns: u64,
    pub(crate) fin_sent_ns: u64,
    /// The socket, to tell a later connection between the same ends from this one.
    pub(crate) sk: u64,
    /// The listener that it was born of; 0 for any other connection.
    pub(crate) listener: u64,
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
        opened_ns: 0,
        established_ns: 0,
        fin_received_ns: 0,
        fin_sent_ns: 0,
        sk: 0,
        listener: 0,
        previous_state: 0,
        provenance: PROVENANCE_NONE,
        role: ROLE_UNKNOWN,
        shared: 0,
        handshake_ttl: 0,
        padding: [0; 3],
    };
}
