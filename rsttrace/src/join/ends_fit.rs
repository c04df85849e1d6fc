//! How well two records fit each other: by the numbers of the reset's segment, and by the ends of its connection.

use super::seen_reset::SeenReset;
use crate::model::Endpoint;

/// How the ends of a sender's record and of a receiver's record fit, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndsFit {
    /// No end has the port that the other record has for it.
    None,
    /// One port is equal.
    OnePort,
    /// One end is equal, address and port: the other is translated.
    OneEnd,
    /// Both ports are equal, and not both addresses.
    Ports,
    /// Both ends are equal.
    Mirrored,
}

impl EndsFit {
    /// The best fit over the sides of translations that the records know.
    pub(super) fn of(sent: &SeenReset, received: &SeenReset) -> Self {
        let best = sides(sent).flat_map(|(local, peer)| {
            sides(received).map(move |(other_local, other_peer)| Self::of_ends(local, peer, other_local, other_peer))
        });
        best.max().unwrap_or(Self::None)
    }

    fn of_ends(local: Endpoint, peer: Endpoint, other_local: Endpoint, other_peer: Endpoint) -> Self {
        let ports = (local.port == other_peer.port, peer.port == other_local.port);
        match (local == other_peer, peer == other_local, ports) {
            (true, true, _) => Self::Mirrored,
            (_, _, (true, true)) => Self::Ports,
            (true, ..) | (_, true, _) => Self::OneEnd,
            (_, _, (true, _) | (_, true)) => Self::OnePort,
            _ => Self::None,
        }
    }
}

/// The ends of a record, on either side of a translation that it knows.
fn sides(reset: &SeenReset) -> impl Iterator<Item = (Endpoint, Endpoint)> {
    let translated = reset.translated.as_deref().copied();
    [Some((reset.local, reset.peer)), translated].into_iter().flatten()
}

/// Numbers of a segment, as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NumberKey {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
}

/// What the numbers that two records have in common can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyStrength {
    /// One number of 32 bits: equal ones occur by chance, so the ends have to fit.
    OneNumber,
    /// Both numbers, 64 bits.
    Both,
}

impl NumberKey {
    /// Key of a record; `None` where its sequence number is not known, or both numbers are 0 or missing, as those of many resets.
    pub(super) fn of(reset: &SeenReset) -> Option<Self> {
        let key = Self { seq: reset.seq?, ack: reset.ack };
        (key.seq != 0 || key.ack.is_some_and(|ack| ack != 0)).then_some(key)
    }

    /// Key that records of one reset have in common, also where the receiver did not see the acknowledgement number. That of a
    /// refused connection is all there is: its sequence number is 0.
    pub(super) const fn group(self) -> Self {
        Self { seq: self.seq, ack: if self.seq == 0 { self.ack } else { None } }
    }

    /// What this key and a receiver's have in common; `None` where they contradict each other. `is_whole`: whether the receiver saw
    /// all numbers.
    pub(super) fn common(self, received: Self, is_whole: bool) -> Option<KeyStrength> {
        if self.seq != received.seq || is_whole && self.ack != received.ack {
            return None;
        }
        let is_both = is_whole && self.seq != 0 && self.ack.is_some_and(|ack| ack != 0);
        Some(if is_both { KeyStrength::Both } else { KeyStrength::OneNumber })
    }
}

impl KeyStrength {
    /// Whether records with this in common and this fit are of one reset, whatever the time.
    pub(super) fn is_joined_by(self, fit: EndsFit) -> bool {
        self == Self::Both || fit >= EndsFit::Ports
    }

    /// Whether they may be, if the time agrees as well.
    pub(super) fn may_be_joined_by(self, fit: EndsFit) -> bool {
        self == Self::Both || fit >= EndsFit::OneEnd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_many_resets_have_are_no_key() {
        let key = |seq, ack| NumberKey { seq, ack };
        let common = |sent: NumberKey, received, is_whole| sent.common(received, is_whole);
        assert_eq!(common(key(1, Some(2)), key(1, Some(2)), true), Some(KeyStrength::Both));
        assert_eq!(common(key(1, Some(2)), key(1, Some(3)), true), None);
        assert_eq!(common(key(1, Some(2)), key(1, None), true), None);
        // The receiver did not see the header.
        assert_eq!(common(key(1, Some(2)), key(1, None), false), Some(KeyStrength::OneNumber));
        // A refused connection: its acknowledgement number is the only one.
        assert_eq!(common(key(0, Some(2)), key(0, Some(2)), true), Some(KeyStrength::OneNumber));
        assert_eq!(key(0, Some(2)).group(), key(0, Some(2)));
        assert_eq!(key(1, Some(2)).group(), key(1, None).group());
    }
}
