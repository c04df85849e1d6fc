//! Durations for people.

use std::fmt::{self, Display, Formatter};

/// A duration in milliseconds, shown with the unit that fits: `250 µs`, `20 ms`, `75.0 s`, `12 min`.
pub(crate) fn human_duration(ms: f64) -> impl Display {
    fmt::from_fn(move |formatter| match ms {
        ..1.0 => write_whole(ms * 1000.0, " µs", formatter),
        ..1000.0 => write_whole(ms, " ms", formatter),
        ..600_000.0 => write!(formatter, "{:.1} s", ms / 1000.0),
        _ => write!(formatter, "{:.0} min", ms / 60_000.0),
    })
}

/// Writes a number below 1,000, rounded as `{:.0}` does, and a unit. Most records have several, and the exact conversion
/// of a floating-point number takes three times as long as that of an integer.
fn write_whole(value: f64, unit: &str, formatter: &mut Formatter<'_>) -> fmt::Result {
    let rounded = value.round_ties_even();
    if rounded.is_sign_negative() {
        return write!(formatter, "{value:.0}{unit}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1,000")]
    let whole = rounded as u32;
    formatter.write_str(itoa::Buffer::new().format(whole))?;
    formatter.write_str(unit)
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    /// The reference, by the exact conversion of floating-point numbers.
    fn exact(ms: f64) -> String {
        match ms {
            ..1.0 => format!("{:.0} µs", ms * 1000.0),
            ..1000.0 => format!("{ms:.0} ms"),
            ..600_000.0 => format!("{:.1} s", ms / 1000.0),
            _ => format!("{:.0} min", ms / 60_000.0),
        }
    }

    #[test]
    fn rounds_halves_to_even_numbers() {
        for (ms, text) in
            [(0.0, "0 µs"), (0.0005, "0 µs"), (0.0015, "2 µs"), (2.5, "2 ms"), (3.5, "4 ms"), (999.5, "1000 ms")]
        {
            assert_eq!(human_duration(ms).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn equals_the_exact_conversion(ms in -2_000.0..2_000.0, small in -2.0..2.0, halves in -4_000..4_000) {
            for ms in [ms, small, f64::from(halves) / 2.0, f64::from(halves) / 2_000.0] {
                prop_assert_eq!(human_duration(ms).to_string(), exact(ms));
            }
        }
    }
}
