//! The main plot: the silence before each reset against time. A timeout shows as a line of dots.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};

use crate::model::{Fault, IdleCluster};
use crate::report::{
    collector::{silence_ms, silence_of_step},
    content::{Report, TimeoutLine},
    fault_counts::{FAULTS, FaultCounts, class, label},
    marks::{Area, Canvas, DataTable, Plot, all, dot, line, text},
    page::{COLORS, PLOT_STYLE},
    scales::{LogScale, TimeScale, as_f64, count_f64},
    shown::{self, counted, number},
};

const ID: &str = "silence";
const TITLE: &str = "Silence before each reset";
/// Shortest silence that is told apart, milliseconds: shorter ones are no timeouts, and would take half of the drawing.
const SHORTEST_MS: f64 = 10.0;
/// Shortest silence for which there is a plot, milliseconds: shorter ones are no timeouts.
const WORTH_MS: f64 = 500.0;
/// Most cells of binned incidents in a drawing.
const CELLS_MAX: usize = 2_500;
/// Height and width of the smallest cells. They are wide, because lines of equal silences are what matters.
const CELL: (f64, f64) = (2.0, 8.0);
/// Least distance between two labels of timeouts.
const LABEL_DISTANCE: f64 = 14.0;

/// An incident.
struct Dot {
    /// Its place among the incidents that are held.
    number: usize,
    time_ms: i64,
    silence_ms: f64,
    fault: Fault,
    title: String,
}

/// Incidents that are not held.
struct Binned {
    /// Beginning of the bin.
    time_ms: i64,
    silence_ms: f64,
    counts: FaultCounts,
}

/// What the plot shows.
struct Silences {
    dots: Vec<Dot>,
    binned: Vec<Binned>,
    low: f64,
    high: f64,
}

impl Silences {
    fn of(report: &Report) -> Option<Self> {
        let mut dots = Vec::new();
        for (number, kept) in report.incidents.iter().enumerate() {
            let reset = &kept.first;
            let Some(silence) = silence_ms(reset) else { continue };
            let title = format!(
                "{} {} after {}, {} → {}",
                shown::time_of_day(reset.time, &report.zone),
                reset.cause.code,
                shown::duration(silence),
                shown::name(&crate::report::collector::process_name(reset)),
                shown::peer_of(reset),
            );
            let silence_ms = silence.max(SHORTEST_MS);
            let (time_ms, fault) = (reset.time.as_millisecond(), reset.cause.fault);
            dots.push(Dot { number, time_ms, silence_ms, fault, title });
        }
        // What is harmless lies below the others.
        dots.sort_by_key(|dot| dot.fault != Fault::None);
        let mut binned = Vec::new();
        for (time_ms, steps) in report.silences.iter() {
            for (&step, &counts) in steps.0.iter().filter(|(_, counts)| counts.total() > 0) {
                binned.push(Binned { time_ms, silence_ms: silence_of_step(step).max(SHORTEST_MS), counts });
            }
        }
        let all = || dots.iter().map(|dot| dot.silence_ms).chain(binned.iter().map(|bin| bin.silence_ms));
        let (low, high) = all().fold((f64::MAX, 0.0_f64), |(low, high), ms| (low.min(ms), high.max(ms)));
        (high >= WORTH_MS).then_some(Self { dots, binned, low, high })
    }
}

/// The plot; `None` where there was no silence worth the name.
pub(in crate::report) fn plot(report: &Report) -> Option<Plot> {
    Some(plot_of(report, &Silences::of(report)?))
}

/// The plots of two reports, on one scale of silences.
pub(in crate::report) fn plots_of_both(before: &Report, after: &Report) -> [Option<Plot>; 2] {
    let mut both = [Silences::of(before), Silences::of(after)];
    let all = || both.iter().flatten();
    let low = all().map(|silences| silences.low).fold(f64::MAX, f64::min);
    let high = all().map(|silences| silences.high).fold(0.0, f64::max);
    both.iter_mut().flatten().for_each(|silences| (silences.low, silences.high) = (low, high));
    let [before_silences, after_silences] = both;
    [before_silences.map(|of| plot_of(before, &of)), after_silences.map(|of| plot_of(after, &of))]
}

