//! Serialization of times.

use std::{borrow::Cow, cell::RefCell};

use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serializer, de};

/// Layout of a time in a year of four digits.
const LAYOUT: &[u8; 30] = b"2026-11-21T08:15:02.000000000Z";
/// Position of the nanoseconds; everything before depends on the second alone.
const NANOSECONDS: std::ops::Range<usize> = 20..29;
/// Seconds since 1970 of the years of four digits, less a day.
const YEARS_OF_FOUR_DIGITS: std::ops::Range<i64> = 0..253_402_214_400;

thread_local! {
    /// The last second that was written, with its text. Under load many times are within one second, which is then
    /// formatted once.
    static LAST: RefCell<(i64, [u8; 30])> = const { RefCell::new((i64::MIN, *LAYOUT)) };
}

/// Serializes a time as RFC 3339 in UTC, always with nine digits of nanoseconds. Fails when the serializer
/// does.
pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let second = time.as_second();
    if !YEARS_OF_FOUR_DIGITS.contains(&second) {
        return serializer.collect_str(&format_args!("{time:.9}"));
    }
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            for (here, digit) in text.iter_mut().zip(format!("{time:.9}").bytes()) {
                *here = digit;
            }
            *last = second;
        }
        let mut left = time.subsec_nanosecond().unsigned_abs();
        for digit in text.get_mut(NANOSECONDS).unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        serializer.serialize_str(str::from_utf8(text).map_err(serde::ser::Error::custom)?)
    })
}

/// Deserializes a time in the form of [`serialize`], or any other of RFC 3339. Fails where it is none.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(|_error| de::Error::custom("expected a time such as 2026-11-21T08:15:02.000000000Z"))
}

/// JSON Schema of a time.
#[cfg(feature = "schema")]
pub(crate) fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$"
    })
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::prop_assert_eq, proptest};

    use super::*;

    fn serialized(time: Timestamp) -> String {
        let mut text = Vec::new();
        serialize(&time, &mut serde_json::Serializer::new(&mut text)).expect("a time has a form");
        serde_json::from_slice(&text).expect("a string")
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(second in -10_000_000_000_i64..253_402_207_200, nanosecond in 0..1_000_000_000, step in -2..=2_i64) {
            for second in [second, second, (second + step).min(253_402_207_200)] {
                let time = Timestamp::new(second, nanosecond).expect("in range");
                prop_assert_eq!(serialized(time), format!("{time:.9}"));
            }
        }
    }
}
