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

/// What the numbers of a segment can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyStrength {
    /// Nothing: both numbers are 0 or missing.
    Nothing,
    /// One number of 32 bits: equal ones occur by chance, so the ends have to fit.
    OneNumber,
    /// Both numbers, 64 bits.
    Both,
}

impl NumberKey {
    /// Key of a record; `None` where its sequence number is not known.
    pub(super) fn of(reset: &SeenReset) -> Option<Self> {
        Some(Self { seq: reset.seq?, ack: reset.ack })
    }

    pub(super) fn strength(self) -> KeyStrength {
        match (self.seq != 0, self.ack.is_some_and(|ack| ack != 0)) {
            (true, true) => KeyStrength::Both,
            (false, false) => KeyStrength::Nothing,
            _ => KeyStrength::OneNumber,
        }
    }

    /// Whether records with this key and this fit are of one reset, whatever the time.
    pub(super) fn is_joined_by(self, fit: EndsFit) -> bool {
        match self.strength() {
            KeyStrength::Both => true,
            KeyStrength::OneNumber => fit >= EndsFit::Ports,
            KeyStrength::Nothing => false,
        }
    }

    /// Whether they may be, if the time agrees as well.
    pub(super) fn may_be_joined_by(self, fit: EndsFit) -> bool {
        match self.strength() {
            KeyStrength::Both => true,
            KeyStrength::OneNumber => fit >= EndsFit::OneEnd,
            KeyStrength::Nothing => fit == EndsFit::Mirrored,
        }
    }
}