fn plot_of(report: &Report, silences: &Silences) -> Plot {
    let clusters = &report.summary.idle_clusters;
    let mut sentences: Vec<String> = clusters.iter().map(|cluster| format!("{}.", cluster.sentence())).collect();
    if sentences.is_empty() {
        sentences.push("No silences cluster: no timeout shows.".to_owned());
    }
    sentences
        .push("A dot is an incident; a timeout shows as a line of dots. Grey lines are known timeouts.".to_owned());
    if silences.low <= SHORTEST_MS {
        sentences.push("Those of up to 10 ms are at the bottom.".to_owned());
    }
    if !silences.binned.is_empty() {
        let count = silences.binned.iter().map(|bin| bin.counts.total()).sum();
        sentences.push(format!("{} are shown as shaded cells.", counted(count, "further incident")));
    }
    Plot {
        id: ID,
        title: TITLE,
        sentences,
        wide: drawing(report, silences, Canvas::wide(ID, 400.0)),
        narrow: Some(drawing(report, silences, Canvas::narrow(ID, 360.0))),
        table: Some(table(report, silences)),
    }
}

/// The plot as a file of its own.
pub(in crate::report) fn standalone(report: &Report) -> String {
    let style = format!("{COLORS}{PLOT_STYLE}");
    let canvas = Canvas::wide(ID, 430.0);
    let (title, body) = match Silences::of(report) {
        Some(silences) => (title(report, &silences), marks(report, &silences, Canvas { height: 400.0, ..canvas })),
        None => ("No silences before resets".to_owned(), text(480.0, 200.0, "m", "No silences before resets")),
    };
    let body = html! {
        style { (PreEscaped(style)) }
        (Area { x: 0.0, y: 0.0, width: canvas.width, height: canvas.height }.bar("ground"))
        (body)
        g transform="translate(70 418)" { (legend(report)) }
    };
    format!("{}\n", canvas.svg(&title, &body).into_string())
}

/// The shapes of the faults that occur, with their names.
fn legend(report: &Report) -> Markup {
    let occurring = FAULTS.into_iter().filter(|&fault| report.settled(fault) > 0);
    all(occurring.scan(0.0, |x, fault| {
        let at = *x;
        *x += 44.0 + 7.0 * count_f64(label(fault).len().try_into().unwrap_or(0));
        Some(html! { (dot(fault, at, -4.0, 4.5)) (text(at + 10.0, 0.0, "", label(fault))) })
    }))
}

fn title(report: &Report, silences: &Silences) -> String {
    let count: u64 = silences.binned.iter().map(|bin| bin.counts.total()).sum();
    let dots = silences.dots.iter().map(|dot| report.incidents[dot.number].first.count).sum::<u64>();
    let mut title = format!("Silence before {} against time.", counted(count + dots, "incident"));
    if let Some(cluster) = report.summary.idle_clusters.first() {
        title = format!("{title} {}.", cluster.sentence());
    }
    title
}

fn drawing(report: &Report, silences: &Silences, canvas: Canvas) -> Markup {
    canvas.svg(&title(report, silences), &marks(report, silences, canvas))
}

