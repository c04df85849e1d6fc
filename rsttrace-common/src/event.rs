//! The record that crosses the buffer: one reset, with the kernel's state at that instant.

wire! {
    /// A process, identified by PID and start time.
    pub struct Task: 32 {
        /// `task_struct.start_boottime` of the thread group leader, nanoseconds of `CLOCK_BOOTTIME`. With `tgid` it
        /// identifies a process for good: PIDs are reused, this pair is not.
        0 => pub start_boottime_ns: u64,
        /// PID in the initial PID namespace; 0 when the process is not known.
        8 => pub tgid: u32,
        /// Real user id of the task; [`UID_UNKNOWN`] when it was not read.
        12 => pub uid: u32,
        /// `comm` of the thread group leader, padded with zeros. Untrusted: any bytes.
        16 => pub comm: [u8; 16],
    }
}

impl Task {
    /// No process.
    pub const NONE: Self = Self { start_boottime_ns: 0, tgid: 0, uid: 0, comm: [0; 16] };

    /// `comm` as two words in native byte order.
    #[inline]
    pub const fn comm_words(&self) -> [u64; 2] {
        // SAFETY: arrays of equal size, for which every bit pattern is a value.
        unsafe { core::mem::transmute(self.comm) }
    }
}

/// An IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`: sixteen bytes in network order, stored as words because BPF moves
/// words, and has to loop over bytes.
pub type Address = [u32; 4];

wire! {
    /// Fields of a segment's IP and TCP headers, in host byte order.
    pub struct PacketHeader: 20 {
        /// Sequence number.
        0 => pub seq: u32,
        /// Acknowledgement number.
        4 => pub ack: u32,
        /// Window, unscaled.
        8 => pub window: u16,
        /// IP identification; 0 for IPv6, which has none.
        10 => pub id: u16,
        /// Length of the IP packet in bytes, including all headers.
        12 => pub length: u16,
        /// TTL or hop limit.
        14 => pub ttl: u8,
        /// TCP flags.
        15 => pub flags: u8,
        /// Payload bytes: without the IP and TCP headers.
        16 => pub payload: u16,
        /// Zero.
        18 => pub padding: u16,
    }
}

wire! {
    /// How a connection ended.
    pub struct ConnectionEnding: 40 {
        /// Time at which the socket was closed, nanoseconds of `CLOCK_MONOTONIC`; 0 when no connection is known.
        0 => pub closed_ns: u64,
        /// Bytes received, FIN included; at most `u32::MAX`.
        8 => pub bytes_received: u32,
        /// Bytes sent, with retransmissions; at most `u32::MAX`.
        12 => pub bytes_sent: u32,
        /// Jiffies between the last data in either direction and the close.
        16 => pub idle_jiffies: u32,
        /// `tcp_sock.snd_wnd` of a connection that a timer gave up: the peer's window, bytes; 0 when it accepted no more.
        20 => pub window: u32,
        /// `sk_err` at the close, positive `errno`: ETIMEDOUT when a timer gave the connection up, ECONNRESET, EPIPE or
        /// ECONNREFUSED when a reset ended it; 0 when both sides had closed, or the process had.
        24 => pub error: u16,
        /// TCP state before CLOSE.
        26 => pub state: u8,
        /// `ROLE_*`.
        27 => pub role: u8,
        /// `LAST_DATA_*`: whose data were the last before the close.
        28 => pub last_data: u8,
        /// 1 when the process aborted the connection: with data unread, or with `SO_LINGER` at 0. The kernel reports that
        /// reset after it has sent it, so the answer to what comes next may be reported first.
        29 => pub was_aborted: u8,
        /// Milliseconds between this host's FIN and the close of the socket; at most `u16::MAX`, and 0 without a FIN.
        30 => pub closing_ms: u16,
        /// Smoothed round trip time in microseconds (`srtt_us / 8`); 0 when none was measured.
        32 => pub rtt_us: u32,
        /// Zero.
        36 => pub padding: u32,
    }
}

/// Neither end had sent data, or both within one tick.
pub const LAST_DATA_UNKNOWN: u8 = 0;
/// This host had sent data last.
pub const LAST_DATA_SENT: u8 = 1;
/// The peer had sent data last.
pub const LAST_DATA_RECEIVED: u8 = 2;

/// `Task::uid` when the kernel side did not read it.
pub const UID_UNKNOWN: u32 = u32::MAX;

