//! Sockets: their tuple, and the snapshot of their state.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use rsttrace_common::{
    abi::{AF_INET, AF_INET6, ETIMEDOUT, IPPROTO_MPTCP, IPPROTO_TCP, sock_flag, tcp},
    event::{
        Address, ConnectionEnding, EVENT_HAS_SOCKET, EVENT_HAS_TIMES, EVENT_ORPHAN, FILE_REFCOUNT_UNKNOWN,
        LAST_DATA_RECEIVED, LAST_DATA_SENT, LAST_DATA_UNKNOWN, ResetEvent,
    },
};

use crate::{
    hash::FIBONACCI_MULTIPLIER,
    helpers::jiffies,
    kernel_struct::{
        BtfPtr, CGROUP_KN, FILE_COUNT, FILE_REF, ICSK_LRCVTIME, ICSK_PROBES_OUT, ICSK_ULP_DATA, ICSK_USER_TIMEOUT,
        INET_SPORT, KN_ID, KernelStruct, MSK_FIRST, NET_COOKIE, NET_INUM, ReadBuffer, ReadField, SK_ACK_BACKLOG,
        SK_CGROUP, SK_CGROUP_WORD, SK_DROPS, SK_LINGERTIME, SK_LOCK_OWNED, SK_MAX_ACK_BACKLOG, SK_PROTOCOL,
        SK_SHUTDOWN, SK_SOCKET, SKC_COOKIE, SKC_DADDR, SKC_DPORT, SKC_FAMILY, SKC_FLAGS, SKC_NET, SKC_RCV_SADDR,
        SKC_STATE, SKC_V6_DADDR, SKC_V6_RCV_SADDR, SOCKET_FILE, SUBFLOW_CONN, TP_BYTES_ACKED, TP_BYTES_RECEIVED,
        TP_BYTES_RETRANS, TP_BYTES_SENT, TP_CHRONO_START, TP_CHRONO_TYPE, TP_COPIED_SEQ, TP_IS_MPTCP, TP_LSNDTIME,
        TP_NUM_SACKS, TP_RCV_NXT, TP_RCV_TSECR, TP_RCV_TSTAMP, TP_RCV_TSVAL, TP_SAW_TSTAMP, TP_SND_NXT, TP_SND_UNA,
        TP_SND_WND, TP_SRTT_US, TP_TOTAL_RETRANS, TP_TS_RECENT, TP_TSOFFSET, TP_TSTAMP_OK, TP_WRITE_SEQ, has,
    },
};

/// The two ends of a connection in one network namespace. IPv4 addresses are IPv4-mapped, so that a connection has one key
/// whichever family its socket was created for.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    /// Address of this host's end.
    pub(crate) local: Address,
    /// Address of the peer's end.
    pub(crate) peer: Address,
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
    /// Host byte order.
    pub(crate) local_port: u16,
    /// Host byte order.
    pub(crate) peer_port: u16,
}

impl Tuple {
    /// All zeros.
    pub(crate) const EMPTY: Self = Self { local: [0; 4], peer: [0; 4], netns: 0, local_port: 0, peer_port: 0 };

    #[inline(always)]
    fn words(&self) -> [u64; 5] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let (local, peer) = (&self.local, &self.peer);
        let ports = u32::from(self.local_port) << 16 | u32::from(self.peer_port);
        [
            pair(local[0], local[1]),
            pair(local[2], local[3]),
            pair(peer[0], peer[1]),
            pair(peer[2], peer[3]),
            pair(self.netns, ports),
        ]
    }

    /// Whether two tuples are equal. (An array's own comparison calls a function that BPF does not have.)
    #[inline(always)]
    pub(crate) fn equals(&self, other: &Self) -> bool {
        let mut difference = 0;
        for (mine, theirs) in self.words().into_iter().zip(other.words()) {
            difference |= mine ^ theirs;
        }
        difference == 0
    }

    /// Hash of the tuple, 32 bits.
    #[inline(always)]
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = 0_u64;
        for word in self.words() {
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(FIBONACCI_MULTIPLIER);
        }
        hash >> 32
    }

    /// Swaps the ends: the tuple as the peer sees it.
    #[inline(always)]
    pub(crate) fn reverse(&mut self) {
        core::mem::swap(&mut self.local, &mut self.peer);
        core::mem::swap(&mut self.local_port, &mut self.peer_port);
    }
}

