//! Resets that the packet filter of the receiving host made itself, in the name of the peer: both records are of one host.
//!
//! A rule with `reject with tcp reset` on a host's output answers the host's own segment before it leaves; the reset comes back over
//! the loopback interface, with the address of the peer.

use foldhash::{HashMap, HashSet};

use super::{
    ends_fit::NumberKey,
    gathered_host::GatheredHost,
    matches::{Match, MatchBasis, Place},
    seen_reset::SeenReset,
};
use crate::model::Endpoint;

/// Longest time between the two records, which one clock has given, nanoseconds.
const APART_MAX_NS: i64 = 1_000_000_000;

/// Matches of records of one host.
pub(super) fn matches(hosts: &[GatheredHost]) -> Vec<Match> {
    let recorded = (0_u16..).zip(hosts).filter(|(_, host)| !host.is_capture());
    recorded.flat_map(|(number, host)| of_host(number, host)).collect()
}

fn of_host(host: u16, gathered: &GatheredHost) -> Vec<Match> {
    let mut made: HashMap<(Endpoint, Endpoint), Vec<(u32, &SeenReset)>> = HashMap::default();
    for (index, reset) in (0..).zip(&gathered.resets).filter(|(_, reset)| reset.is_sent && reset.is_of_filter) {
        made.entry((reset.peer, reset.local)).or_default().push((index, reset));
    }
    let mut taken: HashSet<u32> = HashSet::default();
    let mut found = Vec::new();
    if made.is_empty() {
        return found;
    }
    for (index, received) in (0..).zip(&gathered.resets).filter(|(_, reset)| !reset.is_sent) {
        let all = made.get(&(received.local, received.peer)).map(Vec::as_slice).unwrap_or_default();
        let near = all.iter().filter(|(index, made)| !taken.contains(index) && is_near(made, received));
        let nearest = near.min_by_key(|(_, made)| (made.time_ns - received.time_ns).abs());
        if let Some((sent, made)) = nearest {
            taken.insert(*sent);
            found.push(Match {
                sent: Place { host, index: *sent },
                received: Place { host, index },
                basis: if has_number(made, received) { MatchBasis::Numbers } else { MatchBasis::EndsAndTime },
            });
        }
    }
    found
}

fn is_near(made: &SeenReset, received: &SeenReset) -> bool {
    let apart = made.time_ns.saturating_sub(received.time_ns).saturating_abs();
    apart <= APART_MAX_NS && (received.seq.is_none() || has_number(made, received))
}

/// Whether the numbers that both records have are equal.
fn has_number(made: &SeenReset, received: &SeenReset) -> bool {
    let keys = NumberKey::of(made).zip(NumberKey::of(received));
    keys.is_some_and(|(made, seen)| made.common(seen, received.is_whole).is_some())
}
