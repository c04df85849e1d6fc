//! The story of a connection: who opened it, when it was established, when each side closed.
//!
//! It is written by `inet_sock_set_state` and by the snapshot at start, and read at a reset. Nothing here runs for a
//! packet or a system call; a connection costs a handful of updates over its life.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::generated::bpf_ktime_get_ns,
};
use rsttrace_common::{
    event::{
        EVENT_HAS_STORY, EVENT_SHARED, PROVENANCE_ACCEPT, PROVENANCE_CONNECT, PROVENANCE_CURRENT, PROVENANCE_LISTEN,
        PROVENANCE_NONE, PROVENANCE_SNAPSHOT, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent,
    },
    names::tcp,
};

use crate::{
    connection::Connection,
    fields::{TP_TSORTED_SENT_QUEUE, field},
    maps::{CONNECTIONS, DEPARTED, LISTENERS},
    sock::{self, Tuple},
    task,
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

/// CLOSE to SYN_SENT: the current process calls connect.
#[inline(always)]
pub(crate) fn connect(sk: u64) {
    let mut connection = Connection {
        opened_ns: now_ns(),
        sk,
        previous_state: tcp::CLOSE,
        provenance: PROVENANCE_CONNECT,
        role: ROLE_CLIENT,
        ..Connection::UNKNOWN
    };
    task::current(&mut connection.owner);
    let _ = CONNECTIONS.insert(sk, connection, BPF_ANY.into());
}

/// CLOSE to LISTEN: the current process calls listen.
#[inline(always)]
pub(crate) fn listen(sk: u64) {
    let mut connection = Connection { sk, provenance: PROVENANCE_LISTEN, role: ROLE_LISTENER, ..Connection::UNKNOWN };
    task::current(&mut connection.owner);
    let _ = LISTENERS.insert(sk, connection, BPF_ANY.into());
}

/// LISTEN to SYN_RECV: a connection is born of a listener, in whatever context the packet came.
#[inline(always)]
pub(crate) fn child(sk: u64) {
    let mut connection =
        Connection { opened_ns: now_ns(), sk, previous_state: tcp::LISTEN, role: ROLE_SERVER, ..Connection::UNKNOWN };
    let parent = listener_of(sk);
    if let Some(listener) = LISTENERS.get_ptr(parent) {
        // SAFETY: values of the map are valid as long as the program runs.
        let listener = unsafe { &*listener };
        connection.listener = parent;
        connection.owner = listener.owner;
        // However its listener's owner is known, this one's is inherited.
        connection.provenance = PROVENANCE_LISTEN;
        connection.shared = listener.shared;
    }
    let _ = CONNECTIONS.insert(sk, connection, BPF_ANY.into());
}

/// The current process has accepted the connection: from here on it is its owner, whoever listened.
#[inline(always)]
pub(crate) fn accept(sk: u64) {
    // A thread of the kernel accepts for itself (NFS, SMB), or for a process that it is no thread of.
    if sk == 0 || task::Flags::current().is_kernel() {
        return;
    }
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: values of the map are valid as long as the program runs.
        let connection = unsafe { &mut *connection };
        task::current(&mut connection.owner);
        connection.provenance = PROVENANCE_ACCEPT;
        connection.shared = 0;
    }
}

/// The handshake is finished, by a packet with this TTL.
#[inline(always)]
pub(crate) fn handshake(sk: u64, ttl: u8) {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
        // SAFETY: values of the map are valid as long as the program runs.
        unsafe { (*connection).handshake_ttl = ttl };
    }
}

/// Any change between the states of an open connection.
#[inline(always)]
pub(crate) fn advance(sk: u64, old: u8, new: u8) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sk) else {
        // Opened before our time and not in the snapshot: the story begins here.
        let mut connection = Connection { sk, ..Connection::UNKNOWN };
        mark(&mut connection, sk, old, new);
        let _ = CONNECTIONS.insert(sk, connection, BPF_ANY.into());
        return;
    };
    // SAFETY: as long as the program runs the value is valid; the kernel changes a socket's state under its lock.
    mark(unsafe { &mut *connection }, sk, old, new);
}

#[inline(always)]
fn mark(connection: &mut Connection, sk: u64, old: u8, new: u8) {
    connection.previous_state = old;
    // A close reports a state that a shutdown has set before a second time.
    if old != new {
        match new {
            tcp::ESTABLISHED => {
                connection.established_ns = now_ns();
                return;
            }
            tcp::CLOSE_WAIT | tcp::CLOSING => connection.fin_received_ns = now_ns(),
            tcp::FIN_WAIT1 | tcp::LAST_ACK => connection.fin_sent_ns = now_ns(),
            _ => return,
        }
    }
    if !sock::owned(sk) {
        return;
    }
    // The task that holds the lock uses the socket: better knowledge than an inherited or a shared owner.
    let inherited = connection.role == ROLE_SERVER && connection.provenance == PROVENANCE_LISTEN;
    let unsure = connection.provenance == PROVENANCE_NONE || inherited || connection.shared != 0;
    if (!unsure && connection.owner.tgid == task::current_tgid()) || task::Flags::current().is_kernel() {
        return;
    }
    // What is left of a socket after the last close belongs to whoever closed it, also beside a certain owner.
    let last = sock::closes_last(sk);
    if unsure || last {
        task::current(&mut connection.owner);
        connection.provenance = PROVENANCE_CURRENT;
        if inherited || last {
            // Several may listen, and this one has the connection. Of a socket that several hold, they still do.
            connection.shared = 0;
        }
    }
}

