//! The story of a connection: who opened it, when it was established, when each side closed.
//!
//! It is written by `inet_sock_set_state` and by the snapshot at start, and read at a reset. Nothing here runs for a
//! packet or a system call; a connection costs a handful of updates over its life.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use rsttrace_common::{
    event::{
        EVENT_HAS_STORY, EVENT_SHARED, PROVENANCE_ACCEPT, PROVENANCE_CONNECT, PROVENANCE_CURRENT, PROVENANCE_LISTEN,
        PROVENANCE_NONE, PROVENANCE_SNAPSHOT, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent,
    },
    names::tcp,
};

use crate::{
    connection::Connection,
    departed,
    fields::{TP_TSORTED_SENT_QUEUE, field},
    maps::{CONNECTIONS, LISTENERS},
    process,
    sock::{self, Tuple},
    table, task,
};

/// The listener that a child was born of. At the instant of its birth a child is a bit-wise copy of its listener, and so
/// is the head of an empty list in it, which points to itself: to the listener's. (`inet_csk_clone_lock` reports the
/// state first, `tcp_create_openreq_child` puts the list in order after it.) What has no listener is not found there.
#[inline(always)]
fn listener_of(child: u64) -> u64 {
    let list: u64 = field(child, &TP_TSORTED_SENT_QUEUE);
    list.wrapping_sub(TP_TSORTED_SENT_QUEUE.load().into())
}

#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// A socket changes its state.
#[inline(always)]
pub(crate) fn change(sk: u64, old: u8, new: u8) {
    match (old, new) {
        (tcp::CLOSE, tcp::LISTEN) => listen(sk),
        (tcp::LISTEN, tcp::CLOSE) => LISTENERS.end(sk),
        // Of these nothing is remembered: a child was established when it was born, and its time is known; what follows
        // our own FIN shows in the state.
        (tcp::SYN_RECV, tcp::ESTABLISHED) | (_, tcp::FIN_WAIT2) => {}
        _ => tell_on(sk, old, new),
    }
}

/// CLOSE to LISTEN: the current process calls listen.
#[inline(always)]
fn listen(sk: u64) {
    if !sock::is_tcp(sk) {
        return;
    }
    // What another socket at this address left would stand before the listener when somebody looks in both tables.
    CONNECTIONS.forget(sk);
    let Some(listener) = LISTENERS.take(sk) else { return };
    // SAFETY: values of the map are valid as long as the program runs; the kernel changes a socket's state under its lock.
    let listener = unsafe { &mut *listener };
    *listener = Connection { provenance: PROVENANCE_LISTEN, role: ROLE_LISTENER, ..Connection::UNKNOWN };
    task::current(&mut listener.owner);
    process::remember(&listener.owner);
    listener.seal(sk);
}

/// A connection begins, goes on or ends.
#[inline(always)]
fn tell_on(sk: u64, old: u8, new: u8) {
    let begins = matches!((old, new), (tcp::CLOSE, tcp::SYN_SENT) | (tcp::LISTEN, tcp::SYN_RECV));
    let known = if begins { None } else { CONNECTIONS.open(sk) };
    // Or it was opened before our time and is not in the snapshot: its story begins here.
    let Some(connection) = known.or_else(|| begin(sk)) else { return };
    // SAFETY: as above.
    let connection = unsafe { &mut *connection };
    let is_owner_at_work = match (old, new) {
        (tcp::LISTEN, tcp::SYN_RECV) => return child(connection, sk),
        (_, tcp::CLOSE) => return depart(connection, sk, old),
        (tcp::CLOSE, tcp::SYN_SENT) => connect(connection, sk),
        _ => advance(connection, sk, old, new),
    };
    if is_owner_at_work {
        process::remember(&connection.owner);
    }
}

