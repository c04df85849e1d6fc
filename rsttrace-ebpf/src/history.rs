//! The history of a connection: who opened it, when it was established, when each side closed.
//!
//! It is written at `inet_sock_set_state` and by the scan of open files at start, and read at a reset. Nothing here runs per
//! packet or per system call; a connection costs a handful of updates over its life.

use rsttrace_common::{
    abi::tcp,
    event::{
        EVENT_HAS_HISTORY, EVENT_SHARED, PROVENANCE_ACCEPT, PROVENANCE_CONNECT, PROVENANCE_CURRENT, PROVENANCE_LISTEN,
        PROVENANCE_NONE, PROVENANCE_SNAPSHOT, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER, ResetEvent,
    },
};

use crate::{
    closed, cmdline,
    connection::Connection,
    helpers::ktime_ns,
    kernel_struct::{SK_ERR, TP_TSORTED_SENT_QUEUE, field},
    sock::{self, Tuple},
    table::{self, CONNECTIONS, LISTENERS},
    task::{self, TaskFlags},
};

/// Address of the listener of a child that was just created. At that instant a child is a bit-wise copy of its listener, and
/// so is the head of an empty list in it, which points to itself: into the listener. (`inet_csk_clone_lock` reports the
/// state first, `tcp_create_openreq_child` initializes the list after it.) For a socket that is no child the address is not
/// in the table of listeners.
#[inline(always)]
fn listener_of(child: u64) -> u64 {
    let list: u64 = field(child, &TP_TSORTED_SENT_QUEUE);
    list.wrapping_sub(TP_TSORTED_SENT_QUEUE.load().into())
}

/// Records that a socket's state changes from `old` to `new`.
#[inline(always)]
pub(crate) fn on_state_change(sk: u64, old: u8, new: u8) {
    match (old, new) {
        (tcp::CLOSE, tcp::LISTEN) => on_listen(sk),
        (tcp::LISTEN, tcp::CLOSE) => LISTENERS.mark_closed(sk),
        // Nothing is recorded of these: a child was established when it was created, at a known time; what follows this
        // host's FIN shows in the state.
        (tcp::SYN_RECV, tcp::ESTABLISHED) | (_, tcp::FIN_WAIT2) => {}
        _ => on_transition(sk, old, new),
    }
}

/// CLOSE to LISTEN: the current process calls listen.
#[inline(always)]
fn on_listen(sk: u64) {
    if !sock::is_tcp(sk) {
        return;
    }
    // A history of an earlier socket at this address would be found first by a lookup in both tables.
    CONNECTIONS.remove(sk);
    // The kernel changes a socket's state under its lock, so nothing else writes this history now.
    let Some(listener) = LISTENERS.insert(sk) else { return };
    *listener = Connection { provenance: PROVENANCE_LISTEN, role: ROLE_LISTENER, ..Connection::UNKNOWN };
    task::current(&mut listener.owner);
    cmdline::cache(&listener.owner);
    listener.update_checksum(sk);
}

/// A connection is opened, changes its state, or is closed.
#[inline(always)]
fn on_transition(sk: u64, old: u8, new: u8) {
    let is_new = matches!((old, new), (tcp::CLOSE, tcp::SYN_SENT) | (tcp::LISTEN, tcp::SYN_RECV));
    let known = if is_new { None } else { CONNECTIONS.get_open(sk) };
    // A connection that was opened before the start and is not in the snapshot is tracked from here on.
    let Some(connection) = known.or_else(|| track(sk)) else { return };
    let is_owner_new = match (old, new) {
        (tcp::LISTEN, tcp::SYN_RECV) => return on_passive_open(connection, sk),
        (_, tcp::CLOSE) => return on_close(connection, sk, old),
        (tcp::CLOSE, tcp::SYN_SENT) => {
            on_connect(connection, sk);
            true
        }
        _ => on_state_advance(connection, sk, old, new),
    };
    if is_owner_new {
        cmdline::cache(&connection.owner);
    }
}

/// Begins the history of a connection; `None` if it is not TCP.
#[inline(always)]
pub(crate) fn track(sk: u64) -> Option<&'static mut Connection> {
    // DCCP, SCTP and MPTCP sockets have states as well. Only TCP comes into the tables, so that lookups find nothing else.
    if !sock::is_tcp(sk) {
        return None;
    }
    let connection = CONNECTIONS.insert(sk)?;
    *connection = Connection::UNKNOWN;
    connection.update_checksum(sk);
    Some(connection)
}

