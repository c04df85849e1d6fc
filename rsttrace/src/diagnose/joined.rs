//! Causes in view of another record: the other end of the connection, or another connection of the process.

use std::borrow::Cow;

use super::{
    catalogue::{self, CauseSpec, no_evidence},
    not_translated::CONNTRACK_INVALID_CODE,
    program_hints,
    segment_answers::NO_CONNECTION_CODE,
    timeouts::Timeouts,
};
use crate::{
    model::{
        AFTERMATH, CauseConfidence, Direction, Evidence, Fault, Hook, OTHER_END_CAPTURED, OTHER_END_HERE, Reset, Role,
        Sender,
    },
    util::{human_duration, sanitize},
};

/// Most characters of a process name: those of `comm`.
const COMM_MAX: usize = 15;

/// Code of a reset with which a process passes on what happened to another connection.
const RELAYED_CODE: &str = "relayed";

/// What the record of a sent reset says of the received one at the other end.
struct Counterpart {
    /// Code of the sent reset.
    sent: &'static str,
    /// Code of the received one, where its own is not among `fitting`: at a client, and at a server.
    received: [&'static str; 2],
    /// Codes of the received one that agree with the sender's, beside `received` and [`OF_THIS_END`]. They stay: they say more
    /// of this end.
    fitting: &'static [&'static str],
}

/// The codes of received resets by those of the sender. A sender that is not listed says nothing that is not known here.
const COUNTERPARTS: &[Counterpart] = &[
    Counterpart { sent: "port-closed", received: ["connection-refused"; 2], fitting: &[] },
    Counterpart { sent: "port-scan", received: ["connection-refused"; 2], fitting: &[] },
    Counterpart {
        sent: "closed-with-unread-data",
        received: ["peer-closed-unread", "peer-closed-unread"],
        fitting: &["client-cancelled", "client-ended", "client-gave-up", "health-probe"],
    },
    Counterpart {
        sent: "linger-zero",
        received: ["peer-aborted"; 2],
        fitting: &["reused-closed-connection", "client-cancelled", "client-ended", "client-gave-up", "health-probe"],
    },
    Counterpart {
        sent: "process-died",
        received: ["peer-restarted", "peer-aborted"],
        fitting: &["client-cancelled", "client-ended", "client-gave-up"],
    },
    Counterpart {
        sent: "process-exited",
        received: ["peer-restarted", "peer-aborted"],
        fitting: &["client-cancelled", "client-ended", "client-gave-up"],
    },
    Counterpart {
        sent: "process-ended",
        received: ["peer-restarted", "peer-aborted"],
        fitting: &["client-cancelled", "client-ended", "client-gave-up"],
    },
    Counterpart { sent: "turned-away", received: ["turned-away"; 2], fitting: &[] },
    Counterpart { sent: "client-cancelled", received: ["client-cancelled"; 2], fitting: &["client-gave-up"] },
    Counterpart { sent: "after-close", received: ["after-close"; 2], fitting: &["client-ended"] },
    Counterpart {
        sent: "client-ended",
        received: ["client-ended"; 2],
        fitting: &["client-cancelled", "client-gave-up"],
    },
    Counterpart { sent: "health-probe", received: ["health-probe"; 2], fitting: &[] },
    Counterpart { sent: "tls-goodbye", received: ["tls-goodbye"; 2], fitting: &[] },
    Counterpart {
        sent: "keepalive-race",
        received: ["keepalive-race"; 2],
        fitting: &["reused-closed-connection", "peer-closed-unread"],
    },
    Counterpart {
        sent: "reused-closed-connection",
        received: ["reused-closed-connection"; 2],
        fitting: &["peer-closed-unread"],
    },
    Counterpart {
        sent: "gave-up-waiting",
        received: ["client-gave-up"; 2],
        fitting: &["client-cancelled", "client-ended"],
    },
    Counterpart { sent: "listen-overflow", received: ["accept-overflow"; 2], fitting: &[] },
    // Its process may live on, or have ended.
    Counterpart { sent: "listener-closed", received: ["peer-aborted"; 2], fitting: &["accept-overflow"] },
    Counterpart { sent: "socket-destroyed", received: ["peer-aborted"; 2], fitting: &[] },
    Counterpart {
        sent: NO_CONNECTION_CODE,
        received: ["peer-lost-state"; 2],
        fitting: &[
            "reused-closed-connection",
            "path-lost-state",
            "keepalive-answer",
            "idle-timeout-path",
            "peer-restarted",
            "accept-overflow",
        ],
    },
    Counterpart { sent: CONNTRACK_INVALID_CODE, received: ["path-lost-state"; 2], fitting: &[] },
    Counterpart { sent: "given-up-earlier", received: ["peer-lost-state"; 2], fitting: &["keepalive-answer"] },
    Counterpart { sent: "peer-stopped-reading", received: ["stopped-reading"; 2], fitting: &[] },
    Counterpart { sent: "mptcp-subflow", received: ["mptcp-subflow"; 2], fitting: &[] },
    Counterpart {
        sent: RELAYED_CODE,
        received: ["peer-aborted"; 2],
        fitting: &["peer-closed-unread", "client-cancelled", "client-ended", "client-gave-up", "health-probe"],
    },
];

