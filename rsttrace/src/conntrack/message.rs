//! Messages of ctnetlink, the netlink interface of connection tracking: the request for one entry, and its answer.
//!
//! Libraries for it exist (`netlink-packet-netfilter`), with types for every netfilter message; two messages of nine
//! attributes need none of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{
    Endpoint,
    translation::{ConntrackEntry, ConntrackState, ConntrackStatus, Tuple},
};

/// `NFNL_SUBSYS_CTNETLINK`, the upper half of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_NEW`: an entry.
const ENTRY: u16 = SUBSYSTEM;
/// `IPCTNL_MSG_CT_GET`: a request for one.
const GET: u16 = SUBSYSTEM | 1;

// Attributes of `enum ctattr_type`.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
// Inside of a tuple (`ctattr_tuple`), of its addresses (`ctattr_ip`) and of its ports (`ctattr_l4proto`).
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
// Inside of CTA_PROTOINFO (`ctattr_protoinfo`), and of that (`ctattr_protoinfo_tcp`).
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: the bits of an attribute's type without its flags.
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nfgenmsg`, which follows.
const GENERIC_HEADER: usize = 4;
/// Protocol number of TCP.
const TCP: u8 = 6;

/// Answer of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The entry.
    Entry(ConntrackEntry),
    /// The request failed with this `errno`, positive; `ENOENT` where there is no entry.
    Error(i32),
    /// Bytes that are no complete message, or one of another kind.
    Malformed,
}

/// Number of the request that a message answers; `None` when it is too short to have one.
pub(super) fn sequence_number(message: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(at(message, 8)?))
}

/// The request for the entry that has `tuple` in either direction, in zone 0. `None` for ends of different IP versions.
pub(super) fn request(sequence_number: u32, tuple: &Tuple) -> Option<Vec<u8>> {
    let (family, addresses) = match (tuple.source.address, tuple.destination.address) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (
            libc::AF_INET,
            [attribute(CTA_IP_V4_SRC, &source.octets()), attribute(CTA_IP_V4_DST, &destination.octets())].concat(),
        ),
        (IpAddr::V6(source), IpAddr::V6(destination)) => (
            libc::AF_INET6,
            [attribute(CTA_IP_V6_SRC, &source.octets()), attribute(CTA_IP_V6_DST, &destination.octets())].concat(),
        ),
        _ => return None,
    };
    let ports = [
        attribute(CTA_PROTO_NUM, &[TCP]),
        attribute(CTA_PROTO_SRC_PORT, &tuple.source.port.to_be_bytes()),
        attribute(CTA_PROTO_DST_PORT, &tuple.destination.port.to_be_bytes()),
    ]
    .concat();
    let parts = [attribute(CTA_TUPLE_IP | NESTED, &addresses), attribute(CTA_TUPLE_PROTO | NESTED, &ports)].concat();
    // The kernel looks for the tuple among those of both directions, whatever this attribute is called.
    let body = attribute(CTA_TUPLE_ORIG | NESTED, &parts);
    let length = u32::try_from(HEADER + GENERIC_HEADER + body.len()).ok()?;
    let mut message = Vec::with_capacity(HEADER + GENERIC_HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(GET.to_ne_bytes());
    message.extend(u16::try_from(libc::NLM_F_REQUEST).ok()?.to_ne_bytes());
    message.extend(sequence_number.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    // `nfgen_family`, `version` (NFNETLINK_V0), `res_id`.
    message.extend([u8::try_from(family).ok()?, 0, 0, 0]);
    message.extend(body);
    Some(message)
}

/// Parses the answer to a [`request`]. Unknown attributes are skipped.
pub(super) fn parse(message: &[u8]) -> Reply {
    reply(message).unwrap_or(Reply::Malformed)
}

fn reply(message: &[u8]) -> Option<Reply> {
    let length = usize::try_from(u32::from_ne_bytes(at(message, 0)?)).ok()?;
    let message = message.get(..length)?;
    let kind = u16::from_ne_bytes(at(message, 4)?);
    if i32::from(kind) == libc::NLMSG_ERROR {
        let error = i32::from_ne_bytes(at(message, HEADER)?);
        // 0 acknowledges, which was not asked for.
        return (error < 0).then_some(Reply::Error(error.checked_neg()?));
    }
    let attributes = message.get(HEADER + GENERIC_HEADER..)?;
    if kind != ENTRY {
        return None;
    }
    let tcp_state = find(attributes, CTA_PROTOINFO)
        .and_then(|info| find(find(info, CTA_PROTOINFO_TCP)?, CTA_PROTOINFO_TCP_STATE))
        .and_then(|state| state.first().copied());
    Some(Reply::Entry(ConntrackEntry {
        original: tuple(find(attributes, CTA_TUPLE_ORIG)?)?,
        reply: tuple(find(attributes, CTA_TUPLE_REPLY)?)?,
        status: ConntrackStatus(u32::from_be_bytes(at(find(attributes, CTA_STATUS)?, 0)?)),
        tcp_state: tcp_state.map(ConntrackState),
        timeout_s: find(attributes, CTA_TIMEOUT).and_then(|timeout| at(timeout, 0)).map(u32::from_be_bytes),
    }))
}

/// Parses a tuple; `None` for another protocol than TCP.
fn tuple(parts: &[u8]) -> Option<Tuple> {
    let (addresses, ports) = (find(parts, CTA_TUPLE_IP)?, find(parts, CTA_TUPLE_PROTO)?);
    if find(ports, CTA_PROTO_NUM)?.first() != Some(&TCP) {
        return None;
    }
    let v4 = |kind| Some(IpAddr::from(Ipv4Addr::from(at::<4>(find(addresses, kind)?, 0)?)));
    let v6 = |kind| Some(IpAddr::from(Ipv6Addr::from(at::<16>(find(addresses, kind)?, 0)?)));
    let (source, destination) = match v4(CTA_IP_V4_SRC) {
        Some(source) => (source, v4(CTA_IP_V4_DST)?),
        None => (v6(CTA_IP_V6_SRC)?, v6(CTA_IP_V6_DST)?),
    };
    let port = |kind| Some(u16::from_be_bytes(at(find(ports, kind)?, 0)?));
    Some(Tuple {
        source: Endpoint { address: source, port: port(CTA_PROTO_SRC_PORT)? },
        destination: Endpoint { address: destination, port: port(CTA_PROTO_DST_PORT)? },
    })
}

/// An attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Values are addresses, ports and what holds them: a hundred bytes at most.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Value of the first attribute of this type. `None` where there is none before the end or before malformed bytes.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(at(attributes, 0)?));
        let kind = u16::from_ne_bytes(at(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if kind & TYPE_MASK == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// `N` bytes from an offset on.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn end(text: &str) -> Endpoint {
        let address: std::net::SocketAddr = text.parse().expect("an address with a port");
        Endpoint { address: address.ip(), port: address.port() }
    }

    pub(in super::super) fn tuple_of(source: &str, destination: &str) -> Tuple {
        Tuple { source: end(source), destination: end(destination) }
    }

    /// Attribute of a tuple, as [`request`] writes it.
    fn tuple_attribute(kind: u16, tuple: &Tuple) -> Vec<u8> {
        let request = request(0, tuple).expect("ends of one IP version");
        let value = find(&request[HEADER + GENERIC_HEADER..], CTA_TUPLE_ORIG).expect("it has one").to_vec();
        attribute(kind | NESTED, &value)
    }

    /// Message of an entry in state CLOSE, with an attribute that is not known before its tuples.
    pub(in super::super) fn entry_message(original: &Tuple, reply: &Tuple, state: u8) -> Vec<u8> {
        let state = attribute(CTA_PROTOINFO_TCP_STATE, &[state]);
        let info = attribute(CTA_PROTOINFO_TCP | NESTED, &state);
        let body = [
            attribute(99, &[1, 2, 3, 4, 5]),
            tuple_attribute(CTA_TUPLE_ORIG, original),
            tuple_attribute(CTA_TUPLE_REPLY, reply),
            attribute(CTA_STATUS, &0x1ae_u32.to_be_bytes()),
            attribute(CTA_TIMEOUT, &9_u32.to_be_bytes()),
            attribute(CTA_PROTOINFO | NESTED, &info),
        ]
        .concat();
        let mut message = u32::try_from(20 + body.len()).expect("short").to_ne_bytes().to_vec();
        message.extend([ENTRY.to_ne_bytes(), [0, 0]].concat());
        message.extend([7_u32.to_ne_bytes(), [0; 4], [2, 0, 0, 0]].concat());
        message.extend(body);
        message
    }

    fn error_message(error: i32) -> Vec<u8> {
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend([2_u16.to_ne_bytes(), [0, 0]].concat());
        message.extend([7_u32.to_ne_bytes(), [0; 4], error.to_ne_bytes()].concat());
        message
    }

    #[test]
    fn an_entry_has_both_tuples_and_its_state() {
        for (original, reply) in [
            (tuple_of("10.0.1.5:40000", "10.96.0.10:80"), tuple_of("10.0.3.7:8080", "10.0.1.5:40000")),
            (tuple_of("[2001:db8::5]:40000", "[fd00::10]:80"), tuple_of("[fd00::7]:8080", "[2001:db8::5]:40000")),
        ] {
            let message = entry_message(&original, &reply, 8);
            let Reply::Entry(entry) = parse(&message) else { panic!("an entry") };
            assert_eq!((entry.original, entry.reply), (original, reply));
            assert_eq!((entry.tcp_state, entry.timeout_s), (Some(ConntrackState::CLOSE), Some(9)));
            let status = entry.status;
            assert!(status.seen_reply() && status.assured() && status.destination_translated());
            assert!(!status.source_translated());
            assert_eq!(sequence_number(&message), Some(7));
        }
    }

    #[test]
    fn a_request_has_the_bytes_that_the_kernel_expects() {
        let message = request(7, &tuple_of("10.0.0.1:1", "10.0.0.2:2")).expect("ends of one IP version");
        if cfg!(target_endian = "little") {
            let expected = [
                // Header: 72 bytes, IPCTNL_MSG_CT_GET, NLM_F_REQUEST, 7; AF_INET.
                &[72, 0, 0, 0, 1, 1, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0][..],
                // Tuple, 52 bytes: addresses, 20 bytes.
                &[52, 0, 1, 0x80, 20, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 1, 8, 0, 2, 0, 10, 0, 0, 2],
                // Protocol and ports, 28 bytes.
                &[28, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0, 6, 0, 2, 0, 0, 1, 0, 0, 6, 0, 3, 0, 0, 2, 0, 0],
            ];
            assert_eq!(message, expected.concat());
        }
        assert_eq!(request(7, &Tuple { source: end("10.0.0.1:1"), destination: end("[::1]:2") }), None);
    }

    #[test]
    fn an_error_is_its_number() {
        assert_eq!(parse(&error_message(-libc::ENOENT)), Reply::Error(libc::ENOENT));
        assert_eq!(parse(&error_message(0)), Reply::Malformed);
        assert_eq!(parse(&error_message(i32::MIN)), Reply::Malformed);
    }

    #[test]
    fn a_message_that_is_cut_or_of_another_kind_is_malformed() {
        let whole = entry_message(&tuple_of("10.0.0.1:1", "10.0.0.2:2"), &tuple_of("10.0.0.2:2", "10.0.0.1:1"), 8);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), Reply::Malformed, "{length}");
        }
        let mut of_another_protocol = whole.clone();
        let at = whole.windows(5).position(|bytes| bytes == [5, 0, 1, 0, TCP] || bytes == [0, 5, 0, 1, TCP]);
        of_another_protocol[at.expect("it has one") + 4] = 17;
        assert_eq!(parse(&of_another_protocol), Reply::Malformed);
        let mut of_another_kind = whole;
        of_another_kind[4..6].copy_from_slice(&(SUBSYSTEM | 2).to_ne_bytes());
        assert_eq!(parse(&of_another_kind), Reply::Malformed);
    }
}
