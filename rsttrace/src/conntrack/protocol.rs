//! Messages between this process and the helper that has the sockets: fixed bytes, each message one packet of a socket pair.
//!
//! The helper trusts none of a request: it builds the netlink message from the tuple, so that a process that was taken over
//! can ask for entries and do nothing else. This process parses what the kernel answered, so that the helper need not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{Endpoint, NamespaceId, translation::Tuple};

/// Most bytes of a message of the kernel's. An entry with every extension has less than 1,000.
pub(super) const MESSAGE_MAX: usize = 4096;
/// Most bytes of a packet.
pub(super) const PACKET_MAX: usize = 8 + 2 * (4 + 4 + MESSAGE_MAX);
/// Bytes of a request.
pub(super) const REQUEST_BYTES: usize = 8 + 2 + 2 + 2 + 2 + 2 + 16 + 16;
/// Index that names no table.
const NO_TABLE: u16 = u16::MAX;
/// Number in place of a request's, in a packet that says that a table is gone.
const GONE: u64 = u64::MAX;

/// A request for the entries of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HelperRequest {
    /// Number that the answer has.
    pub(super) serial: u64,
    /// Table of the connection's namespace; it is asked for the tuple, and if it does not have that, for its mirror image.
    pub(super) own: Option<u16>,
    /// Table of the host's namespace, where that is another; it is asked for the tuple.
    pub(super) host: Option<u16>,
    /// Packets that this host's end sends.
    pub(super) tuple: Tuple,
}

impl HelperRequest {
    pub(super) fn encode(&self) -> [u8; REQUEST_BYTES] {
        let Tuple { source, destination } = self.tuple;
        let family: u16 = if source.address.is_ipv4() { 4 } else { 6 };
        let mut bytes = [0; REQUEST_BYTES];
        let fields: [&[u8]; 8] = [
            &self.serial.to_ne_bytes(),
            &self.own.unwrap_or(NO_TABLE).to_ne_bytes(),
            &self.host.unwrap_or(NO_TABLE).to_ne_bytes(),
            &family.to_ne_bytes(),
            &source.port.to_ne_bytes(),
            &destination.port.to_ne_bytes(),
            &octets(source.address),
            &octets(destination.address),
        ];
        let mut rest = bytes.iter_mut();
        for (to, from) in rest.by_ref().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// `None` for bytes that are no request.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REQUEST_BYTES {
            return None;
        }
        let number = |offset| Some(u16::from_ne_bytes(take(bytes, offset)?));
        let table = |offset| number(offset).map(|table| (table != NO_TABLE).then_some(table));
        let family = number(12)?;
        let address = |offset| {
            let all: [u8; 16] = take(bytes, offset)?;
            match family {
                4 => Some(IpAddr::from(Ipv4Addr::from(take::<4>(&all, 0)?))),
                6 => Some(IpAddr::from(Ipv6Addr::from(all))),
                _ => None,
            }
        };
        Some(Self {
            serial: u64::from_ne_bytes(take(bytes, 0)?),
            own: table(8)?,
            host: table(10)?,
            tuple: Tuple {
                source: Endpoint { address: address(18)?, port: number(14)? },
                destination: Endpoint { address: address(34)?, port: number(16)? },
            },
        })
    }
}

/// Address in 16 bytes, an IPv4 one at their start.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
    }
}

/// Answer of one table: the kernel's message, or the `errno` with which it could not be had.
pub(super) type TableAnswer<'a> = Result<&'a [u8], i32>;

/// A packet from the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HelperPacket<'a> {
    /// Answers to the request of this number.
    Answer {
        serial: u64,
        /// Of the table of the connection's namespace; `None` when it was not asked.
        own: Option<TableAnswer<'a>>,
        /// Of the host's table.
        host: Option<TableAnswer<'a>>,
    },
    /// The namespace with this table has ended.
    Gone(u16),
}

impl<'a> HelperPacket<'a> {
    pub(super) fn encode(&self, packet: &mut Vec<u8>) {
        packet.clear();
        match *self {
            Self::Answer { serial, own, host } => {
                packet.extend(serial.to_ne_bytes());
                for answer in [own, host] {
                    let (error, message) = match answer {
                        None => (-1, [].as_slice()),
                        Some(Err(error)) => (error, [].as_slice()),
                        Some(Ok(message)) => (0, message),
                    };
                    packet.extend(error.to_ne_bytes());
                    packet.extend(u32::try_from(message.len()).unwrap_or(0).to_ne_bytes());
                    packet.extend(message);
                }
            }
            Self::Gone(table) => {
                packet.extend(GONE.to_ne_bytes());
                packet.extend(table.to_ne_bytes());
            }
        }
    }

