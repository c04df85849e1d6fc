//! A TCP segment of a captured packet.

use etherparse::{Ipv6Header, LaxIpSlice, TcpHeaderSlice, TcpOptionElement, ip_number};
use rsttrace_common::abi::tcp_flag;

use super::packets::RawPacket;
use crate::model::{Endpoint, Family};

/// Bytes of an Ethernet header and an IPv4 header: in fewer there is none of TCP.
const IP_HEADER_END: usize = 34;
/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Place of the header's length in it.
const DATA_OFFSET: usize = 12;
/// Place of the flags in it.
const FLAGS: usize = 13;
/// The header's length where it has no options.
const NO_OPTIONS: u8 = 5 << 4;
/// Length of a TCP header with the timestamp option, as systems send it, bytes.
const TIMESTAMP_HEADER: u8 = 32;
/// Largest shift of a window (RFC 7323, 2.3).
const WINDOW_SCALE_MAX: u8 = 14;

/// A segment, with what following its connection needs. Numbers are those of the header.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment {
    /// Time of capture, nanoseconds since 1970.
    pub time_ns: u64,
    /// Sender.
    pub from: Endpoint,
    /// Receiver.
    pub to: Endpoint,
    /// IP version.
    pub family: Family,
    /// TTL or hop limit where it was captured.
    pub ttl: u8,
    /// IP identification; `None` for IPv6.
    pub id: Option<u16>,
    /// Length of the IP packet without extension headers, bytes.
    pub ip_length: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags (`tcp_flag`).
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Payload bytes.
    pub length: u32,
    /// Length of the TCP header, bytes.
    pub header_length: u8,
    /// Options; `None` where they were not captured.
    pub options: Option<TcpOptions>,
    /// Whether the capturing host sent it; `None` where the capture does not say.
    pub is_outgoing: Option<bool>,
}

/// Options of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Timestamp and its echo.
    pub timestamp: Option<(u32, u32)>,
    /// Shift of the window, of a SYN.
    pub window_scale: Option<u8>,
    /// End of the rightmost block of a selective acknowledgement.
    pub sack_end: Option<u32>,
}

/// What a packet is, if no whole segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSegment {
    /// Another protocol.
    Other,
    /// A fragment, which has no whole header, or not all of the payload.
    Fragment,
    /// Cut off before the end of the TCP header; before that of the IP header, of whatever protocol.
    CutOff,
    /// A link type that is not read.
    Link(i32),
}

impl TcpSegment {
    /// Decodes a packet.
    pub fn of(packet: &RawPacket) -> Result<Self, NoSegment> {
        if let super::LinkType::Unknown(number) = packet.link {
            return Err(NoSegment::Link(number));
        }
        // What is neither IPv4 nor IPv6 after all, or cut off in front of the end of its header.
        let is_cut_off = packet.data.len() < packet.length.min(IP_HEADER_END);
        let no_ip = if is_cut_off { NoSegment::CutOff } else { NoSegment::Other };
        let framed = packet.link.ip_packet(&packet.data).ok_or(no_ip)?;
        let (ip, _stopped_by) = LaxIpSlice::from_slice(framed.ip).map_err(|_error| no_ip)?;
        let payload = ip.payload();
        if payload.ip_number != ip_number::TCP {
            return Err(NoSegment::Other);
        }
        if payload.fragmented {
            return Err(NoSegment::Fragment);
        }
        // Extension headers count as well.
        let ip_header = payload.payload.as_ptr().addr() - framed.ip.as_ptr().addr();
        let total = total_length(&ip, ip_header, packet.length.saturating_sub(framed.offset));
        let fixed_header = if matches!(ip, LaxIpSlice::Ipv6(_)) { Ipv6Header::LEN } else { ip_header };
        let (family, ttl, id) = match &ip {
            LaxIpSlice::Ipv4(ip) => (Family::Ipv4, ip.header().ttl(), Some(ip.header().identification())),
            LaxIpSlice::Ipv6(ip) => (Family::Ipv6, ip.header().hop_limit(), None),
        };
        let mut fixed = [0; TCP_HEADER];
        let header = Header::of(payload.payload, &mut fixed)?;
        let tcp = &header.tcp;
        Ok(Self {
            time_ns: packet.time_ns,
            from: Endpoint { address: ip.source_addr(), port: tcp.source_port() },
            to: Endpoint { address: ip.destination_addr(), port: tcp.destination_port() },
            family,
            ttl,
            id,
            ip_length: u16::try_from(total.saturating_sub(ip_header - fixed_header)).unwrap_or(u16::MAX),
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: header.flags,
            window: tcp.window_size(),
            length: u32::try_from(total.saturating_sub(ip_header + header.length)).unwrap_or(u32::MAX),
            header_length: u8::try_from(header.length).unwrap_or(u8::MAX),
            options: header.options,
            is_outgoing: packet.is_outgoing.or(framed.is_outgoing),
        })
    }

    /// Returns whether it has all of these flags (`tcp_flag`).
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Returns whether it opens a connection: a SYN that acknowledges nothing.
    pub const fn is_syn(&self) -> bool {
        self.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
    }

    /// Sequence number behind it: SYN and FIN take one each.
    pub fn end(&self) -> u32 {
        let flags = u32::from(self.has(tcp_flag::SYN)) + u32::from(self.has(tcp_flag::FIN));
        self.seq.wrapping_add(self.length).wrapping_add(flags)
    }

    /// Whether it has a timestamp. Where the options were cut off, by the length of the header, which without a SYN has nothing else
    /// that is as long but a selective acknowledgement; `None` for a SYN then.
    pub fn has_timestamp(&self) -> Option<bool> {
        match self.options {
            Some(options) => Some(options.timestamp.is_some()),
            None if self.has(tcp_flag::SYN) => None,
            None => Some(self.header_length >= TIMESTAMP_HEADER),
        }
    }

