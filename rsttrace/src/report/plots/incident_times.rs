//! Incidents over time by fault, what is harmless below the axis; gaps and losses are hatched.

use maud::{Markup, html};

use crate::model::Fault;
use crate::report::{
    content::Report,
    fault_counts::{FAULTS, FaultCounts, class, label},
    marks::{Area, Canvas, DataTable, Plot, all, line, text},
    scales::{CountScale, TimeScale, timestamp},
    shown::{self, counted, number},
};

const ID: &str = "times";
/// Fewest incidents for which there is a plot.
const WORTH: u64 = 3;
/// Most rows of the table.
const ROWS_MAX: usize = 120;

/// The plot; `None` for a few incidents, which the list shows.
pub(super) fn plot(report: &Report) -> Option<Plot> {
    let total: u64 = report.times.iter().map(|(_, counts)| counts.total()).sum();
    if total < WORTH {
        return None;
    }
    let width = shown::duration(crate::report::scales::as_f64(report.times.width_ms()));
    let mut sentences = vec![format!("A bar covers {width}. What is harmless is below the axis.")];
    let (busiest, counts) = report.times.iter().max_by_key(|(_, counts)| counts.harmful())?;
    if let Some(time) = timestamp(busiest).filter(|_| counts.harmful() > 1) {
        let count = counted(counts.harmful(), "incident");
        sentences
            .insert(0, format!("The most with a fault: {count} from {} on.", shown::date_and_time(time, &report.zone)));
    }
    if !report.origin.gaps.is_empty() {
        sentences.push("Nothing was recorded in the hatched times.".to_owned());
    }
    if report.losses.iter().next().is_some() {
        sentences.push("Hatched bars at the top are resets that were lost.".to_owned());
    }
    Some(Plot {
        id: ID,
        title: "Incidents over time",
        sentences,
        wide: drawing(report, Canvas::wide(ID, 270.0)),
        narrow: Some(drawing(report, Canvas::narrow(ID, 240.0))),
        table: Some(table(report)),
    })
}

fn drawing(report: &Report, canvas: Canvas) -> Markup {
    let (left, right) = if canvas.is_narrow { (40.0, canvas.width - 8.0) } else { (70.0, canvas.width - 16.0) };
    let has_harmless = report.times.iter().any(|(_, counts)| counts.of(Fault::None) > 0);
    let has_harmful = report.times.iter().any(|(_, counts)| counts.harmful() > 0);
    let (top, bottom) = (26.0, canvas.height - 26.0);
    let axis = match (has_harmful, has_harmless) {
        (true, false) => bottom,
        (false, _) => top + 8.0,
        (true, true) => top + (bottom - top) * 0.68,
    };
    let most = |of: fn(&FaultCounts) -> u64| report.times.iter().map(|(_, counts)| of(counts)).max().unwrap_or(0);
    let above = CountScale { most: most(FaultCounts::harmful), begin: axis, end: top };
    let below = CountScale { most: most(|counts| counts.of(Fault::None)), begin: axis, end: bottom };
    let (from, to) = report.span.map_or((0, 0), |(from, to)| (from.as_millisecond(), to.as_millisecond()));
    let time = TimeScale::new(from, to, left, right, &report.zone);
    let plane = Area { x: left, y: top, width: right - left, height: bottom - top };
    let title = format!("Incidents over time: {}.", totals(report));
    let body = html! {
        (canvas.hatching())
        @for (scale, is_used) in [(above, has_harmful), (below, has_harmless)] {
            @if is_used {
                @for count in scale.ticks() {
                    (line((left, scale.at(count)), (right, scale.at(count)), "grid"))
                    (text(left - 7.0, scale.at(count) + 4.0, "e", &number(count)))
                }
            }
        }
        @for (x, name) in time.ticks() {
            (line((x, bottom), (x, bottom + 4.0), "axis"))
            @if x > left + 12.0 && x < right - 12.0 { (text(x, bottom + 19.0, "m", &name)) }
        }
        @for &(from, to) in &report.origin.gaps {
            @let (begin, end) = (time.x(from.as_millisecond()), time.x(to.as_millisecond()));
            (canvas.hatched(Area { x: begin, width: (end - begin).max(2.0), ..plane }, "Nothing was recorded here"))
        }
        @for (lost_ms, &count) in report.losses.iter() {
            @if lost_ms >= time.from_ms && lost_ms <= time.to_ms {
                @let lost = format!("{} lost", counted(count, "reset"));
                (canvas.hatched(Area { x: time.x(lost_ms), y: 4.0, width: 5.0, height: 16.0 }, &lost))
            }
        }
        g data-brush="1" data-left=(shown::position(left)) data-right=(shown::position(right)) data-top=(shown::position(top))
            data-bottom=(shown::position(bottom)) data-from=(time.from_ms) data-to=(time.to_ms) {
            (plane.bar("plane"))
            (bars(report, &time, above, below))
        }
        (line((left, axis), (right, axis), "axis"))
    };
    canvas.svg(&title, &body)
}

fn bars(report: &Report, time: &TimeScale, above: CountScale, below: CountScale) -> Markup {
    let width_ms = report.times.width_ms();
    all(report.times.iter().map(|(from, counts)| {
        let (begin, end) = (time.x(from), time.x(from.saturating_add(width_ms)));
        let width = (end - begin - 0.6).max(1.6);
        let mut under = 0;
        html! {
            a href={ "#time=" (from) "-" (from.saturating_add(width_ms)) } tabindex="-1" {
                title { (bar_title(report, from, counts)) }
                @for fault in FAULTS {
                    @let count = counts.of(fault);
                    @if count > 0 && fault == Fault::None {
                        (Area { x: begin, y: below.begin, width, height: below.at(count) - below.begin }.bar("none"))
                    } @else if count > 0 {
                        @let base = above.at(under);
                        @let top = above.at({ under += count; under });
                        (Area { x: begin, y: top, width, height: base - top }.bar(class(fault)))
                    }
                }
            }
        }
    }))
}

fn bar_title(report: &Report, from: i64, counts: &FaultCounts) -> String {
    let time = timestamp(from).map_or_else(String::new, |time| shown::date_and_time(time, &report.zone));
    let parts = FAULTS.into_iter().filter(|&fault| counts.of(fault) > 0);
    let parts: Vec<String> = parts.map(|fault| format!("{} {}", label(fault), number(counts.of(fault)))).collect();
    format!("{time}: {}", parts.join(", "))
}

fn totals(report: &Report) -> String {
    let mut all = FaultCounts::default();
    for (_, counts) in report.times.iter() {
        all.merge(*counts);
    }
    let parts = FAULTS.into_iter().filter(|&fault| all.of(fault) > 0);
    parts.map(|fault| format!("{} {}", label(fault), number(all.of(fault)))).collect::<Vec<_>>().join(", ")
}

fn table(report: &Report) -> DataTable {
    let mut table = DataTable { titles: vec!["from"], rows: Vec::new() };
    table.titles.extend(FAULTS.map(label));
    for (from, counts) in report.times.iter().take(ROWS_MAX) {
        let time = timestamp(from).map_or_else(String::new, |time| shown::date_and_time(time, &report.zone));
        table.rows.push([time].into_iter().chain(FAULTS.map(|fault| number(counts.of(fault)))).collect());
    }
    let rest = report.times.iter().count().saturating_sub(ROWS_MAX);
    if rest > 0 {
        table.rows.push(vec![format!("and {rest} more bars")]);
    }
    table
}