/// CLOSE to SYN_SENT: the current process calls connect.
#[inline(always)]
fn on_connect(connection: &mut Connection, sk: u64) {
    connection.opened_ns = ktime_ns();
    connection.provenance = PROVENANCE_CONNECT;
    connection.role = ROLE_CLIENT;
    task::current(&mut connection.owner);
    // A kernel worker opens further paths of an MPTCP connection; the process is that of the first.
    if TaskFlags::current().is_kernel()
        && let Some(first) = sock::first_subflow(sk).and_then(|first| CONNECTIONS.get_open(first))
    {
        connection.owner = first.owner;
        connection.provenance = first.provenance;
        connection.shared = first.shared;
    }
    connection.update_checksum(sk);
}

/// LISTEN to SYN_RECV: a child of a listener is created, in whatever context the packet arrived. The packet is the one that
/// completes the handshake, so that the connection is established within this function of the kernel (except for TCP Fast
/// Open, where it carries data from the first packet on).
#[inline(always)]
fn on_passive_open(connection: &mut Connection, sk: u64) {
    connection.opened_ns = ktime_ns();
    connection.established_ns = connection.opened_ns;
    connection.role = ROLE_SERVER;
    let parent = listener_of(sk);
    if let Some(listener) = LISTENERS.get_open(parent) {
        connection.listener = parent;
        if listener.is_consistent(parent) {
            connection.owner = listener.owner;
            // Inherited, however the listener's own owner is known.
            connection.provenance = PROVENANCE_LISTEN;
            connection.shared = listener.shared;
        }
    }
    connection.update_checksum(sk);
}

/// The current process has accepted the connection, and is its owner from here on, whichever process listens.
#[inline(always)]
pub(crate) fn on_accept(sk: u64) {
    // A kernel thread accepts for itself (NFS, SMB), or for a process that it does not belong to.
    if sk == 0 || TaskFlags::current().is_kernel() {
        return;
    }
    if let Some(connection) = CONNECTIONS.get_open(sk) {
        task::current(&mut connection.owner);
        connection.provenance = PROVENANCE_ACCEPT;
        connection.shared = 0;
        cmdline::cache(&connection.owner);
        connection.update_checksum(sk);
    }
}

/// The handshake is finished, by a packet with this TTL or hop limit.
#[inline(always)]
pub(crate) fn on_handshake(sk: u64, ttl: u8) {
    if let Some(connection) = CONNECTIONS.get_open(sk) {
        connection.handshake_ttl = ttl;
    }
}

/// Any change between the states of an open connection. Returns whether the current process has become the owner.
#[inline(always)]
fn on_state_advance(connection: &mut Connection, sk: u64, old: u8, new: u8) -> bool {
    // A close after a shutdown reports the state that the shutdown has set a second time.
    if old != new {
        match new {
            // SYN_RECV is the state of a simultaneous open.
            tcp::ESTABLISHED | tcp::SYN_RECV => {
                connection.established_ns = ktime_ns();
                return false;
            }
            tcp::CLOSE_WAIT | tcp::CLOSING => connection.fin_received_ns = ktime_ns(),
            tcp::FIN_WAIT1 | tcp::LAST_ACK => connection.fin_sent_ns = ktime_ns(),
            _ => return false,
        }
    }
    if !sock::owned_by_user(sk) {
        return false;
    }
    // The task that holds the lock uses the socket, which is better evidence than an inherited or a shared owner.
    let inherited = connection.role == ROLE_SERVER && connection.provenance == PROVENANCE_LISTEN;
    let uncertain = connection.provenance == PROVENANCE_NONE || inherited || connection.shared != 0;
    if (inherited || !uncertain) && task::is_current(&connection.owner) {
        if inherited {
            // The listening process handles the connection itself, as most do.
            connection.provenance = PROVENANCE_CURRENT;
            connection.shared = 0;
            connection.update_checksum(sk);
        }
        return false;
    }
    // What is left of a socket after its last close belongs to the process that closed it, even where another owner is
    // certain. An inherited owner is one of possibly several that listen, and this process has the connection; of a socket
    // that several processes hold, they all still hold it.
    let is_sole = inherited || sock::is_last_close(sk);
    if !uncertain && !is_sole || TaskFlags::current().is_kernel() {
        return false;
    }
    task::current(&mut connection.owner);
    connection.provenance = PROVENANCE_CURRENT;
    if is_sole {
        connection.shared = 0;
    }
    connection.update_checksum(sk);
    true
}

