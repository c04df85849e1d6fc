//! Resets as packets of a capture, for Wireshark, tshark and tcpdump: headers rebuilt from the record, and the block of the long
//! format as the packet's comment.
//!
//! The format is that of draft-ietf-opsawg-pcapng. Resets that many tell of in one record are one packet.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use etherparse::{IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader, TcpOptionElement, ip_number};
use jiff::tz::TimeZone;
use rsttrace_common::abi::tcp_flag;

use crate::{
    format::{Format, Formatter, TextOptions, TextWidth, TimeFormat},
    model::{Direction, Record, Reset},
};

/// Block types.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Link type of a packet without a link header (`LINKTYPE_RAW`).
const RAW_IP: u16 = 101;
/// Option codes: of any block the end and a comment, of a section the program, of an interface its name and resolution, of a
/// packet its flags.
const END: u16 = 0;
const COMMENT: u16 = 1;
const PROGRAM: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
/// Resolution of the times: nanoseconds, as a power of ten.
const NANOSECONDS: u8 = 9;
/// Most bytes of an option.
const OPTION_MAX: usize = u16::MAX as usize;

/// Said of each packet, since it was not captured.
const REBUILT: &str = "Headers rebuilt from a record of rsttrace; fields that it does not have are 0.";

/// Writer of a capture.
pub(crate) struct PcapngWriter<W> {
    out: W,
    has_begun: bool,
}

impl<W: Write> PcapngWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, has_begun: false }
    }

    /// Writes a record as a packet; records of other types have none. Fails where writing fails.
    pub(crate) fn write(&mut self, record: &Record) -> io::Result<()> {
        self.begin()?;
        let Record::Reset(reset) = record else { return Ok(()) };
        let packet = packet(reset);
        let mut block = Vec::new();
        // One that has written nothing yet: each block stands alone.
        let mut formatter = block_formatter();
        formatter.write(record, &mut block)?;
        formatter.flush(u64::MAX, &mut block)?;
        let comment = format!("{}\n\n{REBUILT}", String::from_utf8_lossy(&block).trim_end());

        let mut body = Vec::with_capacity(packet.len() + comment.len() + 64);
        let time_ns = u64::try_from(reset.time.as_nanosecond()).unwrap_or(0);
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        body.extend(0_u32.to_le_bytes());
        body.extend((time_ns >> 32).to_le_bytes().get(..4).unwrap_or_default());
        body.extend(time_ns.to_le_bytes().get(..4).unwrap_or_default());
        body.extend(length.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(&packet);
        pad(&mut body);
        option(&mut body, COMMENT, cut(&comment).as_bytes());
        let direction: u32 = if reset.direction == Direction::Received { 1 } else { 2 };
        option(&mut body, FLAGS, &direction.to_le_bytes());
        option(&mut body, END, &[]);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Writes the header, if nothing else has been written. Fails where writing fails.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Ok(());
        }
        let mut section = Vec::new();
        section.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        section.extend(1_u16.to_le_bytes());
        section.extend(0_u16.to_le_bytes());
        // The length of the section is not known.
        section.extend(u64::MAX.to_le_bytes());
        option(&mut section, PROGRAM, concat!("rsttrace ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut section, END, &[]);
        self.block(SECTION_HEADER, &section)?;
        let mut interface = Vec::new();
        interface.extend(RAW_IP.to_le_bytes());
        interface.extend([0; 2]);
        interface.extend(0_u32.to_le_bytes());
        option(&mut interface, NAME, b"rsttrace");
        option(&mut interface, RESOLUTION, &[NANOSECONDS]);
        option(&mut interface, END, &[]);
        self.block(INTERFACE, &interface)
    }

    /// Fails where writing fails.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(body)?;
        self.out.write_all(&length)
    }
}

/// The long format without colours, names of this host and line breaks of a terminal.
fn block_formatter() -> Box<dyn Formatter> {
    Format::Long.formatter(TextOptions {
        color: false,
        time: TimeFormat::Iso,
        started_ns: 0,
        zone: TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: true,
    })
}

/// The packet that a record tells of: an IP and a TCP header. What the record lacks is 0.
fn packet(reset: &Reset) -> Vec<u8> {
    let (from, to) = match reset.direction {
        Direction::Sent => (reset.local, reset.peer.end()),
        Direction::Received => (reset.peer.end(), reset.local),
    };
    let header = reset.packet.as_ref();
    let (ttl, id) = header.map_or((0, 0), |header| (header.ttl, header.id.unwrap_or(0)));
    let flags = header.map(|header| header.flags.0);
    let segment = &reset.segment;
    let mut tcp =
        TcpHeader::new(from.port, to.port, segment.seq.unwrap_or(0), header.map_or(0, |header| header.window));
    tcp.rst = true;
    tcp.ack = flags.map_or(segment.ack.is_some(), |flags| flags & tcp_flag::ACK != 0);
    tcp.acknowledgment_number = segment.ack.unwrap_or(0);
    if let (Some(value), Some(echo)) = (segment.timestamp_value, segment.timestamp_echo) {
        let options = [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(value, echo)];
        // Twelve bytes always fit.
        let _fits = tcp.set_options(&options);
    }
    let ip = match (from.address, to.address) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // The length is filled in with the packet.
            let Ok(mut ip) = Ipv4Header::new(0, ttl, ip_number::TCP, source.octets(), destination.octets()) else {
                return Vec::new();
            };
            ip.identification = id;
            IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default())
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let ip = Ipv6Header {
                hop_limit: ttl,
                next_header: ip_number::TCP,
                source: octets(source),
                destination: octets(destination),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(ip, etherparse::Ipv6Extensions::default())
        }
    };
    let mut bytes = Vec::with_capacity(80);
    // A vector takes it, and its length fits.
    let _written = PacketBuilder::ip(ip).tcp_header(tcp).write(&mut bytes, &[]);
    bytes
}

