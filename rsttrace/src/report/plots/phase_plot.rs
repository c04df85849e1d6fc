//! Phase of a cause that recurs at regular intervals: the time within its period against time. What is regular shows as a
//! level line.

use maud::html;

use crate::{
    model::{Fault, Rhythm},
    report::{
        content::Report,
        marks::{Area, Canvas, DataTable, Plot, dot, line, text},
        scales::{TimeScale, as_f64, timestamp},
        shown,
    },
};

const ID: &str = "phase";
/// Fewest incidents that are held of the cause.
const WORTH: usize = 5;
/// Most rows of the table.
const ROWS_MAX: usize = 60;

/// An incident: its place among those that are held, its time, and the time within the period.
struct Phase {
    number: usize,
    time_ms: i64,
    within_ms: f64,
    fault: Fault,
}

/// The plot of the most frequent rhythm; `None` without one.
pub(super) fn plot(report: &Report) -> Option<Plot> {
    let rhythm = report.summary.rhythms.first()?;
    let period_ms = rhythm.period_s * 1e3;
    let phases = phases(report, rhythm, period_ms);
    if phases.len() < WORTH || period_ms < 1.0 {
        return None;
    }
    let of = rhythm.peer.map_or_else(String::new, |peer| format!(" with {peer}"));
    let sentence = format!(
        "{}{of} came every {}, {} times: look for what runs at this interval (checks, jobs, timers).",
        rhythm.code,
        shown::duration(period_ms),
        shown::number(rhythm.occurrences)
    );
    let draw = |canvas: Canvas| {
        let (left, right) = if canvas.is_narrow { (56.0, canvas.width - 8.0) } else { (70.0, canvas.width - 16.0) };
        let (top, bottom) = (12.0, canvas.height - 28.0);
        let times = || phases.iter().map(|phase| phase.time_ms);
        let (from, to) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        let time = TimeScale::new(from, to, left, right, &report.zone);
        let at = |phase_ms: f64| bottom - phase_ms / period_ms * (bottom - top);
        let body = html! {
            @for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
                (line((left, at(period_ms * part)), (right, at(period_ms * part)), "grid"))
            }
            @for part in [0.0, 0.5, 1.0] {
                (text(left - 7.0, at(period_ms * part) + 4.0, "e", &shown::duration(period_ms * part).replace("0 µs", "0")))
            }
            @for (x, name) in time.ticks() {
                (line((x, bottom), (x, bottom + 5.0), "axis"))
                @if x > left + 12.0 && x < right - 12.0 { (text(x, bottom + 19.0, "m", &name)) }
            }
            (Area { x: left, y: top, width: right - left, height: bottom - top }.bar("plane"))
            @for phase in &phases {
                a href={ "#i" (phase.number) } data-i=(phase.number) tabindex="-1" {
                    (dot(phase.fault, time.x(phase.time_ms), at(phase.within_ms), 4.0))
                }
            }
        };
        canvas.svg(&sentence, &body)
    };
    let row = |phase: &Phase| {
        let time = timestamp(phase.time_ms).map_or_else(String::new, |time| shown::date_and_time(time, &report.zone));
        vec![time, shown::duration(phase.within_ms)]
    };
    let rows = phases.iter().take(ROWS_MAX).map(row).collect();
    Some(Plot {
        id: ID,
        title: "Regular intervals",
        wide: draw(Canvas::wide(ID, 190.0)),
        narrow: Some(draw(Canvas::narrow(ID, 190.0))),
        table: Some(DataTable { titles: vec!["time", "time within the period"], rows }),
        sentences: vec![sentence, "A level line of dots is a regular interval.".to_owned()],
    })
}

fn phases(report: &Report, rhythm: &Rhythm, period_ms: f64) -> Vec<Phase> {
    let is_of = |reset: &crate::model::Reset| {
        reset.cause.code == rhythm.code && rhythm.peer.is_none_or(|peer| peer == reset.peer.address)
    };
    let incidents = report.incidents.iter().enumerate().filter(|(_, kept)| is_of(&kept.first));
    let mut phases: Vec<Phase> = incidents
        .map(|(number, kept)| {
            let time_ms = kept.first.time.as_millisecond();
            Phase { number, time_ms, within_ms: 0.0, fault: kept.first.cause.fault }
        })
        .collect();
    let first = phases.first().map_or(0, |phase| phase.time_ms);
    for phase in &mut phases {
        // The first is in the middle, so that a line is not broken by what comes a little early.
        phase.within_ms = (as_f64(phase.time_ms.saturating_sub(first)) + period_ms / 2.0).rem_euclid(period_ms);
    }
    phases
}
