//! The report as Markdown, for a ticket: verdict, counts, the incidents to look at first, and what the numbers rest on.

use std::fmt::Write as _;

use super::{
    comparison::{Comparison, Rate},
    content::Report,
    fault_counts::{FAULTS, label},
    incident_list,
    kept::KeptIncident,
    page, shown,
    shown::number,
    trust,
    verdict_panel::VerdictPanel,
};
use crate::{
    format::long,
    model::{Fault, Summary},
};

/// Most incidents in full.
const INCIDENTS_MAX: usize = 3;
/// Most rows of a table.
const ROWS_MAX: usize = 15;

/// The document of a report.
pub(super) fn report(report: &Report) -> String {
    let hosts = page::hosts(report);
    let of = if hosts.is_empty() { "" } else { " of " };
    let mut out = format!("# TCP resets{of}{}\n\n", escaped(&hosts));
    if let Some(span) = report.span {
        let zone = shown::zone_name(span.0, &report.zone);
        line(&mut out, &format!("{} {}\n", escaped(&shown::range(span, &report.zone)), escaped(&zone)));
    }
    for doubt in report.doubts() {
        line(&mut out, &format!("> **Something is missing here.** {}\n", escaped(&doubt)));
    }
    verdict(&mut out, &VerdictPanel::of(report));
    counts(&mut out, report);
    let summary = report.summary.in_zone(&report.zone);
    let patterns: Vec<String> = summary.patterns.iter().map(|text| format!("- {}", escaped(text))).collect();
    if !patterns.is_empty() {
        line(&mut out, &format!("## Patterns\n\n{}\n", patterns.join("\n")));
    }
    both_ends(&mut out, report);
    incidents(&mut out, report);
    trusted(&mut out, report);
    out
}

/// The document of a comparison.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let mut out = format!("# TCP resets, before and after\n\n## {}\n\n", escaped(&comparison.headline()));
    for sentence in comparison.sentences() {
        line(&mut out, &format!("{}\n", escaped(&sentence)));
    }
    line(
        &mut out,
        "| cause | fault | before | after | before, per hour | after, per hour | change |\n|---|---|---:|---:|---:|---:|---|",
    );
    for rate in comparison.rates().iter().take(ROWS_MAX) {
        let Rate { code, fault, before, after, .. } = rate;
        let (per_hour_before, per_hour_after) = comparison.per_hour(*before, *after);
        line(
            &mut out,
            &format!(
                "| {code} | {} | {} | {} | {per_hour_before} | {per_hour_after} | {} |",
                label(*fault),
                number(*before),
                number(*after),
                escaped(&rate.change())
            ),
        );
    }
    for (name, report) in [("before", &comparison.before), ("after", &comparison.after)] {
        line(&mut out, &format!("\n## What the numbers {name} rest on\n"));
        trust_list(&mut out, report);
    }
    out
}

fn line(out: &mut String, text: &str) {
    // A string takes everything.
    let _ignored = writeln!(out, "{text}");
}

fn verdict(out: &mut String, panel: &VerdictPanel) {
    line(out, &format!("## {}\n", escaped(&panel.headline)));
    if !panel.claim.is_empty() {
        line(out, &format!("{}\n", escaped(&panel.claim)));
    }
    for (name, texts) in &panel.rows {
        for text in texts {
            line(out, &format!("- **{name}**: {}", escaped(text)));
        }
    }
    line(out, "");
}