/// Appends an option, padded to four bytes.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A text as long as an option may be.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(OPTION_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{
        capture::{Capture, Captured, Packets, TcpSegment},
        model::{Cause, Endpoint, Family, Hook, IncidentRole, Packet, Segment, TcpFlags, internals::Internals},
    };

    fn reset(address: &str, direction: Direction) -> Reset {
        let address: IpAddr = address.parse().expect("an address");
        Reset {
            time: jiff::Timestamp::from_nanosecond(1_790_000_000_123_456_789).expect("in range"),
            host: "gw".into(),
            seq: 3,
            count: 1,
            direction,
            hook: Hook::TcpReceiveReset,
            family: if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
            local: Endpoint { address, port: 4000 },
            peer: peer(address).into(),
            netns: None,
            process: None,
            actor: None,
            cgroup: None,
            unit: None,
            container: None,
            pod: None,
            socket: None,
            segment: Segment {
                seq: Some(7),
                ack: Some(9),
                timestamp: Some(true),
                timestamp_value: Some(11),
                timestamp_echo: Some(12),
            },
            packet: (direction == Direction::Received).then_some(Packet {
                ttl: 60,
                handshake_ttl: None,
                flags: TcpFlags(0x14),
                seq: 7,
                ack: 9,
                window: 501,
                id: Some(77),
                length: 52,
            }),
            provoked_by: None,
            translated: None,
            reason: None,
            cause: Cause::undiagnosed(),
            incident: 3,
            incident_role: IncidentRole::First,
            other_end: None,
            internals: Internals::default(),
        }
    }

    fn peer(address: IpAddr) -> Endpoint {
        let address =
            if address.is_ipv4() { [10, 0, 0, 9].into() } else { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]) };
        Endpoint { address, port: 80 }
    }

    fn written(resets: Vec<Reset>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = PcapngWriter::new(&mut bytes);
        for reset in resets {
            writer.write(&Record::Reset(reset.into())).expect("a vector");
        }
        writer.begin().expect("a vector");
        bytes
    }

    #[test]
    fn a_reset_is_a_packet_with_its_numbers() {
        for (address, direction) in [("10.0.0.1", Direction::Received), ("2001:db8::1", Direction::Sent)] {
            let expected = reset(address, direction);
            let bytes = written(vec![expected.clone()]);
            assert!(String::from_utf8_lossy(&bytes).contains("reset sent to") || direction == Direction::Received);
            let mut packets = Packets::new(Cursor::new(bytes)).expect("a capture");
            let packet = packets.next_packet().expect("whole").expect("one packet");
            let segment = TcpSegment::of(packet).expect("a segment");
            assert_eq!(segment.time_ns, 1_790_000_000_123_456_789);
            assert_eq!((segment.seq, segment.ack, segment.timestamp()), (7, 9, Some((11, 12))));
            assert_eq!(segment.is_outgoing, Some(direction == Direction::Sent));
            let header = expected.packet.map(|header| (header.ttl, header.window, header.id));
            let id = segment.id.filter(|_| header.is_some());
            assert_eq!((segment.ttl, segment.window, id), header.unwrap_or((0, 0, None)));
            let (local, peer) =
                if direction == Direction::Sent { (segment.from, segment.to) } else { (segment.to, segment.from) };
            assert_eq!((local, peer), (expected.local, expected.peer.end()));
            assert!(packets.next_packet().expect("whole").is_none());
        }
    }

    #[test]
    fn what_was_written_can_be_replayed() {
        let resets = vec![reset("10.0.0.1", Direction::Received), reset("10.0.0.2", Direction::Received)];
        let mut capture = Capture::new(Cursor::new(written(resets)), Vec::new(), 1, false).expect("a capture");
        let mut count = 0;
        while let Some(record) = capture.next_record() {
            assert!(matches!(record, Captured::Reset(_)));
            count += 1;
        }
        assert_eq!(count, 2);
        assert!(capture.end().0.is_none());
        // A capture without packets is one all the same.
        assert!(
            Packets::new(Cursor::new(written(Vec::new()))).expect("a capture").next_packet().expect("whole").is_none()
        );
    }
}
