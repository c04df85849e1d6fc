//! Sockets: who they connect, and the snapshot of their state.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use rsttrace_common::{
    event::{Address, EVENT_HAS_SOCKET, EVENT_HAS_TIMES, EVENT_ORPHAN, REFERENCES_UNKNOWN, ResetEvent},
    names::{AF_INET, AF_INET6, IPPROTO_TCP, tcp},
};

use crate::{
    fields::{
        CGROUP_KN, FILE_COUNT, FILE_REF, Fields, ICSK_LRCVTIME, ICSK_PROBES_OUT, ICSK_USER_TIMEOUT, INET_SPORT, KN_ID,
        NET_COOKIE, NET_INUM, Room, SK_ACK_BACKLOG, SK_CGROUP, SK_CGROUP_WORD, SK_LINGERTIME, SK_LOCK_OWNED,
        SK_MAX_ACK_BACKLOG, SK_PROTOCOL, SK_SHUTDOWN, SK_SOCKET, SKC_COOKIE, SKC_DADDR, SKC_DPORT, SKC_FAMILY,
        SKC_FLAGS, SKC_NET, SKC_RCV_SADDR, SKC_STATE, SKC_V6_DADDR, SKC_V6_RCV_SADDR, SOCKET_FILE, Struct,
        TP_BYTES_ACKED, TP_BYTES_RECEIVED, TP_BYTES_RETRANS, TP_BYTES_SENT, TP_CHRONO_START, TP_CHRONO_TYPE,
        TP_COPIED_SEQ, TP_LSNDTIME, TP_RCV_NXT, TP_RCV_TSTAMP, TP_SND_NXT, TP_SND_UNA, TP_SRTT_US, TP_TOTAL_RETRANS,
        TP_WRITE_SEQ, Typed, has,
    },
    table::SCATTER,
};

/// The two ends of a connection in one network namespace. IPv4 addresses stand as `::ffff:a.b.c.d`, so that a
/// connection has one key whichever family its socket was made for.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    /// This host's end.
    pub(crate) local: Address,
    /// The other end.
    pub(crate) peer: Address,
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
    /// Host byte order.
    pub(crate) local_port: u16,
    /// Host byte order.
    pub(crate) peer_port: u16,
}

impl Tuple {
    /// To be filled in.
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

    /// Whether these are the same two ends. (An array's own comparison calls a function that BPF has not.)
    #[inline(always)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        let mut difference = 0;
        for (mine, theirs) in self.words().into_iter().zip(other.words()) {
            difference |= mine ^ theirs;
        }
        difference == 0
    }

    /// 32 bits that are different for nearly every two pairs of ends.
    #[inline(always)]
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = 0_u64;
        for word in self.words() {
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(SCATTER);
        }
        hash >> 32
    }

    /// The same two ends, as the other one sees them.
    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        core::mem::swap(&mut self.local, &mut self.peer);
        core::mem::swap(&mut self.local_port, &mut self.peer_port);
    }
}

/// The word of an IPv4-mapped address before the IPv4 address: `::ffff`.
const MAPPED: u32 = 0xffff_u32.to_be();

/// An IPv4 address, network byte order, as IPv4-mapped IPv6.
#[inline(always)]
pub(crate) fn mapped(v4: u32) -> Address {
    [0, 0, MAPPED, v4]
}

/// Whether an address is IPv4-mapped.
#[inline(always)]
pub(crate) fn is_mapped(address: &Address) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == MAPPED
}

/// The family of the packets on the wire: an `AF_INET6` socket with mapped addresses speaks IPv4.
#[inline(always)]
pub(crate) fn wire_family(peer: &Address) -> u8 {
    if is_mapped(peer) { AF_INET } else { AF_INET6 }
}

/// `skc_state`.
#[inline(always)]
pub(crate) fn state(sk: impl Struct) -> u8 {
    sk.field(&SKC_STATE)
}

/// Whether a socket in this state is a full one, not a mini-socket, of which only the common part exists.
#[inline(always)]
pub(crate) fn is_full(state: u8) -> bool {
    state != tcp::TIME_WAIT && state != tcp::NEW_SYN_RECV
}

/// Whether it is a socket of TCP, and not of MPTCP, DCCP or SCTP.
#[inline(always)]
pub(crate) fn is_tcp(sk: impl Struct) -> bool {
    sk.field::<u16>(&SK_PROTOCOL) == IPPROTO_TCP
}

