//! The page: one file, complete without script and network.

use std::fmt::Write as _;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    content::Report,
    fault_counts::{FAULTS, class, label},
    incident_list,
    marks::{Area, DataTable, Plot, all, symbol},
    plots,
    scales::count_f64,
    shown::{self, counted, number},
    trust,
    verdict_panel::VerdictPanel,
};
use crate::model::Fault;

/// Colours, for both themes.
pub(super) const COLORS: &str = include_str!("colors.css");
/// Style of the marks.
pub(super) const PLOT_STYLE: &str = include_str!("plot.css");
/// Style of the page, which has the other two in front.
const STYLE: &str = concat!(include_str!("colors.css"), include_str!("plot.css"), include_str!("page.css"));
/// Filters by fault, cause, process, peer, time, silence and text.
const SCRIPT: &str = include_str!("page.js");
/// Nothing but the own style and the own script, by their hashes (made by `build.rs`).
const POLICY: &str = concat!(
    "default-src 'none'; style-src '",
    env!("RSTTRACE_REPORT_STYLE"),
    "'; script-src '",
    env!("RSTTRACE_REPORT_SCRIPT"),
    "'; base-uri 'none'; form-action 'none'"
);

/// The page of a report.
pub(super) fn html(report: &Report) -> String {
    let hosts = hosts(report);
    let body = html! {
        header {
            h1 { "TCP resets" @if !hosts.is_empty() { " of " (hosts) } }
            @if let Some(span) = report.span {
                p.quiet { (shown::range(span, &report.zone)) " " (shown::zone_name(span.0, &report.zone)) }
            }
        }
        main {
            (doubts(&report.doubts(), "trust"))
            (verdict(&VerdictPanel::of(report)))
            (tiles(report))
            (filter_bar(report))
            @for plot in plots::of(report) { (figure(&plot)) }
            (both_ends(report))
            (incidents(report))
            (trust_section(report))
        }
    };
    document(&format!("TCP resets {hosts}"), &body)
}

/// Names of the hosts.
pub(super) fn hosts(report: &Report) -> String {
    match report.hosts.as_slice() {
        [] => String::new(),
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        hosts => hosts.join(", "),
    }
}

