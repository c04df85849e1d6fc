//! What the numbers rest on: losses, gaps, filters, clocks, degradations, and the command that makes the report again.

use std::collections::BTreeSet;

use super::{
    content::Report,
    shown::{self, counted, duration, number},
};
use crate::{
    model::{CounterCoverage, OWN_NAMESPACE},
    util::sanitize,
};

/// Most lines of a list.
const LINES: usize = 20;
/// Longest line, characters.
const LINE: usize = 300;
/// Longest command, characters.
const COMMAND: usize = 1_000;

/// A row: its name and its lines.
pub(super) type TrustRow = (&'static str, Vec<String>);

/// The rows of the section.
pub(super) fn rows(report: &Report) -> Vec<TrustRow> {
    let (summary, recorders) = (&report.summary, &report.recorders);
    let mut rows = vec![("complete", completeness(report)), ("data", data(report))];
    let mut filters = Vec::new();
    if report.origin.is_filtered {
        filters.push("Filters of the command below left resets out; the counts are of the rest.".to_owned());
    }
    if recorders.filtered {
        filters.push(
            "Filters had left resets out of the recording: what depends on others may be told otherwise.".to_owned(),
        );
    }
    if filters.is_empty() {
        filters.push("None.".to_owned());
    }
    rows.push(("filters", filters));
    rows.push(("recorded by", recorded_by(report)));
    rows.push(("clock", clock(report)));
    rows.push(("limited", limits(report)));
    rows.push(("notes", report.origin.notes.iter().take(LINES).map(|line| cut(line)).collect()));
    rows.push(("counters", counters(report)));
    let sinks = summary.sinks.iter().filter(|sink| sink.undelivered + sink.waiting > 0);
    let sinks = sinks.map(|sink| {
        format!("{}: {} not delivered", cut(&sink.sink), counted(sink.undelivered + sink.waiting, "record"))
    });
    rows.push(("sinks", sinks.collect()));
    rows.push(("this page", this_page(report)));
    rows.push(("made by", vec![format!("rsttrace {}", env!("CARGO_PKG_VERSION"))]));
    rows.retain(|(_, lines)| !lines.is_empty());
    rows
}

/// The command that makes the report again; `None` for a live run.
pub(super) fn command(report: &Report) -> Option<String> {
    let command = &report.origin.command;
    (!command.is_empty()).then(|| sanitize::truncate(command, COMMAND).into_owned())
}

fn cut(line: &str) -> String {
    sanitize::truncate(line, LINE).into_owned()
}

fn completeness(report: &Report) -> Vec<String> {
    let doubts = report.doubts();
    if !doubts.is_empty() {
        return doubts;
    }
    let is_watched = report.origin.is_live || report.recorders.marks > 0;
    vec![
        if report.origin.is_captured {
            "Packets that the capture program lost do not show; it says how many at its end."
        } else if is_watched {
            "Nothing is known to be missing: no losses, no gaps."
        } else {
            "No losses are recorded. The input has no marks of a recorder, so gaps would not show."
        }
        .to_owned(),
    ]
}

fn data(report: &Report) -> Vec<String> {
    let Some(span) = report.span else { return vec!["No records.".to_owned()] };
    let zone = shown::zone_name(span.0, &report.zone);
    let mut lines =
        vec![format!("{} {zone} ({}).", shown::range(span, &report.zone), duration(report.covered_s() * 1e3))];
    let summary = &report.summary;
    lines.push(format!(
        "{} ({} sent, {} received), {}.",
        counted(summary.resets, "reset"),
        number(summary.sent),
        number(summary.received),
        counted(summary.incidents, "incident")
    ));
    let (ignored, forwarded) = report.unapplied;
    if ignored + forwarded > 0 {
        lines.push(format!("Not counted: {} ignored, {} forwarded.", number(ignored), number(forwarded)));
    }
    lines
}

/// What was not seen, each once.
fn limits(report: &Report) -> Vec<String> {
    let recorded: BTreeSet<&String> =
        report.recorders.headers.values().flat_map(|header| header.of.degraded.iter()).collect();
    let lines: Vec<&String> =
        if recorded.is_empty() { report.summary.degraded.iter().collect() } else { recorded.into_iter().collect() };
    lines.into_iter().take(LINES).map(|line| cut(line)).collect()
}

fn recorded_by(report: &Report) -> Vec<String> {
    let recorders = &report.recorders;
    let headers = recorders.headers.values().map(|header| {
        format!(
            "{}: rsttrace {}, Linux {}, {}",
            shown::name(&header.host),
            shown::name(&header.of.version),
            shown::name(&header.of.kernel),
            shown::name(&header.of.architecture)
        )
    });
    let mut lines: Vec<String> = headers.collect();
    if recorders.segments > 0 {
        lines.push(format!("{}, {}.", counted(recorders.segments, "segment"), counted(recorders.marks, "mark")));
    }
    lines
}

fn clock(report: &Report) -> Vec<String> {
    let recorders = &report.recorders;
    let error = recorders.clock_error_us.map(|us| duration(super::scales::count_f64(us) / 1e3));
    match (recorders.headers.is_empty(), recorders.unsynchronized, error) {
        (true, ..) => Vec::new(),
        (_, true, _) => vec!["Not synchronized: compare times with those of other hosts with care.".to_owned()],
        (_, false, Some(error)) => vec![format!("Synchronized, with an estimated error of {error} at most.")],
        (_, false, None) => vec!["Whether it was synchronized is not known.".to_owned()],
    }
}

/// The host's counters that can be compared, with their namespaces: those of a live run, or of the marks. Where filters left
/// resets out, or only another namespace was watched, they say nothing of the records.
fn counters(report: &Report) -> Vec<String> {
    let coverage = &report.summary.coverage;
    let marked = &report.recorders.marked;
    let compared = |of: String, counters: &[CounterCoverage]| -> Vec<String> {
        let compared = counters.iter().filter(|counter| counter.observed.is_some());
        compared.take(LINES).map(|counter| cut(&format!("{of}{counter}"))).collect()
    };
    if coverage.counters.is_empty() {
        let recorded = marked.iter().flat_map(|(host, totals)| {
            let of =
                if marked.len() > 1 && !host.is_empty() { format!("{}: ", shown::name(host)) } else { String::new() };
            compared(format!("{of}{OWN_NAMESPACE}"), &totals.counters)
        });
        return recorded.take(LINES).collect();
    }
    let own = if coverage.others.is_empty() { String::new() } else { OWN_NAMESPACE.to_owned() };
    let mut lines = compared(own, &coverage.counters);
    for other in coverage.others.iter().take(LINES) {
        lines.extend(compared(format!("namespace {}: ", other.netns), &other.counters));
    }
    lines
}

fn this_page(report: &Report) -> Vec<String> {
    let held: u64 = report.incidents.iter().map(|kept| kept.first.count).sum();
    let all = report.summary.incidents;
    if held >= all {
        return vec![format!("It holds all {}.", counted(all, "incident"))];
    }
    vec![format!(
        "It holds {} of {} in full: the newest, and those of the verdict. The others are in the counts and the shaded cells; \
         filters of the page apply to those that it holds. Filters of the command, such as --since or --cause, choose others.",
        number(held),
        counted(all, "incident")
    )]
}