/// Third word of an IPv4-mapped address, before the IPv4 address: `::ffff`.
const V4_MAPPED_PREFIX: u32 = 0xffff_u32.to_be();

/// An IPv4 address, network byte order, as IPv4-mapped IPv6.
#[inline(always)]
pub(crate) fn v4_mapped(v4: u32) -> Address {
    [0, 0, V4_MAPPED_PREFIX, v4]
}

/// Whether an address is IPv4-mapped.
#[inline(always)]
fn is_v4_mapped(address: &Address) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == V4_MAPPED_PREFIX
}

/// Family of the packets on the wire: `AF_INET` for an `AF_INET6` socket with IPv4-mapped addresses.
#[inline(always)]
pub(crate) fn wire_family(peer: &Address) -> u8 {
    if is_v4_mapped(peer) { AF_INET } else { AF_INET6 }
}

/// `skc_state`.
#[inline(always)]
pub(crate) fn state(sk: impl KernelStruct) -> u8 {
    sk.field(&SKC_STATE)
}

/// Whether a socket in this state is a full one, not a mini-socket, of which only `struct sock_common` exists.
#[inline(always)]
pub(crate) fn is_full(state: u8) -> bool {
    state != tcp::TIME_WAIT && state != tcp::NEW_SYN_RECV
}

/// Whether it is a TCP socket, and not one of MPTCP, DCCP or SCTP.
#[inline(always)]
pub(crate) fn is_tcp(sk: impl KernelStruct) -> bool {
    sk.field::<u16>(&SK_PROTOCOL) == IPPROTO_TCP
}

/// Casts a `struct sock` to a `struct tcp_sock`; `None` for a mini-socket, and for a socket that is not of TCP.
#[inline(always)]
pub(crate) fn to_tcp_sock(sk: BtfPtr) -> Option<BtfPtr> {
    // SAFETY: the helper looks at the socket itself.
    BtfPtr::new(unsafe { bpf_skc_to_tcp_sock(sk.address() as *mut c_void) })
}

/// `sk_shutdown`.
#[inline(always)]
pub(crate) fn shutdown(sk: impl KernelStruct) -> u8 {
    sk.field(&SK_SHUTDOWN)
}

/// `sock_owned_by_user`: whether the current task holds the socket's lock (`sk_lock.owned`). A packet that finds the lock
/// taken goes to the backlog, and timers defer; so where this is set the program runs in the task that uses the socket, and
/// where it is not the task is a bystander.
#[inline(always)]
pub(crate) fn owned_by_user(sk: impl KernelStruct) -> bool {
    sk.field::<u32>(&SK_LOCK_OWNED) != 0
}

/// References to the file of a `struct socket`: 0 while the last descriptor is being closed, and without a file;
/// [`FILE_REFCOUNT_UNKNOWN`] when the kernel has no such field.
#[inline(always)]
fn file_refcount(socket: impl ReadField) -> u16 {
    if !has(&SOCKET_FILE) {
        return FILE_REFCOUNT_UNKNOWN;
    }
    let Some(file) = socket.deref(&SOCKET_FILE) else { return 0 };
    let count = if has(&FILE_REF) {
        // `file_ref_t` (6.13 and later) is 0 for one reference, and negative after the last.
        file.field::<i64>(&FILE_REF).wrapping_add(1)
    } else if has(&FILE_COUNT) {
        file.field::<i64>(&FILE_COUNT)
    } else {
        return FILE_REFCOUNT_UNKNOWN;
    };
    count.clamp(0, (FILE_REFCOUNT_UNKNOWN - 1).into()).cast_unsigned() as u16
}

