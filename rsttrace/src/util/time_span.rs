//! Times of the command line.

use std::time::Duration;

use super::{counted, human_duration};

/// Seconds of a day, which the parser below has no unit for: its days may have another length in local time.
const DAY: f64 = 86_400.0;

/// Parses a time such as `30s`, `5m`, `1h30m` or `7d`; a number alone is seconds. Fails for anything else and for 0; the error
/// is a part of a sentence.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let in_units = || Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok();
    let seconds = |number: &str, unit: f64| Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * unit).ok();
    let in_days = || seconds(text.strip_suffix('d')?, DAY);
    match in_units().or_else(|| seconds(text, 1.0)).or_else(in_days) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        Some(_) => Err("expected a time of more than 0".into()),
        None => Err("expected a time such as 30s, 5m, 1h30m or 7d; a number alone is seconds".into()),
    }
}

/// A time as a person would have written it: with the largest unit of which it is a whole number, `7 days`, `90 min`, `30 s`.
pub(crate) fn shown(time: Duration) -> String {
    let (seconds, is_whole) = (time.as_secs(), time.subsec_nanos() == 0);
    match seconds {
        1.. if is_whole && seconds.is_multiple_of(86_400) => counted(seconds / 86_400, "day").to_string(),
        1.. if is_whole && seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        1.. if is_whole && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        1.. if is_whole => format!("{seconds} s"),
        _ => human_duration(time.as_secs_f64() * 1e3).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_they_are_written() {
        let written = [
            ("7d", "7 days"),
            ("24h", "1 day"),
            ("36h", "36 h"),
            ("90m", "90 min"),
            ("95s", "95 s"),
            ("0.2", "200 ms"),
        ];
        for (written, text) in written {
            assert_eq!(parse(written).map(shown).as_deref(), Ok(text));
        }
    }

    #[test]
    fn times_have_units_or_are_seconds() {
        for (text, seconds) in
            [("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("7d", 604_800.0), ("1.5", 1.5), ("0.5d", 43_200.0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["0", "0d", "-1s", "1x", "", "d", "1e400", "infd"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
