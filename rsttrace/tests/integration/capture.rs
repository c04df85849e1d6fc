//! Capture of every TCP reset that crosses the loopback interface, through a packet socket, independent of rsttrace.

use std::{
    io,
    mem::zeroed,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Size of the receive buffer in bytes: room for every packet of a test that has not been read yet.
static BUFFER: libc::c_int = 32 << 20;
const RST: u8 = 4;
const TCP: u8 = 6;

/// Capture in the network namespace of the calling thread, whose only interface must be loopback.
pub(crate) struct Capture(OwnedFd);

impl Capture {
    pub(crate) fn start() -> Self {
        let every_protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes integers and returns a descriptor or -1.
        let raw = unsafe { libc::socket(libc::AF_PACKET, kind, every_protocol.into()) };
        assert!(raw >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: a new descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let length = libc::socklen_t::try_from(size_of_val(&BUFFER)).unwrap();
        let value = (&raw const BUFFER).cast();
        // SAFETY: the value lives through the call and has the length that is given.
        let result = unsafe { libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, length) };
        assert_eq!(result, 0, "SO_RCVBUFFORCE: {}", io::Error::last_os_error());
        Self(socket)
    }

    /// Sender and receiver of every reset captured so far.
    pub(crate) fn resets(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let mut resets = Vec::new();
        let mut packet = [0; 256];
        loop {
            // SAFETY: all zeros is a valid address.
            let mut from: libc::sockaddr_ll = unsafe { zeroed() };
            let mut length = libc::socklen_t::try_from(size_of_val(&from)).unwrap();
            // SAFETY: the buffers live through the call and have the lengths that are given.
            let received = unsafe {
                libc::recvfrom(
                    self.0.as_raw_fd(),
                    packet.as_mut_ptr().cast(),
                    packet.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut length,
                )
            };
            let Ok(received) = usize::try_from(received) else { return resets };
            // The loopback interface shows each packet twice, outgoing and incoming.
            if from.sll_pkttype == libc::PACKET_OUTGOING {
                resets.extend(reset(&packet[..received]));
            }
        }
    }
}

/// Sender and receiver of an IP packet; `None` if it is not a TCP reset.
fn reset(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (protocol, addresses, tcp) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, packet.get(12..20)?, packet.get(usize::from(packet[0] & 15) * 4..)?),
        6 => (*packet.get(6)?, packet.get(8..40)?, packet.get(40..)?),
        _ => return None,
    };
    if protocol != TCP || tcp.get(13)? & RST == 0 {
        return None;
    }
    let (from, to) = addresses.split_at(addresses.len() / 2);
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    Some((SocketAddr::new(address(from)?, port(0)), SocketAddr::new(address(to)?, port(2))))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}
