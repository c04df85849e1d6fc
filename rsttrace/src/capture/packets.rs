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
const PCAP_HEADER: usize = 24;
/// First bytes of a pcapng section, in either byte order.
const SECTION_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Code of an option with the flags of a packet, of which the lowest two bits are its direction.
const FLAGS_OPTION: OptionCode = OptionCode(2);
const NS_PER_S: u64 = 1_000_000_000;

/// One captured packet.
#[derive(Debug, Default)]
pub struct RawPacket {
    /// Number in the file, from 1 on, as other tools count them.
    pub number: u64,
    /// Time of capture, nanoseconds since 1970 (UTC).
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
            interfaces: Vec::new(),
            packet: RawPacket::default(),
            capacity: READ_BYTES,
            is_over: false,
        })
    }

    /// The next packet; `None` at the end. Blocks until it is there. Nothing comes after an error.
    pub fn next(&mut self) -> Result<Option<&RawPacket>, CaptureError> {
        while !self.is_over {
            let (used, is_packet) = match self.reader.next() {
                Ok((used, block)) => {
                    let mut reading = Reading {
                        is_nanosecond: &mut self.is_nanosecond,
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
        [a, b, c, d, length @ .., 0x4d, 0x3c, 0x2b, 0x1a] if [a, b, c, d] == SECTION_MAGIC => u32::from_le_bytes(length),
        [a, b, c, d, length @ .., _, _, _, _] if [a, b, c, d] == SECTION_MAGIC => u32::from_be_bytes(length),
        _ => PCAP_HEADER as u32,
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
            Block::SectionHeader(_) => self.interfaces.clear(),
            Block::InterfaceDescription(description) if self.interfaces.len() < INTERFACES_MAX => {
                self.interfaces.push(Interface {
                    link: LinkType::of(description.linktype.0),
                    resolution: description.ts_resolution().unwrap_or(0),
                    offset_s: description.ts_offset(),
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

impl Interface {
    /// Time of a timestamp, nanoseconds since 1970; 0 for one before that.
    fn time_ns(self, units: u64) -> u64 {
        let since = match self.resolution {
            1_000_000 => units.checked_mul(1_000),
            NS_PER_S => Some(units),
            0 => None,
            resolution => {
                u64::try_from(u128::from(units) * u128::from(NS_PER_S) / u128::from(resolution)).ok()
            }
        };
        let offset_ns = i128::from(self.offset_s) * i128::from(NS_PER_S);
        since.and_then(|since| u64::try_from(i128::from(since) + offset_ns).ok()).unwrap_or(0)
    }
}

impl RawPacket {
    fn set(&mut self, time_ns: u64, link: LinkType, data: &[u8], length: u32) {
        self.number += 1;
        self.time_ns = time_ns;
        self.link = link;
        self.data.clear();
        self.data.extend_from_slice(data.get(..HEADER_BYTES).unwrap_or(data));
        self.length = usize::try_from(length).unwrap_or(usize::MAX).max(data.len());
        self.is_outgoing = None;
    }
}
