//! This process's side: requests to the helper, and its answers.

use std::{
    future::pending,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Instant,
};

use caps::{CapSet, Capability};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, send},
};
use tokio::{io::unix::AsyncFd, time::sleep_until};

use super::{
    Presence, degraded, helper, message, missing_namespaces,
    pacer::{InFlight, Pacer},
    protocol::{HelperPacket, HelperReady, HelperRequest, PACKET_MAX, TableAnswer},
    without_netlink,
};
use crate::{
    model::{
        Endpoint, NamespaceId,
        translation::{
            Answer, ConntrackEntry, ConntrackLookup, ConntrackState, Translations, Tuple, translated_ends,
            untranslated_ends,
        },
    },
    sandbox::User,
    util::degraded::Degraded,
};

/// Longest time that the helper may take to open its sockets, milliseconds.
const START_TIMEOUT_MS: u16 = 5_000;

/// Numbers of look-ups since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were made.
    pub requested: u64,
    /// Requests that were not made, because too many were under way or were made within the second before.
    pub not_requested: u64,
    /// Answers that have not come within 100 ms.
    pub late: u64,
    /// Answers with an error, or that could not be parsed.
    pub failed: u64,
}

/// Look-ups in the tables of the host's network namespaces, by the helper.
pub struct Conntrack {
    /// `None` after the helper has ended.
    socket: Option<AsyncFd<OwnedFd>>,
    /// Namespace of each table; `None` after it has ended.
    tables: Vec<Option<NamespaceId>>,
    host: u16,
    pacer: Pacer,
    counts: Counts,
    /// Answers that have not been taken yet.
    answers: Vec<Answer>,
    buffer: Box<[u8; PACKET_MAX]>,
}

impl Conntrack {
    /// Starts the helper as the user of this process. See [`Self::start_as`].
    pub fn start(presence: Presence) -> (Option<Self>, Vec<Degraded>) {
        Self::start_as(presence, None)
    }

    /// Starts the helper, as `user` if there is one, where connections are tracked. Returns what is not as it could be. Must be
    /// called in a tokio runtime, before the sandbox, and while the process has one thread. Blocks until the helper has opened
    /// its sockets, for 5 s at most.
    pub(crate) fn start_as(presence: Presence, user: Option<&User>) -> (Option<Self>, Vec<Degraded>) {
        match presence {
            Presence::Absent => return (None, Vec::new()),
            Presence::WithoutNetlink => return (None, vec![without_netlink()]),
            Presence::Present => {}
        }
        if !caps::has_cap(None, CapSet::Permitted, Capability::CAP_NET_ADMIN).unwrap_or(false) {
            return (None, vec![degraded("it takes CAP_NET_ADMIN")]);
        }
        let started = helper::start(user).and_then(|socket| Ok((first_packet(&socket)?, watch(socket)?)));
        let (ready, socket) = match started {
            Ok(started) => started,
            Err(error) => return (None, vec![degraded(&error.to_string())]),
        };
        let degraded = missing_namespaces(&ready);
        let client = Self {
            socket: Some(socket),
            tables: ready.tables.into_iter().map(Some).collect(),
            host: ready.host,
            pacer: Pacer::new(),
            counts: Counts::default(),
            answers: Vec::new(),
            buffer: Box::new([0; PACKET_MAX]),
        };
        (Some(client), degraded)
    }

    /// Numbers of look-ups since the start.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Number of network namespaces whose tables can be asked.
    pub fn namespaces(&self) -> usize {
        self.tables.iter().flatten().count()
    }

    /// Whether the table of this namespace can be asked. Another one's connections are looked for in the host's table alone.
    pub fn has_table_of(&self, namespace: NamespaceId) -> bool {
        self.table(namespace).is_some()
    }

    /// Completes when [`Self::take_answers`] has something to do; never where there is nothing to wait for. Can be dropped and
    /// called anew without loss.
    pub async fn ready(&self) {
        let Some(socket) = &self.socket else {
            if self.answers.is_empty() {
                pending::<()>().await;
            }
            return;
        };
        let expiry = async {
            match self.pacer.deadline() {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // An error shows when the answers are read.
            _ = socket.readable() => {}
            () = expiry => {}
        }
    }

    /// Takes the answers that have come, and those of requests that have expired. Does not block.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        while self.receive() {}
        let now = Instant::now();
        while let Some(expired) = self.pacer.take_expired(now) {
            self.counts.late += 1;
            self.answers.push(Answer { id: expired.id, lookup: ConntrackLookup::Unknown });
        }
        std::mem::take(&mut self.answers)
    }

