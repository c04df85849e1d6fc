//! The verdict in parts: whose, what, how sure, since when, what to do, and what it is not.

use jiff::Timestamp;

use super::{
    content::Report,
    fault_counts::{class, label},
    shown::{self, counted, number},
};
use crate::{
    model::{Fault, Finding},
    util::sanitize,
};

/// Longest place of a finding, characters.
const PLACE: usize = 100;
/// Shortest time without an incident at the end of the data that is told: seconds, and part of the time that the data cover.
const QUIET_MIN: (f64, f64) = (10.0, 0.05);
/// Bursts from which on a cause has a rate.
const RATE_BURSTS: u64 = 3;
/// Longest time since the last burst of a cause that is going on, in mean intervals between its bursts.
const OVERDUE: f64 = 3.0;

/// The verdict for people.
pub(super) struct VerdictPanel {
    /// Side that has something to change by the cause to look at first; `None` where nothing has to be changed.
    pub(super) fault: Option<Fault>,
    /// Whose it is.
    pub(super) headline: String,
    /// What it is, one sentence; empty without a cause to look at.
    pub(super) claim: String,
    /// Further parts with their names.
    pub(super) rows: Vec<(&'static str, Vec<String>)>,
}

impl VerdictPanel {
    /// The verdict of a report.
    pub(super) fn of(report: &Report) -> Self {
        let Some(finding) = report.main_finding() else { return Self::harmless(report) };
        let whose = match finding.fault {
            Fault::Local => "This host has something to fix",
            Fault::Peer => "The peer has something to fix",
            Fault::Path => "Something between the two ends has to be fixed",
            Fault::Unknown | Fault::None => "It is not known who can fix it",
        };
        let signs = report.signs_of(finding);
        let mut rows = vec![
            ("what to do", vec![report.advice_for(finding)]),
            ("cause", vec![in_short(finding)]),
            ("how sure", vec![certainty(finding)]),
            ("when", vec![when(report, finding)]),
        ];
        let lines = |name: &'static str| report.summary.verdict_lines.iter().filter(move |(of, _)| *of == name);
        let patterns = lines("timing").chain(lines("backends")).map(|(_, line)| line.clone()).collect();
        rows.push(("pattern", patterns));
        let mut not = signs.ruled_out(finding);
        not.extend(other_sides(report, finding));
        rows.push(("it is not", not));
        let lost =
            (signs.lost_bytes > 0).then(|| format!("{} of this host's data.", counted(signs.lost_bytes, "byte")));
        rows.push(("lost with it", lost.into_iter().collect()));
        rows.push(("then", report.summary.findings.iter().skip(1).map(in_short).collect()));
        rows.push(("in all", lines("verdict").map(|(_, line)| line.clone()).collect()));
        rows.retain(|(_, texts)| !texts.is_empty());
        Self {
            fault: Some(finding.fault),
            headline: whose.to_owned(),
            claim: sanitize::Sanitized(finding.summary).to_string(),
            rows,
        }
    }

    fn harmless(report: &Report) -> Self {
        let headline = match (report.summary.resets, report.summary.incidents) {
            (0, _) => "No resets",
            (_, 0) => "Nothing began here: these resets belong to earlier incidents",
            _ => "All harmless: nothing has to be changed",
        };
        let of = |name: &str| -> Vec<String> {
            let lines = report.summary.verdict_lines.iter().filter(|(of, _)| *of == name);
            lines.map(|(_, line)| line.clone()).collect()
        };
        let mut rows =
            vec![("in all", of("verdict")), ("pattern", of("timing").into_iter().chain(of("backends")).collect())];
        rows.retain(|(_, texts)| !texts.is_empty() && report.summary.resets > 0);
        Self { fault: None, headline: headline.to_owned(), claim: String::new(), rows }
    }

    /// Class of its colours.
    pub(super) fn class(&self) -> &'static str {
        self.fault.map_or("none", class)
    }
}

/// A finding with its number and its place.
pub(super) fn in_short(finding: &Finding) -> String {
    let Finding { code, resets, bursts, place, .. } = finding;
    let mut text = format!("{code}, {}", counted(*resets, "time"));
    if bursts < resets {
        text = format!("{text} in {}", counted(*bursts, "burst"));
    }
    if place.is_empty() { text } else { format!("{text}: {}", sanitize::truncate(place, PLACE)) }
}

