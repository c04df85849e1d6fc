//! Numbers that a capture lends to a record of a reset whose header its host did not see: by both ends and the time.

use foldhash::HashMap;

use super::{
    gathered_host::GatheredHost,
    matches::{Matches, Place, seen},
    seen_reset::SeenReset,
};
use crate::model::Endpoint;

/// Sender's and receiver's end.
type Ends = (Endpoint, Endpoint);

/// Gives received resets without a number those of the only packet on their connection at that time. Returns whether there is one.
pub(super) fn lend(hosts: &mut [GatheredHost], matches: &Matches) -> bool {
    let lent = lent(hosts, matches);
    for (place, lender) in &lent {
        let numbers = seen(hosts, *lender).map(|packet| (packet.seq, packet.ack));
        let host = hosts.get_mut(usize::from(place.host));
        let reset = host.and_then(|host| host.resets.get_mut(usize::try_from(place.index).ok()?));
        if let Some((reset, (seq, ack))) = reset.zip(numbers) {
            (reset.seq, reset.ack, reset.is_whole, reset.is_lent) = (seq, ack, true, true);
        }
    }
    !lent.is_empty()
}

/// Places of such resets, each with that of the packet.
fn lent(hosts: &[GatheredHost], matches: &Matches) -> Vec<(Place, Place)> {
    let mut packets: HashMap<Ends, Vec<Place>> = HashMap::default();
    for (place, reset) in resets(hosts, true).filter(|(_, reset)| reset.seq.is_some() && reset.is_whole) {
        packets.entry(direction(reset)).or_default().push(place);
    }
    if packets.is_empty() {
        return Vec::new();
    }
    let is_blind = |(_, reset): &(Place, &SeenReset)| {
        !reset.is_sent && reset.seq.is_none() && packets.contains_key(&direction(reset))
    };
    let mut blind: HashMap<(u16, Ends), Vec<Place>> = HashMap::default();
    for (place, reset) in resets(hosts, false).filter(is_blind) {
        blind.entry((place.host, direction(reset))).or_default().push(place);
    }
    let mut lent = Vec::new();
    for ((host, ends), places) in blind {
        // Of several on one connection each packet may be either's.
        let ([place], Some(packets)) = (places.as_slice(), packets.get(&ends)) else { continue };
        let Some(reset) = seen(hosts, *place) else { continue };
        let mut near = packets.iter().filter(|packet| {
            let skew = matches.skew(host, packet.host);
            skew.zip(seen(hosts, **packet)).is_some_and(|(skew, seen)| {
                skew.distance_ns(reset.time_ns, seen.time_ns) <= skew.uncertainty_ns(reset.time_ns)
            })
        });
        let numbers = |packet: &Place| seen(hosts, *packet).map(|packet| (packet.seq, packet.ack));
        if let Some(first) = near.next()
            && near.all(|other| numbers(other) == numbers(first))
        {
            lent.push((*place, *first));
        }
    }
    lent
}

/// The resets of captures, or those of recordings.
fn resets(hosts: &[GatheredHost], of_captures: bool) -> impl Iterator<Item = (Place, &SeenReset)> {
    let wanted = (0_u16..).zip(hosts).filter(move |(_, host)| host.is_capture() == of_captures);
    wanted.flat_map(|(host, gathered)| {
        (0_u32..).zip(&gathered.resets).map(move |(index, reset)| (Place { host, index }, reset))
    })
}

const fn direction(reset: &SeenReset) -> Ends {
    if reset.is_sent { (reset.local, reset.peer) } else { (reset.peer, reset.local) }
}
