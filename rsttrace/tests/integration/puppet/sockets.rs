//! Commands of a puppet that use one connection.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use libc::{c_int, socklen_t};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::agent::errno_name;

/// Socket that a puppet holds.
pub(super) enum Socket {
    Listener(TcpListener),
    Stream(TcpStream),
}

/// Executes one command on a connection.
pub(super) fn on_stream(mut stream: &TcpStream, verb: &str, words: &[&str]) -> io::Result<String> {
    let fd = stream.as_raw_fd();
    match (verb, words) {
        ("send", [bytes]) => stream.write_all(&vec![b'x'; count(bytes)?])?,
        // A request: these words, with `|` as the end of a line, and an empty line after them.
        ("say", words) => stream.write_all(format!("{}\r\n\r\n", words.join(" ").replace('|', "\r\n")).as_bytes())?,
        ("say_line", words) => stream.write_all(format!("{}\n", words.join(" ")).as_bytes())?,
        ("hear_line", []) => return hear_line(stream),
        ("fill", []) => return fill(stream),
        ("recv", [bytes]) => stream.read_exact(&mut vec![0; count(bytes)?])?,
        // Waits for the peer's FIN.
        ("eof", []) => {
            let read = stream.read(&mut [0])?;
            return if read == 0 { Ok(String::new()) } else { Err(io::Error::other("more data, not the end")) };
        }
        // Readable with this many bytes, and not before.
        ("wait_unread", [bytes]) => {
            set_option(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, number(bytes)?)?;
            wait(stream, PollFlags::POLLIN)?;
        }
        ("wait_error", []) => {
            wait(stream, PollFlags::empty())?;
            let error = stream.take_error()?.and_then(|error| error.raw_os_error());
            return Ok(error.map_or_else(|| "none".to_owned(), errno_name));
        }
        // Waits for the peer's FIN behind data that stay unread.
        ("peek_eof", []) => wait(stream, PollFlags::from_bits_retain(libc::POLLRDHUP))?,
        ("user_timeout", [ms]) => set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, number(ms)?)?,
        // A socket that is closed in this mode disappears without a packet to the peer, as in a power failure.
        ("vanish", []) => set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1)?,
        // Whether an error or the peer's FIN has arrived so far.
        ("is_reset", []) => {
            let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
            return Ok((poll(&mut fds, PollTimeout::ZERO)? > 0).to_string());
        }
        ("linger0", []) => linger_zero(stream)?,
        ("linger2", [seconds]) => set_option(fd, libc::IPPROTO_TCP, libc::TCP_LINGER2, number(seconds)?)?,
        // Also sends the acknowledgement that the kernel is delaying.
        ("quickack", []) => set_option(fd, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1)?,
        ("keepalive", [idle, interval, probes]) => {
            set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, number(idle)?)?;
            set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, number(interval)?)?;
            set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, number(probes)?)?;
            set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        }
        ("disconnect", []) => disconnect(fd)?,
        _ => return Err(io::Error::other(format!("no such command: {verb}"))),
    }
    Ok(String::new())
}

/// Sets the length of a listener's accept queue, which the standard library does not let a program choose.
pub(super) fn listen_again(listener: &TcpListener, backlog: c_int) -> io::Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::listen(listener.as_raw_fd(), backlog) })
}

/// Listens with `SO_REUSEPORT`, so that others may listen at the same address.
pub(super) fn listen_in_group(address: SocketAddr, backlog: c_int) -> io::Result<TcpListener> {
    let listener = TcpListener::from(bound(address, libc::SO_REUSEPORT)?);
    listen_again(&listener, backlog)?;
    Ok(listener)
}

/// Connects from a port that may have been in use before.
pub(super) fn connect_from(local: SocketAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::from(bound(local, libc::SO_REUSEADDR)?);
    let peer = name_of(peer)?;
    // SAFETY: the address lives through the call and has the length that is given.
    check(unsafe { libc::connect(stream.as_raw_fd(), (&raw const peer).cast(), length_of(&peer)?) })?;
    Ok(stream)
}

/// Socket that is bound to an address, with this socket option on.
fn bound(address: SocketAddr, option: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes integers and returns a descriptor or -1.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(raw, libc::SOL_SOCKET, option, 1)?;
    let name = name_of(address)?;
    // SAFETY: the address lives through the call and has the length that is given.
    check(unsafe { libc::bind(raw, (&raw const name).cast(), length_of(&name)?) })?;
    Ok(socket)
}

fn name_of(address: SocketAddr) -> io::Result<libc::sockaddr_in> {
    let SocketAddr::V4(v4) = address else { return Err(io::Error::other("IPv4 only")) };
    Ok(libc::sockaddr_in {
        sin_family: libc::AF_INET.try_into().map_err(io::Error::other)?,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
        sin_zero: [0; 8],
    })
}

/// Sets `TCP_DEFER_ACCEPT`: a connection is half open until data have arrived.
pub(super) fn defer_accept(listener: &TcpListener, seconds: c_int) -> io::Result<()> {
    set_option(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Sets `SO_LINGER` with a time of 0: close sends a reset.
pub(super) fn linger_zero(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option_to(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Writes until neither side takes any more; returns the number of bytes.
fn fill(mut stream: &TcpStream) -> io::Result<String> {
    stream.set_nonblocking(true)?;
    let block = vec![b'x'; 65536];
    let mut total = 0;
    let result = loop {
        match stream.write(&block) {
            Ok(written) => total += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(total.to_string()),
            Err(error) => break Err(error),
        }
    };
    stream.set_nonblocking(false)?;
    result
}

/// Reads the next line, without its end and nothing beyond it.
fn hear_line(mut stream: &TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        line.extend(byte);
    }
}

/// Waits this many milliseconds, in which nothing may arrive: the idle time is what is tested.
pub(super) fn idle(socket: BorrowedFd<'_>, ms: u16) -> io::Result<()> {
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(ms))?;
    if ready == 0 || fds[0].revents().is_some_and(|events| !events.contains(PollFlags::POLLIN)) {
        return Ok(());
    }
    Err(io::Error::other("it was not silent"))
}

/// Waits for events; errors and hang-ups always count.
fn wait(stream: &TcpStream, events: PollFlags) -> io::Result<()> {
    let mut fds = [PollFd::new(stream.as_fd(), events)];
    let ready = poll(&mut fds, PollTimeout::NONE)?;
    if ready == 0 { Err(io::Error::other("nothing happened")) } else { Ok(()) }
}

/// Connects to `AF_UNSPEC`: the connection is reset, and the socket stays open.
fn disconnect(fd: RawFd) -> io::Result<()> {
    let address = libc::sockaddr { sa_family: libc::AF_UNSPEC.try_into().map_err(io::Error::other)?, sa_data: [0; 14] };
    // SAFETY: the address lives through the call and has the length that is given.
    check(unsafe { libc::connect(fd, &raw const address, length_of(&address)?) })
}

fn set_option(fd: RawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set_option_to(fd, level, name, &value)
}

fn set_option_to<T>(fd: RawFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value lives through the call and has the length that is given.
    check(unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), length_of(value)?) })
}

fn length_of<T>(value: &T) -> io::Result<socklen_t> {
    size_of_val(value).try_into().map_err(io::Error::other)
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn count(word: &str) -> io::Result<usize> {
    word.parse().map_err(io::Error::other)
}

fn number(word: &str) -> io::Result<c_int> {
    word.parse().map_err(io::Error::other)
}
