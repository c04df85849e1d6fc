//! Matches of received resets of which no number is known: by their ends and the time.

use foldhash::HashMap;

use super::{
    gathered_host::GatheredHost,
    matches::{Match, MatchBasis, Matches, Place, seen},
};
use crate::model::Endpoint;

/// Most records of one end that are looked at.
const CANDIDATES_MAX: usize = 4_096;

/// Adds the matches of these received resets: first those with both ends, then those of which one is translated.
pub(super) fn add(matches: &mut Matches, hosts: &[GatheredHost], partial: &[Place]) {
    let open: Vec<Place> = partial.iter().copied().filter(|place| !matches.is_matched(*place)).collect();
    by_both_ends(matches, hosts, &open);
    let is_open = |matches: &Matches, place: &Place| !matches.is_matched(*place) && !matches.is_ambiguous(*place);
    let open: Vec<Place> = open.into_iter().filter(|place| is_open(matches, place)).collect();
    if !open.is_empty() {
        by_one_end(matches, hosts, &open);
    }
}

fn by_both_ends(matches: &mut Matches, hosts: &[GatheredHost], partial: &[Place]) {
    let mut by_ends: HashMap<(Endpoint, Endpoint), Vec<Place>> = HashMap::default();
    for (place, reset) in sent(hosts) {
        by_ends.entry((reset.peer, reset.local)).or_default().push(place);
    }
    for &place in partial {
        let Some(received) = seen(hosts, place) else { continue };
        let all = by_ends.get(&(received.local, received.peer)).map(Vec::as_slice).unwrap_or_default();
        let fits = |sent: &&Place| is_candidate(matches, hosts, **sent, place);
        let found: Vec<Place> = all.iter().filter(fits).take(2).copied().collect();
        match found.as_slice() {
            [sent] => matches.add(hosts, Match { sent: *sent, received: place, basis: MatchBasis::EndsAndTime }),
            [] => {}
            several => matches.doubt(several.iter().copied().chain([place])),
        }
    }
}

/// Matches by one whole end and the time, where either record is the only one that fits the other.
fn by_one_end(matches: &mut Matches, hosts: &[GatheredHost], partial: &[Place]) {
    let mut by_end: HashMap<Endpoint, Vec<Place>> = HashMap::default();
    for (place, reset) in sent(hosts) {
        by_end.entry(reset.peer).or_default().push(place);
        by_end.entry(reset.local).or_default().push(place);
    }
    // Those that fit each received one; `None` where there are too many to look at.
    let fitting = |place: Place| -> Option<Vec<Place>> {
        let received = seen(hosts, place)?;
        let of = |end: Endpoint| by_end.get(&end).map(Vec::as_slice).unwrap_or_default();
        let is_equal = |sent: Place| {
            seen(hosts, sent).is_some_and(|sent| sent.peer == received.local || sent.local == received.peer)
        };
        let all = [of(received.local), of(received.peer)];
        if all.iter().any(|all| all.len() > CANDIDATES_MAX) {
            return None;
        }
        let mut found: Vec<Place> = all.into_iter().flatten().copied().collect();
        found.retain(|sent| is_equal(*sent) && is_candidate(matches, hosts, *sent, place));
        found.sort_unstable();
        found.dedup();
        Some(found)
    };
    let all: Vec<(Place, Vec<Place>)> =
        partial.iter().filter_map(|place| Some((*place, fitting(*place).filter(|found| !found.is_empty())?))).collect();
    let mut fits_of: HashMap<Place, usize> = HashMap::default();
    for sent in all.iter().flat_map(|(_, found)| found) {
        *fits_of.entry(*sent).or_default() += 1;
    }
    for (received, found) in all {
        match found.as_slice() {
            [sent] if fits_of.get(sent) == Some(&1) => {
                matches.add(hosts, Match { sent: *sent, received, basis: MatchBasis::OneEndAndTime });
            }
            several => matches.doubt(several.iter().copied().chain([received])),
        }
    }
}

/// Whether a sent reset, which no other record matches, was there at the time of a received one.
fn is_candidate(matches: &Matches, hosts: &[GatheredHost], sent: Place, received: Place) -> bool {
    sent.host != received.host && !matches.is_matched(sent) && matches.are_in_time(hosts, sent, received) == Some(true)
}

/// The resets that recordings and captures have as sent.
fn sent(hosts: &[GatheredHost]) -> impl Iterator<Item = (Place, &super::seen_reset::SeenReset)> {
    (0_u16..).zip(hosts).flat_map(|(host, gathered)| {
        let resets = (0_u32..).zip(&gathered.resets).filter(|(_, reset)| reset.is_sent);
        resets.map(move |(index, reset)| (Place { host, index }, reset))
    })
}