/// Any state to CLOSE: the connection is over, or a listener closes.
#[inline(always)]
pub(crate) fn depart(sk: u64, old: u8) {
    if old == tcp::LISTEN {
        let _ = LISTENERS.remove(sk);
        return;
    }
    if old != tcp::SYN_SENT {
        // No reset is ever sent for a socket that goes from SYN_SENT to CLOSE.
        let mut tuple = Tuple::EMPTY;
        sock::ends(sk, &mut tuple);
        if let Some(connection) = CONNECTIONS.get_ptr_mut(sk) {
            // SAFETY: values of the map are valid as long as the program runs.
            let connection = unsafe { &mut *connection };
            connection.previous_state = old;
            let _ = DEPARTED.insert(tuple, *connection, BPF_ANY.into());
        } else {
            let connection = Connection { sk, previous_state: old, ..Connection::UNKNOWN };
            let _ = DEPARTED.insert(tuple, connection, BPF_ANY.into());
        }
    }
    let _ = CONNECTIONS.remove(sk);
}

/// A socket that a process held when rsttrace started. `state` is the socket's, `holder` the `task_struct`.
#[inline(always)]
pub(crate) fn found(sk: u64, state: u8, holder: u64) {
    let mut connection = Connection { sk, provenance: PROVENANCE_SNAPSHOT, ..Connection::UNKNOWN };
    task::of(holder, &mut connection.owner);
    let listens = state == tcp::LISTEN;
    if listens {
        connection.role = ROLE_LISTENER;
    }
    let stories = if listens { &LISTENERS } else { &CONNECTIONS };
    if let Some(known) = stories.get_ptr_mut(sk) {
        // SAFETY: values of the map are valid as long as the program runs.
        let known = unsafe { &mut *known };
        if known.provenance == PROVENANCE_SNAPSHOT && known.owner.tgid != connection.owner.tgid {
            known.shared = 1;
        }
    } else {
        let _ = stories.insert(sk, connection, BPF_NOEXIST.into());
    }
}

/// What is known of the socket of a reset: `state` is what the socket says.
#[inline(always)]
pub(crate) fn of_socket(sk: u64, state: u8, tuple: &Tuple) -> Option<&'static Connection> {
    match state {
        // SAFETY: values of the map are valid as long as the program runs.
        tcp::LISTEN => LISTENERS.get_ptr(sk).map(|listener| unsafe { &*listener }),
        tcp::CLOSE => departed(tuple).filter(|connection| connection.sk == sk),
        // SAFETY: as above.
        _ => CONNECTIONS.get_ptr(sk).map(|connection| unsafe { &*connection }),
    }
}

/// When the open connection of this socket was opened; 0 when that is not known, and for a listener.
#[inline(always)]
pub(crate) fn opened_ns(sk: u64) -> u64 {
    // SAFETY: values of the map are valid as long as the program runs.
    CONNECTIONS.get_ptr(sk).map_or(0, |connection| unsafe { (*connection).opened_ns })
}

/// What is known of the last connection between these ends.
#[inline(always)]
pub(crate) fn departed(tuple: &Tuple) -> Option<&'static Connection> {
    // SAFETY: values of the map are valid as long as the program runs.
    DEPARTED.get_ptr(tuple).map(|connection| unsafe { &*connection })
}

/// The owner, where it is beyond doubt: the story's, and at work on the socket this moment. Any other may have ended and
/// left the socket to somebody else, which only the user side can see.
#[inline(always)]
pub(crate) fn certain_owner(connection: Option<&'static Connection>, in_task: bool) -> Option<u32> {
    let connection = connection?;
    let sure = match connection.provenance {
        PROVENANCE_CONNECT | PROVENANCE_ACCEPT => true,
        PROVENANCE_LISTEN => connection.role == ROLE_LISTENER,
        _ => false,
    };
    let tgid = connection.owner.tgid;
    (in_task && sure && connection.shared == 0 && tgid == task::current_tgid()).then_some(tgid)
}

/// Copies the story into the event.
#[inline(always)]
pub(crate) fn tell(connection: Option<&'static Connection>, event: &mut ResetEvent) {
    let Some(connection) = connection else { return };
    event.flags |= EVENT_HAS_STORY;
    if connection.shared != 0 {
        event.flags |= EVENT_SHARED;
    }
    event.owner = connection.owner;
    event.provenance = connection.provenance;
    event.role = connection.role;
    event.previous_state = connection.previous_state;
    event.opened_ns = connection.opened_ns;
    event.established_ns = connection.established_ns;
    event.fin_received_ns = connection.fin_received_ns;
    event.fin_sent_ns = connection.fin_sent_ns;
    event.handshake_ttl = connection.handshake_ttl;
}
