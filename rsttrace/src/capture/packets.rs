//! Packets of a capture file: pcap and pcapng, as a stream, within bounds of memory.

use std::{
    fmt,
    io::{self, Cursor, Read},
};

use pcap_parser::{
    Block, LegacyPcapBlock, OptionCode, PcapBlockOwned, PcapError, create_reader,
    traits::{PcapNGPacketBlock as _, PcapReaderIterator},
};

use super::link_layer::LinkType;

/// Bytes of a packet that are kept: every header of TCP lies in them, whatever is around it.
const HEADER_BYTES: usize = 320;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// Longest block that is read, bytes: a packet may have 256 KiB (`MAXIMUM_SNAPLEN` of libpcap), decryption secrets more.
const BLOCK_MAX: usize = 16 << 20;
/// Most interfaces of one section.
const INTERFACES_MAX: usize = 65_536;
/// Bytes of a pcap header.
const PCAP_HEADER: u32 = 24;
/// First bytes of a pcapng section, in either byte order.
const SECTION_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Code of an option with the flags of a packet, of which the lowest two bits are its direction.
const FLAGS_OPTION: OptionCode = OptionCode(2);
const NS_PER_S: u64 = 1_000_000_000;
/// Latest time that is told, nanoseconds since 1970: in the year 2262. A clock that is set to a later one is at fault, and sums of
/// times stay within their type.
const TIME_MAX_NS: u64 = i64::MAX.cast_unsigned();

/// One captured packet.
#[derive(Debug, Default)]
pub struct RawPacket {
    /// Number in the file, from 1 on, as other tools count them.
    pub number: u64,
    /// Time of capture, nanoseconds since 1970 (UTC), at most [`TIME_MAX_NS`].
    pub time_ns: u64,
    /// What the data begin with.
    pub link: LinkType,
    /// The first bytes, as many as were captured and are needed.
    pub data: Vec<u8>,
    /// Length on the wire, bytes.
    pub length: usize,
    /// Whether the capturing host sent it (`Some(true)`) or received it; `None` where the file does not say.
    pub is_outgoing: Option<bool>,
}

/// Why a capture cannot be read on.
#[derive(Debug)]
pub enum CaptureError {
    /// Reading failed.
    Io(io::Error),
    /// The file is cut off in the middle of a packet, as by a capture program that was killed.
    CutOff { packet: u64 },
    /// What comes after this packet is no block of a capture.
    Damaged { packet: u64 },
    /// A block is longer than any that this program reads.
    TooLong { packet: u64 },
}

impl fmt::Display for CaptureError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(formatter),
            Self::CutOff { packet } => write!(formatter, "it is cut off after packet {packet}"),
            Self::Damaged { packet } => write!(formatter, "what follows packet {packet} is no packet: it is damaged"),
            Self::TooLong { packet } => {
                write!(formatter, "what follows packet {packet} is a block of more than {} MiB", BLOCK_MAX >> 20)
            }
        }
    }
}

/// Interface of a section.
#[derive(Clone, Copy)]
struct Interface {
    link: LinkType,
    /// Units of a timestamp in a second; 0 for one that no clock has.
    resolution: u64,
    /// Seconds that are added to each timestamp.
    offset_s: i64,
    /// Most bytes that are captured of a packet; 0 for all.
    snap_length: u32,
}

/// Reader of a capture.
pub struct Packets {
    reader: Box<dyn PcapReaderIterator + Send>,
    /// Whether timestamps of a pcap file count nanoseconds.
    is_nanosecond: bool,
    /// Byte order of the section, in a pcapng file.
    is_big_endian: bool,
    interfaces: Vec<Interface>,
    packet: RawPacket,
    /// Size of the reader's buffer, bytes.
    capacity: usize,
    is_over: bool,
}

impl Packets {
    /// Begins to read. Blocks until the header is there. Fails where there is no whole one.
    pub fn new(mut input: impl Read + Send + 'static) -> io::Result<Self> {
        // The parser wants the whole first block from its first read, which a pipe may not give.
        let header = read_header(&mut input)?;
        let input = Cursor::new(header).chain(input);
        let reader = create_reader(READ_BYTES, input)
            .map_err(|_error| io::Error::new(io::ErrorKind::InvalidData, "its header is none of a packet capture"))?;
        Ok(Self {
            reader,
            is_nanosecond: false,
            is_big_endian: false,
            interfaces: Vec::new(),
            packet: RawPacket::default(),
            capacity: READ_BYTES,
            is_over: false,
        })
    }

