//! TLS with the certificates that this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).

use std::{
    io::{self, Read, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{MsgFlags, recv};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::ServerName};

/// A TLS connection.
pub(super) struct TlsStream(StreamOwned<ClientConnection, TcpStream>);

impl TlsStream {
    /// Performs the handshake with the server of this `HOST:PORT`. Blocks until it is over, or until the socket's
    /// timeout. Fails where the host trusts no certificates, or does not trust this server's.
    pub(super) fn open(name: &str, stream: TcpStream) -> Result<Self> {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host).trim_matches(['[', ']']);
        let host =
            ServerName::try_from(host.to_owned()).with_context(|| format!("{host} cannot be in a certificate"))?;
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            bail!("this host has no certificates to trust: install ca-certificates, or name a file in SSL_CERT_FILE");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut secured = Self(StreamOwned::new(ClientConnection::new(Arc::new(config), host)?, stream));
        let StreamOwned { conn, sock } = &mut secured.0;
        while conn.is_handshaking() {
            conn.complete_io(sock).with_context(|| format!("cannot speak TLS with {name}"))?;
        }
        Ok(secured)
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