fn marks(report: &Report, silences: &Silences, canvas: Canvas) -> Markup {
    let (left, right, top, bottom) = if canvas.is_narrow {
        (52.0, canvas.width - 8.0, 14.0, canvas.height - 28.0)
    } else {
        (70.0, canvas.width - 236.0, 14.0, canvas.height - 34.0)
    };
    let times = || silences.dots.iter().map(|dot| dot.time_ms).chain(silences.binned.iter().map(|bin| bin.time_ms));
    let span = report.span.map(|(from, to)| (from.as_millisecond(), to.as_millisecond()));
    let (from, to) = span.unwrap_or_else(|| (times().min().unwrap_or(0), times().max().unwrap_or(0)));
    let time = TimeScale::new(from, to, left, right, &report.zone);
    let silence = LogScale::around(silences.low, silences.high, bottom, top);
    let plane = Area { x: left, y: top, width: right - left, height: bottom - top };
    html! {
        (canvas.hatching())
        (axes(&time, silence, plane))
        @for &(from, to) in &report.origin.gaps {
            @let (begin, end) = (time.x(from.as_millisecond()), time.x(to.as_millisecond()));
            (canvas.hatched(Area { x: begin, width: (end - begin).max(2.0), ..plane }, "Nothing was recorded here"))
        }
        (clusters(&report.summary.idle_clusters, silence, plane))
        (timeouts(&report.timeouts, silence, plane, canvas))
        (cells(&silences.binned, report.silences.width_ms(), &time, silence))
        g data-brush="1" data-left=(shown::position(left)) data-right=(shown::position(right)) data-top=(shown::position(top))
            data-bottom=(shown::position(bottom)) data-from=(time.from_ms) data-to=(time.to_ms) data-low=(silence.low)
            data-high=(silence.high) {
            (plane.bar("plane"))
            @for dot in &silences.dots {
                (linked(dot, time.x(dot.time_ms), silence.at(dot.silence_ms)))
            }
        }
        (cluster_names(&report.summary.idle_clusters, silence, plane))
    }
}

fn linked(mark: &Dot, x: f64, y: f64) -> Markup {
    html! {
        a href={ "#i" (mark.number) } data-i=(mark.number) tabindex="-1" {
            (dot(mark.fault, x, y, 4.2))
            title { (mark.title) }
        }
    }
}

/// The axes with their names.
fn axes(time: &TimeScale, silence: LogScale, plane: Area) -> Markup {
    let bottom = plane.y + plane.height;
    html! {
        @for (y, name) in silence.ticks() {
            (line((plane.x, y), (plane.x + plane.width, y), "grid"))
            (text(plane.x - 7.0, y + 4.0, "e", &name))
        }
        @for (x, name) in time.ticks() {
            (line((x, bottom), (x, bottom + 5.0), "axis"))
            @if x > plane.x + 12.0 && x < plane.x + plane.width - 12.0 { (text(x, bottom + 19.0, "m", &name)) }
        }
        (line((plane.x, bottom), (plane.x + plane.width, bottom), "axis"))
    }
}

/// Bands of the silences that cluster.
fn clusters(clusters: &[IdleCluster], silence: LogScale, plane: Area) -> Markup {
    all(clusters.iter().map(|cluster| {
        let (high, low) = (silence.at(cluster.to_s * 1e3), silence.at(cluster.from_s * 1e3));
        let height = (low - high).max(0.0) + 14.0;
        Area { y: high - 7.0, height, ..plane }.bar("band")
    }))
}

fn cluster_names(clusters: &[IdleCluster], silence: LogScale, plane: Area) -> Markup {
    let mut taken: Vec<f64> = Vec::new();
    all(clusters.iter().filter_map(|cluster| {
        let name = format!("{} × after {}", number(cluster.count), cluster.length());
        let places = [silence.at(cluster.to_s * 1e3) - 11.0, silence.at(cluster.from_s * 1e3) + 20.0];
        let is_free = |y: &f64| {
            *y > plane.y + 10.0
                && *y < plane.y + plane.height
                && taken.iter().all(|other| (other - y).abs() >= LABEL_DISTANCE)
        };
        let y = places.into_iter().find(is_free)?;
        taken.push(y);
        Some(text(plane.x + 6.0, y, "strong", &name))
    }))
}

/// Lines of the known timeouts, those that match first, with their owners where there is room.
fn timeouts(timeouts: &[TimeoutLine], silence: LogScale, plane: Area, canvas: Canvas) -> Markup {
    let mut ordered: Vec<&TimeoutLine> = timeouts.iter().filter(|line| silence.contains(line.ms)).collect();
    ordered.sort_by_key(|line| !line.is_matched);
    let mut labelled: Vec<f64> = Vec::new();
    let end = plane.x + plane.width;
    all(ordered.into_iter().map(|timeout| {
        let y = silence.at(timeout.ms);
        let owners = timeout.owners.join(", ");
        let length = shown::duration(timeout.ms).replace(".0 s", " s");
        let has_room = labelled.iter().all(|other| (other - y).abs() >= LABEL_DISTANCE);
        let is_labelled = has_room && !canvas.is_narrow;
        if is_labelled {
            labelled.push(y);
        }
        let class = if timeout.is_matched { "timeout matched" } else { "timeout" };
        html! {
            g {
                title { "Known timeout: " (length) ", " (owners) }
                (line((plane.x, y), (end, y), class))
                @if is_labelled {
                    @let label = format!("{length} {}", owners_in_short(&timeout.owners));
                    (text(end + 8.0, y + 4.0, if timeout.is_matched { "matched" } else { "quiet" }, &label))
                }
            }
        }
    }))
}

