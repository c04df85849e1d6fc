//! The record that crosses the buffer: one reset, with everything that the kernel knew at that instant.

/// The process that a record speaks of, as the kernel names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct Task {
    /// When the thread group leader started, in nanoseconds of the boot clock (`task_struct.start_boottime`).
    /// Together with `tgid` it names a process for good: PIDs are used again, this pair is not.
    pub start_boottime_ns: u64,
    /// The process id as the host's first PID namespace sees it; 0 when nobody is known.
    pub tgid: u32,
    /// Real user id of the task; [`UID_UNKNOWN`] when it was not read.
    pub uid: u32,
    /// `comm` of the thread group leader, padded with zeros. Untrusted: any bytes.
    pub comm: [u8; 16],
}

impl Task {
    /// The name in two words.
    #[inline]
    pub const fn name(&self) -> [u64; 2] {
        // SAFETY: as many bytes, of which every one is a valid value.
        unsafe { core::mem::transmute(self.comm) }
    }
}

/// An IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`: the sixteen bytes in network order, taken as words, because BPF
/// moves words and has to loop over bytes.
pub type Address = [u32; 4];

/// What is kept of a TCP segment's headers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct Header {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
    /// IP identification; 0 for IPv6, which has none.
    pub id: u16,
    /// Length of the IP packet in bytes, all headers included.
    pub length: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags.
    pub flags: u8,
}

/// `Task::uid` when the kernel side did not read it.
pub const UID_UNKNOWN: u32 = u32::MAX;

/// One reset. Sizes and order are asserted below; the kernel side zeroes the whole record before it fills it, so what
/// it did not know is 0 and the `flags` say which zeros mean "unknown".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct ResetEvent {
    /// Time of the event, nanoseconds of `CLOCK_MONOTONIC`.
    pub ktime_ns: u64,
    /// Address of the socket, 0 without one; never shown. The kernel gives the address of a freed socket to the next one,
    /// so that by itself it is no identity.
    pub sk: u64,
    /// `skc_cookie`; 0 when nobody has generated one.
    pub cookie: u64,
    /// Id of the socket's cgroup (cgroup v2); 0 when unknown.
    pub cgroup_id: u64,
    /// `tcp_sock.bytes_sent`: payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// `tcp_sock.bytes_retrans`: payload bytes that were retransmissions.
    pub bytes_retrans: u64,
    /// `tcp_sock.bytes_acked`: counts our SYN (when we opened the connection) and our FIN as one byte each.
    pub bytes_acked: u64,
    /// `tcp_sock.bytes_received`: counts the peer's FIN as one byte.
    pub bytes_received: u64,
    /// When the connection was opened: connect, or the child of a listener. 0 when before our time.
    pub opened_ns: u64,
    /// When it was established; 0 when never or before our time.
    pub established_ns: u64,
    /// When the peer's FIN was processed; 0 when not seen.
    pub fin_received_ns: u64,
    /// When this side closed or shut down for sending; 0 when not seen.
    pub fin_sent_ns: u64,
    /// The owner of the socket; `tgid` 0 when the kernel side does not know it.
    pub owner: Task,
    /// The task in whose context the kernel ran, only when that task holds the socket's lock; else `tgid` 0.
    pub actor: Task,
    /// Address of this host's end.
    pub local_address: Address,
    /// Address of the peer's end.
    pub peer_address: Address,
    /// `EVENT_*` bits.
    pub flags: u32,
    /// `enum sk_rst_reason` as the running kernel numbers it; valid with [`EVENT_HAS_REASON`].
    pub reason: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Low 32 bits of jiffies at the event: "now" for the `*_jiffies` fields.
    pub now_jiffies: u32,
    /// `tcp_sock.lsndtime`: last data sent.
    pub last_send_jiffies: u32,
    /// `icsk_ack.lrcvtime`: last data received.
    pub last_receive_jiffies: u32,
    /// `tcp_sock.rcv_tstamp`: last acknowledgement received.
    pub last_ack_jiffies: u32,
    /// `tcp_sock.chrono_start`: since when the send side has been in the state `chrono_type`.
    pub chrono_start_jiffies: u32,
    /// Bytes sent and not acknowledged: `snd_nxt - snd_una`.
    pub unacked_bytes: u32,
    /// Bytes written and not sent: `write_seq - snd_nxt`.
    pub unsent_bytes: u32,
    /// Bytes received and not read by the process: `rcv_nxt - copied_seq`, a FIN counted as one.
    pub unread_bytes: u32,
    /// Smoothed round trip time in microseconds (`srtt_us / 8`); 0 when none was measured.
    pub rtt_us: u32,
    /// `tcp_sock.total_retrans`: segments sent again over the life of the connection.
    pub retransmits: u32,
    /// `icsk_user_timeout` in milliseconds (`TCP_USER_TIMEOUT`); 0 when unset.
    pub user_timeout_ms: u32,
    /// Connections waiting in a listener's accept queue.
    pub accept_queue: u32,
    /// Limit of that queue.
    pub accept_queue_limit: u32,
    /// `sk_flags`: bit 0 dead, 1 done (FIN received), 3 keep-alive, 4 linger.
    pub socket_flags: u32,
    /// `sk_lingertime` in jiffies.
    pub linger_jiffies: u32,
    /// Valid with [`EVENT_HAS_PACKET`]: of a sent reset the packet that provoked it, of any other kind its own header.
    pub packet: Header,
    /// Index of the interface that the packet came in by; 0 when not read.
    pub interface: u32,
    /// Port of this host's end, in host byte order.
    pub local_port: u16,
    /// Port of the peer's end, in host byte order.
    pub peer_port: u16,
    /// `KIND_*`.
    pub kind: u8,
    /// `AF_INET` (2) or `AF_INET6` (10) of the packets on the wire: an IPv4-mapped socket is `AF_INET`.
    pub family: u8,
    /// TCP state of the socket at the event (`TCP_*` of `include/net/tcp_states.h`); 0 without a socket.
    pub state: u8,
    /// The state before the last change of state; 0 when not seen.
    pub previous_state: u8,
    /// Sub-state of a TIME_WAIT socket (`tw_substate`).
    pub substate: u8,
    /// `sk_shutdown`: 1 receive, 2 send.
    pub shutdown: u8,
    /// `PROVENANCE_*` of `owner`.
    pub provenance: u8,
    /// `ROLE_*`.
    pub role: u8,
    /// `tcp_sock.chrono_type`: 0 when nothing is in flight.
    pub chrono_type: u8,
    /// `icsk_probes_out`: unanswered keep-alive or zero-window probes.
    pub probes_out: u8,
    /// References to the socket's file: 1 when one descriptor holds it, 0 when the last is being closed or there is
    /// none; [`REFERENCES_UNKNOWN`]. Descriptors of several processes, duplicates, and system calls at work on the
    /// descriptor of a process with several threads count alike.
    pub references: u16,
    /// TTL or hop limit of the packet with which the peer finished the handshake; 0 when not seen.
    pub handshake_ttl: u8,
    /// Where netfilter was when it rejected a packet: 1 input, 2 forward, 3 output (`enum nf_inet_hooks`).
    pub netfilter_hook: u8,
    /// Zero.
    pub padding: u16,
    /// Under which the map `FINDINGS` gathers who holds the socket, or the listener of a connection that nobody has
    /// accepted; 0 when nobody holds either.
    pub findings: u64,
    /// `net.net_cookie`: identity of the network namespace since boot. Unlike the inode number it is not used again. 0
    /// where the kernel has none (before 5.12 until a program has asked for it).
    pub netns_cookie: u64,
}