    /// Receives one packet; returns whether there was one.
    fn receive(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let buffer = self.buffer.as_mut_slice();
        let read = |socket: &OwnedFd| Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?);
        let length = match socket.try_io(tokio::io::Interest::READABLE, read) {
            Ok(length @ 1..) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return false;
            }
            // The helper has ended.
            Ok(0) | Err(_) => {
                self.give_up();
                return false;
            }
        };
        match HelperPacket::decode(self.buffer.get(..length).unwrap_or_default()) {
            Some(HelperPacket::Answer { serial, own, host }) => {
                if let Some(request) = self.pacer.take(serial) {
                    let lookup = choose(&request, own, host);
                    self.counts.failed += u64::from(lookup == ConntrackLookup::Unknown);
                    self.answers.push(Answer { id: request.id, lookup });
                }
            }
            Some(HelperPacket::Gone(table)) => {
                if let Some(table) = self.tables.get_mut(usize::from(table)) {
                    *table = None;
                }
            }
            None => {}
        }
        true
    }

    /// Stops asking: every request under way is unknown.
    fn give_up(&mut self) {
        self.socket = None;
        self.tables.clear();
        while let Some(request) = self.pacer.take_any() {
            self.counts.failed += 1;
            self.answers.push(Answer { id: request.id, lookup: ConntrackLookup::Unknown });
        }
    }

    /// Index of a namespace's table.
    fn table(&self, namespace: NamespaceId) -> Option<u16> {
        let is_it = |table: &Option<NamespaceId>| {
            table.is_some_and(|table| {
                let same_cookie = table.cookie == namespace.cookie || table.cookie == 0 || namespace.cookie == 0;
                table.inode == namespace.inode && same_cookie
            })
        };
        self.tables.iter().position(is_it)?.try_into().ok()
    }
}

impl Translations for Conntrack {
    fn request(&mut self, id: u64, namespace: NamespaceId, local: Endpoint, peer: Endpoint) -> bool {
        if namespace.inode == 0 || local.address.is_ipv4() != peer.address.is_ipv4() {
            return false;
        }
        let own = self.table(namespace);
        let is_open = self.tables.get(usize::from(self.host)).is_some_and(Option::is_some);
        let host = Some(self.host).filter(|&host| is_open && own != Some(host));
        let (Some(socket), true) = (&self.socket, own.is_some() || host.is_some()) else { return false };
        let Some(serial) = self.pacer.admit(id, local, peer, Instant::now()) else {
            self.counts.not_requested += 1;
            return false;
        };
        let request = HelperRequest { serial, own, host, tuple: Tuple { source: local, destination: peer } };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if send(socket.get_ref().as_raw_fd(), &request.encode(), flags).is_err() {
            // No room in the socket's buffer, or the helper has ended, which the next reading notices.
            self.pacer.take(serial);
            self.counts.not_requested += 1;
            return false;
        }
        self.counts.requested += 1;
        true
    }
}

fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, and neither closed nor replaced before it is taken out of the event loop.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// Waits for the helper's first packet. Fails when it ends before, or when it takes longer than [`START_TIMEOUT_MS`].
fn first_packet(socket: &OwnedFd) -> io::Result<HelperReady> {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(START_TIMEOUT_MS))?;
    let mut buffer = [0; 2048];
    let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(length) => length,
        Err(nix::errno::Errno::EAGAIN) => return Err(io::Error::other("the helper process does not start")),
        Err(error) => return Err(error.into()),
    };
    let ready = buffer.get(..length).and_then(HelperReady::decode);
    ready.ok_or_else(|| io::Error::other("the helper process is refused its capability or its sockets"))
}

