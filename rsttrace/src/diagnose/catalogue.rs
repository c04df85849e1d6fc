//! Catalogue of causes, in the order in which they are tried.
//!
//! Codes are stable. Each cause is declared beside its rule: in `sent.rs` or `received.rs`, or in the file of its subject. A
//! code may stand for one cause in each direction, where both ends tell of the same incident.

use std::ptr;

use super::{received, sent, timeouts::Timeouts};
use crate::model::{CauseConfidence, Direction, Evidence, Fault, Reset, Sender};

/// Rule of a cause: whether it explains a record, and with which confidence. `None` if it does not.
pub type RuleFn = fn(&Reset, &Timeouts) -> Option<CauseConfidence>;

/// Appends the figures on which a rule decided, the most telling first.
pub type EvidenceFn = fn(&Reset, &Timeouts, &mut Evidence);

/// Result of a rule that the kernel's state proves.
pub(super) const CERTAIN: Option<CauseConfidence> = Some(CauseConfidence::Certain);
/// Result of a rule that fits, with nothing that contradicts.
pub(super) const LIKELY: Option<CauseConfidence> = Some(CauseConfidence::Likely);
/// Result of a rule that is the best of several explanations.
pub(super) const GUESS: Option<CauseConfidence> = Some(CauseConfidence::Guess);

/// One cause.
pub struct CauseSpec {
    /// Stable name.
    pub code: &'static str,
    /// Direction of the resets that it explains; `None` for both.
    pub direction: Option<Direction>,
    /// Sender of the reset.
    pub sender: Sender,
    /// Side that has something to change.
    pub fault: Fault,
    /// Rule that recognises it.
    pub rule: RuleFn,
    /// Evidence of the rule, beside the facts that every record has.
    pub evidence: EvidenceFn,
    /// Summary, one sentence.
    pub summary: &'static str,
    /// Remedy.
    pub advice: &'static str,
    /// Signs by which it is recognised on this host.
    pub shows_by: &'static str,
}

/// Cause of records that no rule explains.
pub static UNKNOWN: CauseSpec = CauseSpec {
    code: "unknown",
    direction: None,
    sender: Sender::Unknown,
    fault: Fault::Unknown,
    rule: |_, _| None,
    evidence: no_evidence,
    summary: "None of the known causes fits; the evidence is what there is.",
    advice: "Look at the evidence, and at the peer's own records of the same moment.",
    shows_by: "Nothing else in this catalogue.",
};

/// Every cause but [`UNKNOWN`]. Those of one direction are in the order in which they are tried.
pub fn causes() -> impl Iterator<Item = &'static CauseSpec> {
    sent::CAUSES.iter().chain(received::CAUSES).copied()
}

/// Causes of this code, [`UNKNOWN`] included: none, or one for each direction.
pub fn find(code: &str) -> impl Iterator<Item = &'static CauseSpec> {
    causes().chain([&UNKNOWN]).filter(move |cause| cause.code == code)
}

/// Causes of one direction, in the order in which they are tried.
const fn causes_in(direction: Direction) -> &'static [&'static CauseSpec] {
    match direction {
        Direction::Sent => sent::CAUSES,
        Direction::Received => received::CAUSES,
    }
}

/// Cause of this code in a direction; `None` if there is none.
pub fn find_in(code: &str, direction: Direction) -> Option<&'static CauseSpec> {
    let causes = || causes_in(direction).iter().copied().chain([&UNKNOWN]);
    // The code of a record is mostly the cause's own text, so that no byte has to be compared.
    causes().find(|cause| ptr::eq(cause.code, code)).or_else(|| causes().find(|cause| cause.code == code))
}

/// First cause whose rule explains the record, with its confidence; [`UNKNOWN`] if there is none.
pub(super) fn decide(reset: &Reset, timeouts: &Timeouts) -> (&'static CauseSpec, CauseConfidence) {
    let explained = causes_in(reset.direction).iter().find_map(|&cause| Some((cause, (cause.rule)(reset, timeouts)?)));
    explained.unwrap_or((&UNKNOWN, CauseConfidence::Guess))
}

/// [`EvidenceFn`] of a rule that decides on facts that every record has.
pub(super) fn no_evidence(_: &Reset, _: &Timeouts, _: &mut Evidence) {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_code_finds_its_cause_wherever_its_text_is_kept() {
        for cause in causes() {
            let direction = cause.direction.unwrap_or(Direction::Sent);
            let copy = cause.code.to_owned();
            for code in [cause.code, &copy] {
                assert!(find_in(code, direction).is_some_and(|found| ptr::eq(found, cause)), "{code}");
            }
        }
        for direction in [Direction::Sent, Direction::Received] {
            assert!(find_in("unknown", direction).is_some_and(|found| ptr::eq(found, &raw const UNKNOWN)));
            assert!(find_in("no-cause", direction).is_none());
        }
        assert!(find_in("connection-refused", Direction::Sent).is_none());
    }

    #[test]
    fn codes_are_unique_and_texts_are_sentences() {
        let mut codes = HashSet::new();
        for cause in causes() {
            assert!(
                codes.insert((cause.code, cause.direction == Some(Direction::Sent))),
                "{} is there twice",
                cause.code
            );
            assert!(cause.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
            for text in [cause.summary, cause.advice, cause.shows_by] {
                assert!(text.ends_with(['.', '?']) && text.starts_with(char::is_uppercase), "{}: {text}", cause.code);
            }
        }
        assert!(!codes.iter().any(|(code, _)| *code == UNKNOWN.code));
    }
}