/// `ResetEvent::references` when the kernel side could not count them.
pub const REFERENCES_UNKNOWN: u16 = u16::MAX;

/// `tcp_send_reset`.
pub const KIND_SENT: u8 = 1;
/// `tcp_receive_reset`.
pub const KIND_RECEIVED: u8 = 2;
/// `nf_send_reset`, `nf_send_reset6`: a rule of the packet filter answers a packet with a reset.
pub const KIND_REJECTED: u8 = 3;
/// `kfree_skb`: a reset that arrived and was thrown away.
pub const KIND_IGNORED: u8 = 4;
/// A reset that is on its way through this host: `local_*` is where it goes, `peer_*` where it comes from.
pub const KIND_FORWARDED: u8 = 5;

/// There was a full socket (not a TIME_WAIT one): the `socket` facts are valid.
pub const EVENT_HAS_SOCKET: u32 = 1 << 0;
/// The socket is a TIME_WAIT mini-socket: only addresses, cookie and sub-state exist.
pub const EVENT_TIME_WAIT: u32 = 1 << 1;
/// `packet` is valid. Of a reset that this host sends it is the packet that *provoked* it; of any other it is the
/// reset's own header.
pub const EVENT_HAS_PACKET: u32 = 1 << 2;
/// The kernel gave a reason.
pub const EVENT_HAS_REASON: u32 = 1 << 3;
/// The socket was locked by the current task (`sk_lock.owned`), which is then no bystander.
pub const EVENT_OWNED: u32 = 1 << 4;
/// `tcp_receive_reset` on a socket that was shut down for receiving: it may announce a reset that *we* are about to
/// send. Whether it does shows in the next `tcp_send_reset` of the same socket.
pub const EVENT_MAYBE_SENT: u32 = 1 << 5;
/// The socket no longer belonged to any file (`sk_socket` is NULL).
pub const EVENT_ORPHAN: u32 = 1 << 6;
/// More than one process holds the socket (or listens on the port), so the owner is one of several.
pub const EVENT_SHARED: u32 = 1 << 7;
/// The story of the connection (owner, times, previous state) was found.
pub const EVENT_HAS_STORY: u32 = 1 << 8;
/// The timing fields (`*_jiffies`) are valid.
pub const EVENT_HAS_TIMES: u32 = 1 << 9;
/// The task that holds the socket's lock was exiting (`PF_EXITING`): its sockets are closed for it.
pub const EVENT_EXITING: u32 = 1 << 10;

