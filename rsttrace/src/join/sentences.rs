//! Sentences on a pair: the verdict with the names of both hosts, the packet filters that are not ruled out, and the side of a
//! capture.

use crate::model::{PairCapture, PairVerdict};

/// Hosts whose own packet filter is not ruled out as the sender: a rule with `reject` answers in the peer's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenFilters {
    /// That of the host at the other end, which would have sent it.
    pub(super) sender: bool,
    /// That of the host that received it.
    pub(super) receiver: bool,
}

impl OpenFilters {
    pub(super) const fn any(self) -> bool {
        self.sender || self.receiver
    }
}

/// What became of a reset at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// No record of it.
    Unknown,
    /// It came.
    Came,
    /// It came, by a capture, which shows what a host would have done.
    Captured,
}

/// What is known of a reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) verdict: PairVerdict,
    pub(super) filters: OpenFilters,
    pub(super) arrival: Arrival,
    /// Whether there is a record of the sender.
    pub(super) has_sender: bool,
    /// Whether the receiver had data that it could not send, and none on its way.
    pub(super) is_held_back: bool,
    /// Whether the receiving host's own packet filter made it, by that host's records.
    pub(super) is_own: bool,
}

/// Names of the ends of a reset.
pub(super) struct Names {
    pub(super) sender: String,
    pub(super) receiver: String,
}

impl Names {
    /// The verdict in a sentence.
    pub(super) fn summary(&self, known: Known) -> String {
        let Self { sender, receiver } = self;
        let came = known.arrival != Arrival::Unknown;
        match known.verdict {
            PairVerdict::Sent if known.is_own => {
                format!("the packet filter of {receiver} made it there, in the name of the peer")
            }
            PairVerdict::Sent => format!("{sender} sent it"),
            PairVerdict::NotSent => self.not_sent(known.filters),
            PairVerdict::NeverArrived if known.arrival == Arrival::Captured => {
                format!("{sender} sent it, and {receiver} would have ignored it")
            }
            PairVerdict::NeverArrived if came => format!("{sender} sent it, and {receiver} ignored it"),
            PairVerdict::CannotBeTold if came => format!("whether {sender} sent it cannot be told"),
            PairVerdict::NeverArrived | PairVerdict::CannotBeTold => {
                format!("{sender} sent it; {}", self.arrival(known.verdict))
            }
            PairVerdict::NotJoinable => format!("{sender} and {receiver} show other numbers for this connection"),
        }
    }

    /// That the peer did not send it, and what is left.
    fn not_sent(&self, OpenFilters { sender: of_sender, receiver: of_receiver }: OpenFilters) -> String {
        let Self { sender, receiver } = self;
        let subject = if of_sender {
            format!("neither a process nor the TCP of {sender} sent it")
        } else {
            format!("{sender} did not send it")
        };
        let filters = match (of_sender, of_receiver) {
            (true, true) => format!(", or the packet filter of {sender} or of {receiver}"),
            (true, false) => format!(", or the packet filter of {sender}"),
            (false, true) => format!(", or the packet filter of {receiver}"),
            (false, false) => String::new(),
        };
        format!("{subject}: something between {sender} and {receiver} did{filters}")
    }

    /// Whether a sent reset has arrived, as a part of a sentence.
    pub(super) fn arrival(&self, verdict: PairVerdict) -> String {
        let receiver = &self.receiver;
        match verdict {
            PairVerdict::NeverArrived => format!("it never arrived at {receiver}"),
            PairVerdict::NotJoinable => format!("{receiver} shows other numbers for this connection"),
            _ => format!("whether it arrived at {receiver} cannot be told"),
        }
    }

    /// What is not ruled out, and what points to it.
    pub(super) fn open_sentences(&self, known: Known) -> Vec<String> {
        let Self { sender, receiver } = self;
        let OpenFilters { sender: of_sender, receiver: of_receiver } = known.filters;
        let of_sender = of_sender.then(|| {
            format!(
                "the recording of {sender} does not show resets of that host's own packet filter (a rule with reject)"
            )
        });
        let of_receiver = of_receiver.then(|| {
            format!(
                "nothing here would show a reset of the packet filter of {receiver} itself, whose rules with reject answer in the \
                 name of the peer"
            )
        });
        let held_back = (known.filters.receiver && known.is_held_back).then(|| {
            format!(
                "{receiver} had unsent data and none on its way, as where a rule on its output rejects a segment that then never \
                 leaves the host"
            )
        });
        [of_sender, of_receiver, held_back].into_iter().flatten().collect()
    }

    /// On which side of a capture a reset was made, or was lost.
    pub(super) fn side(&self, capture: &PairCapture, known: Known) -> String {
        let PairCapture { capture, passed, ttl, handshake_ttl } = capture;
        let Self { sender, receiver } = self;
        let ttls = match (ttl, handshake_ttl) {
            (Some(ttl), Some(handshake)) => format!(" (TTL {ttl} there; the sender's packets {handshake})"),
            (Some(ttl), None) => format!(" (TTL {ttl} there)"),
            _ => String::new(),
        };
        let came = known.arrival != Arrival::Unknown;
        let conclusion = match (passed, known.has_sender, came) {
            (true, true, true) => "it was on its way".to_owned(),
            (true, true, false) if known.verdict == PairVerdict::NeverArrived => {
                format!("it was lost between there and {receiver}")
            }
            (true, true, false) => "it got as far as there".to_owned(),
            (true, false, _) => format!("it was made on the side of {sender}, or on the host of the capture"),
            (false, true, true) if known.is_own => format!("it was made on {receiver} itself"),
            (false, true, true) => "it took another way, or the capture dropped it".to_owned(),
            (false, true, false) => format!("it was lost between {sender} and there"),
            (false, false, _) if known.filters.receiver => {
                format!("it was made between there and {receiver}, or on {receiver} itself")
            }
            (false, false, _) => format!("it was made between there and {receiver}"),
        };
        if *passed {
            format!("it passed {capture}{ttls}: {conclusion}")
        } else {
            format!("it did not pass {capture}, which has both directions of the connection: {conclusion}")
        }
    }
}
