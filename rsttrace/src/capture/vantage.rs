//! Where a capture was taken: at this host, at its peers, or between them.

use std::fmt;

use super::{
    followed::{End, Followed},
    perspective::INITIAL_TTLS,
};

/// Most handshakes that are looked at: the first ones.
const HANDSHAKES_MAX: usize = 4_096;
/// Shortest round trip that shows a place, nanoseconds: below that, the time that an end takes to answer is most of it.
const ROUND_TRIP_MIN_NS: u64 = 1_000_000;
/// Largest part of a round trip, in hundredths, that lies towards an end at which the capture was taken.
const NEAR_PERCENT: u64 = 10;

/// One handshake as the capture sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    /// Time from a segment that goes to this host to its answer, nanoseconds.
    towards_host_ns: u64,
    /// Time from a segment that goes to the peer to its answer, nanoseconds.
    towards_peer_ns: u64,
    /// TTLs (hop limits) of the segments of the two ends.
    host_ttl: u8,
    peer_ttl: u8,
}

impl Handshake {
    /// The handshake of a connection, with `host` as the end that is this host's; `None` where it was not captured whole.
    pub(super) fn of(connection: &Followed, host: End) -> Option<Self> {
        let opener = connection.opener?;
        let (client, server) = (connection.half(opener), connection.half(opener.other()));
        let (opened_ns, accepted_ns) = (client.syn_ns?, connection.accepted_ns?);
        let towards_server_ns = accepted_ns.checked_sub(opened_ns)?;
        let towards_client_ns = connection.established_ns?.checked_sub(accepted_ns)?;
        let (client_ttl, server_ttl) = (client.handshake_ttl?, server.handshake_ttl?);
        Some(if opener == host {
            Self {
                towards_host_ns: towards_client_ns,
                towards_peer_ns: towards_server_ns,
                host_ttl: client_ttl,
                peer_ttl: server_ttl,
            }
        } else {
            Self {
                towards_host_ns: towards_server_ns,
                towards_peer_ns: towards_client_ns,
                host_ttl: server_ttl,
                peer_ttl: client_ttl,
            }
        })
    }
}

/// Infers where a capture was taken.
#[derive(Debug, Default)]
pub(super) struct Vantage {
    handshakes: Vec<Handshake>,
}

impl Vantage {
    /// Takes a handshake.
    pub(super) fn observe(&mut self, handshake: Handshake) {
        if self.handshakes.len() < HANDSHAKES_MAX {
            self.handshakes.push(handshake);
        }
    }

    fn median(&self, of: impl Fn(&Handshake) -> u64) -> Option<u64> {
        let mut all: Vec<u64> = self.handshakes.iter().map(of).collect();
        let middle = all.len() / 2;
        (!all.is_empty()).then(|| *all.select_nth_unstable(middle).1)
    }
}

/// Routers that a packet has passed: the sender's TTL is the next one of [`INITIAL_TTLS`].
fn hops(ttl: u8) -> u64 {
    let initial = INITIAL_TTLS.into_iter().find(|initial| *initial >= ttl).unwrap_or(u8::MAX);
    u64::from(initial - ttl)
}

