//! Diagnosis: the cause of a reset, the side that has something to change, and the evidence.
//!
//! No I/O but for the files of `--timeouts` and `--hints` at the start: fills in the cause of one record after the other. Earlier
//! resets are kept in a bounded cache, see `correlation.rs`.

mod burst;
pub mod catalogue;
mod client_ended;
pub mod connection_view;
mod correlation;
mod data_file;
mod download;
mod ended;
pub(crate) mod evidence;
mod given_up;
pub mod joined;
mod keepalive;
mod lost_state;
mod mptcp;
pub mod not_translated;
mod process_end;
pub mod program_hints;
mod received;
mod segment_answers;
mod sent;
mod sent_view;
mod serving;
pub mod timeouts;
mod tls_alerts;
mod turned_away;
mod wire;

use std::borrow::Cow;

pub use data_file::{DataFileError, TableError};
pub(crate) use keepalive::leave;
pub(crate) use lost_state::PATH_LOST_STATE_CODE;
pub(crate) use sent::CHECKS_MIN;

use crate::{
    diagnose::{catalogue::CauseSpec, correlation::RecentResets, program_hints::ProgramHints, timeouts::Timeouts},
    model::{Cause, CauseConfidence, Evidence, Fault, Reset, Sender},
};

fn cause(spec: &CauseSpec, confidence: CauseConfidence) -> Cause {
    Cause {
        code: spec.code,
        sender: spec.sender,
        fault: spec.fault,
        confidence,
        benign: spec.fault == Fault::None,
        lost_bytes: None,
        summary: Cow::Borrowed(spec.summary),
        evidence: Evidence::default(),
        advice: Cow::Borrowed(spec.advice),
    }
}

/// Payload bytes of this host that the reset threw away. With MPTCP they go on another path.
fn lost_bytes(reset: &Reset) -> Option<u64> {
    let socket = reset.socket.as_ref().filter(|_| reset.internals.is_mptcp != Some(true))?;
    // A capture does not show what was written and not sent.
    let lost = socket.unacked_bytes? + socket.unsent_bytes.unwrap_or(0);
    (lost > 0).then_some(lost)
}

/// Diagnoses resets, in the order of events.
pub struct Diagnosis {
    timeouts: Timeouts,
    recent: RecentResets,
    hints: ProgramHints,
}

impl Default for Diagnosis {
    /// The stage without known timeouts and with the built-in hints.
    fn default() -> Self {
        Self::new(Timeouts::default(), ProgramHints::embedded())
    }
}

impl Diagnosis {
    /// Creates the stage with these known timeouts and hints, and no earlier resets.
    pub fn new(timeouts: Timeouts, hints: ProgramHints) -> Self {
        Self { timeouts, recent: RecentResets::default(), hints }
    }

    /// The stage with its timeouts and hints, and no earlier resets.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self::new(self.timeouts.clone(), self.hints.clone())
    }

    /// Fills in the cause, with an empty evidence, and remembers the reset for later ones.
    pub fn diagnose(&mut self, reset: &mut Reset) {
        self.recent.observe(reset);
        let (spec, mut confidence) = catalogue::decide(reset, &self.timeouts);
        if wire::is_captured(reset) {
            confidence = wire::confidence(reset, spec.code, confidence);
        }
        reset.cause = cause(spec, confidence);
        reset.cause.lost_bytes = lost_bytes(reset);
        if client_ended::is_harmless_abort(reset, spec.code) {
            (reset.cause.fault, reset.cause.benign) = (Fault::None, true);
            reset.cause.advice = Cow::Borrowed(client_ended::NOTHING_LOST);
        }
        if spec.code == "refused-by-firewall" && received::is_refused_here(reset) {
            (reset.cause.sender, reset.cause.fault) = (Sender::LocalFirewall, Fault::Local);
            reset.cause.advice = Cow::Borrowed(received::REFUSED_HERE);
        }
    }

    /// Fills in the evidence, and appends the hint for the owner's program to the advice.
    ///
    /// Apart from [`Self::diagnose`], because it takes longer and not every format shows evidence.
    pub fn explain(&self, reset: &mut Reset) {
        let mut evidence = std::mem::take(&mut reset.cause.evidence).cleared();
        if let Some(spec) = catalogue::find_in(reset.cause.code, reset.direction) {
            joined::evidence_of(reset, spec)(reset, &self.timeouts, &mut evidence);
        }
        joined::tell_other_end(reset, &mut evidence);
        evidence::append_facts(reset, &mut evidence);
        reset.cause.evidence = evidence;
        if reset.cause.benign {
            return;
        }
        if let Some(hint) =
            reset.process.as_ref().and_then(|process| self.hints.find(process, reset.cause.code, reset.direction))
        {
            reset.cause.advice = Cow::Owned(format!("{} {hint}", reset.cause.advice));
        }
    }

    /// Built-in hints for a cause, one for each program that has any.
    pub fn hints(cause: &CauseSpec) -> impl Iterator<Item = &'static str> {
        program_hints::for_cause(cause)
    }

    /// The known timeouts.
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}