wire! {
    /// One reset. The kernel side zeroes the whole record before it fills it, so a field that it does not know is 0, and
    /// `flags` tells which zeros mean "unknown".
    pub struct ResetEvent: 400 {
        /// Time of the event, nanoseconds of `CLOCK_MONOTONIC`.
        0 => pub ktime_ns: u64,
        /// Address of the `struct sock`, 0 without one; never shown. The kernel reuses the address of a freed socket, so it
        /// is no identity by itself.
        8 => pub sk: u64,
        /// `skc_cookie`; 0 when none has been generated.
        16 => pub cookie: u64,
        /// Id of the socket's cgroup (cgroup v2); 0 when unknown.
        24 => pub cgroup_id: u64,
        /// `tcp_sock.bytes_sent`: payload bytes sent, including retransmissions.
        32 => pub bytes_sent: u64,
        /// `tcp_sock.bytes_retrans`: payload bytes that were retransmissions.
        40 => pub bytes_retrans: u64,
        /// `tcp_sock.bytes_acked`: counts our SYN (when we opened the connection) and our FIN as one byte each.
        48 => pub bytes_acked: u64,
        /// `tcp_sock.bytes_received`: counts the peer's FIN as one byte.
        56 => pub bytes_received: u64,
        /// Time at which the connection was opened, by connect or as the child of a listener, nanoseconds of
        /// `CLOCK_MONOTONIC`; 0 when it was opened before the start.
        64 => pub opened_ns: u64,
        /// Time at which it was established, nanoseconds of `CLOCK_MONOTONIC`; 0 when it was not, or before the start.
        72 => pub established_ns: u64,
        /// Time at which the peer's FIN was processed, nanoseconds of `CLOCK_MONOTONIC`; 0 when not seen.
        80 => pub fin_received_ns: u64,
        /// Time at which this side closed or shut down for sending, nanoseconds of `CLOCK_MONOTONIC`; 0 when not seen.
        88 => pub fin_sent_ns: u64,
        /// Owner of the socket; `tgid` 0 when the kernel side does not know it.
        96 => pub owner: Task,
        /// Current task, only if it holds the socket's lock; `tgid` 0 otherwise.
        128 => pub actor: Task,
        /// Address of this host's end.
        160 => pub local_address: Address,
        /// Address of the peer's end.
        176 => pub peer_address: Address,
        /// `EVENT_*` bits.
        192 => pub flags: u32,
        /// `enum sk_rst_reason` (or `enum skb_drop_reason` for [`KIND_IGNORED`]) as the running kernel numbers it; valid
        /// with [`EVENT_HAS_REASON`].
        196 => pub reason: u32,
        /// Inode number of the network namespace.
        200 => pub netns: u32,
        /// Low 32 bits of jiffies at the event: "now" for the other `*_jiffies` fields.
        204 => pub now_jiffies: u32,
        /// `tcp_sock.lsndtime`: last data sent.
        208 => pub last_send_jiffies: u32,
        /// `icsk_ack.lrcvtime`: last data received.
        212 => pub last_receive_jiffies: u32,
        /// `tcp_sock.rcv_tstamp`: last acknowledgement received.
        216 => pub last_ack_jiffies: u32,
        /// `tcp_sock.chrono_start`: since when the send side has been in the state `chrono_type`.
        220 => pub chrono_start_jiffies: u32,
        /// Bytes sent and not acknowledged: `snd_nxt - snd_una`.
        224 => pub unacked_bytes: u32,
        /// Bytes written and not sent: `write_seq - snd_nxt`.
        228 => pub unsent_bytes: u32,
        /// Bytes received and not read by the process: `rcv_nxt - copied_seq`, which counts a FIN as one.
        232 => pub unread_bytes: u32,
        /// Smoothed round trip time in microseconds (`srtt_us / 8`); 0 when none was measured.
        236 => pub rtt_us: u32,
        /// `tcp_sock.total_retrans`: segments retransmitted over the life of the connection.
        240 => pub retransmits: u32,
        /// `icsk_user_timeout` in milliseconds (`TCP_USER_TIMEOUT`); 0 when unset.
        244 => pub user_timeout_ms: u32,
        /// `sk_ack_backlog` of a listener: connections in its accept queue.
        248 => pub accept_queue: u32,
        /// `sk_max_ack_backlog`: limit of that queue.
        252 => pub accept_queue_limit: u32,
        /// `sk_flags`: bit 0 dead, 1 done (FIN received), 3 keep-alive, 4 linger; see [`abi::sock_flag`].
        ///
        /// [`abi::sock_flag`]: crate::abi::sock_flag
        256 => pub socket_flags: u32,
        /// `sk_lingertime` in jiffies.
        260 => pub linger_jiffies: u32,
        /// Valid with [`EVENT_HAS_PACKET`]: for a sent reset, the packet that provoked it; for any other kind, the reset.
        264 => pub packet: PacketHeader,
        /// Index of the interface that a received, ignored or forwarded reset arrived on; 0 when not read.
        284 => pub interface: u32,
        /// Port of this host's end, in host byte order.
        288 => pub local_port: u16,
        /// Port of the peer's end, in host byte order.
        290 => pub peer_port: u16,
        /// `KIND_*`.
        292 => pub kind: u8,
        /// `AF_INET` (2) or `AF_INET6` (10) of the packets on the wire: `AF_INET` for an IPv4-mapped socket.
        293 => pub family: u8,
        /// TCP state of the socket at the event (`TCP_*` of `include/net/tcp_states.h`); 0 without a socket.
        294 => pub state: u8,
        /// State before the last change of state; 0 when not seen.
        295 => pub previous_state: u8,
        /// Sub-state of a TIME_WAIT socket (`tw_substate`).
        296 => pub substate: u8,
        /// `sk_shutdown`: 1 receive, 2 send.
        297 => pub shutdown: u8,
        /// `PROVENANCE_*` of `owner`.
        298 => pub provenance: u8,
        /// `ROLE_*`.
        299 => pub role: u8,
        /// `tcp_sock.chrono_type`: 0 when nothing is in flight.
        300 => pub chrono_type: u8,
        /// `icsk_probes_out`: unanswered keep-alive or zero-window probes.
        301 => pub probes_out: u8,
        /// References to the socket's `struct file`: 1 when one descriptor refers to it, 0 when the last one is being closed
        /// or there is no file; [`FILE_REFCOUNT_UNKNOWN`]. Descriptors of several processes, duplicates, and system calls in
        /// progress on the descriptor of a multi-threaded process all count.
        302 => pub file_refcount: u16,
        /// TTL or hop limit of the packet with which the peer finished the handshake; 0 when not seen.
        304 => pub handshake_ttl: u8,
        /// Netfilter hook in which a rule rejected a packet: 1 input, 2 forward, 3 output (`enum nf_inet_hooks`).
        305 => pub netfilter_hook: u8,
        /// Byte of `rx_opt.saw_tstamp`: whether the last segment received (of a received reset, the reset) had a timestamp.
        306 => pub saw_timestamp: u8,
        /// Byte of `rx_opt.tstamp_ok`: whether the ends agreed on timestamps in the handshake.
        307 => pub timestamps_ok: u8,
        /// `task_struct.exit_code` of `actor`: its signal in the low seven bits, its exit status in the byte above; valid
        /// with [`EVENT_EXITING`].
        308 => pub exit_code: u32,
        /// Key into `HOLDER_LOOKUPS` for the process that holds the socket (or, for a connection not yet accepted, its
        /// listener); 0 if no process holds either.
        312 => pub lookup_id: u64,
        /// `net.net_cookie`: identity of the network namespace since boot, which unlike the inode number is never reused.
        /// 0 where the kernel has none (before 5.12 until a program has asked for it).
        320 => pub netns_cookie: u64,
        /// End of the last connection between these ends; of a reset without a full socket, or of a listener.
        328 => pub ending: ConnectionEnding,
        /// `rx_opt.ts_recent`: the peer's timestamp clock in the last segment that the socket accepted.
        368 => pub timestamp_recent: u32,
        /// `rx_opt.rcv_tsval`: the peer's timestamp clock in the last segment received that had a timestamp.
        372 => pub timestamp_value: u32,
        /// `rx_opt.rcv_tsecr`: the timestamp that that segment echoed, on this host's clock of milliseconds since boot
        /// (`CLOCK_MONOTONIC`; microseconds where the route has `tcp_usec_ts`).
        376 => pub timestamp_echo: u32,
        /// `tcp_sock.snd_nxt`: the next sequence number to be sent.
        380 => pub snd_nxt: u32,
        /// `tcp_sock.rcv_nxt`: the next sequence number that is expected.
        384 => pub rcv_nxt: u32,
        /// Byte of `tcp_sock.is_mptcp`: whether the socket is a subflow of an MPTCP connection.
        388 => pub is_mptcp: u8,
        /// `rx_opt.num_sacks`: blocks of data that arrived out of order.
        389 => pub sack_blocks: u8,
        /// `sk_drops` of a listener: segments of handshakes that it has dropped since it began to listen; at most `u16::MAX`.
        390 => pub listener_drops: u16,
        /// `tcp_sock.tsoffset`: what this host adds to its clock in the timestamps that it sends, and has subtracted from
        /// `timestamp_echo`.
        392 => pub timestamp_offset: u32,
        /// `tcp_sock.snd_wnd`: the peer's window, bytes.
        396 => pub send_window: u32,
    }
}

