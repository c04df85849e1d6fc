//! Construction of a SYN.

use std::net::Ipv4Addr;

/// Port without a listener in the benchmark's network namespace.
const CLOSED: u16 = 9;

/// Length of an IPv4 and of a TCP header without options.
const HEADER: usize = 20;

/// An IPv4 packet with a SYN to a closed port of 127.0.0.1, from a port that changes with the number. The kernel fills
/// in the header's checksum, length and identification.
pub(super) fn packet(from: Ipv4Addr, number: u64) -> [u8; 2 * HEADER] {
    let to = Ipv4Addr::LOCALHOST;
    let [.., high, low] = number.to_be_bytes();
    let mut packet = [0; 2 * HEADER];
    let (ip, tcp) = packet.split_at_mut(HEADER);
    // Version 4 and five words; 64 hops; TCP.
    ip.copy_from_slice(
        &[[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0].as_slice(), &from.octets(), &to.octets()].concat(),
    );
    // Ports above the first 1,024; five words; SYN; a window.
    tcp[..2].copy_from_slice(&(u16::from_be_bytes([high, low]) | 0x8000).to_be_bytes());
    tcp[2..4].copy_from_slice(&CLOSED.to_be_bytes());
    tcp[12..16].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    let sum = checksum(&[from.octets(), to.octets(), [0, 6, 0, 20]], tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The Internet checksum over a pseudo header and a segment of even length.
fn checksum(pseudo: &[[u8; 4]], segment: &[u8]) -> u16 {
    let words = pseudo.as_flattened().iter().chain(segment).copied();
    let sum: u32 = (0..).zip(words).map(|(at, byte)| u32::from(byte) << if at % 2 == 0 { 8 } else { 0 }).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (folded + (folded >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_checksums_are_right() {
        for number in [0, 1, 77, 65_535, 1 << 40] {
            let from = Ipv4Addr::new(127, 1, 0, 1);
            let packet = packet(from, number);
            // The checksum over a segment that has its checksum is 0.
            assert_eq!(checksum(&[from.octets(), [127, 0, 0, 1], [0, 6, 0, 20]], &packet[HEADER..]), 0);
        }
        assert_eq!(packet(Ipv4Addr::LOCALHOST, 5)[HEADER..HEADER + 4], [0x80, 5, 0, 9]);
    }
}