/// Whether the last descriptor of a socket is being closed.
#[inline(always)]
pub(crate) fn is_last_close(sk: u64) -> bool {
    sk.deref(&SK_SOCKET).is_some_and(|socket| file_refcount(socket) == 0)
}

/// Inode number of a network namespace, `struct net`; 0 for `None`.
#[inline(always)]
pub(crate) fn netns(net: Option<impl KernelStruct>) -> u32 {
    net.map_or(0, |net| net.field(&NET_INUM))
}

/// Cookie of a network namespace, `struct net`; 0 for `None`, and where the kernel has no cookie.
#[inline(always)]
pub(crate) fn netns_cookie(net: Option<impl KernelStruct>) -> u64 {
    net.map_or(0, |net| net.field(&NET_COOKIE))
}

/// Addresses of the two ends, this host's first.
#[inline(always)]
fn addresses(sk: impl ReadField) -> (Address, Address) {
    if sk.field::<u16>(&SKC_FAMILY) as u8 == AF_INET6 {
        (sk.field(&SKC_V6_RCV_SADDR), sk.field(&SKC_V6_DADDR))
    } else {
        (v4_mapped(sk.field(&SKC_RCV_SADDR)), v4_mapped(sk.field(&SKC_DADDR)))
    }
}

/// Port of this host's end. `inet_sport`, not `skc_num`: the kernel sets the latter to 0 when it closes the socket, which is
/// before it reports most of the resets that it sends.
#[inline(always)]
fn local_port(sk: impl KernelStruct) -> u16 {
    u16::from_be(sk.field(&INET_SPORT))
}

/// Reads the tuple of a full socket. For a listener the peer is all zeros.
#[inline(always)]
pub(crate) fn read_tuple(sk: impl KernelStruct, tuple: &mut Tuple) {
    let mut buffer = ReadBuffer::new();
    // Most of these fields are at the beginning of `struct sock_common`.
    let common = sk.window_at::<96>(&mut buffer, 0);
    (tuple.local, tuple.peer) = addresses(common);
    tuple.netns = netns(common.deref(&SKC_NET));
    tuple.local_port = local_port(sk);
    tuple.peer_port = u16::from_be(common.field(&SKC_DPORT));
}

/// Writes the tuple into the event.
#[inline(always)]
pub(crate) fn write_tuple(event: &mut ResetEvent, tuple: &Tuple) {
    event.netns = tuple.netns;
    event.local_address = tuple.local;
    event.peer_address = tuple.peer;
    event.local_port = tuple.local_port;
    event.peer_port = tuple.peer_port;
    event.family = wire_family(&tuple.peer);
}

