//! One drawing: title, verdict, tables, last line.

use std::borrow::Cow;

use jiff::{Timestamp, tz::TimeZone};
use ratatui::{
    buffer::Buffer,
    layout::Position,
    style::{Color, Modifier, Style},
    text::Span,
};

use super::{
    columns::{self, Column, bars, write, write_row},
    snapshot::{Row, Snapshot, Source},
    text_pages,
    view::{Page, Prompt, Tab, View},
};
use crate::{
    model::{Direction, Fault},
    report::{self, KeptIncident},
    util::{human_duration, sanitize, terminal},
};

/// Columns of the causes.
const CAUSES: [Column; 11] = [
    Column::text("CAUSE", (24, 26), 0),
    Column::text("FAULT", (8, 8), 1),
    Column::number("1m", 5, 3),
    Column::number("10m", 6, 4),
    Column::number("TOTAL", 8, 2),
    Column::text("LAST", (8, 8), 5),
    Column::text("60 s", (10, 60), 6),
    Column::number("PEERS", 5, 10),
    Column::text("PROCESSES", (12, 20), 7),
    Column::number("AGE p50", 8, 9),
    Column::number("IDLE p50", 8, 8),
];

/// Columns of the peers and of the processes, of which the first and the last have other names.
const fn ends(name: &'static str, other: &'static str) -> [Column; 9] {
    [
        Column::text(name, (22, 48), 0),
        Column::number("1m", 5, 3),
        Column::number("10m", 6, 4),
        Column::number("TOTAL", 8, 1),
        Column::number("FAULTY", 7, 2),
        Column::text("LAST", (8, 8), 5),
        Column::text("60 s", (10, 60), 8),
        Column::text("CAUSES", (16, 28), 6),
        Column::text(other, (12, 42), 7),
    ]
}

/// Columns of the incidents.
const INCIDENTS: [Column; 9] = [
    Column::text("TIME", (12, 12), 1),
    Column::text("CAUSE", (24, 26), 0),
    Column::text("FAULT", (8, 8), 5),
    Column::text("PROCESS", (15, 24), 3),
    Column::text("", (1, 1), 4),
    Column::text("PEER", (22, 60), 2),
    Column::number("SILENCE", 8, 6),
    Column::number("AGE", 8, 7),
    Column::number("COUNT", 6, 8),
];

/// Keys in the last line, the most useful first.
const KEYS: &str =
    "? help  q quit  j k move  Enter open  / filter  s sort  a all  f faults  Space pause  r report  t T g time";

/// Columns of the names of all tables.
const NAMES_WIDTH: usize = 58;

/// Heights of the screen from which on a part is there.
const WITH_HEADER: u16 = 5;
const WITH_LAST_LINE: u16 = 6;
const WITH_VERDICT: u16 = 8;
/// Heights from which on the verdict has two lines, and three.
const VERDICT_LINES: [(u16, usize); 2] = [(36, 3), (20, 2)];

/// Colours and their absence.
#[derive(Clone, Copy)]
pub(super) struct Palette {
    is_colored: bool,
}

impl Palette {
    fn color(self, color: Color) -> Style {
        if self.is_colored { Style::new().fg(color) } else { Style::new() }
    }

    /// As in text output: red is to be fixed on this host, cyan elsewhere, green is harmless.
    pub(super) fn fault(self, fault: Fault) -> Style {
        match fault {
            Fault::Local => self.color(Color::Red),
            Fault::Peer | Fault::Path => self.color(Color::Cyan),
            Fault::None => self.color(Color::Green),
            Fault::Unknown => Style::new(),
        }
    }