impl Vantage {
    /// The place, as a sentence without a stop; empty where nothing shows it. `is_marked` says whether the capture marks the packets
    /// that its host sent.
    pub(super) fn describe(&self, is_marked: bool) -> String {
        let host_hops = self.median(|handshake| hops(handshake.host_ttl));
        let peer_hops = self.median(|handshake| hops(handshake.peer_ttl));
        let towards_host_ns = self.median(|handshake| handshake.towards_host_ns);
        let towards_peer_ns = self.median(|handshake| handshake.towards_peer_ns);
        let (Some(host_hops), Some(peer_hops)) = (host_hops, peer_hops) else { return String::new() };
        let (Some(towards_host_ns), Some(towards_peer_ns)) = (towards_host_ns, towards_peer_ns) else {
            return String::new();
        };
        let whole_ns = towards_host_ns.saturating_add(towards_peer_ns);
        let is_timed = whole_ns >= ROUND_TRIP_MIN_NS;
        let percent = towards_host_ns.saturating_mul(100) / whole_ns.max(1);
        let place = match (host_hops, peer_hops) {
            (0, _) if is_marked => "at this host",
            (0, 1..) => "in this host's network",
            (1.., 0) => "in the network of its peers",
            (0, 0) if !is_timed => return String::new(),
            (0, 0) if percent <= NEAR_PERCENT => "at this host",
            (0, 0) if percent >= 100 - NEAR_PERCENT => "at its peers",
            // Routers on both sides, or time on both.
            (1.., 1..) | (0, 0) => "between this host and its peers",
        };
        let routers =
            format!("its packets had passed {}, those of its peers {}", Routers(host_hops), Routers(peer_hops));
        let (part, whole) = (Milliseconds(towards_host_ns), Milliseconds(whole_ns));
        let times = format!("{part} of {whole} ms of a round trip lie towards it");
        let shown: Vec<String> = [(host_hops + peer_hops > 0, routers), (is_timed, times)]
            .into_iter()
            .filter_map(|(is, text)| is.then_some(text))
            .collect();
        if shown.is_empty() {
            return format!("taken {place}");
        }
        format!("taken {place}: {}", shown.join("; "))
    }
}

struct Routers(u64);

impl fmt::Display for Routers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => formatter.write_str("no router"),
            1 => formatter.write_str("1 router"),
            count => write!(formatter, "{count} routers"),
        }
    }
}

/// Nanoseconds, written as milliseconds with one digit behind the point.
struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_add(50_000) / 100_000;
        write!(formatter, "{}.{}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(handshakes: &[(u64, u64, u8, u8)]) -> String {
        let mut vantage = Vantage::default();
        for &(towards_host_us, towards_peer_us, host_ttl, peer_ttl) in handshakes {
            let (towards_host_ns, towards_peer_ns) = (towards_host_us * 1_000, towards_peer_us * 1_000);
            vantage.observe(Handshake { towards_host_ns, towards_peer_ns, host_ttl, peer_ttl });
        }
        vantage.describe(false)
    }

    #[test]
    fn a_place_is_told_by_ttls_and_times() {
        let of = |handshake| said(&[handshake]);
        assert_eq!(
            of((30, 30_070, 64, 62)),
            "taken in this host's network: its packets had passed no router, those of its peers 2 routers; 0.0 of 30.1 ms of a \
             round trip lie towards it"
        );
        assert!(of((12_000, 18_000, 62, 127)).starts_with(
            "taken between this host and its peers: its packets had passed 2 routers, those of its peers 1 router; 12.0 of 30.0 ms"
        ));
        assert!(of((30_000, 50, 61, 64)).starts_with("taken in the network of its peers"));
        // A bridge or a tunnel passes no router, but takes time.
        assert!(of((200, 30_000, 64, 64)).starts_with("taken at this host: 0.2 of 30.2 ms"));
        assert!(of((30_000, 200, 64, 64)).starts_with("taken at its peers: 30.0 of 30.2 ms"));
        assert!(of((9_000, 11_000, 64, 64)).starts_with("taken between this host and its peers: 9.0"));
    }

    #[test]
    fn nothing_is_told_where_nothing_shows_it() {
        assert_eq!(said(&[]), "");
        // Loopback, or one network: what an answer takes is no distance.
        assert_eq!(said(&[(40, 60, 64, 64)]), "");
        // The times of one slow answer among many are no place.
        assert_eq!(said(&[(20, 40, 64, 64), (20, 900_000, 64, 64), (20, 40, 64, 64)]), "");
        let mut marked = Vantage::default();
        marked.observe(Handshake { towards_host_ns: 20, towards_peer_ns: 40, host_ttl: 64, peer_ttl: 63 });
        assert!(marked.describe(true).starts_with("taken at this host: its packets had passed no router, "));
        // Short times beside TTLs are left out.
        assert!(!said(&[(20, 40, 63, 64)]).contains("ms"));
    }
}