/// Codes that say in which situation this end was, which no sender knows better.
const OF_THIS_END: &[&str] = &["after-close", "keepalive-race", "tls-goodbye", "turned-away"];
/// Those of them that are about a decision of the sender's own: it made none where it passes on another connection's end, or
/// its process has ended.
const OF_A_DECISION: &[&str] = &["keepalive-race", "turned-away"];

/// Codes of a sender whose process has ended.
const OF_AN_END: &[&str] = &["process-died", "process-exited", "process-ended"];

/// Longest time between a FIN and data of a process that may not have read it yet, milliseconds.
const UNAWARE_MS: f64 = 1_000.0;

/// Cause of a sent reset, as far as the record of the other end takes it over.
#[derive(Clone, Copy, Debug)]
pub struct SenderCause {
    /// Code.
    pub code: &'static str,
    /// How certain it is.
    pub confidence: CauseConfidence,
    /// Side that has something to change, as the sender sees it.
    pub fault: Fault,
    /// Whether the reset is harmless.
    pub benign: bool,
    /// Whether its process has ended since it closed ([`Internals`](crate::model::internals::Internals)).
    pub has_left: bool,
    /// Advice, where it is that of the record and not of the code.
    pub advice: Option<&'static str>,
}

impl SenderCause {
    /// Cause of this record.
    pub fn of(sent: &Reset) -> Self {
        let cause = &sent.cause;
        let of_code = catalogue::find_in(cause.code, Direction::Sent).map(|spec| spec.advice);
        let advice = match cause.advice {
            Cow::Borrowed(advice) if of_code != Some(advice) => Some(advice),
            _ => None,
        };
        Self {
            code: cause.code,
            confidence: cause.confidence,
            fault: cause.fault,
            benign: cause.benign,
            has_left: sent.internals.closed_by_leaving,
            advice,
        }
    }
}

/// Whether both ends of a refused connection are in one network namespace, and one of them is translated: a rule there redirected
/// the connection, which never left it.
fn is_redirected(reset: &Reset) -> bool {
    let is_here = reset.other_end.as_ref().is_some_and(|other| other.netns.is_some() && other.netns == reset.netns);
    is_here && reset.translated.is_some() && matches!(reset.cause.code, "connection-refused" | "port-closed")
}

/// Finds the fault of a refusal that both records are known of in this host's own rules, where these redirected the connection.
pub fn note_redirection(reset: &mut Reset) {
    if is_redirected(reset) {
        (reset.cause.fault, reset.cause.advice) = (Fault::Local, Cow::Borrowed(REDIRECTED));
    }
}

/// Advice where a rule of this host redirected a refused connection.
const REDIRECTED: &str = "Start the proxy (sidecar) that this host's rules redirect to, or change the rule (nft list ruleset, iptables -t nat -S).";

/// Makes a refusal that this host's own packet filter sent the filter's.
fn refuse_by_own_filter(received: &mut Reset) {
    if received.cause.code == "connection-refused"
        && let Some(spec) = catalogue::find_in("refused-by-firewall", Direction::Received)
    {
        received.cause = super::cause(spec, CauseConfidence::Certain);
        received.internals.is_cause_of_another = true;
        let is_here = received.other_end.as_ref().is_some_and(|other| other.netns == received.netns);
        if is_here {
            (received.cause.sender, received.cause.fault) = (Sender::LocalFirewall, Fault::Local);
        }
    }
}