/// A socket as one of TCP, with all that such a one has: `None` if it is a mini-socket, or none at all.
#[inline(always)]
pub(crate) fn of_tcp(sk: Typed) -> Option<Typed> {
    // SAFETY: the helper looks at the socket itself.
    Typed::of(unsafe { bpf_skc_to_tcp_sock(sk.address() as *mut c_void) })
}

/// `sk_shutdown`.
#[inline(always)]
pub(crate) fn shutdown(sk: impl Struct) -> u8 {
    sk.field(&SK_SHUTDOWN)
}

/// Whether the current task holds the socket's lock (`sk_lock.owned`). A packet that finds the lock taken goes to the
/// backlog and timers defer, so where this is set we run in the task that uses the socket, and where it is not the
/// task is a bystander.
#[inline(always)]
pub(crate) fn owned(sk: impl Struct) -> bool {
    sk.field::<u32>(&SK_LOCK_OWNED) != 0
}

/// References to the file of a `struct socket`: 0 while the last descriptor is being closed, and without a file.
#[inline(always)]
pub(crate) fn references(socket: impl Fields) -> u16 {
    if !has(&SOCKET_FILE) {
        return REFERENCES_UNKNOWN;
    }
    let Some(file) = socket.target(&SOCKET_FILE) else { return 0 };
    let count = if has(&FILE_REF) {
        // `file_ref_t` (6.13 and later) counts from 0 for the first reference, and is negative after the last.
        file.field::<i64>(&FILE_REF).wrapping_add(1)
    } else if has(&FILE_COUNT) {
        file.field::<i64>(&FILE_COUNT)
    } else {
        return REFERENCES_UNKNOWN;
    };
    count.clamp(0, (REFERENCES_UNKNOWN - 1).into()).cast_unsigned() as u16
}

/// Whether the last descriptor of a socket is being closed.
#[inline(always)]
pub(crate) fn closes_last(sk: u64) -> bool {
    sk.target(&SK_SOCKET).is_some_and(|socket| references(socket) == 0)
}

/// Inode number of a network namespace, `struct net`; 0 for none.
#[inline(always)]
pub(crate) fn netns(net: Option<impl Struct>) -> u32 {
    net.map_or(0, |net| net.field(&NET_INUM))
}

/// Cookie of a network namespace, `struct net`; 0 for none, or where this kernel has no cookie.
#[inline(always)]
pub(crate) fn netns_cookie(net: Option<impl Struct>) -> u64 {
    net.map_or(0, |net| net.field(&NET_COOKIE))
}

/// The addresses of the two ends, this host's first.
#[inline(always)]
fn addresses(sk: impl Fields) -> (Address, Address) {
    if sk.field::<u16>(&SKC_FAMILY) as u8 == AF_INET6 {
        (sk.field(&SKC_V6_RCV_SADDR), sk.field(&SKC_V6_DADDR))
    } else {
        (mapped(sk.field(&SKC_RCV_SADDR)), mapped(sk.field(&SKC_DADDR)))
    }
}

/// The port of this host's end. `inet_sport`, not `skc_num`: the kernel sets the latter to 0 when it closes the
/// socket, which is before it reports most of the resets that it sends.
#[inline(always)]
pub(crate) fn local_port(sk: impl Struct) -> u16 {
    u16::from_be(sk.field(&INET_SPORT))
}

/// Copies the ends of a full socket to where they belong. For a listener the peer is all zeros.
#[inline(always)]
pub(crate) fn ends(sk: impl Struct, tuple: &mut Tuple) {
    let mut room = Room::new();
    // What is asked for most is at the beginning of a socket.
    let common = sk.part_from::<96>(&mut room, 0);
    (tuple.local, tuple.peer) = addresses(common);
    tuple.netns = netns(common.target(&SKC_NET));
    tuple.local_port = local_port(sk);
    tuple.peer_port = u16::from_be(common.field(&SKC_DPORT));
}

/// Writes the ends into the event.
#[inline(always)]
pub(crate) fn name_ends(event: &mut ResetEvent, tuple: &Tuple) {
    event.netns = tuple.netns;
    event.local_address = tuple.local;
    event.peer_address = tuple.peer;
    event.local_port = tuple.local_port;
    event.peer_port = tuple.peer_port;
    event.family = wire_family(&tuple.peer);
}