/// `ResetEvent::file_refcount` when the kernel side could not read it.
pub const FILE_REFCOUNT_UNKNOWN: u16 = u16::MAX;

/// Event of `tcp_send_reset`.
pub const KIND_SENT: u8 = 1;
/// Event of `tcp_receive_reset`.
pub const KIND_RECEIVED: u8 = 2;
/// Event of `nf_send_reset` or `nf_send_reset6`: a packet filter rule answers a packet with a reset.
pub const KIND_REJECTED: u8 = 3;
/// Event of `kfree_skb`: a reset that arrived and was discarded.
pub const KIND_IGNORED: u8 = 4;
/// A reset that this host forwards: `local_*` is its destination, `peer_*` its source.
pub const KIND_FORWARDED: u8 = 5;

/// There was a full socket (not a TIME_WAIT one), and its fields are valid.
pub const EVENT_HAS_SOCKET: u32 = 1 << 0;
/// The socket is a TIME_WAIT mini-socket: only addresses, cookie and sub-state exist.
pub const EVENT_TIME_WAIT: u32 = 1 << 1;
/// `packet` is valid.
pub const EVENT_HAS_PACKET: u32 = 1 << 2;
/// `reason` is valid.
pub const EVENT_HAS_REASON: u32 = 1 << 3;
/// The current task held the socket's lock (`sk_lock.owned`), so it is not a bystander.
pub const EVENT_OWNED_BY_USER: u32 = 1 << 4;
/// `tcp_receive_reset` of a socket that was shut down for receiving: it may announce a reset that *this host* is about to
/// send. The next `tcp_send_reset` of this socket decides.
pub const EVENT_AMBIGUOUS: u32 = 1 << 5;
/// The socket no longer belonged to any file (`sk_socket` is NULL).
pub const EVENT_ORPHAN: u32 = 1 << 6;
/// More than one process holds the socket (or listens on the port), so the owner is one of several.
pub const EVENT_SHARED: u32 = 1 << 7;
/// The history of the connection (owner, times, previous state) was found.
pub const EVENT_HAS_HISTORY: u32 = 1 << 8;
/// `*_jiffies` are valid.
pub const EVENT_HAS_TIMES: u32 = 1 << 9;
/// The task that holds the socket's lock was exiting (`PF_EXITING`): the kernel closes its files.
pub const EVENT_EXITING: u32 = 1 << 10;