/// Nobody is known.
pub const PROVENANCE_NONE: u8 = 0;
/// The task that called connect.
pub const PROVENANCE_CONNECT: u8 = 1;
/// The task that accepted.
pub const PROVENANCE_ACCEPT: u8 = 2;
/// The task that called listen; children of the listener inherit it.
pub const PROVENANCE_LISTEN: u8 = 3;
/// Held by the process when rsttrace started.
pub const PROVENANCE_SNAPSHOT: u8 = 4;
/// Seen working on the socket in its own context: shutdown or close.
pub const PROVENANCE_CURRENT: u8 = 5;

/// Not known which end opened the connection.
pub const ROLE_UNKNOWN: u8 = 0;
/// This end opened the connection.
pub const ROLE_CLIENT: u8 = 1;
/// This end accepted it.
pub const ROLE_SERVER: u8 = 2;
/// Not a connection but a listening socket.
pub const ROLE_LISTENER: u8 = 3;

/// Index in the `LOST` map: `tcp_send_reset` events that found no room in the buffer.
pub const LOST_SENT: u32 = 0;
/// Index in the `LOST` map: `tcp_receive_reset` events that found no room in the buffer.
pub const LOST_RECEIVED: u32 = 1;
/// Index in the `LOST` map: as [`LOST_SENT`], in the context of a task.
pub const LOST_SENT_IN_TASK: u32 = 2;
/// Index in the `LOST` map: as [`LOST_RECEIVED`], in the context of a task.
pub const LOST_RECEIVED_IN_TASK: u32 = 3;
/// Slots of the `LOST` map that count resets sent and received.
pub const LOST_RESETS: u32 = 4;
/// Index in the `LOST` map: events of ignored and forwarded resets.
pub const LOST_OTHERS: u32 = 4;
/// Index in the `LOST` map: `tcp_send_reset` events that found no room, for which the ambiguous `tcp_receive_reset` of the
/// same reset ([`EVENT_MAYBE_SENT`]) was delivered. That reset is reported, once, in the wrong direction.
pub const LOST_UNSETTLED: u32 = 5;
/// Index in the `LOST` map: as [`LOST_UNSETTLED`], in the context of a task.
pub const LOST_UNSETTLED_IN_TASK: u32 = 6;
/// Slots of the `LOST` map.
pub const LOST_SLOTS: u32 = 7;

const _: () = assert!(size_of::<Task>() == 32 && align_of::<Task>() == 8);
assert_offsets!(Task, start_boottime_ns @ 0, tgid @ 8, uid @ 12, comm @ 16);

const _: () = assert!(size_of::<Header>() == 16 && align_of::<Header>() == 4);
assert_offsets!(Header, seq @ 0, ack @ 4, window @ 8, id @ 10, length @ 12, ttl @ 14, flags @ 15);

const _: () = assert!(size_of::<ResetEvent>() == 320 && align_of::<ResetEvent>() == 8);
assert_offsets!(
    ResetEvent,
    ktime_ns @ 0, sk @ 8, cookie @ 16, cgroup_id @ 24, bytes_sent @ 32, bytes_retrans @ 40, bytes_acked @ 48,
    bytes_received @ 56, opened_ns @ 64, established_ns @ 72, fin_received_ns @ 80, fin_sent_ns @ 88, owner @ 96,
    actor @ 128, local_address @ 160, peer_address @ 176, flags @ 192, reason @ 196, netns @ 200, now_jiffies @ 204,
    last_send_jiffies @ 208, last_receive_jiffies @ 212, last_ack_jiffies @ 216, chrono_start_jiffies @ 220,
    unacked_bytes @ 224, unsent_bytes @ 228, unread_bytes @ 232, rtt_us @ 236, retransmits @ 240,
    user_timeout_ms @ 244, accept_queue @ 248, accept_queue_limit @ 252, socket_flags @ 256, linger_jiffies @ 260,
    packet @ 264, interface @ 280, local_port @ 284, peer_port @ 286, kind @ 288, family @ 289, state @ 290,
    previous_state @ 291, substate @ 292, shutdown @ 293, provenance @ 294, role @ 295, chrono_type @ 296,
    probes_out @ 297, references @ 298, handshake_ttl @ 300, netfilter_hook @ 301, padding @ 302, findings @ 304,
    netns_cookie @ 312,
);