fn certainty(finding: &Finding) -> String {
    let names = ["certain", "likely", "a guess"];
    let all: u64 = finding.confidences.iter().sum();
    let mut parts = Vec::new();
    for (name, &count) in names.into_iter().zip(&finding.confidences) {
        match count {
            0 => {}
            count if count == all && all > 1 => parts.push(format!("{name} in all {}", number(all))),
            count if count == all => parts.push(name.to_owned()),
            count => parts.push(format!("{name} in {} of {}", number(count), number(all))),
        }
    }
    let mut text = parts.join(", ");
    text.get_mut(..1).map(str::make_ascii_uppercase);
    format!("{text}.")
}

fn when(report: &Report, finding: &Finding) -> String {
    let zone = &report.zone;
    if finding.resets == 1 {
        return format!("Once, {}.", shown::date_and_time(finding.first, zone));
    }
    let span = shown::range((finding.first, finding.last), zone);
    let Some((_, end)) = report.span else { return format!("{span}.") };
    match AtEnd::of(finding, end, report.covered_s()) {
        AtEnd::GoingOn => format!("{span}; still going on at the end of the data."),
        AtEnd::Quiet(quiet_s) => format!("{span}; not in the last {} of the data.", shown::duration(quiet_s * 1e3)),
        AtEnd::Open => format!("{span}."),
    }
}

/// State of a cause at the end of the data.
#[derive(Debug, PartialEq)]
enum AtEnd {
    /// It comes at a rate by which the next burst is due at about that time.
    GoingOn,
    /// Its next burst is overdue, or would be; the time without one, seconds.
    Quiet(f64),
    /// The data tell neither: a burst or two, shortly before.
    Open,
}

impl AtEnd {
    fn of(finding: &Finding, end: Timestamp, covered_s: f64) -> Self {
        let quiet_s = end.duration_since(finding.last).as_secs_f64();
        let intervals = super::scales::count_f64(finding.bursts.saturating_sub(1).max(1));
        let mean_s = finding.last.duration_since(finding.first).as_secs_f64() / intervals;
        let is_due = quiet_s <= mean_s * OVERDUE;
        if is_due && finding.bursts >= RATE_BURSTS {
            return Self::GoingOn;
        }
        let is_long = quiet_s > QUIET_MIN.0.max(covered_s * QUIET_MIN.1);
        if is_long && !is_due { Self::Quiet(quiet_s) } else { Self::Open }
    }
}

/// The sides that have nothing to change, as far as all incidents tell.
fn other_sides(report: &Report, finding: &Finding) -> Vec<String> {
    let others = [Fault::Local, Fault::Peer, Fault::Path].into_iter().filter(|&fault| fault != finding.fault);
    let without: Vec<&str> = others.filter(|&fault| report.settled(fault) == 0).map(label).collect();
    if without.is_empty() || report.settled(Fault::Unknown) > 0 || report.summary.incidents < 2 {
        return Vec::new();
    }
    vec![format!("Not to be fixed by {}: no incident of {}.", without.join(" or "), number(report.summary.incidents))]
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::model::Direction;

    /// A cause with so many bursts in so many seconds, whose data end so many seconds later.
    fn at_end(bursts: u64, seconds: f64, quiet_s: f64) -> AtEnd {
        let after = |seconds: f64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds);
        let finding = Finding {
            code: "aborted",
            direction: Direction::Sent,
            fault: Fault::Local,
            summary: "",
            advice: "",
            resets: 10,
            bursts,
            is_steady: false,
            confidences: [10, 0, 0],
            first: after(0.0),
            last: after(seconds),
            place: String::new(),
        };
        AtEnd::of(&finding, after(seconds + quiet_s), seconds + quiet_s)
    }

    #[test]
    fn a_cause_goes_on_by_its_rate() {
        assert_eq!(at_end(1, 0.000_134, 9.0), AtEnd::Open);
        assert_eq!(at_end(1, 0.000_134, 60.0), AtEnd::Quiet(60.0));
        assert_eq!(at_end(2, 20.0, 15.0), AtEnd::Open);
        assert_eq!(at_end(4, 60.0, 15.0), AtEnd::GoingOn);
        assert_eq!(at_end(4, 3.0, 9.0), AtEnd::Open);
        assert_eq!(at_end(4, 60.0, 120.0), AtEnd::Quiet(120.0));
    }
}