/// Takes the cause of a received reset from the record of the sent one at the other end, as it looks from here. What this end
/// knows by itself stays where it agrees with that, and is more than a guess or harmless at both ends.
pub fn take_from_other_end(received: &mut Reset, sent: SenderCause) {
    received.internals.advice_of_sender = sent.advice;
    if sent.code == "firewall-reject" {
        refuse_by_own_filter(received);
    }
    let Some(counterpart) = COUNTERPARTS.iter().find(|counterpart| counterpart.sent == sent.code) else { return };
    let is_server = received.socket.as_ref().is_some_and(|socket| socket.role == Some(Role::Server));
    let sent_unaware = sent_unaware(received);
    let code = counterpart.received[usize::from(is_server)];
    let own = &mut received.cause;
    if own.code == code {
        if own.confidence == CauseConfidence::Guess || sent.confidence == CauseConfidence::Certain {
            own.confidence = sent.confidence;
        }
    } else {
        let is_more_than_a_guess = own.confidence != CauseConfidence::Guess || own.benign && sent.benign;
        let is_relayed = sent.code == RELAYED_CODE;
        let decided_nothing = is_relayed || OF_AN_END.contains(&sent.code);
        let is_of_this_end = OF_THIS_END.contains(&own.code) && !(decided_nothing && OF_A_DECISION.contains(&own.code));
        let is_fitting = is_of_this_end
            || counterpart.fitting.contains(&own.code)
            || is_relayed && own.code == "reused-closed-connection" && !sent_unaware
            // This end has seen other connections break with it: the sender's process was killed, for all that it knows.
            || sent.has_left && own.code == "peer-restarted";
        if is_fitting && is_more_than_a_guess {
            return;
        }
        let Some(spec) = catalogue::find_in(code, Direction::Received) else { return };
        let lost_bytes = own.lost_bytes;
        *own = super::cause(spec, sent.confidence);
        own.lost_bytes = lost_bytes;
        received.internals.is_cause_of_another = true;
    }
    // A fault between the relay and what is behind it, or an unknown one, is none of the relay's.
    if sent.code == RELAYED_CODE && matches!(sent.fault, Fault::Path | Fault::Unknown) {
        received.cause.fault = sent.fault;
    }
    // One end does not find fault with what is harmless at the other.
    if sent.benign {
        (received.cause.benign, received.cause.fault) = (true, Fault::None);
    }
}

/// Whether this end last sent so soon after the peer's FIN that its process may not have read that.
fn sent_unaware(received: &Reset) -> bool {
    let Some(socket) = &received.socket else { return false };
    let times = socket.fin_received_ms.zip(socket.since_send_ms);
    times.is_some_and(|(fin_ms, send_ms)| fin_ms - send_ms <= UNAWARE_MS)
}

/// Makes a sent reset one that passes on what happened to another connection of its process
/// ([`Internals::relayed`](crate::model::internals::Internals)).
pub fn relay(sent: &mut Reset) {
    let Some(first) = sent.internals.relayed else { return };
    let lost_bytes = sent.cause.lost_bytes;
    sent.cause = super::cause(&RELAYED, CauseConfidence::Likely);
    sent.cause.lost_bytes = lost_bytes;
    sent.cause.fault = first.fault;
    sent.cause.benign = first.fault == Fault::None;
}

/// Makes the end of a connection that a forwarder accepted one that it passes on from a connection which is not known. Returns
/// whether the owner is a forwarder.
pub fn relay_unseen(sent: &mut Reset) -> bool {
    let is_forwarder = sent.process.as_ref().is_some_and(program_hints::is_forwarder);
    if is_forwarder {
        let lost_bytes = sent.cause.lost_bytes;
        sent.cause = super::cause(&RELAYED, CauseConfidence::Likely);
        sent.cause.lost_bytes = lost_bytes;
        sent.cause.advice = Cow::Borrowed(FORWARDED);
    }
    is_forwarder
}

/// Advice where the other connection of a forwarder is not known.
const FORWARDED: &str =
    "Look at what it forwards to, on the host at the other end of a tunnel: what happened there is the cause.";

/// Makes a sent reset, which answered a segment, the aftermath of the reset of its connection.
pub fn become_aftermath(sent: &mut Reset) {
    let Some(spec) = catalogue::find_in(AFTERMATH, Direction::Sent) else { return };
    sent.cause = super::cause(spec, CauseConfidence::Likely);
    sent.internals.is_cause_of_another = true;
}