/// Copies what the socket says into the event. `sk` must be a full socket: a TIME_WAIT mini-socket has none of this.
#[inline(always)]
pub(crate) fn snapshot(sk: impl Struct, event: &mut ResetEvent) {
    event.flags |= EVENT_HAS_SOCKET;
    let mut room = Room::new();
    let identity = sk.part::<16>(&mut room, &[&SKC_COOKIE, &SKC_FLAGS]);
    event.cookie = identity.field(&SKC_COOKIE);
    event.socket_flags = identity.field::<u64>(&SKC_FLAGS) as u32;
    if let Some(socket) = sk.target(&SK_SOCKET) {
        event.references = references(socket);
    } else {
        event.flags |= EVENT_ORPHAN;
    }
    event.cgroup_id = cgroup_id(sk);
    if event.state == tcp::LISTEN {
        event.accept_queue = sk.field(&SK_ACK_BACKLOG);
        event.accept_queue_limit = sk.field(&SK_MAX_ACK_BACKLOG);
        return;
    }
    event.linger_jiffies = sk.field::<u64>(&SK_LINGERTIME) as u32;
    let timers = sk.part::<48>(&mut room, &[&ICSK_PROBES_OUT, &ICSK_LRCVTIME, &ICSK_USER_TIMEOUT]);
    event.probes_out = timers.field(&ICSK_PROBES_OUT);
    event.user_timeout_ms = timers.field(&ICSK_USER_TIMEOUT);
    event.last_receive_jiffies = timers.field(&ICSK_LRCVTIME);

    let sending =
        sk.part::<48>(&mut room, &[&TP_BYTES_SENT, &TP_CHRONO_TYPE, &TP_CHRONO_START, &TP_WRITE_SEQ, &TP_LSNDTIME]);
    event.bytes_sent = sending.field(&TP_BYTES_SENT);
    event.last_send_jiffies = sending.field(&TP_LSNDTIME);
    event.chrono_start_jiffies = sending.field(&TP_CHRONO_START);
    // `u8 chrono_type:2` (or a u32 bit field at an offset that the user side has rounded to its byte).
    event.chrono_type = sending.field(&TP_CHRONO_TYPE);
    let written: u32 = sending.field(&TP_WRITE_SEQ);

    let numbers = sk.part::<96>(
        &mut room,
        &[&TP_RCV_NXT, &TP_SND_NXT, &TP_SND_UNA, &TP_SRTT_US, &TP_RCV_TSTAMP, &TP_BYTES_RECEIVED],
    );
    let sent: u32 = numbers.field(&TP_SND_NXT);
    event.unacked_bytes = sent.wrapping_sub(numbers.field(&TP_SND_UNA));
    event.unsent_bytes = written.wrapping_sub(sent);
    event.unread_bytes = numbers.field::<u32>(&TP_RCV_NXT).wrapping_sub(sk.field(&TP_COPIED_SEQ));
    event.rtt_us = numbers.field::<u32>(&TP_SRTT_US) >> 3;
    event.last_ack_jiffies = numbers.field(&TP_RCV_TSTAMP);
    event.bytes_received = numbers.field(&TP_BYTES_RECEIVED);
    event.bytes_acked = sk.field(&TP_BYTES_ACKED);

    let again = sk.part::<16>(&mut room, &[&TP_BYTES_RETRANS, &TP_TOTAL_RETRANS]);
    event.bytes_retrans = again.field(&TP_BYTES_RETRANS);
    event.retransmits = again.field(&TP_TOTAL_RETRANS);
    if has(&TP_LSNDTIME) && has(&ICSK_LRCVTIME) {
        event.flags |= EVENT_HAS_TIMES;
    }
}

/// Id of the socket's cgroup: that of whoever called `socket()`, and for accepted connections the listener's.
#[inline(always)]
fn cgroup_id(sk: impl Struct) -> u64 {
    if has(&SK_CGROUP) {
        return id_of(sk.target(&SK_CGROUP));
    }
    // Up to 5.14 the word is a tagged union: a pointer only while its lowest bit is clear.
    let word: u64 = sk.field(&SK_CGROUP_WORD);
    id_of((word != 0 && word & 1 == 0).then_some(word))
}

#[inline(always)]
fn id_of(cgroup: Option<impl Struct>) -> u64 {
    cgroup.and_then(|cgroup| cgroup.target(&CGROUP_KN)).map_or(0, |kn| kn.field(&KN_ID))
}
