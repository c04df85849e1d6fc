//! How values are shown in all parts of a report: cut, sanitized, with units.

use jiff::{Timestamp, tz::TimeZone};

use super::collector::PeerKey;
use crate::{
    model::Reset,
    util::{human_duration, sanitize},
};

/// Most characters of a name in a table or a title.
pub(super) const NAME: usize = 40;

/// A count with its thousands apart: `12,345`.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun, which has an `s` in the plural.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(count), if count == 1 { "" } else { "s" })
}

/// A share in percent, as `41 %`; more than 0 where there is any, and less than 100 where there is a rest.
pub(super) fn percent(part: u64, all: u64) -> String {
    match (u128::from(part) * 100 + u128::from(all) / 2).checked_div(u128::from(all)) {
        None => "0 %".to_owned(),
        Some(0) if part > 0 => "under 1 %".to_owned(),
        Some(100) if part < all => "over 99 %".to_owned(),
        Some(percent) => format!("{percent} %"),
    }
}

/// A position in a drawing, to a tenth.
pub(super) fn position(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), ToOwned::to_owned)
}

/// A name that strangers may have written, sanitized and cut.
pub(super) fn name(text: &str) -> String {
    sanitize::truncate(text, NAME).into_owned()
}

/// The other side of an incident.
pub(super) fn peer(key: &PeerKey) -> String {
    match key {
        PeerKey::Service(end) => end.to_string(),
        PeerKey::Client(address, port) => format!("{address} (client of :{port})"),
    }
}

/// The other side of an incident, with the name that this host knows for its address.
pub(super) fn peer_of(reset: &Reset) -> String {
    let shown = match PeerKey::of(reset) {
        PeerKey::Service(end) => end.to_string(),
        PeerKey::Client(..) => reset.peer.address.to_string(),
    };
    match &reset.peer.name {
        Some(known) => format!("{} ({shown})", name(known)),
        None => shown,
    }
}

/// A duration, milliseconds.
pub(super) fn duration(ms: f64) -> String {
    match ms {
        ..7_200_000.0 => human_duration(ms).to_string(),
        ..172_800_000.0 => format!("{:.1} h", ms / 3_600_000.0),
        _ => format!("{:.1} d", ms / 86_400_000.0),
    }
}

/// A time of day to the millisecond.
pub(super) fn time_of_day(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string()
}

/// A date and a time of day to the second.
pub(super) fn date_and_time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%d %b %Y %H:%M:%S").to_string()
}

/// A range of times: the date once where it is one day, and one time where it is one second.
pub(super) fn range((from, to): (Timestamp, Timestamp), zone: &TimeZone) -> String {
    let (from, to) = (from.to_zoned(zone.clone()), to.to_zoned(zone.clone()));
    let end = if from.date() == to.date() { "%H:%M:%S" } else { "%d %b %Y %H:%M:%S" };
    if from.timestamp().as_second() == to.timestamp().as_second() {
        return from.strftime("%d %b %Y %H:%M:%S").to_string();
    }
    format!("{} – {}", from.strftime("%d %b %Y %H:%M:%S"), to.strftime(end))
}

/// Name of a time zone at a time, as `UTC` or `CET (UTC+01:00)`.
pub(super) fn zone_name(time: Timestamp, zone: &TimeZone) -> String {
    let name = time.to_zoned(zone.clone()).strftime("%Z (UTC%:z)").to_string();
    if name.starts_with("UTC ") { "UTC".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(count), text);
        }
        assert_eq!((counted(1, "reset"), counted(2, "reset")), ("1 reset".to_owned(), "2 resets".to_owned()));
        for (part, all, text) in
            [(0, 0, "0 %"), (1, 1000, "under 1 %"), (999, 1000, "over 99 %"), (1, 3, "33 %"), (3, 3, "100 %")]
        {
            assert_eq!(percent(part, all), text);
        }
        assert_eq!([position(1.0), position(1.25), position(-0.5)], ["1", "1.2", "-0.5"]);
    }

    #[test]
    fn names_are_bounded_and_harmless() {
        let shown = name(&format!("\u{1b}[31m\u{202e}{}", "x".repeat(100_000)));
        assert!(shown.chars().count() <= NAME && !shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    }
}
