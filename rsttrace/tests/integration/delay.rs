//! Path with a delay between the two ends of a [`Chain`](crate::chain::Chain): a relay in place of the router's forwarding.
//!
//! There is no `netem` in every kernel. The relay reads IPv4 packets from the router's two interfaces, and sends each one
//! after the delay, in order. It also notes what crosses, which is the truth about the order of segments at the client.

use std::{
    collections::VecDeque,
    fs, io,
    mem::zeroed,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::chain::{TO_CLIENT, TO_SERVER};

/// Largest packet; the ends send segments of their MTU at most.
const PACKET_BYTES: usize = 4096;
const TCP: u8 = 6;
const FIN: u8 = 1;
const RST: u8 = 4;

/// A segment that an end sent, or that was delivered to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The client sent payload.
    Request,
    /// The client sent a FIN, with or without payload.
    ClientFin,
    /// The client sent a reset.
    ClientReset,
    /// The server sent a FIN, which is on its way to the client.
    FinLeaves,
    /// The server's FIN, with or without payload, was delivered.
    Fin,
    /// The server's payload without a FIN was delivered.
    Answer,
    /// A reset was delivered.
    Reset,
}

/// What has crossed, of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) at: Instant,
    /// Port of the client.
    pub(crate) port: u16,
    pub(crate) what: Seen,
}

/// What a relay does with the server's FINs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fins {
    /// They take their time, as all packets do.
    Pass,
    /// They wait until the client has sent payload on their connection, in a queue that empties late. On a short path, or a
    /// busy machine, no client can be told in time that one is on its way.
    AwaitRequest,
}

/// Running relay; it stops when this is dropped.
pub(crate) struct Relay {
    seen: Arc<Mutex<Vec<Note>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Takes the place of forwarding in the calling thread's namespace, which is the router's. Each packet is delivered
    /// after `delay`, so that a round trip takes twice that.
    pub(crate) fn start(delay: Duration) -> Self {
        Self::run_with(delay, Fins::Pass)
    }

    /// Like [`Self::start`]; but a FIN of the server is delivered only after the client has sent payload on its connection,
    /// so that the two cross.
    pub(crate) fn start_crossing(delay: Duration) -> Self {
        Self::run_with(delay, Fins::AwaitRequest)
    }

    fn run_with(delay: Duration, fins: Fins) -> Self {
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let inputs = [TO_CLIENT, TO_SERVER].map(packet_socket);
        let output = raw_socket();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
            move || run(&inputs, &output, (delay, fins), &seen, &is_over)
        });
        Self { seen, is_over, thread: Some(thread) }
    }

    /// What has crossed at the client since the last call.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap()).into_iter().map(|note| note.what).collect()
    }

    /// What has crossed since the last call of [`Self::take_seen`], of all connections.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A packet under way.
struct Packet {
    due: Instant,
    is_from_client: bool,
    bytes: Vec<u8>,
}

fn run(
    inputs: &[OwnedFd; 2],
    output: &OwnedFd,
    (delay, fins): (Duration, Fins),
    seen: &Mutex<Vec<Note>>,
    is_over: &AtomicBool,
) {
    let mut packets: VecDeque<Packet> = VecDeque::new();
    let mut waiting: Vec<Packet> = Vec::new();
    let note = |port, what| seen.lock().unwrap().push(Note { at: Instant::now(), port, what });
    while !is_over.load(Ordering::Relaxed) {
        let wait = packets.front().map_or(Duration::from_millis(20), |packet| {
            packet.due.saturating_duration_since(Instant::now()).min(Duration::from_millis(20))
        });
        let mut ready = inputs.each_ref().map(|input| PollFd::new(input.as_fd(), PollFlags::POLLIN));
        poll(&mut ready, PollTimeout::try_from(wait).unwrap()).unwrap();
        for (input, is_from_client) in inputs.iter().zip([true, false]) {
            while let Some(bytes) = receive(input) {
                let due = Instant::now() + delay;
                let sent = client_port(&bytes, is_from_client).zip(kind(&bytes));
                let mut must_wait = false;
                match sent {
                    Some((port, (Seen::Answer, _))) if is_from_client => {
                        note(port, Seen::Request);
                        let is_its = |fin: &mut Packet| client_port(&fin.bytes, false) == Some(port);
                        packets.extend(waiting.extract_if(.., is_its).map(|fin| Packet { due, ..fin }));
                    }
                    Some((port, (Seen::Fin, _))) if is_from_client => note(port, Seen::ClientFin),
                    Some((port, (Seen::Reset, _))) if is_from_client => note(port, Seen::ClientReset),
                    Some((port, (Seen::Fin, _))) => {
                        note(port, Seen::FinLeaves);
                        must_wait = fins == Fins::AwaitRequest;
                    }
                    _ => {}
                }
                let packet = Packet { due, is_from_client, bytes };
                if must_wait { waiting.push(packet) } else { packets.push_back(packet) }
            }
        }
        while packets.front().is_some_and(|packet| packet.due <= Instant::now()) {
            let Packet { is_from_client, mut bytes, .. } = packets.pop_front().unwrap();
            if let Some((port, (what, _))) = client_port(&bytes, false).zip(kind(&bytes)).filter(|_| !is_from_client) {
                note(port, what);
            }
            write_checksum(&mut bytes);
            send(output, &bytes);
        }
    }
}

