//! Age of the connections by cause: a row of bars a cause, on one logarithmic axis.

use maud::{Markup, html};

use crate::report::{
    collector::ages_of_step,
    content::Report,
    fault_counts::{FaultCounts, class},
    marks::{Area, Canvas, DataTable, Plot, all, line, text},
    scales::{CountScale, LogScale},
    shown::{self, counted, number},
};

const ID: &str = "ages";
/// Fewest incidents for which there is a plot.
const WORTH: u64 = 5;
/// Most causes.
const CAUSES_MAX: usize = 10;
const ROW: f64 = 34.0;

/// Ages of the connections of one cause.
struct CauseAges<'a> {
    code: &'static str,
    steps: Vec<(i16, &'a FaultCounts)>,
    all: FaultCounts,
}

impl CauseAges<'_> {
    /// Age that half of the connections had not reached, milliseconds.
    fn median_ms(&self) -> f64 {
        let mut seen = 0;
        let half = self.all.total().div_ceil(2);
        let step = self.steps.iter().find(|(_, counts)| {
            seen += counts.total();
            seen >= half
        });
        step.map_or(0.0, |(step, _)| {
            let (from, to) = ages_of_step(*step);
            (from * to).sqrt()
        })
    }
}

/// The plot; `None` for a few incidents.
pub(super) fn plot(report: &Report) -> Option<Plot> {
    let mut causes: Vec<CauseAges<'_>> = Vec::new();
    for (&code, steps) in &report.ages {
        let mut all = FaultCounts::default();
        for counts in steps.values() {
            all.merge(*counts);
        }
        causes.push(CauseAges { code, steps: steps.iter().map(|(&step, counts)| (step, counts)).collect(), all });
    }
    causes.sort_by_key(|cause| std::cmp::Reverse((cause.all.harmful(), cause.all.total())));
    if causes.iter().map(|cause| cause.all.total()).sum::<u64>() < WORTH {
        return None;
    }
    let left_out = causes.len().saturating_sub(CAUSES_MAX);
    causes.truncate(CAUSES_MAX);
    let mut sentences = Vec::new();
    if let Some(first) = causes.first() {
        let median = shown::duration(first.median_ms());
        sentences.push(format!("Half of the connections of {} were younger than {median}.", first.code));
    }
    if left_out > 0 {
        sentences.push(format!("{} left out.", counted(u64::try_from(left_out).unwrap_or(0), "rarer cause")));
    }
    let height = 30.0 + ROW * crate::report::scales::count_f64(u64::try_from(causes.len()).unwrap_or(0));
    let row = |cause: &CauseAges<'_>| {
        vec![cause.code.to_owned(), number(cause.all.total()), shown::duration(cause.median_ms())]
    };
    let rows = causes.iter().map(row).collect();
    Some(Plot {
        id: ID,
        title: "Age of the connections by cause",
        sentences,
        wide: drawing(&causes, Canvas::wide(ID, height)),
        narrow: Some(drawing(&causes, Canvas::narrow(ID, height))),
        table: Some(DataTable { titles: vec!["cause", "incidents", "median age"], rows }),
    })
}

fn drawing(causes: &[CauseAges<'_>], canvas: Canvas) -> Markup {
    let (left, right) = if canvas.is_narrow { (12.0, canvas.width - 12.0) } else { (230.0, canvas.width - 16.0) };
    let steps = || causes.iter().flat_map(|cause| cause.steps.iter().map(|(step, _)| ages_of_step(*step)));
    let (low, high) = steps().fold((f64::MAX, 0.0_f64), |(low, high), (from, to)| (low.min(from), high.max(to)));
    let ages = LogScale::around(low, high, left, right);
    let bottom = canvas.height - 24.0;
    let body = html! {
        @for (x, name) in ages.ticks() {
            (line((x, 4.0), (x, bottom), "grid"))
            (text(x, bottom + 17.0, "m", &name))
        }
        @for (row, cause) in (0_u32..).zip(causes) {
            @let base = f64::from(row) * ROW + ROW;
            (line((left, base), (right, base), "axis"))
            (bars(cause, ages, base))
            @if canvas.is_narrow {
                (text(left, base - ROW + 14.0, "halo", cause.code))
            } @else {
                a href={ "#cause=" (cause.code) } { (text(left - 10.0, base - 6.0, "e link", cause.code)) }
            }
        }
    };
    let of: Vec<String> =
        causes.iter().map(|cause| format!("{} {}", cause.code, shown::duration(cause.median_ms()))).collect();
    canvas.svg(&format!("Median age of the connections by cause: {}.", of.join(", ")), &body)
}

fn bars(cause: &CauseAges<'_>, ages: LogScale, base: f64) -> Markup {
    let most = cause.steps.iter().map(|(_, counts)| counts.total()).max().unwrap_or(0);
    let heights = CountScale { most, begin: 0.0, end: ROW - 8.0 };
    all(cause.steps.iter().map(|(step, counts)| {
        let (from, to) = ages_of_step(*step);
        let (x, end) = (ages.at(from), ages.at(to));
        let height = heights.at(counts.total()).max(2.0);
        let title = format!(
            "{}: {} aged {} to {}",
            cause.code,
            number(counts.total()),
            shown::duration(from),
            shown::duration(to)
        );
        html! {
            g {
                title { (title) }
                (Area { x, y: base - height, width: (end - x - 0.8).max(1.5), height }.bar(class(counts.main())))
            }
        }
    }))
}
