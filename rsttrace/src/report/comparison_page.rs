//! The page of a comparison.

use maud::{Markup, html};

use super::{
    comparison::{Comparison, Rate, rounded},
    content::Report,
    fault_counts::{class, label},
    marks::{Canvas, DataTable, Plot, circle, line, text},
    page, plots,
    scales::count_f64,
    shown::{self, number},
};
use crate::model::Fault;

/// Most causes in the plot.
const CAUSES_MAX: usize = 14;
const ROW: f64 = 30.0;

/// The page of a comparison.
pub(super) fn html(comparison: &Comparison) -> String {
    let tone = match comparison.helped() {
        Some(true) => "good",
        Some(false) => "bad",
        None => "none",
    };
    let [claim, rest @ ..] = &comparison.sentences()[..] else { return String::new() };
    let [before, after] = plots::silence_plot::plots_of_both(&comparison.before, &comparison.after);
    let body = html! {
        header {
            h1 { "TCP resets before and after" @if !page::hosts(&comparison.before).is_empty() { ", " (page::hosts(&comparison.before)) } }
        }
        main {
            section.verdict.(tone) aria-labelledby="verdict" {
                p.kicker { "Comparison" }
                h2 id="verdict" { (comparison.headline()) }
                p.claim { (claim) }
                @for sentence in rest { p { (sentence) } }
            }
            @if let Some(plot) = rates(comparison) { (page::figure(&plot)) }
            div.pairs {
                @for (name, report, plot) in [("Before", &comparison.before, before), ("After", &comparison.after, after)] {
                    (side(name, report, plot.as_ref()))
                }
            }
        }
    };
    page::document("TCP resets before and after", &body)
}

/// One of the two reports in short.
fn side(name: &str, report: &Report, plot: Option<&Plot>) -> Markup {
    html! {
        section {
            h2 { (name) }
            @if let Some(span) = report.span {
                p.quiet { (shown::range(span, &report.zone)) " " (shown::zone_name(span.0, &report.zone)) }
            }
            @if let Some(plot) = plot {
                figure { @if let Some(narrow) = &plot.narrow { (narrow) } }
            }
            h2 { "Can I trust this?" }
            (page::trust_list(report))
        }
    }
}

/// Rates by cause, before and after.
fn rates(comparison: &Comparison) -> Option<Plot> {
    let rates: Vec<&Rate> = comparison.rates().iter().take(CAUSES_MAX).collect();
    if rates.is_empty() || !comparison.can_tell() {
        return None;
    }
    let height = 40.0 + ROW * count_f64(rates.len().try_into().unwrap_or(0));
    let row = |rate: &&Rate| {
        let (before, after) = comparison.per_hour(rate.before, rate.after);
        let counts = [number(rate.before), number(rate.after), before, after, rate.change()];
        [rate.code.to_owned(), label(rate.fault).to_owned()].into_iter().chain(counts).collect()
    };
    let titles = vec!["cause", "to be fixed by", "before", "after", "before, per hour", "after, per hour", "change"];
    Some(Plot {
        id: "rates",
        title: "Incidents per hour by cause",
        sentences: vec!["A ring is before, a disc after.".to_owned()],
        wide: drawing(comparison, &rates, Canvas::wide("rates", height)),
        narrow: Some(drawing(comparison, &rates, Canvas::narrow("rates", height))),
        table: Some(DataTable { titles, rows: rates.iter().map(row).collect() }),
    })
}

fn drawing(comparison: &Comparison, rates: &[&Rate], canvas: Canvas) -> Markup {
    let (left, right) = if canvas.is_narrow { (12.0, canvas.width - 84.0) } else { (230.0, canvas.width - 130.0) };
    let per_hour = |count: u64, report: &Report| count_f64(count) * 3_600.0 / report.covered_s().max(1.0);
    let of = |rate: &Rate| (per_hour(rate.before, &comparison.before), per_hour(rate.after, &comparison.after));
    let most = rates.iter().map(|rate| of(rate)).map(|(before, after)| before.max(after)).fold(0.0, f64::max);
    let at = |value: f64| left + (value / most.max(1e-9)).sqrt() * (right - left);
    let body = html! {
        @for (place, rate) in (0_u32..).zip(rates) {
            @let y = 24.0 + f64::from(place) * ROW;
            @let (before, after) = of(rate);
            @let name = if rate.fault == Fault::None { "none" } else { class(rate.fault) };
            (line((left, y), (right, y), "grid"))
            (line((at(before), y), (at(after), y), "change"))
            (circle("event", at(before), y, 5.0))
            (circle(name, at(after), y, 5.5))
            @if canvas.is_narrow { (text(left, y - 8.0, "halo", rate.code)) } @else { (text(left - 14.0, y + 4.0, "e", rate.code)) }
            (text(right + 12.0, y + 4.0, if rate.is_clear() { "strong" } else { "quiet" }, &rate.change()))
        }
        (text(left, canvas.height - 4.0, "quiet", "0"))
        (text(right, canvas.height - 4.0, "e quiet", &format!("{} per hour", rounded(most))))
    };
    canvas.svg("Incidents per hour by cause, before and after", &body)
}