/// The story of a connection begins, if it is one of TCP.
#[inline(always)]
pub(crate) fn begin(sk: u64) -> Option<*mut Connection> {
    // DCCP, SCTP and MPTCP have states as well. What comes into the tables is TCP, so that nothing else is found there.
    if !sock::is_tcp(sk) {
        return None;
    }
    let connection = CONNECTIONS.take(sk)?;
    // SAFETY: as above.
    unsafe {
        *connection = Connection::UNKNOWN;
        (*connection).seal(sk);
    }
    Some(connection)
}

/// The current process calls connect: always true, see [`advance`].
#[inline(always)]
fn connect(connection: &mut Connection, sk: u64) -> bool {
    connection.opened_ns = now_ns();
    connection.provenance = PROVENANCE_CONNECT;
    connection.role = ROLE_CLIENT;
    task::current(&mut connection.owner);
    connection.seal(sk);
    true
}

/// A connection is born of a listener, in whatever context the packet came. The packet is the one that ends the handshake,
/// so that the connection is established within the same function of the kernel (TCP Fast Open aside, where it is in use
/// from the first packet on).
#[inline(always)]
fn child(connection: &mut Connection, sk: u64) {
    connection.opened_ns = now_ns();
    connection.established_ns = connection.opened_ns;
    connection.role = ROLE_SERVER;
    let parent = listener_of(sk);
    if let Some(listener) = LISTENERS.open(parent) {
        // SAFETY: as above.
        let listener = unsafe { &*listener };
        connection.listener = parent;
        if listener.is_whole(parent) {
            connection.owner = listener.owner;
            // However its listener's owner is known, this one's is inherited.
            connection.provenance = PROVENANCE_LISTEN;
            connection.shared = listener.shared;
        }
    }
    connection.seal(sk);
}

/// The current process has accepted the connection: from here on it is its owner, whoever listened.
#[inline(always)]
pub(crate) fn accept(sk: u64) {
    // A thread of the kernel accepts for itself (NFS, SMB), or for a process that it is no thread of.
    if sk == 0 || task::Flags::current().is_kernel() {
        return;
    }
    if let Some(connection) = CONNECTIONS.open(sk) {
        // SAFETY: as above.
        let connection = unsafe { &mut *connection };
        task::current(&mut connection.owner);
        connection.provenance = PROVENANCE_ACCEPT;
        connection.shared = 0;
        process::remember(&connection.owner);
        connection.seal(sk);
    }
}

/// The handshake is finished, by a packet with this TTL.
#[inline(always)]
pub(crate) fn handshake(sk: u64, ttl: u8) {
    if let Some(connection) = CONNECTIONS.open(sk) {
        // SAFETY: as above.
        unsafe { (*connection).handshake_ttl = ttl };
    }
}

/// Any change between the states of an open connection. Whether somebody has just been noted as the owner, at work on it.
#[inline(always)]
fn advance(connection: &mut Connection, sk: u64, old: u8, new: u8) -> bool {
    // A close reports a state that a shutdown has set before a second time.
    if old != new {
        match new {
            // Two hosts that open the same connection at once meet in SYN_RECV.
            tcp::ESTABLISHED | tcp::SYN_RECV => {
                connection.established_ns = now_ns();
                return false;
            }
            tcp::CLOSE_WAIT | tcp::CLOSING => connection.fin_received_ns = now_ns(),
            tcp::FIN_WAIT1 | tcp::LAST_ACK => connection.fin_sent_ns = now_ns(),
            _ => return false,
        }
    }
    if !sock::owned(sk) {
        return false;
    }
    // The task that holds the lock uses the socket: better knowledge than an inherited or a shared owner.
    let inherited = connection.role == ROLE_SERVER && connection.provenance == PROVENANCE_LISTEN;
    let unsure = connection.provenance == PROVENANCE_NONE || inherited || connection.shared != 0;
    if (inherited || !unsure) && task::is_current(&connection.owner) {
        if inherited {
            // The one that listens has the connection itself, as most do.
            connection.provenance = PROVENANCE_CURRENT;
            connection.shared = 0;
            connection.seal(sk);
        }
        return false;
    }
    // What is left of a socket after the last close belongs to whoever closed it, also beside a certain owner. Several may
    // listen, and this one has the connection; of a socket that several hold, they still do.
    let alone = inherited || sock::closes_last(sk);
    if !unsure && !alone || task::Flags::current().is_kernel() {
        return false;
    }
    task::current(&mut connection.owner);
    connection.provenance = PROVENANCE_CURRENT;
    if alone {
        connection.shared = 0;
    }
    connection.seal(sk);
    true
}

