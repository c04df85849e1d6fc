//! Why: the cause of a reset, whose fault it is, and the evidence.
//!
//! No input or output but the timeouts' file at the start: a record in, the same record with its cause out. What a
//! record has to do with earlier ones is in a short, bounded memory.

pub mod catalogue;
mod crowd;
pub(crate) mod evidence;
mod neighbours;
mod programs;
mod received;
mod sent;
pub mod story;
pub mod timeouts;

use std::borrow::Cow;

use crate::{
    diagnose::{
        catalogue::{Row, UNKNOWN},
        neighbours::Memory,
        timeouts::Timeouts,
    },
    model::{Cause, CauseConfidence, Evidence, Fault, Reset},
};

/// The cause of a record that nobody has looked at yet.
pub(crate) fn undiagnosed() -> Cause {
    cause(&UNKNOWN, CauseConfidence::Guess)
}

fn cause(row: &Row, confidence: CauseConfidence) -> Cause {
    Cause {
        code: row.code,
        sender: row.sender,
        fault: row.fault,
        confidence,
        benign: row.fault == Fault::None,
        summary: Cow::Borrowed(row.summary),
        evidence: Evidence::default(),
        advice: Cow::Borrowed(row.advice),
    }
}

/// Finds causes.
#[derive(Default)]
pub struct Diagnosis {
    timeouts: Timeouts,
    memory: Memory,
    settings: programs::ByCause,
}

impl Diagnosis {
    /// With these known timeouts, and nothing remembered.
    pub fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, ..Self::default() }
    }

    /// Fills in the cause, but for the words that need time to find: see [`Self::explain`].
    pub fn diagnose(&mut self, reset: &mut Reset) {
        self.memory.introduce(reset);
        let (row, confidence) = catalogue::decide(reset, &self.timeouts);
        reset.cause = cause(row, confidence);
    }

    /// Fills in the evidence, and the setting of the owner's program to look at.
    pub fn explain(&self, reset: &mut Reset) {
        let mut evidence = std::mem::take(&mut reset.cause.evidence).cleared();
        if let Some(row) = catalogue::find(reset.cause.code) {
            (row.because)(reset, &self.timeouts, &mut evidence);
        }
        evidence::of(reset, &mut evidence);
        reset.cause.evidence = evidence;
        if let Some(setting) =
            reset.process.as_ref().and_then(|process| self.settings.setting(process, reset.cause.code))
        {
            reset.cause.advice = Cow::Owned(format!("{} {setting}", reset.cause.advice));
        }
    }

    /// What to look at for a cause in each program that has a setting for it.
    pub fn settings(code: &str) -> impl Iterator<Item = &'static str> {
        programs::settings(code)
    }

    /// The known timeouts.
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}