    /// The next packet; `None` at the end. Blocks until it is there. Nothing comes after an error.
    pub fn next_packet(&mut self) -> Result<Option<&RawPacket>, CaptureError> {
        while !self.is_over {
            let (used, is_packet) = match self.reader.next() {
                Ok((used, block)) => {
                    let mut reading = Reading {
                        is_nanosecond: &mut self.is_nanosecond,
                        is_big_endian: &mut self.is_big_endian,
                        interfaces: &mut self.interfaces,
                        packet: &mut self.packet,
                    };
                    (used, reading.take(&block))
                }
                Err(error) => {
                    let lack = Lack::of(&error);
                    self.supply(lack)?;
                    continue;
                }
            };
            self.reader.consume(used);
            if is_packet {
                return Ok(Some(&self.packet));
            }
        }
        Ok(None)
    }

    /// Gets what the parser lacks. Fails where that cannot be had.
    fn supply(&mut self, lack: Lack) -> Result<(), CaptureError> {
        let packet = self.packet.number;
        let error = match lack {
            Lack::End => {
                self.is_over = true;
                return Ok(());
            }
            Lack::Data => match self.reader.refill() {
                Ok(()) => return Ok(()),
                Err(_error) => CaptureError::Io(io::Error::other("a read failed")),
            },
            Lack::Space if self.capacity < BLOCK_MAX => {
                self.capacity *= 2;
                self.reader.grow(self.capacity);
                return Ok(());
            }
            Lack::Space => CaptureError::TooLong { packet },
            Lack::Rest => CaptureError::CutOff { packet },
            Lack::Sense => CaptureError::Damaged { packet },
        };
        self.is_over = true;
        Err(error)
    }
}

/// What the parser lacks.
#[derive(Clone, Copy)]
enum Lack {
    /// Nothing: the file is over.
    End,
    /// More of the file.
    Data,
    /// A larger buffer.
    Space,
    /// The rest of a packet, which the file does not have.
    Rest,
    /// A block that it can read.
    Sense,
}

impl Lack {
    const fn of(error: &PcapError<&[u8]>) -> Self {
        match error {
            PcapError::Eof => Self::End,
            PcapError::Incomplete(_) => Self::Data,
            PcapError::BufferTooSmall => Self::Space,
            PcapError::UnexpectedEof => Self::Rest,
            _ => Self::Sense,
        }
    }
}

/// Reads the first block, which tells the kind of the file.
fn read_header(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let cut_off = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::InvalidData, "its header is cut off"),
        _ => error,
    };
    let mut header = vec![0; 12];
    input.read_exact(&mut header).map_err(cut_off)?;
    let length = match *header.first_chunk().unwrap_or(&[0; 12]) {
        [a, b, c, d, length @ .., 0x4d, 0x3c, 0x2b, 0x1a] if [a, b, c, d] == SECTION_MAGIC => {
            u32::from_le_bytes(length)
        }
        [a, b, c, d, length @ .., _, _, _, _] if [a, b, c, d] == SECTION_MAGIC => u32::from_be_bytes(length),
        _ => PCAP_HEADER,
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX).max(header.len());
    if length > READ_BYTES / 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its header is too long"));
    }
    let begun = header.len();
    header.resize(length, 0);
    input.read_exact(header.get_mut(begun..).unwrap_or_default()).map_err(cut_off)?;
    Ok(header)
}

/// The parts of [`Packets`] that a block changes.
struct Reading<'a> {
    is_nanosecond: &'a mut bool,
    is_big_endian: &'a mut bool,
    interfaces: &'a mut Vec<Interface>,
    packet: &'a mut RawPacket,
}