/// Any state to CLOSE.
#[inline(always)]
fn depart(connection: &mut Connection, sk: u64, old: u8) {
    connection.previous_state = old;
    // Where both sides have closed, or never opened, no packet can come any more that a reset would answer.
    if old != tcp::SYN_SENT && old != tcp::LAST_ACK {
        let mut tuple = Tuple::EMPTY;
        sock::ends(sk, &mut tuple);
        departed::keep(sk, &tuple, connection);
    }
    CONNECTIONS.end(sk);
}

/// A socket that a process held when rsttrace started. `state` is the socket's, `holder` the `task_struct`.
#[inline(always)]
pub(crate) fn found(sk: u64, state: u8, holder: u64) {
    let mut owner = Connection::UNKNOWN.owner;
    task::of(holder, &mut owner);
    let listens = state == tcp::LISTEN;
    let stories = if listens { &LISTENERS } else { &CONNECTIONS };
    if let Some(known) = stories.open(sk) {
        // SAFETY: as above.
        let known = unsafe { &mut *known };
        if known.provenance == PROVENANCE_SNAPSHOT && known.owner.tgid != owner.tgid {
            known.shared = 1;
            known.seal(sk);
        }
    } else if let Some(place) = stories.take(sk) {
        // SAFETY: as above.
        let connection = unsafe { &mut *place };
        *connection = Connection { owner, provenance: PROVENANCE_SNAPSHOT, ..Connection::UNKNOWN };
        if listens {
            connection.role = ROLE_LISTENER;
        }
        connection.seal(sk);
    }
}

/// What is known of the socket of a reset: `state` is what the socket says.
#[inline(always)]
pub(crate) fn of_socket(sk: u64, state: u8) -> Option<&'static Connection> {
    // SAFETY: as above.
    let connection = unsafe { &*table::of_state(sk, state)? };
    connection.is_whole(sk).then_some(connection)
}

/// The owner, where it is beyond doubt: the story's, and at work on the socket this moment. Any other may have ended and
/// left the socket to somebody else, which only the user side can see.
#[inline(always)]
pub(crate) fn certain_owner(story: &Connection, in_task: bool) -> Option<u32> {
    let sure = match story.provenance {
        PROVENANCE_CONNECT | PROVENANCE_ACCEPT => true,
        PROVENANCE_LISTEN => story.role == ROLE_LISTENER,
        _ => false,
    };
    (in_task && sure && story.shared == 0 && task::is_current(&story.owner)).then_some(story.owner.tgid)
}

/// Copies the story into the event.
#[inline(always)]
pub(crate) fn tell(connection: &Connection, event: &mut ResetEvent) {
    if connection.is_known() {
        event.flags |= EVENT_HAS_STORY;
    }
    if connection.shared != 0 {
        event.flags |= EVENT_SHARED;
    }
    event.owner = connection.owner;
    event.provenance = connection.provenance;
    event.role = connection.role;
    event.previous_state = connection.previous_state;
    event.opened_ns = connection.opened_ns;
    // A child that did not get through the end of its handshake was not established after all.
    if event.state != tcp::SYN_RECV && event.previous_state != tcp::SYN_RECV {
        event.established_ns = connection.established_ns;
    }
    event.fin_received_ns = connection.fin_received_ns;
    event.fin_sent_ns = connection.fin_sent_ns;
    event.handshake_ttl = connection.handshake_ttl;
}
