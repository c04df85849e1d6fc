//! The host's clocks.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds; `None` when it cannot be read.
pub(crate) fn monotonic_ns() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    Duration::from(now).as_nanos().try_into().ok()
}

/// What the kernel says of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Discipline {
    /// Whether it follows a time server.
    pub(crate) is_synchronized: bool,
    /// Its estimated error, microseconds.
    pub(crate) estimated_error_us: u64,
}

/// State of the wall clock (`adjtimex`); `None` where the kernel does not say.
pub(crate) fn discipline() -> Option<Discipline> {
    // SAFETY: every field is an integer, of which zero is a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is valid, and without a mode nothing is changed.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then(|| Discipline {
        is_synchronized: result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        estimated_error_us: u64::try_from(state.esterror).unwrap_or(0),
    })
}