impl Reading<'_> {
    /// Takes a block. Returns whether it is a packet.
    fn take(&mut self, block: &PcapBlockOwned<'_>) -> bool {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                *self.is_nanosecond = header.is_nanosecond_precision();
                // The upper bits tell of a frame check sequence.
                let link = LinkType::of(header.network.0 & 0xffff);
                *self.interfaces = vec![Interface { link, resolution: 0, offset_s: 0, snap_length: 0 }];
                false
            }
            PcapBlockOwned::Legacy(block) => self.legacy(block),
            PcapBlockOwned::NG(block) => self.block(block),
        }
    }

    fn legacy(&mut self, block: &LegacyPcapBlock<'_>) -> bool {
        let Some(interface) = self.interfaces.first() else { return false };
        let unit = if *self.is_nanosecond { 1 } else { 1_000 };
        let time_ns = u64::from(block.ts_sec) * NS_PER_S + u64::from(block.ts_usec) * unit;
        let link = interface.link;
        self.packet.set(time_ns, link, block.data, block.origlen);
        true
    }

    fn block(&mut self, block: &Block<'_>) -> bool {
        match block {
            Block::SectionHeader(section) => {
                *self.is_big_endian = section.big_endian();
                self.interfaces.clear();
            }
            Block::InterfaceDescription(description) if self.interfaces.len() < INTERFACES_MAX => {
                self.interfaces.push(Interface {
                    link: LinkType::of(description.linktype.0),
                    resolution: resolution(description.if_tsresol),
                    // The parser takes every section for one of a little-endian host.
                    offset_s: match self.is_big_endian {
                        true => description.if_tsoffset.swap_bytes(),
                        false => description.if_tsoffset,
                    },
                    snap_length: description.snaplen,
                });
            }
            Block::EnhancedPacket(packet) => {
                let interface = usize::try_from(packet.if_id).ok().and_then(|id| self.interfaces.get(id));
                let Some(interface) = interface.copied() else {
                    self.packet.set(0, LinkType::Unknown(-1), &[], packet.origlen);
                    return true;
                };
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                self.packet.set(interface.time_ns(units), interface.link, packet.packet_data(), packet.origlen);
                let flags = packet.options.iter().find(|option| option.code == FLAGS_OPTION);
                let flags = flags.and_then(|flags| flags.value().first_chunk::<4>().copied());
                let flags = flags.map(if packet.big_endian() { u32::from_be_bytes } else { u32::from_le_bytes });
                self.packet.is_outgoing = match flags.map(|flags| flags & 0b11) {
                    Some(1) => Some(false),
                    Some(2) => Some(true),
                    _ => None,
                };
                return true;
            }
            Block::SimplePacket(packet) => {
                let Some(interface) = self.interfaces.first().copied() else { return false };
                let captured = match interface.snap_length {
                    0 => packet.origlen,
                    limit => packet.origlen.min(limit),
                };
                let data = packet.data.get(..usize::try_from(captured).unwrap_or(usize::MAX)).unwrap_or(packet.data);
                // It has no time: that of the packet before it.
                self.packet.set(self.packet.time_ns, interface.link, data, packet.origlen);
                return true;
            }
            _ => {}
        }
        false
    }
}

/// Units of a timestamp in a second, by the option `if_tsresol`: a negative power of 10, or of 2 with the highest bit; 0 for more
/// than fit.
fn resolution(option: u8) -> u64 {
    let power = u32::from(option & 0x7f);
    if option & 0x80 == 0 { 10_u64.checked_pow(power) } else { 1_u64.checked_shl(power) }.unwrap_or(0)
}

impl Interface {
    /// Time of a timestamp, nanoseconds since 1970; 0 for one before that.
    fn time_ns(self, units: u64) -> u64 {
        let since = match self.resolution {
            1_000_000 => units.checked_mul(1_000),
            NS_PER_S => Some(units),
            0 => None,
            resolution => u64::try_from(u128::from(units) * u128::from(NS_PER_S) / u128::from(resolution)).ok(),
        };
        let offset_ns = i128::from(self.offset_s) * i128::from(NS_PER_S);
        since.and_then(|since| u64::try_from(i128::from(since) + offset_ns).ok()).unwrap_or(0)
    }
}

