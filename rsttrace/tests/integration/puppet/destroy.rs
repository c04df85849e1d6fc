//! `SOCK_DESTROY`, as used by `ss -K`, without ss.

use std::{
    io,
    mem::zeroed,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Message type of `linux/sock_diag.h`.
const SOCK_DESTROY: u16 = 21;

/// `struct inet_diag_req_v2` with its `struct inet_diag_sockid`; ports and addresses in network byte order.
#[repr(C)]
struct Request {
    header: libc::nlmsghdr,
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    local_port: [u8; 2],
    peer_port: [u8; 2],
    local: [u8; 16],
    peer: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// Answer: a header and the error, 0 for success.
#[repr(C)]
struct Answer {
    header: libc::nlmsghdr,
    error: i32,
    request: libc::nlmsghdr,
}

/// Destroys the socket of the connection between these ends, regardless of its owner.
pub(crate) fn destroy(local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let request = Request {
        header: libc::nlmsghdr {
            nlmsg_len: size_of::<Request>().try_into().map_err(io::Error::other)?,
            nlmsg_type: SOCK_DESTROY,
            nlmsg_flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK).try_into().map_err(io::Error::other)?,
            nlmsg_seq: 1,
            nlmsg_pid: 0,
        },
        family: family.try_into().map_err(io::Error::other)?,
        protocol: libc::IPPROTO_TCP.try_into().map_err(io::Error::other)?,
        extensions: 0,
        pad: 0,
        states: u32::MAX,
        local_port: local.port().to_be_bytes(),
        peer_port: peer.port().to_be_bytes(),
        local: octets(local.ip()),
        peer: octets(peer.ip()),
        interface: 0,
        cookie: [u32::MAX; 2],
    };
    // SAFETY: takes integers and returns a descriptor or -1.
    let raw = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: the request lives through the call and has the length that is given.
    let sent = unsafe { libc::send(socket.as_raw_fd(), (&raw const request).cast(), size_of::<Request>(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeros is a valid answer.
    let mut answer: Answer = unsafe { zeroed() };
    // SAFETY: the buffer lives through the call and has the length that is given.
    let received = unsafe { libc::recv(socket.as_raw_fd(), (&raw mut answer).cast(), size_of::<Answer>(), 0) };
    match answer.error {
        _ if received < 0 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match address {
        IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => octets = address.octets(),
    }
    octets
}