    fn alarm(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws what is looked at. Returns the place of the cursor, where a line is typed. Any size will do.
pub(super) fn draw(view: &mut View, snapshot: &Snapshot, buffer: &mut Buffer) -> Option<Position> {
    let (width, height) = (usize::from(buffer.area.width), buffer.area.height);
    if width == 0 || height == 0 {
        return None;
    }
    let palette = Palette { is_colored: view.is_colored };
    title(snapshot, buffer, palette);
    let mut y = 1;
    if height >= WITH_VERDICT {
        y += verdict(snapshot, buffer, palette);
    }
    if height > y {
        tabs(view, snapshot, buffer, y);
        y += 1;
    }
    let end =
        if height >= WITH_LAST_LINE || view.prompt.is_some() || view.notice.is_some() { height - 1 } else { height };
    let rows = (y, end.max(y));
    if view.page.is_some() || view.tab == Tab::Health {
        page_lines(view, snapshot, buffer, rows);
    } else {
        table(view, snapshot, buffer, rows, palette);
    }
    if end < height { last_line(view, buffer, height - 1) } else { None }
}

fn title(snapshot: &Snapshot, buffer: &mut Buffer, palette: Palette) {
    let (rate, harmful) = snapshot.rates();
    let (all, _) = &snapshot.seconds;
    let state = match snapshot.source {
        Source::Live => "LIVE",
        Source::Input => "INPUT",
        Source::Ended => "END OF INPUT",
        Source::Reading => "READING",
        Source::Recording => "RECORDING",
        Source::Moment => "UP TO HERE",
    };
    let is_today = snapshot.source == Source::Live;
    let clock = snapshot.clock.to_zoned(snapshot.zone.clone());
    let is_wide = buffer.area.width >= 120;
    let clock_form = match (is_today, is_wide) {
        (true, _) => "%H:%M:%S",
        (false, true) => "%Y-%m-%d %H:%M:%S",
        (false, false) => "%d %b %H:%M:%S",
    };
    let clock = clock.strftime(clock_form).to_string();
    let bars_width = match (is_today, is_wide) {
        (_, true) => 30,
        (true, false) => 12,
        (false, false) => 6,
    };
    let lost = snapshot.summary.lost;
    let parts = [
        (if is_today || is_wide { "rsttrace top" } else { "top" }.to_owned(), BOLD),
        (columns::cut(&snapshot.host, usize::from(buffer.area.width / 5)).into_owned(), Style::new()),
        (clock, Style::new()),
        (state.to_owned(), BOLD),
        (format!("{rate:.1}/s {}", bars(all, bars_width)), Style::new()),
        (format!("with fault {harmful:.1}/s"), if harmful > 0.0 { palette.alarm() } else { Style::new() }),
        (format!("lost {lost}"), if lost > 0 { palette.alarm() } else { Style::new() }),
    ];
    let right = buffer.area.right();
    let mut x = buffer.area.left();
    // A loss is told in any case.
    let lost_width = u16::try_from(parts[6].0.len()).unwrap_or_default();
    for (number, (text, style)) in parts.iter().enumerate() {
        let room = if number < 6 && lost > 0 { right.saturating_sub(lost_width + 2) } else { right };
        if x >= room {
            continue;
        }
        x += write(buffer, (x, 0), text, usize::from(room - x), *style) + 2;
    }
}

/// Writes the verdict. Returns its lines.
fn verdict(snapshot: &Snapshot, buffer: &mut Buffer, palette: Palette) -> u16 {
    let summary = &snapshot.summary;
    let most = VERDICT_LINES.iter().find(|(height, _)| buffer.area.height >= *height).map_or(1, |(_, lines)| *lines);
    let (text, style) = match summary.findings.first() {
        None => (summary.verdict_lines.first().map_or("No resets.", |(_, line)| line).to_owned(), Style::new()),
        Some(finding) => {
            let place = if finding.place.is_empty() { String::new() } else { format!("{}: ", finding.place) };
            let timing = summary.verdict_lines.iter().find(|(name, _)| *name == "timing");
            let timing = timing.map_or_else(String::new, |(_, line)| format!(" {line}"));
            let text = format!("{place}{} × {}.{timing} {}", finding.resets, finding.code, finding.advice);
            (text, palette.fault(finding.fault))
        }
    };
    let text = sanitize::Sanitized(&text).to_string();
    let width = usize::from(buffer.area.width);
    let wrapped = terminal::wrap(&format!("verdict  {text}"), width, |_| 9);
    let mut lines: Vec<Cow<'_, str>> = wrapped.lines().map(Cow::from).collect();
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = format!("{last} …").into();
        }
    }
    for (y, line) in (1..).zip(&lines) {
        write(buffer, (0, y), line, width, style);
    }
    write(buffer, (0, 1), "verdict", width, BOLD);
    // Always as many, so that the rows below do not move.
    u16::try_from(most).unwrap_or(1)
}

/// Writes the names of the tables, and how the view is set.
fn tabs(view: &View, snapshot: &Snapshot, buffer: &mut Buffer, y: u16) {
    let width = usize::from(buffer.area.width);
    let state = state(view, snapshot);
    let state_width = Span::raw(&state).width();
    // What the view is set to is told rather than the names of the other tables.
    let names_fit = width >= NAMES_WIDTH + state_width.min(NAMES_WIDTH);
    let mut x = 0;
    for (number, tab) in (1..).zip(Tab::ALL) {
        let is_shown = tab == view.tab;
        let text = if names_fit || is_shown { format!("{number} {}", tab.name()) } else { number.to_string() };
        let style = if is_shown { BOLD.add_modifier(Modifier::UNDERLINED) } else { DIM };
        let room = width.saturating_sub(usize::from(x));
        x += write(buffer, (x, y), &text, room, style) + if names_fit { 3 } else { 1 };
    }
    let room = width.saturating_sub(usize::from(x));
    let state = columns::cut(&state, room);
    let state_width = u16::try_from(Span::raw(&*state).width()).unwrap_or_default();
    if room > 4 {
        write(buffer, (buffer.area.right().saturating_sub(state_width), y), &state, room, BOLD);
    }
}

