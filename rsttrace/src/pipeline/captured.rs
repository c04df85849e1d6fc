//! The chain of stages over the resets of packet captures, from the diagnosis on.
//!
//! They come in the order of their packets, and finished: nothing is looked up. Those of several captures share the chain, and have
//! namespaces of their own in it.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    processor::{Output, Processor, Wanted},
    rediagnose::{Recorded, stages},
};
use crate::{diagnose::Diagnosis, filter::RecordFilter, model::Reset};

/// Diagnoses and joins the resets of captures.
pub(crate) struct CapturedChain {
    processor: Processor<Recorded>,
}

impl CapturedChain {
    /// A chain with these known timeouts and hints.
    pub(crate) fn new(diagnosis: &Diagnosis, filter: RecordFilter) -> Self {
        Self { processor: Processor::new(stages(diagnosis, filter), Wanted { evidence: true, ..Wanted::default() }) }
    }

    /// Takes the next reset, and emits those that need not wait any longer for the other end of their connection.
    pub(crate) fn take(&mut self, mut reset: Reset, out: &mut impl Output) {
        self.processor.release_held(reset.internals.ktime_ns, out);
        self.processor.diagnose_recorded(&mut reset);
        self.processor.finish_recorded(Arc::new(reset), out);
    }

    /// Emits those that need not wait any longer at this time.
    pub(crate) fn release_before(&mut self, time: Timestamp, out: &mut impl Output) {
        if self.is_waiting() {
            self.processor.release_held(u64::try_from(time.as_nanosecond()).unwrap_or(0), out);
        }
    }

    /// Whether a reset waits for the other end of its connection.
    pub(crate) fn is_waiting(&self) -> bool {
        self.processor.held_deadline_ns().is_some()
    }

    /// Emits what is left at the end.
    pub(crate) fn finish(&mut self, out: &mut impl Output) {
        self.processor.release_held(u64::MAX, out);
    }
}