/// Copies the state of a full socket into the event.
#[inline(always)]
pub(crate) fn snapshot(sk: impl KernelStruct, event: &mut ResetEvent) {
    event.flags |= EVENT_HAS_SOCKET;
    let mut buffer = ReadBuffer::new();
    let identity = sk.window::<16>(&mut buffer, &[&SKC_COOKIE, &SKC_FLAGS]);
    event.cookie = identity.field(&SKC_COOKIE);
    event.socket_flags = identity.field::<u64>(&SKC_FLAGS) as u32;
    if let Some(socket) = sk.deref(&SK_SOCKET) {
        event.file_refcount = file_refcount(socket);
    } else {
        event.flags |= EVENT_ORPHAN;
    }
    event.cgroup_id = cgroup_id(sk);
    if event.state == tcp::LISTEN {
        event.accept_queue = sk.field(&SK_ACK_BACKLOG);
        event.accept_queue_limit = sk.field(&SK_MAX_ACK_BACKLOG);
        event.listener_drops = sk.field::<u32>(&SK_DROPS).min(u32::from(u16::MAX)) as u16;
        return;
    }
    event.linger_jiffies = sk.field::<u64>(&SK_LINGERTIME) as u32;
    let timers = sk.window::<48>(&mut buffer, &[&ICSK_PROBES_OUT, &ICSK_LRCVTIME, &ICSK_USER_TIMEOUT]);
    event.probes_out = timers.field(&ICSK_PROBES_OUT);
    event.user_timeout_ms = timers.field(&ICSK_USER_TIMEOUT);
    event.last_receive_jiffies = timers.field(&ICSK_LRCVTIME);

    let transmit =
        sk.window::<48>(&mut buffer, &[&TP_BYTES_SENT, &TP_CHRONO_TYPE, &TP_CHRONO_START, &TP_WRITE_SEQ, &TP_LSNDTIME]);
    event.bytes_sent = transmit.field(&TP_BYTES_SENT);
    event.last_send_jiffies = transmit.field(&TP_LSNDTIME);
    event.chrono_start_jiffies = transmit.field(&TP_CHRONO_START);
    // `u8 chrono_type:2` (or a u32 bit field at an offset that the user side has rounded to its byte).
    event.chrono_type = transmit.field(&TP_CHRONO_TYPE);
    let write_seq: u32 = transmit.field(&TP_WRITE_SEQ);

    let sequence = sk.window::<96>(
        &mut buffer,
        &[&TP_RCV_NXT, &TP_SND_NXT, &TP_SND_UNA, &TP_SRTT_US, &TP_RCV_TSTAMP, &TP_BYTES_RECEIVED],
    );
    let snd_nxt: u32 = sequence.field(&TP_SND_NXT);
    event.unacked_bytes = snd_nxt.wrapping_sub(sequence.field(&TP_SND_UNA));
    event.unsent_bytes = write_seq.wrapping_sub(snd_nxt);
    event.snd_nxt = snd_nxt;
    event.rcv_nxt = sequence.field(&TP_RCV_NXT);
    event.unread_bytes = event.rcv_nxt.wrapping_sub(sk.field(&TP_COPIED_SEQ));
    event.rtt_us = sequence.field::<u32>(&TP_SRTT_US) >> 3;
    event.last_ack_jiffies = sequence.field(&TP_RCV_TSTAMP);
    event.bytes_received = sequence.field(&TP_BYTES_RECEIVED);
    event.bytes_acked = sk.field(&TP_BYTES_ACKED);

    let retransmissions = sk.window::<16>(&mut buffer, &[&TP_BYTES_RETRANS, &TP_TOTAL_RETRANS]);
    event.bytes_retrans = retransmissions.field(&TP_BYTES_RETRANS);
    event.retransmits = retransmissions.field(&TP_TOTAL_RETRANS);
    let options =
        sk.window::<32>(&mut buffer, &[&TP_TS_RECENT, &TP_RCV_TSVAL, &TP_RCV_TSECR, &TP_SAW_TSTAMP, &TP_TSTAMP_OK]);
    event.timestamp_recent = options.field(&TP_TS_RECENT);
    event.timestamp_value = options.field(&TP_RCV_TSVAL);
    event.timestamp_echo = options.field(&TP_RCV_TSECR);
    event.saw_timestamp = options.field(&TP_SAW_TSTAMP);
    event.timestamps_ok = options.field(&TP_TSTAMP_OK);
    event.sack_blocks = sk.field(&TP_NUM_SACKS);
    event.timestamp_offset = sk.field(&TP_TSOFFSET);
    event.send_window = sk.field(&TP_SND_WND);
    event.is_mptcp = sk.field(&TP_IS_MPTCP);
    if has(&TP_LSNDTIME) && has(&ICSK_LRCVTIME) {
        event.flags |= EVENT_HAS_TIMES;
    }
}