fn counts(out: &mut String, report: &Report) {
    let summary = &report.summary;
    line(out, "## Incidents\n\n| to be fixed by | incidents |\n|---|---:|");
    for fault in FAULTS.into_iter().filter(|&fault| report.settled(fault) > 0) {
        line(out, &format!("| {} | {} |", label(fault), number(report.settled(fault))));
    }
    line(out, &format!("| all | {} |", number(summary.incidents)));
    line(out, "\n| cause | incidents |\n|---|---:|");
    let causes = by_count(summary);
    for (code, count) in causes.iter().take(ROWS_MAX) {
        line(out, &format!("| {code} | {} |", number(*count)));
    }
    let rest: u64 = causes.iter().skip(ROWS_MAX).map(|(_, count)| count).sum();
    if rest > 0 {
        line(out, &format!("| others | {} |", number(rest)));
    }
    if !summary.backends.is_empty() {
        line(out, "\n| service that this host used | resets |\n|---|---:|");
        for backend in &summary.backends {
            let name =
                backend.name.as_deref().map_or_else(String::new, |name| format!(" {}", escaped(&shown::name(name))));
            let end = crate::model::Endpoint { address: backend.address, port: backend.port };
            line(out, &format!("| {end}{name} | {} |", number(backend.count)));
        }
    }
    line(out, "");
}

fn by_count(summary: &Summary) -> Vec<(&'static str, u64)> {
    let mut causes: Vec<_> = summary.incidents_by_cause.iter().map(|(&code, &count)| (code, count)).collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    causes
}

/// Who really sent the resets, where the inputs are of several hosts.
fn both_ends(out: &mut String, report: &Report) {
    let Some(joined) = &report.origin.joined else { return };
    line(out, &format!("## Both ends\n\n{}\n", escaped(&joined.sentences().join(" "))));
    let causes = joined.causes();
    if !causes.is_empty() {
        line(out, "| sent by | cause there | to be fixed by | resets |\n|---|---|---|---:|");
        for [host, code, fix, count] in &causes {
            line(out, &format!("| {} | {code} | {fix} | {count} |", escaped(host)));
        }
        line(out, "");
    }
    for pair in joined.pairs(&report.zone) {
        line(out, &format!("- {}", escaped(&pair.title)));
        for reason in &pair.reasons {
            line(out, &format!("  - {}", escaped(reason)));
        }
    }
    line(out, "");
}

/// The newest incidents of the verdict.
fn incidents(out: &mut String, report: &Report) {
    let finding = report.main_finding();
    let is_wanted = |kept: &&KeptIncident| {
        finding.is_some_and(|finding| kept.first.cause.code == finding.code && kept.first.cause.fault != Fault::None)
    };
    let options = incident_list::text_options(report);
    for (place, kept) in report.incidents.iter().rev().filter(is_wanted).take(INCIDENTS_MAX).enumerate() {
        if place == 0 {
            line(out, "## The newest incidents of this cause\n");
        }
        let mut text = format!("{} {}\n", shown::date_and_time(kept.first.time, &report.zone), kept.first.cause.code);
        for (name, value) in long::rows(&kept.first, &kept.further, &options) {
            line(&mut text, &format!("  {name:<10} {value}"));
        }
        line(out, &fenced(&text));
    }
}

fn trusted(out: &mut String, report: &Report) {
    line(out, "## Can I trust this?\n");
    trust_list(out, report);
    if let Some(command) = trust::command(report) {
        line(out, &format!("\nThe command that makes it again:\n\n{}", fenced(&command)));
    }
}

fn trust_list(out: &mut String, report: &Report) {
    for (name, lines) in trust::rows(report) {
        for text in lines {
            line(out, &format!("- **{name}**: {}", escaped(&text)));
        }
    }
}

/// A block of text as it is, fenced by more backticks than any run that it has.
fn fenced(text: &str) -> String {
    let (mut longest, mut run) = (0, 0);
    for character in text.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}

/// A text in which nothing is markup, of Markdown or of HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => escaped.push(' '),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '@' => escaped.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' => escaped.extend(['\\', character]),
            _ => escaped.push(character),
        }
    }
    // An address in a text becomes a link by itself.
    escaped.replace("://", "&#58;//").replace("www.", "www&#46;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markup() {
        let text = escaped("<img src=x> **b** [a](http://x) `c` | @all\n# h");
        assert_eq!(text, "&lt;img src=x&gt; \\*\\*b\\*\\* \\[a\\](http&#58;//x) \\`c\\` \\| &#64;all \\# h");
        assert_eq!(fenced("a ```` b\n"), "`````text\na ```` b\n`````\n");
    }
}