/// Entry that says most about a connection: a translated one of its own namespace, then one of the host's, then any.
///
/// The host's table is searched by the ends alone, and another namespace may have these ends as well. An entry there counts
/// where the reset has passed it, which leaves the state CLOSE.
fn choose(request: &InFlight, own: Option<TableAnswer<'_>>, host: Option<TableAnswer<'_>>) -> ConntrackLookup {
    let (own, host) = (own.map(lookup), host.map(lookup));
    let translates = |entry: &ConntrackEntry| translated_ends(entry, request.local, request.peer).is_some();
    let not_translated = |entry: &ConntrackEntry| untranslated_ends(entry, request.local, request.peer).is_some();
    match (own, host) {
        (Some(ConntrackLookup::Found(entry)), _) if translates(&entry) || not_translated(&entry) => {
            ConntrackLookup::Found(entry)
        }
        (_, Some(ConntrackLookup::Found(entry)))
            if translates(&entry) && entry.tcp_state == Some(ConntrackState::CLOSE) =>
        {
            ConntrackLookup::Found(entry)
        }
        (Some(ConntrackLookup::Found(entry)), _) => ConntrackLookup::Found(entry),
        (Some(ConntrackLookup::Unknown), _) | (None, Some(ConntrackLookup::Unknown) | None) => ConntrackLookup::Unknown,
        // Of the host's table, which others' connections may be in, only a translation is of use.
        (Some(ConntrackLookup::Absent), _) | (None, Some(_)) => ConntrackLookup::Absent,
    }
}

fn lookup(answer: TableAnswer<'_>) -> ConntrackLookup {
    match answer.map(message::parse) {
        Ok(message::Reply::Entry(entry)) => ConntrackLookup::Found(entry),
        Ok(message::Reply::Error(libc::ENOENT)) => ConntrackLookup::Absent,
        Ok(_) | Err(_) => ConntrackLookup::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::message::tests::{end, entry_message, tuple_of},
        *,
    };

    const CLIENT: &str = "10.0.1.5:40000";
    const VIRTUAL: &str = "10.96.0.10:80";
    const BACKEND: &str = "10.0.3.7:8080";
    /// Numbers of `ConntrackState`.
    const ESTABLISHED: u8 = 3;
    const CLOSE: u8 = 8;

    /// Chosen entry's other side, of the connection from the client to the virtual address.
    fn chosen(own: Option<TableAnswer<'_>>, host: Option<TableAnswer<'_>>) -> Result<Option<String>, ConntrackLookup> {
        let mut pacer = Pacer::new();
        let serial = pacer.admit(1, end(CLIENT), end(VIRTUAL), Instant::now()).expect("the first");
        let request = pacer.take(serial).expect("it is under way");
        match choose(&request, own, host) {
            ConntrackLookup::Found(entry) => {
                Ok(translated_ends(&entry, request.local, request.peer).map(|ends| ends.peer.to_string()))
            }
            other => Err(other),
        }
    }

    #[test]
    fn a_translation_counts_more_than_a_plain_entry() {
        let there = tuple_of(CLIENT, VIRTUAL);
        let plain = entry_message(&there, &there.mirrored(), CLOSE);
        let translated = entry_message(&there, &tuple_of(BACKEND, CLIENT), CLOSE);
        let here = entry_message(&there, &tuple_of("127.0.0.1:15001", CLIENT), CLOSE);
        let behind = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(chosen(Some(Ok(&translated)), None), behind(BACKEND));
        assert_eq!(chosen(Some(Ok(&plain)), Some(Ok(&translated))), behind(BACKEND));
        assert_eq!(chosen(Some(Ok(&here)), Some(Ok(&translated))), behind("127.0.0.1:15001"));
        assert_eq!(chosen(Some(Ok(&plain)), Some(Err(libc::EAGAIN))), Ok(None));
        assert_eq!(chosen(None, Some(Ok(&plain))), Err(ConntrackLookup::Absent));
    }

    #[test]
    fn an_entry_of_the_host_s_that_the_reset_has_not_passed_does_not_count() {
        let there = tuple_of(CLIENT, VIRTUAL);
        let open = entry_message(&there, &tuple_of(BACKEND, CLIENT), ESTABLISHED);
        assert_eq!(chosen(None, Some(Ok(&open))), Err(ConntrackLookup::Absent));
        // In the connection's own namespace the ends are this connection's alone.
        assert_eq!(chosen(Some(Ok(&open)), None), Ok(Some(BACKEND.to_owned())));
    }

    #[test]
    fn an_answer_that_did_not_come_is_unknown() {
        assert_eq!(chosen(None, None), Err(ConntrackLookup::Unknown));
        assert_eq!(chosen(Some(Err(libc::EAGAIN)), None), Err(ConntrackLookup::Unknown));
        assert_eq!(chosen(Some(Ok(b"?")), None), Err(ConntrackLookup::Unknown));
    }
}