/// The client's port in a TCP segment.
fn client_port(packet: &[u8], is_from_client: bool) -> Option<u16> {
    let (_, tcp) = split(packet)?;
    let at = if is_from_client { 0 } else { 2 };
    Some(u16::from_be_bytes([tcp[at], tcp[at + 1]]))
}

/// What a TCP segment is to the client, and whether it has payload; `None` for one that tells nothing.
fn kind(packet: &[u8]) -> Option<(Seen, bool)> {
    let (header, tcp) = split(packet)?;
    let payload =
        usize::from(u16::from_be_bytes([header[2], header[3]])) - header.len() - usize::from(tcp[12] >> 4) * 4;
    let flags = tcp[13];
    let what = match () {
        () if flags & RST != 0 => Seen::Reset,
        () if flags & FIN != 0 => Seen::Fin,
        () if payload > 0 => Seen::Answer,
        () => return None,
    };
    Some((what, payload > 0))
}

/// The IPv4 header and the TCP segment of a packet.
fn split(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = usize::from(*packet.first()? & 15) * 4;
    (packet[0] >> 4 == 4 && *packet.get(9)? == TCP && packet.len() >= header + 20).then(|| packet.split_at(header))
}

/// Writes the TCP checksum (RFC 9293, 3.1): between two namespaces of one host the kernel leaves it to a device that is
/// not there.
fn write_checksum(packet: &mut [u8]) {
    let Some((header, _)) = split(packet) else { return };
    let start = header.len();
    packet[start + 16..start + 18].fill(0);
    let (header, segment) = packet.split_at(start);
    let length = u16::try_from(segment.len()).unwrap();
    let pseudo = [&header[12..20], &[0, TCP], &length.to_be_bytes()].concat();
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let mut sum = words(&pseudo) + words(segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap();
    packet[start + 16..start + 18].copy_from_slice(&checksum.to_be_bytes());
}

/// A socket that receives the IPv4 packets that arrive on an interface of the calling thread's namespace.
fn packet_socket(interface: &str) -> OwnedFd {
    let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, i32::from(0x0800_u16.to_be()));
    // SAFETY: all zeros is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET.try_into().unwrap();
    address.sll_protocol = 0x0800_u16.to_be();
    address.sll_ifindex = if_nametoindex(interface).unwrap().try_into().unwrap();
    let length = size_of_val(&address).try_into().unwrap();
    // SAFETY: the address lives through the call and has the length that is given.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(result, 0, "{interface}: {}", io::Error::last_os_error());
    socket
}

/// A socket that sends IPv4 packets as they are, by the routes of the calling thread's namespace.
fn raw_socket() -> OwnedFd {
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> OwnedFd {
    // SAFETY: takes integers and returns a descriptor or -1.
    let raw = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) };
    assert!(raw >= 0, "socket: {}", io::Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// The next packet that arrived; `None` if there is none. Packets that the router itself sends are passed over.
fn receive(input: &OwnedFd) -> Option<Vec<u8>> {
    loop {
        let mut bytes = vec![0; PACKET_BYTES];
        // SAFETY: all zeros is a valid address.
        let mut from: libc::sockaddr_ll = unsafe { zeroed() };
        let mut length = libc::socklen_t::try_from(size_of_val(&from)).unwrap();
        // SAFETY: the buffers live through the call and have the lengths that are given.
        let received = unsafe {
            libc::recvfrom(
                input.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        bytes.truncate(usize::try_from(received).ok()?);
        if from.sll_pkttype != libc::PACKET_OUTGOING {
            return Some(bytes);
        }
    }
}

fn send(output: &OwnedFd, packet: &[u8]) {
    let octets: [u8; 4] = packet[16..20].try_into().unwrap();
    // SAFETY: all zeros is a valid address.
    let mut to: libc::sockaddr_in = unsafe { zeroed() };
    to.sin_family = libc::AF_INET.try_into().unwrap();
    to.sin_addr.s_addr = u32::from_ne_bytes(Ipv4Addr::from(octets).octets());
    let length = size_of_val(&to).try_into().unwrap();
    // SAFETY: packet and address live through the call and have the lengths that are given.
    let sent = unsafe {
        libc::sendto(output.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, (&raw const to).cast(), length)
    };
    assert!(sent >= 0, "a packet of {} bytes: {}", packet.len(), io::Error::last_os_error());
}
