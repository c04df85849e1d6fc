//! Why: the cause of a reset, whose fault it is, and the evidence.
//!
//! Pure: a record in, the same record with its cause out.

pub mod catalogue;
pub(crate) mod evidence;

use crate::{
    diagnose::catalogue::UNKNOWN,
    reset::{Cause, CauseConfidence, Reset},
};

/// The cause of a record that nobody has looked at yet.
pub(crate) fn undiagnosed() -> Cause {
    Cause {
        code: UNKNOWN.code,
        sender: UNKNOWN.sender,
        fault: UNKNOWN.fault,
        confidence: CauseConfidence::Guess,
        benign: false,
        summary: UNKNOWN.summary,
        evidence: Vec::new(),
        advice: UNKNOWN.advice,
    }
}

/// Fills in the cause.
pub fn diagnose(reset: &mut Reset) {
    let (row, confidence) = catalogue::ROWS
        .iter()
        .find_map(|row| Some((row, (row.rule)(reset)?)))
        .unwrap_or((&UNKNOWN, CauseConfidence::Guess));
    reset.cause = Cause {
        code: row.code,
        sender: row.sender,
        fault: row.fault,
        confidence,
        benign: row.fault == crate::reset::Fault::None,
        summary: row.summary,
        evidence: evidence::of(reset),
        advice: row.advice,
    };
}