    /// `None` for bytes that are no packet.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let serial = u64::from_ne_bytes(take(bytes, 0)?);
        let mut rest = bytes.get(8..)?;
        if serial == GONE {
            return Some(Self::Gone(u16::from_ne_bytes(take(rest, 0)?)));
        }
        let mut next = || {
            let error = i32::from_ne_bytes(take(rest, 0)?);
            let length = usize::try_from(u32::from_ne_bytes(take(rest, 4)?)).ok()?;
            let (message, after) = rest.get(8..)?.split_at_checked(length)?;
            rest = after;
            Some(match error {
                -1 => None,
                0 => Some(Ok(message)),
                error => Some(Err(error)),
            })
        };
        Some(Self::Answer { serial, own: next()?, host: next()? })
    }
}

/// First packet of the helper: which tables it can ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HelperReady {
    /// Namespaces of the tables, by index. The first is the helper's own.
    pub(super) tables: Vec<NamespaceId>,
    /// Index of the host's table: of the namespace of PID 1; where that cannot be entered, of the helper's own.
    pub(super) host: u16,
    /// Namespaces that could not be entered.
    pub(super) refused: u16,
    /// `errno` of the first of these.
    pub(super) error: u16,
    /// Processes whose namespace cannot be seen for want of `CAP_SYS_PTRACE`.
    pub(super) hidden: u16,
    /// Namespaces beyond the bound.
    pub(super) beyond: u16,
}

impl HelperReady {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.host, self.refused, self.error, self.hidden, self.beyond].map(u16::to_ne_bytes).concat();
        for NamespaceId { inode, cookie } in &self.tables {
            bytes.extend(inode.to_ne_bytes());
            bytes.extend(cookie.to_ne_bytes());
        }
        bytes
    }

    /// `None` for bytes that name no table.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let numbers = [0, 2, 4, 6, 8].map(|offset| take(bytes, offset).map(u16::from_ne_bytes));
        let [Some(host), Some(refused), Some(error), Some(hidden), Some(beyond)] = numbers else { return None };
        let (tables, rest) = bytes.get(10..)?.as_chunks::<12>();
        if tables.is_empty() || !rest.is_empty() {
            return None;
        }
        let namespace = |table: &[u8; 12]| {
            let (inode, cookie) = (take(table, 0)?, take(table, 4)?);
            Some(NamespaceId { inode: u32::from_ne_bytes(inode), cookie: u64::from_ne_bytes(cookie) })
        };
        let tables = tables.iter().map(namespace).collect::<Option<Vec<_>>>()?;
        Some(Self { tables, host, refused, error, hidden, beyond })
    }
}

fn take<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::{super::message::tests::tuple_of, *};

    #[test]
    fn packets_survive_the_socket() {
        for tuple in [tuple_of("10.0.0.1:1", "10.0.0.2:2"), tuple_of("[2001:db8::1]:1", "[::ffff:0:1]:65535")] {
            for (own, host) in [(Some(0), None), (None, Some(3)), (Some(1), Some(0))] {
                let request = HelperRequest { serial: 1 << 40, own, host, tuple };
                assert_eq!(HelperRequest::decode(&request.encode()), Some(request));
            }
        }
        let mut bytes = Vec::new();
        for packet in [
            HelperPacket::Answer { serial: 7, own: Some(Ok(b"abc")), host: Some(Err(2)) },
            HelperPacket::Answer { serial: 7, own: None, host: Some(Ok(b"")) },
            HelperPacket::Gone(5),
        ] {
            packet.encode(&mut bytes);
            assert_eq!(HelperPacket::decode(&bytes), Some(packet));
            for length in 0..bytes.len() {
                assert_eq!(HelperPacket::decode(&bytes[..length]), None);
            }
        }
        let tables = vec![NamespaceId { inode: 1, cookie: 2 }, NamespaceId { inode: u32::MAX, cookie: 0 }];
        let ready = HelperReady { tables, host: 1, refused: 2, error: 3, hidden: 4, beyond: 5 };
        assert_eq!(HelperReady::decode(&ready.encode()), Some(ready.clone()));
        assert_eq!(HelperReady::decode(&ready.encode()[..20]), None);
    }

    #[test]
    fn bytes_that_are_no_request_are_none() {
        let request = HelperRequest { serial: 1, own: None, host: None, tuple: tuple_of("10.0.0.1:1", "10.0.0.2:2") };
        let mut bytes = request.encode();
        assert_eq!(HelperRequest::decode(&bytes[1..]), None);
        bytes[12..14].copy_from_slice(&5_u16.to_ne_bytes());
        assert_eq!(HelperRequest::decode(&bytes), None);
    }
}