/// Reads what an ending has of the socket: the amounts, the silence and the round trip, and the window of a connection that a
/// timer gave up.
#[inline(always)]
pub(crate) fn read_ending(sk: u64, error: u16, ending: &mut ConnectionEnding) {
    let mut buffer = ReadBuffer::new();
    let transmit = sk.window::<48>(&mut buffer, &[&TP_BYTES_SENT, &TP_LSNDTIME]);
    ending.bytes_sent = clamp(transmit.field(&TP_BYTES_SENT));
    let last_send: u32 = transmit.field(&TP_LSNDTIME);
    let sequence = sk.window::<96>(&mut buffer, &[&TP_SRTT_US, &TP_BYTES_RECEIVED]);
    ending.bytes_received = clamp(sequence.field(&TP_BYTES_RECEIVED));
    ending.rtt_us = sequence.field::<u32>(&TP_SRTT_US) >> 3;
    let now = jiffies();
    let (send, receive) = (now.wrapping_sub(last_send), now.wrapping_sub(sk.field(&ICSK_LRCVTIME)));
    ending.last_data = match () {
        () if ending.bytes_sent > 0 && (ending.bytes_received == 0 || send < receive) => LAST_DATA_SENT,
        () if ending.bytes_received > 0 && (ending.bytes_sent == 0 || receive < send) => LAST_DATA_RECEIVED,
        () => LAST_DATA_UNKNOWN,
    };
    ending.idle_jiffies = if send < receive { send } else { receive };
    ending.was_aborted = u8::from(error == 0 && ending.state != tcp::FIN_WAIT2 && is_aborted(sk));
    ending.window = if error == ETIMEDOUT { sk.field(&TP_SND_WND) } else { 0 };
}

/// Whether the close of a socket sends a reset, by the conditions of `__tcp_close`. What was unread shows after the receive
/// queue has been emptied, too.
#[inline(always)]
fn is_aborted(sk: u64) -> bool {
    let received: u32 = sk.field(&TP_RCV_NXT);
    let lingers = sk.field::<u64>(&SKC_FLAGS) as u32 & sock_flag::LINGER != 0 && sk.field::<u64>(&SK_LINGERTIME) == 0;
    received != sk.field(&TP_COPIED_SEQ) || lingers
}

#[inline(always)]
fn clamp(bytes: u64) -> u32 {
    if bytes > u32::MAX.into() { u32::MAX } else { bytes as u32 }
}

/// Address of the first subflow of the MPTCP connection that a socket is a subflow of; `None` for any other socket.
#[inline(always)]
pub(crate) fn first_subflow(sk: u64) -> Option<u64> {
    // The byte has other bit fields as well: a TCP socket without an upper layer protocol has no `icsk_ulp_data`, and one of
    // another protocol (TLS) has no MPTCP socket at this place.
    if !has(&ICSK_ULP_DATA) || !has(&SUBFLOW_CONN) || !has(&MSK_FIRST) {
        return None;
    }
    let msk = sk.deref(&ICSK_ULP_DATA)?.deref(&SUBFLOW_CONN)?;
    if msk.field::<u16>(&SK_PROTOCOL) != IPPROTO_MPTCP {
        return None;
    }
    msk.deref(&MSK_FIRST)
}

/// Id of the socket's cgroup: that of the process that called `socket()`, and for accepted connections the listener's.
#[inline(always)]
fn cgroup_id(sk: impl KernelStruct) -> u64 {
    if has(&SK_CGROUP) {
        return kernfs_id(sk.deref(&SK_CGROUP));
    }
    // Up to 5.14 the word is a tagged union: a pointer only while its lowest bit is clear.
    let word: u64 = sk.field(&SK_CGROUP_WORD);
    kernfs_id((word != 0 && word & 1 == 0).then_some(word))
}

#[inline(always)]
fn kernfs_id(cgroup: Option<impl KernelStruct>) -> u64 {
    cgroup.and_then(|cgroup| cgroup.deref(&CGROUP_KN)).map_or(0, |kn| kn.field(&KN_ID))
}