/// The owner is not known.
pub const PROVENANCE_NONE: u8 = 0;
/// The owner called connect.
pub const PROVENANCE_CONNECT: u8 = 1;
/// The owner called accept.
pub const PROVENANCE_ACCEPT: u8 = 2;
/// The owner called listen; children of the listener inherit it.
pub const PROVENANCE_LISTEN: u8 = 3;
/// The owner held the socket when rsttrace started.
pub const PROVENANCE_SNAPSHOT: u8 = 4;
/// The owner used the socket in its own context: shutdown or close.
pub const PROVENANCE_CURRENT: u8 = 5;

/// It is not known which end opened the connection.
pub const ROLE_UNKNOWN: u8 = 0;
/// This end opened the connection.
pub const ROLE_CLIENT: u8 = 1;
/// This end accepted the connection.
pub const ROLE_SERVER: u8 = 2;
/// The socket is a listener.
pub const ROLE_LISTENER: u8 = 3;

/// Index in the map `LOST`: sent and rejected resets that found no room in the buffer, outside task context.
pub const LOST_SENT: u32 = 0;
/// Index in the map `LOST`: received resets that found no room in the buffer, outside task context.
pub const LOST_RECEIVED: u32 = 1;
/// Index in the map `LOST`: sent and rejected resets that found no room in the buffer, in task context.
pub const LOST_SENT_IN_TASK: u32 = 2;
/// Index in the map `LOST`: received resets that found no room in the buffer, in task context.
pub const LOST_RECEIVED_IN_TASK: u32 = 3;
/// Slots of the map `LOST`, the first ones, that count resets sent and received.
pub const LOST_RESETS: u32 = 4;
/// Index in the map `LOST`: ignored and forwarded resets that found no room in the buffer.
pub const LOST_OTHERS: u32 = 4;
/// Index in the map `LOST`: `tcp_send_reset` events that found no room, for which the ambiguous `tcp_receive_reset` of the
/// same reset ([`EVENT_AMBIGUOUS`]) was delivered, outside task context. That reset is reported, once, in the wrong
/// direction.
pub const LOST_UNSETTLED: u32 = 5;
/// Index in the map `LOST`: [`LOST_UNSETTLED`] in task context.
pub const LOST_UNSETTLED_IN_TASK: u32 = 6;
/// Slots of the map `LOST`.
pub const LOST_SLOTS: u32 = 7;
