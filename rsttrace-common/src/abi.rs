//! Constants of the kernel's user space ABI, and the names of TCP states.

/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP`.
pub const IPPROTO_MPTCP: u16 = 262;

/// `ECONNRESET`: a reset ended the connection.
pub const ECONNRESET: u16 = 104;
/// `ETIMEDOUT`: a timer gave the connection up.
pub const ETIMEDOUT: u16 = 110;
/// `ECONNREFUSED`: a reset refused the connection.
pub const ECONNREFUSED: u16 = 111;
/// `EPIPE`: a reset ended the connection after the peer's FIN.
pub const EPIPE: u16 = 32;

/// TCP states (`include/net/tcp_states.h`; visible to user space through `TCP_INFO` and stable).
pub mod tcp {
    /// The connection is open both ways.
    pub const ESTABLISHED: u8 = 1;
    /// We sent a SYN and wait for its answer.
    pub const SYN_SENT: u8 = 2;
    /// The peer's SYN came, the handshake is not finished.
    pub const SYN_RECV: u8 = 3;
    /// We closed; our FIN is not acknowledged.
    pub const FIN_WAIT1: u8 = 4;
    /// We closed, the peer acknowledged and has not closed.
    pub const FIN_WAIT2: u8 = 5;
    /// Both closed; waits for late segments (2 MSL).
    pub const TIME_WAIT: u8 = 6;
    /// No connection.
    pub const CLOSE: u8 = 7;
    /// The peer closed, we did not.
    pub const CLOSE_WAIT: u8 = 8;
    /// The peer closed, then we; our FIN is not acknowledged.
    pub const LAST_ACK: u8 = 9;
    /// Waiting for connections.
    pub const LISTEN: u8 = 10;
    /// Both closed at once.
    pub const CLOSING: u8 = 11;
    /// A half-open connection that has no full socket yet.
    pub const NEW_SYN_RECV: u8 = 12;

    /// Name of a state; `None` for a number that Linux does not use.
    #[must_use]
    pub const fn name(state: u8) -> Option<&'static str> {
        Some(match state {
            ESTABLISHED => "ESTABLISHED",
            SYN_SENT => "SYN_SENT",
            SYN_RECV => "SYN_RECV",
            FIN_WAIT1 => "FIN_WAIT1",
            FIN_WAIT2 => "FIN_WAIT2",
            TIME_WAIT => "TIME_WAIT",
            CLOSE => "CLOSE",
            CLOSE_WAIT => "CLOSE_WAIT",
            LAST_ACK => "LAST_ACK",
            LISTEN => "LISTEN",
            CLOSING => "CLOSING",
            NEW_SYN_RECV => "NEW_SYN_RECV",
            _ => return None,
        })
    }
}

/// Netfilter's hooks (`enum nf_inet_hooks` of `include/uapi/linux/netfilter.h`).
pub mod netfilter {
    /// Packets addressed to this host.
    pub const LOCAL_IN: u8 = 1;
    /// Packets that this host forwards.
    pub const FORWARD: u8 = 2;
    /// Packets that this host sends.
    pub const LOCAL_OUT: u8 = 3;
}

/// Bits of `sk_flags` (`enum sock_flags`, unchanged from 4.15 to 7.3).
pub mod sock_flag {
    /// `SOCK_DEAD`: no process holds the socket any more.
    pub const DEAD: u32 = 1 << 0;
    /// `SOCK_DONE`: the peer's FIN was processed.
    pub const DONE: u32 = 1 << 1;
    /// `SOCK_KEEPOPEN`: `SO_KEEPALIVE` is on.
    pub const KEEPALIVE: u32 = 1 << 3;
    /// `SOCK_LINGER`: `SO_LINGER` is on.
    pub const LINGER: u32 = 1 << 4;
}

/// Bits of the TCP header's flags byte.
pub mod tcp_flag {
    /// FIN.
    pub const FIN: u8 = 1 << 0;
    /// SYN.
    pub const SYN: u8 = 1 << 1;
    /// RST.
    pub const RST: u8 = 1 << 2;
    /// PSH.
    pub const PSH: u8 = 1 << 3;
    /// ACK.
    pub const ACK: u8 = 1 << 4;
}