pub(super) static RELAYED: CauseSpec = CauseSpec {
    code: RELAYED_CODE,
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Unknown,
    // Found by the correlation of records, after the owner is known.
    rule: |_, _| None,
    evidence: relayed_from,
    summary: "The process passed on the end of another of its connections.",
    advice: "Look at the first record of the incident: what happened there is the cause.",
    shows_by: "The process had received one reset or refusal on a connection in the other direction just before, and none other in that time; the fault is that of the first record. Or the process only forwards connections (ssh, docker-proxy), and it is not known what happened at the other side.",
};

fn relayed_from(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(first) = &reset.internals.relayed else {
        evidence.push("the process accepts connections only to forward them, and no reset of the other side is known");
        return;
    };
    let whose = if first.is_of_child { "a connection of its child" } else { "another connection of this process" };
    evidence.push(format_args!(
        "{} had come from {} on {whose} {} before",
        first.code,
        first.peer,
        human_duration(first.before_ms)
    ));
}

/// Whether a received reset has the advice of the end that sent it: not where nothing is to be changed, nor where this end is to
/// be, which its own advice is about.
const fn takes_advice(fault: Fault) -> bool {
    !matches!(fault, Fault::None | Fault::Local)
}

/// Appends what the other end, on this host, says. The advice is that of the end that sent the reset. Without formatting: under
/// load with both ends here, every record has it.
pub(super) fn tell_other_end(reset: &mut Reset, evidence: &mut Evidence) {
    let Some(other) = &reset.other_end else { return };
    if reset.hook == Hook::Capture {
        let other = other.cause;
        return tell_captured_end(reset, other, evidence);
    }
    let mut pid = itoa::Buffer::new();
    let process = match &other.process {
        Some(process) => [&*process.comm, "[", pid.format(process.pid), "]"],
        None if reset.direction == Direction::Received => ["the kernel", "", "", ""],
        None => ["a process that is not known", "", "", ""],
    };
    let [comm, open, pid, close] = process;
    match reset.direction {
        Direction::Received => {
            let parts = [OTHER_END_HERE, comm, open, pid, close, " sent the reset, ", other.cause];
            evidence.push_parts(parts);
            // This refers to another record in turn.
            let refers = other.cause == AFTERMATH;
            if is_redirected(reset) {
                evidence.push("a rule of this host redirected the connection, which never left it");
                return;
            }
            if takes_advice(reset.cause.fault)
                && !refers
                && let Some(spec) = catalogue::find_in(other.cause, Direction::Sent)
            {
                let comm = sanitize::truncate(comm, COMM_MAX);
                let advice = reset.internals.advice_of_sender.unwrap_or(spec.advice);
                let parts = ["At the other end, ", &comm, open, pid, close, " on this host: ", advice];
                reset.cause.advice = parts.concat().into();
            }
        }
        Direction::Sent => {
            evidence.push_parts([OTHER_END_HERE, comm, open, pid, close, " received the reset"]);
            if is_redirected(reset) {
                evidence.push("a rule of this host redirected the connection, which never left it");
            }
        }
    }
}

/// Appends what the other end of a captured connection says: it may be on any host, and its process is not known.
fn tell_captured_end(reset: &mut Reset, other: &'static str, evidence: &mut Evidence) {
    if reset.direction == Direction::Sent {
        return evidence.push_parts([OTHER_END_CAPTURED, "it received the reset"]);
    }
    evidence.push_parts([OTHER_END_CAPTURED, "it sent the reset, ", other]);
    if takes_advice(reset.cause.fault)
        && other != AFTERMATH
        && let Some(spec) = catalogue::find_in(other, Direction::Sent)
    {
        let advice = reset.internals.advice_of_sender.unwrap_or(spec.advice);
        reset.cause.advice = format!("At the other end, {}: {advice}", reset.peer.address).into();
    }
}

/// Evidence function of the cause; none where the cause was taken from the other end, whose rule does not hold here.
pub(super) fn evidence_of(reset: &Reset, spec: &CauseSpec) -> catalogue::EvidenceFn {
    if reset.internals.is_cause_of_another { no_evidence } else { spec.evidence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_one_of_the_catalogue() {
        for (number, counterpart) in COUNTERPARTS.iter().enumerate() {
            assert!(COUNTERPARTS[..number].iter().all(|other| other.sent != counterpart.sent), "{}", counterpart.sent);
            assert!(catalogue::find_in(counterpart.sent, Direction::Sent).is_some(), "{}", counterpart.sent);
            for code in counterpart.received.iter().chain(counterpart.fitting).chain(OF_THIS_END) {
                assert!(catalogue::find_in(code, Direction::Received).is_some(), "{code}");
            }
        }
    }
}