/// How the view is set: paused, all or faults, filter.
fn state(view: &View, snapshot: &Snapshot) -> String {
    let mut state = Vec::new();
    if view.paused {
        state.push("PAUSED".to_owned());
    }
    state.push(if view.faults_only { "[f]aults" } else { "[a]ll" }.to_owned());
    if let Some((text, since)) = &snapshot.narrowing {
        let text = sanitize::Sanitized(text);
        state.push(match since {
            Some(since) => format!("/ {text} since {}", time_of_day(*since, &snapshot.zone)),
            None => format!("/ {text}"),
        });
    }
    state.join("  ")
}

/// Writes the table between two lines.
fn table(view: &mut View, snapshot: &Snapshot, buffer: &mut Buffer, (y, end): (u16, u16), palette: Palette) {
    let columns = match view.tab {
        Tab::Causes => CAUSES.to_vec(),
        Tab::Peers => ends("PEER", "PROCESSES").to_vec(),
        Tab::Processes => ends("PROCESS", "PEERS").to_vec(),
        Tab::Incidents | Tab::Health => INCIDENTS.to_vec(),
    };
    let widths = columns::fitted(&columns, usize::from(buffer.area.width));
    let first_row = if buffer.area.height >= WITH_HEADER { y + 1 } else { y };
    if first_row > y && y < end {
        let (order, is_first) = (view.order(), |place: usize| place == 0);
        let titles = columns.iter().enumerate().map(|(place, column)| {
            let orders = column.title == order || order == "NAME" && is_first(place);
            let style = if orders { BOLD.add_modifier(Modifier::UNDERLINED) } else { BOLD };
            (Cow::from(column.title), style)
        });
        let titles = titles.collect();
        write_row(buffer, y, &columns, &widths, titles);
    }
    let height = usize::from(end.saturating_sub(first_row));
    let (selected, first) = view.selected(snapshot, height);
    let values: Vec<Values<'_>> = match view.tab {
        Tab::Incidents => view.incidents(snapshot).into_iter().map(|kept| incident(kept, snapshot, palette)).collect(),
        Tab::Causes => view.rows(snapshot).into_iter().map(|row| cause(row, snapshot, widths[6], palette)).collect(),
        _ => view.rows(snapshot).into_iter().map(|row| end_row(row, snapshot, widths[6], palette)).collect(),
    };
    if values.is_empty() && height > 0 {
        write(buffer, (0, first_row), nothing(view, snapshot), usize::from(buffer.area.width), DIM);
    }
    for (number, values) in values.into_iter().enumerate().skip(first).take(height) {
        let y = first_row + u16::try_from(number - first).unwrap_or_default();
        write_row(buffer, y, &columns, &widths, values);
        if number == selected {
            buffer.set_style(ratatui::layout::Rect { y, height: 1, ..buffer.area }, REVERSED);
        }
    }
}

/// Values of a row, with their styles.
type Values<'a> = Vec<(Cow<'a, str>, Style)>;

fn nothing(view: &View, snapshot: &Snapshot) -> &'static str {
    match () {
        () if view.faults_only && snapshot.summary.resets > 0 => "nothing with a fault; 'a' shows all",
        () if snapshot.narrowing.is_some() => "nothing that matches; '/', Ctrl-U and Enter show all",
        () if snapshot.source == Source::Live => "no resets since the start",
        () if snapshot.source == Source::Moment => "no resets up to this time; 't' goes on",
        () if snapshot.summary.resets > 0 => "none",
        () => "no resets",
    }
}

fn plain<'a>(text: impl Into<Cow<'a, str>>) -> (Cow<'a, str>, Style) {
    (text.into(), Style::new())
}

fn number<'a>(count: u64) -> (Cow<'a, str>, Style) {
    // A zero is there to be passed over.
    (count.to_string().into(), if count == 0 { DIM } else { Style::new() })
}

fn duration<'a>(ms: Option<f64>) -> (Cow<'a, str>, Style) {
    plain(ms.map_or_else(String::new, |ms| human_duration(ms).to_string()))
}

fn cause<'a>(row: &'a Row, snapshot: &Snapshot, bars_width: Option<usize>, palette: Palette) -> Values<'a> {
    let style = row.fault.map_or_else(Style::new, |fault| palette.fault(fault));
    vec![
        (Cow::from(&row.name), style),
        (row.fault.map_or("", fault_name).into(), style),
        number(row.minute),
        number(row.ten_minutes),
        number(row.total),
        plain(row.last.map_or_else(String::new, |last| time_of_day(last, &snapshot.zone))),
        plain(bars(&row.seconds, bars_width.unwrap_or(1))),
        plain(&row.peers),
        plain(&row.process),
        duration(row.age_ms),
        duration(row.silence_ms),
    ]
}

