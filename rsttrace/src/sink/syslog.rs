//! syslog (RFC 5424) with structured data: to a socket of this host, by UDP (RFC 5426), by TCP with octet counting (RFC
//! 6587), or by TLS (RFC 5425).

use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Error, Result};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, recv, setsockopt,
            sockopt::{ReceiveTimeout, SendTimeout},
        },
        time::{TimeVal, TimeValLike as _},
    },
};
#[cfg(feature = "tls")]
use rustls::pki_types::ServerName;

use super::{DeliveryReport, Sink, host_port};
#[cfg(feature = "tls")]
use super::{options, tls::TlsStream};
#[cfg(feature = "tls")]
use crate::credentials::{ClientTls, ClientTlsFiles};
use crate::{
    format::{
        TextOptions,
        fields::{self, MessageText},
    },
    model::Record,
    util::sanitize::Sanitized,
};

/// Default socket of the host's own daemon.
const SOCKET: &str = "/dev/log";

/// Facility `daemon`.
const FACILITY: u8 = 3;

/// `SD-ID` of the structured data; 32473 is the enterprise number for documentation and for those that have none (RFC
/// 5612).
const DATA_ID: &str = "rsttrace@32473";

/// Limit for a connection to be established, for one write, and for one read of the TLS handshake.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// Address of a syslog receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SyslogAddress {
    Socket(PathBuf),
    Udp(String),
    Tcp(String),
    #[cfg(feature = "tls")]
    Tls(SyslogTls),
}

/// A receiver over TLS.
#[cfg(feature = "tls")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyslogTls {
    /// Host and port.
    authority: String,
    /// Name in the server's certificate.
    server_name: ServerName<'static>,
    files: ClientTlsFiles,
}

#[cfg(feature = "tls")]
impl SyslogTls {
    const NAMES: [&str; 4] = ["ca", "cert", "key", "name"];

    /// Parses `HOST[:PORT][,name=value]…`. The error is a part of a sentence.
    fn parse(text: &str) -> Result<Self, String> {
        let (host, options) = options::split(text, &Self::NAMES)?;
        let authority = host_port::parse(host, 6514)?;
        let host = authority.rsplit_once(':').map_or(&*authority, |(host, _)| host).trim_matches(['[', ']']);
        let mut files = ClientTlsFiles::default();
        let mut name = host.to_owned();
        for (option, value) in options {
            match option {
                "ca" => files.ca = Some(options::path(option, value)?),
                "cert" => files.certificate = Some(options::path(option, value)?),
                "key" => files.key = Some(options::path(option, value)?),
                _ => value.clone_into(&mut name),
            }
        }
        let Ok(server_name) = ServerName::try_from(name.clone()) else {
            return Err(format!("'{name}' cannot be in a certificate"));
        };
        Ok(Self { authority, server_name, files })
    }
}

impl SyslogAddress {
    /// Parses `PATH`, `udp://HOST[:PORT]`, `tcp://…` or `tls://…[,name=value]…`; the host's own daemon without any text.
    /// Fails for another form.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, String> {
        match text.map(|text| text.split_once("://").ok_or(text)) {
            None => Ok(Self::Socket(SOCKET.into())),
            Some(Err(path)) if path.starts_with('/') => Ok(Self::Socket(path.into())),
            Some(Ok(("udp", host))) => Ok(Self::Udp(host_port::parse(host, 514)?)),
            Some(Ok(("tcp", host))) => Ok(Self::Tcp(host_port::parse(host, 601)?)),
            #[cfg(feature = "tls")]
            Some(Ok(("tls", rest))) => Ok(Self::Tls(SyslogTls::parse(rest)?)),
            #[cfg(not(feature = "tls"))]
            Some(Ok(("tls", _))) => Err("this rsttrace was built without TLS (the feature tls)".into()),
            Some(_) => Err("an address is a path, or udp://, tcp:// or tls://HOST[:PORT]".into()),
        }
    }
}

impl SyslogAddress {
    /// Kind and destination of the sink, without its options.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Socket(path) if path.as_os_str() == SOCKET => "syslog".to_owned(),
            Self::Socket(path) => format!("syslog:{}", path.display()),
            Self::Udp(authority) => format!("syslog:udp://{authority}"),
            Self::Tcp(authority) => format!("syslog:tcp://{authority}"),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => format!("syslog:tls://{}", tls.authority),
        }
    }
}

