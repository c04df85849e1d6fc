//! Forged IPv4 packets, such as a middlebox or an attacker sends with the address of another host.

use std::{
    io,
    mem::zeroed,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

const ACK: u8 = 1 << 4;
const RST: u8 = 1 << 2;
const SYN: u8 = 1 << 1;

/// Capture on every interface of the calling thread's namespace.
pub(crate) struct Sniffer(OwnedFd);

impl Sniffer {
    pub(crate) fn start() -> Self {
        let ipv4 = u16::try_from(libc::ETH_P_IP).unwrap().to_be();
        Self(socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, ipv4.into()))
    }

    /// Sequence number that `receiver` expects next from `sender`, from the packets captured so far.
    pub(crate) fn expected(&self, sender: SocketAddr, receiver: SocketAddr) -> u32 {
        self.next_of(receiver, sender).1
    }

    /// Sequence and acknowledgement number of the last segment from `sender` to `receiver`, from the packets captured so far.
    pub(crate) fn next_of(&self, sender: SocketAddr, receiver: SocketAddr) -> (u32, u32) {
        let mut last = None;
        let mut packet = [0; 2048];
        loop {
            // SAFETY: the buffer lives through the call and has the length that is given.
            let length = unsafe { libc::recv(self.0.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0) };
            let Ok(length) = usize::try_from(length) else { break };
            let header = usize::from(packet[0] & 15) * 4;
            let Some(tcp) = packet.get(header..length).filter(|tcp| tcp.len() >= 20) else { continue };
            let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
            let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
            let from = SocketAddr::new(address(12).into(), port(0));
            let to = SocketAddr::new(address(16).into(), port(2));
            let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
            if (from, to) == (sender, receiver) && tcp[13] & ACK != 0 {
                last = Some((number(4), number(8)));
            }
        }
        last.expect("the sender has acknowledged something")
    }
}

/// Raw socket in the calling thread's namespace, for packets with any source address.
pub(crate) struct Forger(OwnedFd);

impl Forger {
    pub(crate) fn start() -> Self {
        Self(socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW))
    }

    /// Sends a reset without ACK from the address `from`.
    pub(crate) fn reset(&self, from: SocketAddr, to: SocketAddr, seq: u32, ttl: u8) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4 alone is forged") };
        self.send(from, to, &Segment { seq, ack: 0, ttl, flags: RST });
    }

    /// Sends a SYN from the address `from`.
    pub(crate) fn syn(&self, from: SocketAddrV4, to: SocketAddrV4) {
        self.send(from, to, &Segment { seq: 7, ack: 0, ttl: 64, flags: SYN });
    }

    /// Sends an acknowledgement without data from the address `from`.
    pub(crate) fn acknowledgement(&self, from: SocketAddr, to: SocketAddr, seq: u32, ack: u32) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4 alone is forged") };
        self.send(from, to, &Segment { seq, ack, ttl: 64, flags: ACK });
    }

    fn send(&self, from: SocketAddrV4, to: SocketAddrV4, segment: &Segment) {
        let packet = segment.packet(from, to);
        // SAFETY: all zeros is a valid address.
        let mut address: libc::sockaddr_in = unsafe { zeroed() };
        address.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
        address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
        // SAFETY: packet and address live through the call and have the lengths that are given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                libc::socklen_t::try_from(size_of_val(&address)).unwrap(),
            )
        };
        assert_eq!(usize::try_from(sent).ok(), Some(packet.len()), "sendto: {}", io::Error::last_os_error());
    }
}

/// TCP segment without data.
struct Segment {
    seq: u32,
    ack: u32,
    ttl: u8,
    flags: u8,
}

impl Segment {
    fn packet(&self, from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        // A header of five words; flags; no window, checksum below, no urgent pointer.
        tcp.extend([5 << 4, self.flags, 0, 0, 0, 0, 0, 0]);
        let length = u16::try_from(tcp.len()).unwrap();
        let mut pseudo: Vec<u8> = [from.ip().octets(), to.ip().octets()].concat();
        pseudo.extend([0, 6]);
        pseudo.extend(length.to_be_bytes());
        pseudo.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());

        // The kernel fills in length, identification and checksum where they are zero.
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, self.ttl, 6, 0, 0];
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        packet.extend(tcp);
        packet
    }
}

/// Sends a reset without ACK from the address `from`, in the calling thread's namespace.
pub(crate) fn reset(from: SocketAddr, to: SocketAddr, seq: u32, ttl: u8) {
    Forger::start().reset(from, to, seq, ttl);
}

/// Internet checksum, RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> OwnedFd {
    // SAFETY: takes integers and returns a descriptor or -1.
    let raw = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    assert!(raw >= 0, "socket: {}", io::Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
