//! TLS over a blocking connection.

use std::{
    io::{self, Read, Write as _},
    net::TcpStream,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::socket::{MsgFlags, recv},
};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, StreamOwned, pki_types::ServerName};

/// Limit for the server to say that it accepts the client, milliseconds. A server that sends no session tickets costs this much
/// for each connection.
const VERDICT_TIMEOUT: u16 = 1_000;

/// A TLS connection.
pub(super) struct TlsStream(StreamOwned<ClientConnection, TcpStream>);

impl TlsStream {
    /// Performs the handshake with a server, whose certificate has to have this name. `peer` names the server in errors.
    /// Blocks until the handshake is over, or until the socket's timeout. Fails where the certificate is not trusted.
    pub(super) fn open(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        peer: &str,
        stream: TcpStream,
    ) -> Result<Self> {
        let mut secured = Self(StreamOwned::new(ClientConnection::new(config, name)?, stream));
        let StreamOwned { conn, sock } = &mut secured.0;
        while conn.is_handshaking() {
            conn.complete_io(sock).with_context(|| format!("cannot speak TLS with {peer}"))?;
        }
        if conn.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            secured.wait_for_verdict().with_context(|| format!("cannot speak TLS with {peer}"))?;
        }
        Ok(secured)
    }

    /// Waits for the server's first message after the handshake, for [`VERDICT_TIMEOUT`] at most. With TLS 1.3 the client has
    /// finished before the server has looked at the client's certificate: what is written at once is lost where the server
    /// refuses it. A server that accepts sends session tickets, most of them at once.
    fn wait_for_verdict(&mut self) -> io::Result<()> {
        let StreamOwned { sock, .. } = &self.0;
        let mut poll_fd = [PollFd::new(sock.as_fd(), PollFlags::POLLIN)];
        poll(&mut poll_fd, VERDICT_TIMEOUT)?;
        self.is_open()
    }

    /// Writes all bytes. Blocks, for the socket's timeout at most. On an error it is not known how many were sent.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_open()?;
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// Fails if the server has closed the connection.
    fn is_open(&mut self) -> io::Result<()> {
        let StreamOwned { conn, sock } = &mut self.0;
        loop {
            match conn.read_tls(&mut NonBlockingRead(sock)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Ok(_) => {
                    if conn.process_new_packets().map_err(io::Error::other)?.peer_has_closed() {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends `close_notify` and returns the TCP stream. Blocks as a write does. Fails when the server cannot be written to.
    pub(super) fn close(&mut self) -> io::Result<&mut TcpStream> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        Ok(&mut self.0.sock)
    }
}

/// Reads what has arrived without blocking.
struct NonBlockingRead<'a>(&'a TcpStream);

impl Read for NonBlockingRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }
}