/// An open connection, or a socket for datagrams.
enum SyslogConnection {
    Socket(UnixDatagram, PathBuf),
    Udp(UdpSocket),
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl SyslogConnection {
    fn open(address: &SyslogAddress, #[cfg(feature = "tls")] tls: Option<&mut ClientTls>) -> Result<Self> {
        match address {
            SyslogAddress::Socket(path) => {
                Ok(Self::Socket(UnixDatagram::unbound().context("cannot make a socket")?, path.clone()))
            }
            SyslogAddress::Udp(name) => {
                let to = resolve(name)?;
                let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
                let socket = UdpSocket::bind(any).context("cannot make a socket")?;
                socket.connect(to).with_context(|| format!("cannot reach {name}"))?;
                Ok(Self::Udp(socket))
            }
            SyslogAddress::Tcp(name) => Ok(Self::Tcp(connect_to(name)?)),
            #[cfg(feature = "tls")]
            SyslogAddress::Tls(SyslogTls { authority, server_name, .. }) => {
                let config = tls.context("no certificates were read")?.config();
                let stream = connect_to(authority)?;
                Ok(Self::Tls(Box::new(TlsStream::open(config, server_name.clone(), authority, stream)?)))
            }
        }
    }

    /// Sends messages that are concatenated in `messages` and end at `ends`. Returns how many were sent as a whole.
    /// Blocks for [`IO_TIMEOUT`] for each write.
    fn send(&mut self, messages: &[u8], ends: &[usize]) -> (usize, io::Result<()>) {
        match self {
            Self::Tcp(stream) => match write(stream, messages) {
                (_, Ok(())) => (ends.len(), Ok(())),
                (bytes, error) => (ends.iter().filter(|&&end| end <= bytes).count(), error),
            },
            #[cfg(feature = "tls")]
            Self::Tls(secured) => match secured.write(messages) {
                Ok(()) => (ends.len(), Ok(())),
                // How much arrived is not known: messages rather arrive twice than not at all.
                error => (0, error),
            },
            Self::Socket(socket, path) => send_each(messages, ends, |message| socket.send_to(message, &*path)),
            Self::Udp(socket) => send_each(messages, ends, |message| socket.send(message)),
        }
    }
}

/// Sends each message as one datagram; see [`SyslogConnection::send`].
fn send_each(messages: &[u8], ends: &[usize], send: impl Fn(&[u8]) -> io::Result<usize>) -> (usize, io::Result<()>) {
    let mut from = 0;
    for (index, &end) in ends.iter().enumerate() {
        if let Err(error) = send(&messages[from..end]) {
            return (index, Err(error));
        }
        from = end;
    }
    (ends.len(), Ok(()))
}

/// Resolves a name with a port to its first address.
fn resolve(name: &str) -> Result<SocketAddr> {
    let mut addresses = name.to_socket_addrs().with_context(|| format!("cannot find {name}"))?;
    addresses.next().with_context(|| format!("{name} has no address"))
}

/// Connects to the first address of a name that accepts. Blocks for [`IO_TIMEOUT`] for each address, and for the
/// resolver.
fn connect_to(name: &str) -> Result<TcpStream> {
    let mut last = None;
    for address in name.to_socket_addrs().with_context(|| format!("cannot find {name}"))? {
        match connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let error = last.map_or_else(|| anyhow::anyhow!("it has no address"), Error::from);
    Err(error.context(format!("cannot reach {name}")))
}

/// Connects with socket timeouts for the connection, every write and every read: the kernel keeps them, without a
/// system call that the sandbox may forbid.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let timeout = TimeVal::seconds(IO_TIMEOUT.as_secs().try_into().map_err(io::Error::other)?);
    setsockopt(&socket, SendTimeout, &timeout)?;
    // The TLS handshake reads, too.
    setsockopt(&socket, ReceiveTimeout, &timeout)?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        // The kernel returns EINPROGRESS from a connect that exceeds `SO_SNDTIMEO`.
        Err(Errno::EINPROGRESS) => return Err(io::ErrorKind::TimedOut.into()),
        other => other?,
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Writes all bytes, and returns how many were written.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> (usize, io::Result<()>) {
    // A write to a connection that the receiver has closed succeeds and is lost, so this is checked first.
    if let Err(error) = is_open(stream) {
        return (0, Err(error));
    }
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Fails if the receiver has closed the connection.
fn is_open(stream: &TcpStream) -> io::Result<()> {
    match recv(stream.as_raw_fd(), &mut [0; 64], MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
        // Receivers send nothing; one that does is alive.
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A sink whose files have been read.
pub(super) struct PreparedSyslog {
    address: SyslogAddress,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl PreparedSyslog {
    /// Reads the certificates of a receiver over TLS. Blocks on the file system. Fails where a file cannot be read or used.
    pub(super) fn read(address: SyslogAddress) -> Result<Self> {
        #[cfg(feature = "tls")]
        let tls = match &address {
            SyslogAddress::Tls(tls) => Some(ClientTls::read(&tls.files, &[])?),
            SyslogAddress::Socket(_) | SyslogAddress::Udp(_) | SyslogAddress::Tcp(_) => None,
        };
        Ok(Self {
            address,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

/// A sink to a syslog receiver.
pub(super) struct SyslogSink {
    prepared: PreparedSyslog,
    connection: Option<SyslogConnection>,
    text: MessageText,
    host: Arc<str>,
    /// Messages that are being sent, and where each ends.
    messages: Vec<u8>,
    ends: Vec<usize>,
}

impl SyslogSink {
    /// Prepares the sink. The connection is made with the first record.
    pub(super) fn open(prepared: PreparedSyslog, options: TextOptions, host: Arc<str>) -> Self {
        Self {
            prepared,
            connection: None,
            text: MessageText::new(options),
            host,
            messages: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn encode(&mut self, records: &[Record]) {
        let has_length = !matches!(self.prepared.address, SyslogAddress::Socket(_) | SyslogAddress::Udp(_));
        self.messages.clear();
        self.ends.clear();
        for record in records {
            let message = message(record, &self.host, &self.text.of(record));
            if has_length {
                self.messages.extend_from_slice(message.len().to_string().as_bytes());
                self.messages.push(b' ');
            }
            self.messages.extend_from_slice(message.as_bytes());
            self.ends.push(self.messages.len());
        }
    }
}

impl Sink for SyslogSink {
    fn deliver(&mut self, records: &[Record]) -> DeliveryReport {
        let PreparedSyslog {
            address,
            #[cfg(feature = "tls")]
            tls,
        } = &mut self.prepared;
        let open = || {
            SyslogConnection::open(
                address,
                #[cfg(feature = "tls")]
                tls.as_mut(),
            )
        };
        let mut connection = match self.connection.take().map_or_else(open, Ok) {
            Ok(connection) => connection,
            Err(error) => return DeliveryReport::stopped(0, error),
        };
        self.encode(records);
        match connection.send(&self.messages, &self.ends) {
            (sent, Ok(())) => {
                self.connection = Some(connection);
                DeliveryReport::complete(sent)
            }
            // The datagram would be as large at the next attempt.
            (sent, Err(error)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.connection = Some(connection);
                DeliveryReport { delivered: sent, rejected: Some((1, error.into())), error: None }
            }
            (sent, Err(error)) => {
                let receiver = match &self.prepared.address {
                    SyslogAddress::Socket(path) => path.display().to_string(),
                    SyslogAddress::Udp(name) | SyslogAddress::Tcp(name) => name.clone(),
                    #[cfg(feature = "tls")]
                    SyslogAddress::Tls(tls) => tls.authority.clone(),
                };
                DeliveryReport::stopped(sent, Error::from(error).context(format!("cannot write to {receiver}")))
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        let stream = match &mut self.connection {
            Some(SyslogConnection::Tcp(stream)) => stream,
            #[cfg(feature = "tls")]
            Some(SyslogConnection::Tls(secured)) => secured.close()?,
            Some(SyslogConnection::Socket(..) | SyslogConnection::Udp(_)) | None => return Ok(()),
        };
        // A connection that is closed at once may be reset with data under way; the receiver's own FIN confirms that it
        // has read everything.
        stream.shutdown(Shutdown::Write)?;
        // Less than the limit for the end of the run.
        stream.set_read_timeout(Some(IO_TIMEOUT / 2))?;
        match io::copy(stream, &mut io::sink()) {
            // The receiver does not close: it may or may not have read everything.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
}

/// Encodes a record by RFC 5424, without a frame.
pub(super) fn message(record: &Record, host: &str, text: &str) -> String {
    use std::fmt::Write as _;

    let priority = FACILITY * 8 + fields::severity(record) as u8;
    let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
    let host = if host.is_empty() { "-" } else { &host };
    let (time, process, kind) = (record.time(), std::process::id(), record.type_name());
    let mut message = format!("<{priority}>1 {time:.6} {host} rsttrace {process} {kind} [{DATA_ID}");
    for field in fields::record_fields(record) {
        let value = Sanitized(&field.value.to_string()).to_string();
        // Writing to a string cannot fail.
        let _ignored = write!(message, " {}=\"", field.name);
        for character in value.chars() {
            if matches!(character, '"' | '\\' | ']') {
                message.push('\\');
            }
            message.push(character);
        }
        message.push('"');
    }
    // The byte order mark says that the text is UTF-8 (RFC 5424, section 6.4).
    let _ignored = write!(message, "] \u{feff}{text}");
    message
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Lost, LostWhere};

    #[test]
    fn parses_addresses() {
        let of = |text| SyslogAddress::parse(Some(text));
        assert_eq!(SyslogAddress::parse(None), Ok(SyslogAddress::Socket("/dev/log".into())));
        assert_eq!(of("/run/log"), Ok(SyslogAddress::Socket("/run/log".into())));
        assert_eq!(of("udp://logs"), Ok(SyslogAddress::Udp("logs:514".into())));
        assert_eq!(of("tcp://[::1]:99"), Ok(SyslogAddress::Tcp("[::1]:99".into())));
        assert_eq!(of("tcp://[::1]"), Ok(SyslogAddress::Tcp("[::1]:601".into())));
        for bad in
            ["", "logs", "udp://", "tcp://:99", "tcp://logs:0", "tcp://logs:x", "tcp://::1", "tcp://a/b", "http://logs"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn encodes_a_message_by_rfc_5424() {
        let lost = Record::Lost(Lost { time: Timestamp::UNIX_EPOCH, host: None, count: 7, r#where: LostWhere::Kernel });
        let message = message(&lost, "gw 1", "seven");
        let process = std::process::id();
        assert_eq!(
            message,
            format!(
                "<28>1 1970-01-01T00:00:00.000000Z gw1 rsttrace {process} lost \
                 [rsttrace@32473 type=\"lost\" count=\"7\" where=\"kernel\"] \u{feff}seven"
            )
        );
    }
}
