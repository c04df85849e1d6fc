//! Events as the kernel side makes them: one case at least for each cause, and beside it the near misses that must not
//! be called by that name.

pub(crate) mod events;
mod received;
mod sent;

use rsttrace_common::event::ResetEvent;

pub(crate) use events::NOW_NS;

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) count: u64,
    /// Whether `/proc` would have told more of the process.
    pub(crate) details: bool,
    /// What had happened so many milliseconds before.
    before: &'static [(u64, Change)],
    change: Change,
}

/// What an event has beside what all have in common.
type Change = fn(&mut ResetEvent);

impl Case {
    /// The event: what all have in common, and what this one changes.
    pub(crate) fn event(&self) -> ResetEvent {
        let mut event = events::common();
        (self.change)(&mut event);
        event
    }

    /// The events before it, as they came.
    pub(crate) fn earlier(&self) -> impl Iterator<Item = ResetEvent> {
        self.before.iter().map(|&(ms, change)| {
            let mut event = events::common();
            change(&mut event);
            events::earlier(event, ms)
        })
    }
}

const fn case(name: &'static str, cause: &'static str, change: Change) -> Case {
    Case { name, cause, count: 1, details: false, before: &[], change }
}

/// Every case, in the order of the stored output.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    sent::CASES.iter().chain(received::CASES)
}
