//! Times as records say them.

use std::cell::RefCell;

use jiff::Timestamp;
use serde::Serializer;

/// The length of the part that the calendar makes, in all years of four digits.
const TO_SECONDS: usize = "2026-11-21T08:15:02".len();
/// The last second of such a year at the longest, with a day to spare.
const YEARS_OF_FOUR_DIGITS: std::ops::Range<i64> = 0..253_402_214_400;

thread_local! {
    /// The second that was written last, and its time as text. Under load there are many of one second, and the
    /// calendar is asked once for all of them.
    static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Writes a time as RFC 3339 in UTC, always with nanoseconds.
pub(crate) fn timestamp<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let second = time.as_second();
    if !YEARS_OF_FOUR_DIGITS.contains(&second) {
        return serializer.collect_str(&format_args!("{time:.9}"));
    }
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            *text = format!("{time:.0}");
            *last = second;
        }
        text.truncate(TO_SECONDS);
        text.push('.');
        let nanoseconds = time.subsec_nanosecond().unsigned_abs();
        let digit = |place: u32| char::from_digit(nanoseconds / 10_u32.pow(place) % 10, 10).unwrap_or('0');
        text.extend((0..9).rev().map(digit));
        text.push('Z');
        serializer.serialize_str(text)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::prop_assert_eq, proptest};

    use super::*;

    fn said(time: Timestamp) -> String {
        let mut text = Vec::new();
        timestamp(&time, &mut serde_json::Serializer::new(&mut text)).expect("a time has a form");
        serde_json::from_slice(&text).expect("a string")
    }

    proptest! {
        #[test]
        fn it_is_what_the_calendar_says(second in -10_000_000_000_i64..253_402_207_200, nanosecond in 0..1_000_000_000, step in -2..=2_i64) {
            for second in [second, second, (second + step).min(253_402_207_200)] {
                let time = Timestamp::new(second, nanosecond).expect("in range");
                prop_assert_eq!(said(time), format!("{time:.9}"));
            }
        }
    }
}
