//! Durations for people.

use std::fmt::{self, Display};

/// A duration in milliseconds, shown with the unit that fits: `250 µs`, `20 ms`, `75.0 s`, `12 min`.
pub(crate) fn human_duration(ms: f64) -> impl Display {
    fmt::from_fn(move |formatter| match ms {
        ..1.0 => write!(formatter, "{:.0} µs", ms * 1000.0),
        ..1000.0 => write!(formatter, "{ms:.0} ms"),
        ..600_000.0 => write!(formatter, "{:.1} s", ms / 1000.0),
        _ => write!(formatter, "{:.0} min", ms / 60_000.0),
    })
}
