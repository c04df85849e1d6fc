//! Moments of `--since` and `--until`.

use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::{Date, DateTime, Time},
};

use crate::util::time_span;

/// What is accepted, for messages.
const FORM: &str =
    "expected a time such as 14:03, '2026-11-28 08:00', 2026-11-28T08:00:00Z, or 10m for ten minutes ago";

/// Parses a moment: a time ago (`10m`, `7d`), a time of this day (`14:03`), a date, a date and time (in the zone of `now`), or RFC
/// 3339. Fails for anything else; the error is a part of a sentence.
pub fn parse_moment(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let day = match text {
        "now" => return Ok(now.timestamp()),
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        text => text.parse::<Date>().ok().filter(|_| !text.contains([':', 'T', ' '])),
    };
    let of_day = || {
        text.parse::<Time>()
            .ok()
            .filter(|_| text.contains(':') && !text.contains('-'))
            .map(|time| now.date().to_datetime(time))
    };
    let written = || text.parse::<DateTime>().ok();
    if let Some(local) = day.map(|day| day.to_datetime(Time::midnight())).or_else(of_day).or_else(written) {
        let zoned = local.to_zoned(now.time_zone().clone()).map_err(|_error| FORM.to_owned())?;
        return Ok(zoned.timestamp());
    }
    // A number alone would be a year to some and seconds to others.
    let is_span = text.ends_with(|last: char| last.is_ascii_alphabetic());
    let ago = if is_span { time_span::parse(text).ok() } else { None };
    let ago = ago.and_then(|ago| i64::try_from(ago.as_secs()).ok()).map(ToSpan::seconds);
    ago.and_then(|ago| now.timestamp().checked_sub(ago).ok()).ok_or_else(|| FORM.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_the_forms_that_people_type() {
        let now: Zoned = "2026-11-29T10:30:00+01:00[Europe/Berlin]".parse().expect("a time");
        for (text, expected) in [
            ("14:03", "2026-11-29T13:03:00Z"),
            ("08:00:05", "2026-11-29T07:00:05Z"),
            ("2026-11-28", "2026-11-27T23:00:00Z"),
            ("2026-11-28 08:00", "2026-11-28T07:00:00Z"),
            ("2026-11-28T08:00:01", "2026-11-28T07:00:01Z"),
            ("2026-11-28T08:00:00Z", "2026-11-28T08:00:00Z"),
            ("2026-11-28T08:00:00+05:00", "2026-11-28T03:00:00Z"),
            ("10m", "2026-11-29T09:20:00Z"),
            ("1h30m", "2026-11-29T08:00:00Z"),
            ("2d", "2026-11-27T09:30:00Z"),
            ("today", "2026-11-28T23:00:00Z"),
            ("yesterday", "2026-11-27T23:00:00Z"),
            ("now", "2026-11-29T09:30:00Z"),
        ] {
            assert_eq!(parse_moment(text, &now).map(|moment| moment.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "soon", "25:00", "2026", "2026-13-01", "10", "-5m"] {
            assert!(parse_moment(text, &now).is_err(), "{text}");
        }
    }
}