    /// Its timestamp and echo.
    pub fn timestamp(&self) -> Option<(u32, u32)> {
        self.options.and_then(|options| options.timestamp)
    }
}

/// Length of an IP packet with this header, bytes; as it was on the wire where the header does not say, as with segmentation
/// offload beyond 64 KiB.
fn total_length(ip: &LaxIpSlice<'_>, ip_header: usize, on_wire: usize) -> usize {
    let told = match ip {
        LaxIpSlice::Ipv4(ip) => usize::from(ip.header().total_len()),
        LaxIpSlice::Ipv6(ip) => match ip.header().payload_length() {
            0 => 0,
            length => Ipv6Header::LEN + usize::from(length),
        },
    };
    if told < ip_header { on_wire } else { told }
}

/// A TCP header, whole or without its options.
struct Header<'a> {
    tcp: TcpHeaderSlice<'a>,
    /// Length with options, bytes.
    length: usize,
    flags: u8,
    options: Option<TcpOptions>,
}

impl<'a> Header<'a> {
    /// The header at the begin of these bytes. `fixed` is room for one whose options are cut off.
    fn of(bytes: &'a [u8], fixed: &'a mut [u8; TCP_HEADER]) -> Result<Self, NoSegment> {
        let begin = bytes.first_chunk::<TCP_HEADER>().ok_or(NoSegment::CutOff)?;
        let (length, flags) = (usize::from(begin[DATA_OFFSET] >> 4) * 4, begin[FLAGS]);
        if length < TCP_HEADER {
            return Err(NoSegment::Other);
        }
        if let Ok(tcp) = TcpHeaderSlice::from_slice(bytes) {
            let options = Some(TcpOptions::of(&tcp));
            return Ok(Self { tcp, length, flags, options });
        }
        *fixed = *begin;
        fixed[DATA_OFFSET] = NO_OPTIONS;
        let tcp = TcpHeaderSlice::from_slice(fixed).map_err(|_error| NoSegment::CutOff)?;
        Ok(Self { tcp, length, flags, options: None })
    }
}

impl TcpOptions {
    fn of(tcp: &TcpHeaderSlice<'_>) -> Self {
        let mut options = Self::default();
        // What comes after a damaged one is unknown.
        for option in tcp.options_iterator().map_while(Result::ok) {
            match option {
                TcpOptionElement::Timestamp(value, echo) => options.timestamp = Some((value, echo)),
                TcpOptionElement::WindowScale(shift) => options.window_scale = Some(shift.min(WINDOW_SCALE_MAX)),
                TcpOptionElement::SelectiveAcknowledgement((_, end), _) => options.sack_end = Some(end),
                _ => {}
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::capture::LinkType;

    fn packet(data: Vec<u8>) -> RawPacket {
        RawPacket { number: 1, time_ns: 7, link: LinkType::Ip, length: data.len(), data, is_outgoing: None }
    }

    fn segment(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 61)
            .tcp(4000, 80, 1000, 512)
            .ack(77)
            .options(&[TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(5, 6)])
            .expect("they fit")
            .write(&mut bytes, payload)
            .expect("a vector");
        bytes
    }

    #[test]
    fn a_segment_is_decoded_with_its_options() {
        let segment = TcpSegment::of(&packet(segment(b"hello"))).expect("a segment");
        assert_eq!((segment.from.to_string(), segment.to.to_string()), ("10.0.0.1:4000".into(), "10.0.0.2:80".into()));
        assert_eq!((segment.seq, segment.ack, segment.length, segment.window, segment.ttl), (1000, 77, 5, 512, 61));
        assert_eq!((segment.flags, segment.end(), segment.timestamp()), (tcp_flag::ACK, 1005, Some((5, 6))));
    }

    #[test]
    fn a_cut_packet_keeps_its_length() {
        let whole = segment(&[b'x'; 100]);
        for captured in [whole.len(), 60, 52, 45, 40] {
            let mut cut = packet(whole.clone());
            cut.data.truncate(captured);
            let segment = TcpSegment::of(&cut).expect("a segment");
            assert_eq!((segment.length, segment.options.is_some()), (100, captured >= 52), "{captured}");
        }
        for captured in 0..40 {
            let mut cut = packet(whole.clone());
            cut.data.truncate(captured);
            assert_eq!(TcpSegment::of(&cut).expect_err("no header"), NoSegment::CutOff, "{captured}");
        }
    }

    #[test]
    fn an_offloaded_segment_has_its_length_from_the_frame() {
        let mut bytes = segment(b"hello");
        bytes[2..4].fill(0);
        let mut large = packet(bytes);
        large.length = 100_052;
        assert_eq!(TcpSegment::of(&large).expect("a segment").length, 100_000);
    }

    #[test]
    fn extension_headers_are_skipped_and_fragments_left_out() {
        let mut bytes = Vec::new();
        let payload = [0x11, 0x22, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0, b'x'];
        bytes.extend([0x60, 0, 0, 0, 0, 8 + 8 + 21, 0, 33]);
        bytes.extend([0; 32]);
        // Hop-by-hop and destination options before TCP.
        bytes.extend([60, 0, 1, 4, 0, 0, 0, 0]);
        bytes.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        bytes.extend(payload);
        let segment = TcpSegment::of(&packet(bytes)).expect("a segment");
        assert_eq!((segment.family, segment.ttl, segment.seq, segment.length), (Family::Ipv6, 33, 9, 1));
        assert!(segment.is_syn());

        let mut fragment = self::segment(b"hello");
        fragment[6] |= 0x20;
        assert_eq!(TcpSegment::of(&packet(fragment)).expect_err("a fragment"), NoSegment::Fragment);
    }
}