/// A document with this body.
pub(super) fn document(title: &str, body: &Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "rsttrace " (env!("CARGO_PKG_VERSION")) };
                title { (title.trim()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                footer.quiet { "rsttrace " (env!("CARGO_PKG_VERSION")) ". This file loads nothing from elsewhere." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    let mut text = document.into_string();
    text.push('\n');
    text
}

/// What makes the numbers unsure, in front of everything else.
pub(super) fn doubts(doubts: &[String], section: &str) -> Markup {
    html! {
        @if !doubts.is_empty() {
            section.doubts role="note" aria-label="Coverage" {
                strong { "Something is missing here." } " " (doubts.join(" ")) " "
                a href={ "#" (section) } { "Can I trust this page?" }
            }
        }
    }
}

/// The verdict.
pub(super) fn verdict(panel: &VerdictPanel) -> Markup {
    html! {
        section.verdict.(panel.class()) aria-labelledby="verdict" {
            p.kicker { "Verdict" }
            h2 id="verdict" { @if let Some(fault) = panel.fault { (symbol(fault)) } (panel.headline) }
            @if !panel.claim.is_empty() { p.claim { (panel.claim) } }
            dl { @for (name, texts) in &panel.rows {
                dt { (name) }
                @for text in texts { dd.todo[*name == "what to do"] { (text) } }
            } }
        }
    }
}

/// The counts by fault, as links that filter.
fn tiles(report: &Report) -> Markup {
    let incidents = report.summary.incidents;
    let lost = report.summary.lost.max(report.recorders.lost());
    html! {
        nav.tiles aria-label="Incidents by who has to change something" {
            div.tile { span.value { (number(incidents)) } span.name { (if incidents == 1 { "incident" } else { "incidents" }) } }
            @for fault in FAULTS {
                @let count = report.settled(fault);
                @if count > 0 || matches!(fault, Fault::Local | Fault::Peer | Fault::Path | Fault::None) {
                    a.tile.(class(fault)).empty[count == 0] href=(fragment("fault", class(fault))) {
                        span.value { (symbol(fault)) (number(count)) }
                        span.name { (tile_name(fault)) }
                    }
                }
            }
            @if lost > 0 { a.tile.alarm href="#trust" { span.value { (number(lost)) } span.name { "resets lost" } } }
        }
        @if incidents > 0 { (shares(report)) }
    }
}

const fn tile_name(fault: Fault) -> &'static str {
    match fault {
        Fault::Local => "to be fixed here",
        Fault::Peer => "by the peer",
        Fault::Path => "between the ends",
        Fault::Unknown => "not known by whom",
        Fault::None => "harmless",
    }
}

/// Shares of the faults, as a bar.
fn shares(report: &Report) -> Markup {
    let total: u64 = FAULTS.into_iter().map(|fault| report.settled(fault)).sum();
    let mut x = 0.0;
    let parts = FAULTS.into_iter().filter(|&fault| report.settled(fault) > 0);
    let label: Vec<String> = parts
        .clone()
        .map(|fault| format!("{} {}", label(fault), shown::percent(report.settled(fault), total)))
        .collect();
    html! {
        svg.shares viewBox="0 0 960 10" preserveAspectRatio="none" role="img" aria-label=(label.join(", ")) {
            (all(parts.map(|fault| {
                let width = 960.0 * count_f64(report.settled(fault)) / count_f64(total.max(1));
                let begin = x;
                x += width;
                Area { x: begin, y: 0.0, width: (width - 2.0).max(1.0), height: 10.0 }.bar(class(fault))
            })))
        }
    }
}

/// What the script fills in; without script it does not show.
fn filter_bar(report: &Report) -> Markup {
    html! {
        div.filters.scripted {
            span id="chips" {}
            input id="find" type="search" placeholder="Find in incidents" aria-label="Find in incidents";
            span.quiet id="shown" role="status" data-all=(report.incidents.len()) {}
            span.hint.quiet { "Click a tile, bar, name or dot, or drag in a plot, to filter; the address keeps it." }
        }
    }
}

/// A plot with its sentences and its table.
pub(super) fn figure(plot: &Plot) -> Markup {
    html! {
        figure id=(plot.id) {
            figcaption { h2 { (plot.title) } @for sentence in &plot.sentences { (sentence) " " } }
            @match &plot.narrow {
                Some(narrow) => { div.wide { (plot.wide) } div.narrow { (narrow) } },
                None => div.both { (plot.wide) },
            }
            @if let Some(table) = &plot.table { details.data { summary { "As a table" } (data_table(table)) } }
        }
    }
}

/// A table of values: the first column names the row.
pub(super) fn data_table(table: &DataTable) -> Markup {
    html! {
        div.scrolls { table {
            thead { tr { @for title in &table.titles { th scope="col" { (title) } } } }
            tbody { @for row in &table.rows { tr {
                @for (column, cell) in row.iter().enumerate() {
                    @if column == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                }
            } } }
        } }
    }
}

fn incidents(report: &Report) -> Markup {
    let held = report.incidents.len();
    html! {
        @if held > 0 {
            section id="incidents" {
                h2 { "Incidents" }
                p.quiet {
                    (trust_of_list(report)) " A row opens evidence, advice and the times of the connection."
                    @if held > incident_list::PRINTED {
                        span.printed { " On paper: the newest " (incident_list::PRINTED) "." }
                    }
                }
                (incident_list::rows(report))
            }
        }
    }
}

/// Who really sent the resets, where the inputs are of several hosts.
fn both_ends(report: &Report) -> Markup {
    html! {
        @if let Some(joined) = &report.origin.joined {
            section id="ends" {
                h2 { "Both ends" }
                p.quiet { (joined.sentences().join(" ")) }
                @let causes = joined.causes();
                @if !causes.is_empty() {
                    (data_table(&DataTable {
                        titles: vec!["sent by", "cause there", "to be fixed by", "resets"],
                        rows: causes.into_iter().map(Vec::from).collect(),
                    }))
                }
                @for pair in joined.pairs(&report.zone) {
                    details.data { summary { (pair.title) } ul { @for reason in pair.reasons { li { (reason) } } } }
                }
            }
        }
    }
}

fn trust_of_list(report: &Report) -> String {
    let held: u64 = report.incidents.iter().map(|kept| kept.first.count).sum();
    let all = report.summary.incidents;
    if held >= all {
        format!("All {}, the newest first.", counted(all, "incident"))
    } else {
        format!("{} of {}: the newest, and those of the verdict.", number(held), counted(all, "incident"))
    }
}

/// What the numbers rest on.
pub(super) fn trust_section(report: &Report) -> Markup {
    html! {
        section id="trust" {
            h2 { "Can I trust this page?" }
            (trust_list(report))
        }
    }
}

/// The rows of what the numbers rest on.
pub(super) fn trust_list(report: &Report) -> Markup {
    html! {
        dl { @for (name, lines) in trust::rows(report) {
            dt { (name) }
            @for line in lines { dd { (line) } }
        } @if let Some(command) = trust::command(report) {
            dt { "again" } dd { code { (command) } }
        } }
    }
}

/// Fragment of the address that filters by a value.
pub(super) fn fragment(key: &str, value: &str) -> String {
    let mut text = format!("#{key}=");
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => text.push(byte.into()),
            // A string takes everything.
            byte => _ = write!(text, "%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_has_nothing_that_ends_it() {
        assert_eq!(fragment("peer", "10.0.0.1:80 (client)&x=\"ü"), "#peer=10.0.0.1:80%20%28client%29%26x%3D%22%C3%BC");
    }

    #[test]
    fn the_script_is_small_and_ends_no_element() {
        assert!(SCRIPT.len() <= 20_000 && !SCRIPT.contains("</") && !STYLE.contains("</"));
    }
}