impl RawPacket {
    fn set(&mut self, time_ns: u64, link: LinkType, data: &[u8], length: u32) {
        self.number += 1;
        self.time_ns = time_ns.min(TIME_MAX_NS);
        self.link = link;
        self.data.clear();
        self.data.extend_from_slice(data.get(..HEADER_BYTES).unwrap_or(data));
        self.length = usize::try_from(length).unwrap_or(usize::MAX).max(data.len());
        self.is_outgoing = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read: time, link type, captured and original length, direction.
    type Read = (u64, LinkType, usize, usize, Option<bool>);

    fn read(bytes: Vec<u8>) -> (Vec<Read>, Option<CaptureError>) {
        let mut packets = Packets::new(Cursor::new(bytes)).expect("a header");
        let mut all = Vec::new();
        loop {
            match packets.next_packet() {
                Ok(Some(packet)) => {
                    assert_eq!(packet.number, all.len() as u64 + 1);
                    all.push((packet.time_ns, packet.link, packet.data.len(), packet.length, packet.is_outgoing));
                }
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error)),
            }
        }
    }

    fn pcap(magic: u32, is_big: bool) -> Vec<u8> {
        let word = |number: u32| if is_big { number.to_be_bytes() } else { number.to_le_bytes() };
        let version = if is_big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
        let mut file = [word(magic), version, word(0), word(0), word(96), word(1)].concat();
        for (seconds, fraction, captured, length) in [(5, 7, 60, 60), (6, 8, 96, 1514)] {
            file.extend([word(seconds), word(fraction), word(captured), word(length)].concat());
            file.extend(vec![0; captured as usize]);
        }
        file
    }

    #[test]
    fn pcap_is_read_in_either_byte_order_and_resolution() {
        for (magic, unit) in [(0xa1b2_c3d4, 1_000), (0xa1b2_3c4d, 1)] {
            for is_big in [false, true] {
                let (packets, error) = read(pcap(magic, is_big));
                let expected = [
                    (5 * NS_PER_S + 7 * unit, LinkType::Ethernet, 60, 60, None),
                    (6 * NS_PER_S + 8 * unit, LinkType::Ethernet, 96, 1514, None),
                ];
                assert_eq!(packets, expected, "{magic:x} {is_big}");
                assert!(error.is_none());
            }
        }
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = (u32::try_from(body.len()).expect("short") + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, body, &length].concat()
    }

    fn section() -> Vec<u8> {
        block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat())
    }

    fn interface(link: u16, options: &[u8]) -> Vec<u8> {
        block(1, &[&link.to_le_bytes()[..], &[0, 0], &40_u32.to_le_bytes(), options].concat())
    }

    fn packet(interface: u32, units: u64, captured: u32, options: &[u8]) -> Vec<u8> {
        let time = units.to_le_bytes();
        let words =
            [interface.to_le_bytes(), [time[4], time[5], time[6], time[7]], [time[0], time[1], time[2], time[3]]];
        let lengths = [captured.to_le_bytes(), 1500_u32.to_le_bytes()];
        let data = vec![0; captured.next_multiple_of(4) as usize];
        block(6, &[&words.concat()[..], &lengths.concat(), &data, options].concat())
    }

    #[test]
    fn pcapng_has_interfaces_resolutions_offsets_and_directions() {
        // Nanoseconds, and 2^-10 s with an offset of a hundred seconds.
        let nanoseconds = interface(101, &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        let binary = interface(113, &[9, 0, 1, 0, 0x8a, 0, 0, 0, 14, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let outgoing = [2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        let mut file = [section(), nanoseconds, binary, interface(1, &[])].concat();
        file.extend(packet(0, 3 * NS_PER_S + 1, 20, &outgoing));
        file.extend(packet(1, 2048, 21, &[]));
        file.extend(packet(2, 1_000_001, 40, &[]));
        // An unknown block, a packet without time, and one of an interface that there is not.
        file.extend(block(0x7777, &[0; 8]));
        file.extend(block(3, &[&1500_u32.to_le_bytes()[..], &[0; 40]].concat()));
        file.extend(packet(9, 5, 8, &[]));
        // A new section begins without interfaces.
        file.extend(section());
        file.extend(packet(0, 5, 8, &[]));
        let (packets, error) = read(file);
        let expected = [
            (3 * NS_PER_S + 1, LinkType::Ip, 20, 1500, Some(true)),
            (102 * NS_PER_S, LinkType::Cooked, 21, 1500, None),
            (NS_PER_S + 1_000, LinkType::Ethernet, 40, 1500, None),
            (NS_PER_S + 1_000, LinkType::Ip, 40, 1500, None),
            (0, LinkType::Unknown(-1), 0, 1500, None),
            (0, LinkType::Unknown(-1), 0, 1500, None),
        ];
        assert_eq!(packets, expected);
        assert!(error.is_none(), "{error:?}");
    }

    #[test]
    fn what_cannot_be_read_on_is_told_with_its_place() {
        let whole = pcap(0xa1b2_c3d4, false);
        let (packets, error) = read(whole[..whole.len() - 1].to_vec());
        assert_eq!(packets.len(), 1);
        assert_eq!(error.expect("it is cut off").to_string(), "it is cut off after packet 1");

        let mut damaged = [section(), interface(1, &[]), packet(0, 5, 8, &[])].concat();
        damaged.extend(packet(0, 6, 8, &[]));
        // The length at the end of a block is that at its begin.
        *damaged.iter_mut().nth_back(3).expect("a block") += 4;
        let (packets, error) = read(damaged);
        assert_eq!(
            (packets.len(), error.map(|error| matches!(error, CaptureError::Damaged { packet: 1 }))),
            (1, Some(true))
        );

        let mut long = [section(), interface(1, &[])].concat();
        long.extend([6, 0, 0, 0, 0, 0, 0, 0x10]);
        long.resize(long.len() + BLOCK_MAX + READ_BYTES, 0);
        let (packets, error) = read(long);
        assert_eq!(packets.len(), 0);
        assert!(matches!(error, Some(CaptureError::TooLong { packet: 0 })), "{error:?}");

        for bytes in
            [vec![0xa1, 0xb2, 0xc3, 0xd4, 0], vec![0; 40], [&[0x0a, 0x0d, 0x0d, 0x0a][..], &[0xff; 40]].concat()]
        {
            assert!(Packets::new(Cursor::new(bytes)).is_err());
        }
    }
}
