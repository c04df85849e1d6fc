//! The incidents that a report holds, each as a row that opens its block.

use maud::{Markup, html};

use super::{
    collector::{PeerKey, process_name, silence_ms},
    content::Report,
    fault_counts::{class, label},
    kept::KeptIncident,
    marks::symbol,
    plots::connection_times,
    shown,
};
use crate::{
    format::{TextOptions, TextWidth, TimeFormat, long},
    model::Direction,
};

/// Rows that are printed on paper.
pub(super) const PRINTED: usize = 60;

/// The rows, the newest first.
pub(super) fn rows(report: &Report) -> Markup {
    let options = text_options(report);
    html! {
        div.rows {
            div.titles aria-hidden="true" {
                span { "time" } span { "cause" } span { "process → peer" } span.num { "silence" } span.num { "age" }
            }
            @for (number, kept) in report.incidents.iter().enumerate().rev() { (row(report, number, kept, &options)) }
        }
    }
}

/// Presentation of the blocks.
pub(super) fn text_options(report: &Report) -> TextOptions {
    TextOptions {
        color: false,
        time: TimeFormat::None,
        started_ns: 0,
        zone: report.zone.clone(),
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: true,
    }
}

fn row(report: &Report, number: usize, kept: &KeptIncident, options: &TextOptions) -> Markup {
    let reset = &kept.first;
    let fault = reset.cause.fault;
    let silence = silence_ms(reset);
    let age = reset.socket.as_ref().and_then(|socket| socket.age_ms);
    let process = shown::name(&process_name(reset));
    let arrow = if reset.direction == Direction::Sent { "→" } else { "←" };
    let time = shown::time_of_day(reset.time, &report.zone);
    let date = reset.time.to_zoned(report.zone.clone()).strftime("%d %b %Y").to_string();
    html! {
        details.row data-i=(number) data-fault=(class(fault)) data-cause=(reset.cause.code) data-process=(process)
            data-peer=(shown::peer(&PeerKey::of(reset))) data-time=(reset.time.as_millisecond())
            data-silence=[silence.map(|ms| format!("{ms:.3}"))] {
            summary {
                span.time title=(date) { (time) }
                span.cause { (symbol(fault)) span.sr { (label(fault)) ": " } (reset.cause.code)
                    @if reset.count > 1 { " ×" (shown::number(reset.count)) } }
                span.who { (process) " " (arrow) " " (shown::peer_of(reset)) }
                span.num { @if let Some(ms) = silence { (shown::duration(ms)) } }
                span.num { @if let Some(ms) = age { (shown::duration(ms)) } }
            }
            div.block id={ "i" (number) } {
                @if let Some(drawing) = connection_times(reset) { (drawing) }
                dl { @for (name, value) in long::rows(reset, &kept.further, options) {
                    dt { (name) } dd { (value) }
                } }
            }
        }
    }
}