/// The first owners that fit, and the number of the rest.
fn owners_in_short(owners: &[String]) -> String {
    const ROOM: usize = 22;
    let mut text = String::new();
    for (number, owner) in owners.iter().enumerate() {
        if number > 0 && text.len() + owner.len() > ROOM {
            return format!("{text} +{}", owners.len() - number);
        }
        text = if number == 0 { owner.clone() } else { format!("{text}, {owner}") };
    }
    text
}

/// Incidents that are not held, as cells whose shade tells their number.
fn cells(binned: &[Binned], width_ms: i64, time: &TimeScale, silence: LogScale) -> Markup {
    let (mut height, mut width) = CELL;
    let cells = loop {
        let mut cells: BTreeMap<(i64, i64), FaultCounts> = BTreeMap::new();
        for bin in binned {
            let (x, y) = (time.x(bin.time_ms + width_ms / 2), silence.at(bin.silence_ms));
            cells.entry((in_cells(x, width), in_cells(y, height))).or_default().merge(bin.counts);
        }
        if cells.len() <= CELLS_MAX {
            break cells;
        }
        (height, width) = (height + CELL.0 / 2.0, width + CELL.1 / 2.0);
    };
    let most = cells.values().map(FaultCounts::total).max().unwrap_or(1);
    all(cells.into_iter().map(|((column, row), counts)| {
        let shade = match count_f64(counts.total()) / count_f64(most) {
            ..0.02 => 1,
            ..0.08 => 2,
            ..0.25 => 3,
            ..0.6 => 4,
            _ => 5,
        };
        let (x, y) = (as_f64(column) * width, as_f64(row) * height);
        let area = Area { x: x - width / 2.0, y: y - height / 2.0, width, height };
        area.titled_bar(&format!("{} c{shade}", class(counts.main())), &counted(counts.total(), "incident"))
    }))
}

/// Number of the cell of a position.
fn in_cells(position: f64, side: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a drawing has some hundred cells")]
    let cell = (position / side).round() as i64;
    cell
}

/// Ranges of silences with their numbers by fault.
fn table(report: &Report, silences: &Silences) -> DataTable {
    const ENDS_S: [f64; 12] = [0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 3_600.0, f64::MAX];
    let mut rows = [FaultCounts::default(); ENDS_S.len()];
    let of = |ms: f64| ENDS_S.iter().position(|end| ms / 1e3 < *end).unwrap_or(ENDS_S.len() - 1);
    for dot in &silences.dots {
        rows[of(dot.silence_ms)].add(dot.fault, report.incidents[dot.number].first.count);
    }
    for bin in &silences.binned {
        rows[of(bin.silence_ms)].merge(bin.counts);
    }
    let mut from = 0.0;
    let mut table = DataTable { titles: vec!["silence"], rows: Vec::new() };
    table.titles.extend(FAULTS.map(label));
    for (end, counts) in ENDS_S.into_iter().zip(rows) {
        let begin = std::mem::replace(&mut from, end);
        if counts.total() == 0 {
            continue;
        }
        let range = match (begin, end) {
            (0.0, end) => format!("less than {}", shown::duration(end * 1e3)),
            (begin, f64::MAX) => format!("{} and more", shown::duration(begin * 1e3)),
            (begin, end) => format!("{} to {}", shown::duration(begin * 1e3), shown::duration(end * 1e3)),
        };
        table.rows.push([range].into_iter().chain(FAULTS.map(|fault| number(counts.of(fault)))).collect());
    }
    table
}