fn end_row<'a>(row: &'a Row, snapshot: &Snapshot, bars_width: Option<usize>, palette: Palette) -> Values<'a> {
    let other = if matches!(row.key, super::snapshot::RowKey::Peer(_)) { &row.process } else { &row.peer };
    vec![
        plain(&row.name),
        number(row.minute),
        number(row.ten_minutes),
        number(row.total),
        (row.harmful.to_string().into(), if row.harmful > 0 { palette.color(Color::Red) } else { DIM }),
        plain(row.last.map_or_else(String::new, |last| time_of_day(last, &snapshot.zone))),
        plain(bars(&row.seconds, bars_width.unwrap_or(1))),
        plain(&row.cause),
        plain(other),
    ]
}

fn incident<'a>(kept: &'a KeptIncident, snapshot: &Snapshot, palette: Palette) -> Values<'a> {
    let reset = &kept.first;
    let style = palette.fault(reset.cause.fault);
    let process = match &reset.process {
        Some(process) => format!("{}[{}]", sanitize::truncate(&process.comm, 64), process.pid),
        None => "-".to_owned(),
    };
    let peer = match &reset.peer.name {
        Some(name) => format!("{} ({})", reset.peer.end(), sanitize::truncate(name, 64)),
        None => reset.peer.end().to_string(),
    };
    let time = reset.time.to_zoned(snapshot.zone.clone()).strftime("%H:%M:%S%.3f").to_string();
    vec![
        plain(time),
        (reset.cause.code.into(), style),
        (fault_name(reset.cause.fault).into(), style),
        plain(process),
        plain(if reset.direction == Direction::Sent { "→" } else { "←" }),
        plain(peer),
        duration(report::silence_ms(reset)),
        duration(reset.socket.as_ref().and_then(|socket| socket.age_ms)),
        number(reset.count),
    ]
}

/// Names of faults as `fault:` takes them, but for harmless ones.
const fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::Local => "local",
        Fault::Peer => "peer",
        Fault::Path => "path",
        Fault::None => "harmless",
        Fault::Unknown => "unknown",
    }
}

fn time_of_day(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// Writes lines of the page, or of the health, between two lines of the screen.
fn page_lines(view: &mut View, snapshot: &Snapshot, buffer: &mut Buffer, (y, end): (u16, u16)) {
    let width = usize::from(buffer.area.width);
    let lines = match &view.page {
        Some(Page::Help) => text_pages::help(width),
        Some(Page::Block(kept)) => text_pages::block(kept, &view.text, width),
        None => text_pages::health(snapshot, width),
    };
    let height = usize::from(end.saturating_sub(y));
    view.page_rows = height;
    view.scroll = view.scroll.min(lines.len().saturating_sub(height));
    for (y, line) in (y..end).zip(lines.iter().skip(view.scroll)) {
        write(buffer, (0, y), line, width, Style::new());
    }
}

/// Writes what is typed, what is to be told, or the keys. Returns the place of the cursor.
fn last_line(view: &View, buffer: &mut Buffer, y: u16) -> Option<Position> {
    let width = usize::from(buffer.area.width);
    let (name, text) = match &view.prompt {
        Some(Prompt::Filter(text)) => ("/ ", text),
        Some(Prompt::Go(text)) => ("go to (14:03, '2026-11-28 08:00', 10m ago): ", text),
        None => {
            let page = "j k scroll  Esc back";
            let (text, style) = match (&view.notice, &view.page) {
                (Some(notice), _) => (&**notice, BOLD),
                (None, Some(_)) => (page, DIM),
                (None, None) => (KEYS, DIM),
            };
            let text = sanitize::Sanitized(text).to_string();
            write(buffer, (0, y), &text, width, style);
            return None;
        }
    };
    // What is wrong with it stands behind it.
    let why = view.notice.as_ref().map_or_else(String::new, |why| format!("   {why}"));
    let typed = sanitize::Sanitized(text).to_string();
    let mut x = write(buffer, (0, y), name, width, BOLD);
    x += write(buffer, (x, y), &typed, width.saturating_sub(x.into()), Style::new());
    let cursor = Position { x: x.min(buffer.area.right().saturating_sub(1)), y };
    let why = sanitize::Sanitized(&why).to_string();
    write(buffer, (x, y), &why, width.saturating_sub(x.into()), BOLD);
    Some(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::columns::fitted;

    #[test]
    fn times_of_incidents_are_whole() {
        for width in 80..=250 {
            assert_eq!(fitted(&INCIDENTS, width)[0], Some("21:31:51.123".len()), "{width}");
        }
    }
}