/// Any state to CLOSE.
#[inline(always)]
fn on_close(connection: &mut Connection, sk: u64, old: u8) {
    connection.previous_state = old;
    let error = field::<u32>(sk, &SK_ERR) as u16;
    // After LAST_ACK both sides have closed, and no packet can come any more that a reset would answer; unless a timer or a
    // reset ended it.
    if old != tcp::LAST_ACK || error != 0 {
        let mut tuple = Tuple::EMPTY;
        sock::read_tuple(sk, &mut tuple);
        closed::insert(sk, &tuple, connection, |ending| {
            ending.closed_ns = ktime_ns();
            ending.error = error;
            ending.state = old;
            sock::read_ending(sk, error, ending);
            ending.role = connection.role;
            let closing_ns = if connection.fin_sent_ns == 0 { 0 } else { ending.closed_ns - connection.fin_sent_ns };
            let closing_ms = closing_ns / 1_000_000;
            ending.closing_ms = if closing_ms > u16::MAX.into() { u16::MAX } else { closing_ms as u16 };
        });
    }
    CONNECTIONS.mark_closed(sk);
}

/// Tracks a socket that a process held when rsttrace started. `state` is the socket's, `holder` the address of the process's
/// `task_struct`.
#[inline(always)]
pub(crate) fn track_preexisting(sk: u64, state: u8, holder: u64) {
    let mut owner = Connection::UNKNOWN.owner;
    task::describe(holder, &mut owner);
    let listens = state == tcp::LISTEN;
    let table = if listens { LISTENERS } else { CONNECTIONS };
    if let Some(known) = table.get_open(sk) {
        if known.provenance == PROVENANCE_SNAPSHOT && known.owner.tgid != owner.tgid {
            known.shared = 1;
            known.update_checksum(sk);
        }
    } else if let Some(connection) = table.insert(sk) {
        *connection = Connection { owner, provenance: PROVENANCE_SNAPSHOT, ..Connection::UNKNOWN };
        if listens {
            connection.role = ROLE_LISTENER;
        }
        connection.update_checksum(sk);
    }
}

/// History of a full socket that is in this state.
#[inline(always)]
pub(crate) fn get(sk: u64, state: u8) -> Option<&'static Connection> {
    let connection: &Connection = table::get_for_state(sk, state)?;
    connection.is_consistent(sk).then_some(connection)
}

/// PID of the owner, where it is certain: the recorded owner is the current process, and uses the socket. Any other owner
/// may have exited and left the socket to another process, which only the user side can find out.
#[inline(always)]
pub(crate) fn certain_owner(history: &Connection, in_task: bool) -> Option<u32> {
    let is_sure = match history.provenance {
        PROVENANCE_CONNECT | PROVENANCE_ACCEPT => true,
        PROVENANCE_LISTEN => history.role == ROLE_LISTENER,
        _ => false,
    };
    (in_task && is_sure && history.shared == 0 && task::is_current(&history.owner)).then_some(history.owner.tgid)
}

/// Copies the history into the event.
#[inline(always)]
pub(crate) fn write_to_event(history: &Connection, event: &mut ResetEvent) {
    if history.is_tracked() {
        event.flags |= EVENT_HAS_HISTORY;
    }
    if history.shared != 0 {
        event.flags |= EVENT_SHARED;
    }
    event.owner = history.owner;
    event.provenance = history.provenance;
    event.role = history.role;
    event.previous_state = history.previous_state;
    event.opened_ns = history.opened_ns;
    // A child that is reset in SYN_RECV has not completed its handshake after all.
    if event.state != tcp::SYN_RECV && event.previous_state != tcp::SYN_RECV {
        event.established_ns = history.established_ns;
    }
    event.fin_received_ns = history.fin_received_ns;
    event.fin_sent_ns = history.fin_sent_ns;
    event.handshake_ttl = history.handshake_ttl;
}
