//! The catalogue of causes: one row a cause, in the order in which they are tried.
//!
//! Codes are stable. The rows stand in `sent.rs` and `received.rs`, each beside its rule.

use super::{received, sent, timeouts::Timeouts};
use crate::model::{CauseConfidence, Direction, Evidence, Fault, Reset, Sender};

/// Decides whether a record has a cause, and how sure that is.
pub type Rule = fn(&Reset, &Timeouts) -> Option<CauseConfidence>;

/// Says with figures what decided it, the most telling first.
pub type Because = fn(&Reset, &Timeouts, &mut Evidence);

/// One cause.
pub struct Row {
    /// Stable name.
    pub code: &'static str,
    /// Which way such resets go; `None` for either.
    pub direction: Option<Direction>,
    /// Who put the reset on the wire.
    pub sender: Sender,
    /// Who has something to change.
    pub fault: Fault,
    /// One sentence.
    pub summary: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// How it shows on this host.
    pub fingerprint: &'static str,
    /// How it is recognised.
    pub rule: Rule,
    /// What decided it, beside the facts that every record has.
    pub because: Because,
}

/// What is left when no rule fits.
pub static UNKNOWN: Row = Row {
    code: "unknown",
    direction: None,
    sender: Sender::Unknown,
    fault: Fault::Unknown,
    summary: "None of the known causes fits; the evidence is what there is.",
    advice: "Look at the evidence, and at the peer's own records of the same moment.",
    fingerprint: "Nothing else in this catalogue.",
    rule: never,
    because: plain,
};

/// Every cause but `unknown`; of each direction, in the order in which they are tried.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    sent::ROWS.iter().chain(received::ROWS)
}

/// The cause with this code.
pub fn find(code: &str) -> Option<&'static Row> {
    // A record's code is the row's own, and a look at where it is tells; words have to be compared.
    let is_own = |row: &&Row| std::ptr::eq(row.code, code);
    rows().find(is_own).or_else(|| rows().chain([&UNKNOWN]).find(|row| row.code == code))
}

/// The first row whose rule fits, and how sure it is.
pub(super) fn decide(reset: &Reset, timeouts: &Timeouts) -> (&'static Row, CauseConfidence) {
    let rows = match reset.direction {
        Direction::Sent => sent::ROWS,
        Direction::Received => received::ROWS,
    };
    rows.iter().find_map(|row| Some((row, (row.rule)(reset, timeouts)?))).unwrap_or((&UNKNOWN, CauseConfidence::Guess))
}

/// The rule of a cause that another place decides.
pub(super) fn never(_: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    None
}

/// Nothing to say beside the facts that every record has.
pub(super) fn plain(_: &Reset, _: &Timeouts, _: &mut Evidence) {}

/// The table of one direction: code, sender, fault, rule, what it adds to the evidence; summary, advice, fingerprint.
macro_rules! table {
    ($direction:ident: $($code:literal $sender:ident $fault:ident $rule:expr, $because:expr;
        $summary:literal $advice:literal $fingerprint:literal)+) => {
        /// Every cause of this direction, in the order in which they are tried.
        pub(super) static ROWS: &[$crate::diagnose::catalogue::Row] = &[$($crate::diagnose::catalogue::Row {
            code: $code,
            direction: Some($crate::model::Direction::$direction),
            sender: $crate::model::Sender::$sender,
            fault: $crate::model::Fault::$fault,
            summary: $summary,
            advice: $advice,
            fingerprint: $fingerprint,
            rule: $rule,
            because: $because,
        },)+];
    };
}
pub(super) use table;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_texts_are_sentences() {
        let mut codes = HashSet::new();
        for row in rows() {
            assert!(codes.insert(row.code), "{} stands twice", row.code);
            assert!(row.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
            for text in [row.summary, row.advice, row.fingerprint] {
                assert!(text.ends_with(['.', '?']) && text.starts_with(char::is_uppercase), "{}: {text}", row.code);
            }
        }
        assert!(!codes.contains(UNKNOWN.code));
    }
}
