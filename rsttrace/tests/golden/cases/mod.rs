//! Events as the kernel side makes them: at least one case for each cause, and beside it near misses that must not get
//! that cause.

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
    /// Whether the record also has what `/proc` shows of the process.
    pub(crate) details: bool,
    /// Whether the process of the record closed the connection and has ended since.
    pub(crate) has_left: bool,
    /// State of the masqueraded connection that conntrack has between these ends; `None` for no entry.
    pub(crate) conntrack: Option<u8>,
    /// Earlier events: milliseconds before this one, and the change.
    before: &'static [(u64, Change)],
    change: Change,
}

/// Change of the base event.
type Change = fn(&mut ResetEvent);

impl Case {
    /// The case's event: the base event with the case's change.
    pub(crate) fn event(&self) -> ResetEvent {
        let mut event = events::common();
        (self.change)(&mut event);
        event
    }

    /// The earlier events, in order.
    pub(crate) fn earlier(&self) -> impl Iterator<Item = ResetEvent> {
        self.before.iter().map(|&(ms, change)| {
            let mut event = events::common();
            change(&mut event);
            events::earlier(event, ms)
        })
    }
}

const fn case(name: &'static str, cause: &'static str, change: Change) -> Case {
    Case { name, cause, count: 1, details: false, has_left: false, conntrack: None, before: &[], change }
}

/// All cases, in the order of the stored output.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    sent::CASES.iter().chain(received::CASES)
}
