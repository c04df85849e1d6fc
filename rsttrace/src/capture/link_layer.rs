//! From a captured frame to the IP packet in it.

/// Ethernet types that are followed.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// VLAN tags, of which a frame may have several.
const VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
/// PPP over Ethernet, a session: six bytes and the PPP protocol of two.
const PPPOE: u16 = 0x8864;
/// Most VLAN tags of a frame.
const VLANS_MAX: usize = 4;
/// Kind of a packet that the host sent, in a cooked header (`LINUX_SLL_OUTGOING`).
const SLL_OUTGOING: u16 = 4;
/// Kind of a packet to the host itself (`LINUX_SLL_HOST`).
const SLL_HOST: u16 = 0;

/// What captured data begin with (`LINKTYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet.
    Ethernet,
    /// The IP packet itself.
    Ip,
    /// An address family in the byte order of the host that captured (`LINKTYPE_NULL`), or of the network (`LINKTYPE_LOOP`).
    Loopback,
    /// Linux cooked capture, as of the device `any`.
    Cooked,
    /// Its second version.
    Cooked2,
    /// PPP.
    Ppp,
    /// Anything else, by its number.
    Unknown(i32),
}

impl Default for LinkType {
    fn default() -> Self {
        Self::Unknown(-1)
    }
}

/// An IP packet in its frame.
pub struct Framed<'a> {
    /// The packet, from its first byte on.
    pub ip: &'a [u8],
    /// Bytes of the frame before it.
    pub offset: usize,
    /// Whether the capturing host sent it; `None` where the frame does not say.
    pub is_outgoing: Option<bool>,
}

impl LinkType {
    /// The type of this number.
    pub const fn of(number: i32) -> Self {
        match number {
            0 | 108 => Self::Loopback,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            113 => Self::Cooked,
            276 => Self::Cooked2,
            other => Self::Unknown(other),
        }
    }

    /// The IP packet of a frame; `None` for another protocol, and where the frame is cut off before it.
    pub fn ip_packet(self, frame: &[u8]) -> Option<Framed<'_>> {
        let (offset, is_outgoing) = match self {
            Self::Ip => (0, None),
            Self::Loopback => (4, None),
            Self::Ethernet => (after_tags(frame, 12)?, None),
            Self::Ppp => (after_ppp(frame, if frame.starts_with(&[0xff, 0x03]) { 2 } else { 0 })?, None),
            Self::Cooked => (after_tags(frame, 14)?, direction(be16(frame, 0)?)),
            // The protocol comes first, and after it 18 more bytes.
            Self::Cooked2 => {
                let kind = frame.get(10).copied().map(u16::from)?;
                let protocol = be16(frame, 0)?;
                let offset = if is_ip(protocol) { 20 } else { after_tag(frame, protocol, 20)? };
                (offset, direction(kind))
            }
            Self::Unknown(_) => return None,
        };
        Some(Framed { ip: frame.get(offset..).filter(|ip| !ip.is_empty())?, offset, is_outgoing })
    }
}

const fn direction(kind: u16) -> Option<bool> {
    match kind {
        SLL_OUTGOING => Some(true),
        SLL_HOST => Some(false),
        _ => None,
    }
}

const fn is_ip(protocol: u16) -> bool {
    matches!(protocol, IPV4 | IPV6)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Begin of the IP packet in a frame with an Ethernet type at this place.
fn after_tags(frame: &[u8], at: usize) -> Option<usize> {
    after_tag(frame, be16(frame, at)?, at + 2)
}

/// Begin of the IP packet where an Ethernet type has been read and this comes behind it.
fn after_tag(frame: &[u8], mut kind: u16, mut at: usize) -> Option<usize> {
    for _ in 0..VLANS_MAX {
        if !VLAN.contains(&kind) {
            break;
        }
        kind = be16(frame, at + 2)?;
        at += 4;
    }
    match kind {
        _ if is_ip(kind) => Some(at),
        PPPOE => after_ppp(frame, at + 6),
        _ => None,
    }
}

/// Begin of the IP packet behind a PPP protocol at this place.
fn after_ppp(frame: &[u8], at: usize) -> Option<usize> {
    matches!(be16(frame, at)?, 0x0021 | 0x0057).then_some(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip_at(link: i32, frame: &[u8]) -> Option<usize> {
        LinkType::of(link).ip_packet(frame).map(|framed| framed.offset)
    }

    #[test]
    fn every_link_type_leads_to_the_packet() {
        let mut ethernet = vec![0; 12];
        ethernet.extend([0x81, 0, 0, 5, 0x88, 0xa8, 0, 6, 0x08, 0, 0x45]);
        assert_eq!(ip_at(1, &ethernet), Some(22));
        assert_eq!(ip_at(1, &[&[0; 12][..], &[0x86, 0xdd, 0x60]].concat()), Some(14));
        assert_eq!(ip_at(1, &[&[0; 12][..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21, 0x45]].concat()), Some(22));
        assert_eq!(ip_at(101, &[0x45]), Some(0));
        assert_eq!(ip_at(0, &[2, 0, 0, 0, 0x45]), Some(4));
        let cooked = [&[0, 4][..], &[0; 12], &[8, 0, 0x45]].concat();
        let framed = LinkType::Cooked.ip_packet(&cooked).expect("a packet");
        assert_eq!((framed.offset, framed.is_outgoing), (16, Some(true)));
        let cooked = [&[8, 0][..], &[0; 18], &[0x45]].concat();
        let framed = LinkType::Cooked2.ip_packet(&cooked).expect("a packet");
        assert_eq!((framed.offset, framed.is_outgoing), (20, Some(false)));
    }

    #[test]
    fn other_protocols_and_cut_frames_have_none() {
        assert_eq!(ip_at(1, &[&[0; 12][..], &[0x08, 0x06, 0, 1]].concat()), None);
        for cut in 0..14 {
            assert_eq!(ip_at(1, &vec![0; cut]), None);
        }
        assert_eq!(ip_at(1, &[&[0; 12][..], &[0x08, 0]].concat()), None);
        assert_eq!(ip_at(147, &[0x45; 60]), None);
    }
}
