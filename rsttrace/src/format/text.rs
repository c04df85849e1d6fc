//! One line a reset, readable at a glance, fitted into the terminal or 120 columns.
//!
//! ```text
//! 12:03:04.123 SENT 10.0.0.5:8080         > 10.0.1.9:43210        nginx[812]        ESTABLISHED closed-with-unread-data unread 6
//! 12:03:04.123 RECV 10.0.0.5:43210 < 10.0.1.9:8080 nginx[812] shop/cart-7d9f ESTABLISHED peer-aborted peer shop/db-0
//! ```

use std::{
    io::{self, Write},
    ops::RangeInclusive,
};

use anstyle::{AnsiColor, Style};
use rsttrace_common::abi::tcp;

use super::{Formatter, TextOptions, TextWidth, unapplied_line};
use crate::{
    model::{AFTERMATH, Direction, Fault, Record, Reset, Socket},
    util::{human_duration, sanitize},
};

/// Columns of an address with its port: the initial width, and that of the longest IPv4 one, to which the column grows.
const ENDPOINT: RangeInclusive<usize> = 15..=21;
/// Columns of a process, a name with a PID: the initial width, and the one to which the column grows.
const PROCESS: RangeInclusive<usize> = 14..=23;
/// Most columns of a unit, a container or a peer by name.
const HOME: usize = 32;
/// Columns of the pod or container behind the process: those below which it is left out, and the most.
const PLACE: RangeInclusive<usize> = 8..=HOME;
/// Least columns of this host's end: its port, behind an ellipsis.
const LOCAL_LEAST: usize = "…:65535".len() - '…'.len_utf8() + 1;
/// Columns of a state: the longest is ESTABLISHED.
const STATE: usize = 11;

/// Formatter of one-line text. Columns start narrow and grow with their contents, so that lines stay aligned and most
/// have room for the figures.
pub(crate) struct TextFormatter {
    options: TextOptions,
    local_columns: usize,
    peer_columns: usize,
    process_columns: usize,
    /// Columns of the pod or container behind the process; 0 until a record has one.
    place_columns: usize,
    /// Whether the columns are to be named before the next line.
    needs_header: bool,
}

impl TextFormatter {
    pub(crate) fn new(options: TextOptions) -> Self {
        Self {
            // For people at a terminal; other readers want lines that are alike.
            needs_header: options.width == TextWidth::Terminal,
            options,
            local_columns: *ENDPOINT.start(),
            peer_columns: *ENDPOINT.start(),
            process_columns: *PROCESS.start(),
            place_columns: 0,
        }
    }

    fn line(&mut self, reset: &Reset, out: &mut dyn Write) -> io::Result<()> {
        let (color, width) = (self.options.color, self.options.columns());
        let style = |style: Style| if color { style } else { Style::new() };
        let (label, arrow, hue) = match reset.direction {
            Direction::Sent => ("SENT", '>', AnsiColor::Yellow),
            Direction::Received => ("RECV", '<', AnsiColor::Magenta),
        };
        let (dim, accent) = (style(Style::new().dimmed()), style(hue.on_default()));
        let time = self.options.format_time(reset.time, reset.internals.ktime_ns);
        let (mut peer, mut process) = (reset.peer.to_string(), process(reset));
        let state = reset.socket.as_ref().map_or_else(|| "no socket".to_owned(), |socket| socket.state.to_string());

        grow(&mut self.peer_columns, columns(&peer), &ENDPOINT);
        grow(&mut self.process_columns, columns(&process), &PROCESS);
        if let Some(behind) =
            reset.translated.map(|translated| translated.peer).filter(|&behind| behind != reset.peer.end())
        {
            let both = format!("{peer} ({behind})");
            let whole = [&time, "SENT ", &reset.local.to_string(), " > ", &both, " ", &process, " ", &state, " "];
            if whole.into_iter().map(columns).sum::<usize>() + columns(cause(reset)) <= width {
                peer = both;
            }
        }
        // A long IPv6 address leaves no room for columns.
        let crowded = columns(&peer) > *ENDPOINT.end();
        let wide = |text: &str, column: usize| if crowded { columns(text) } else { columns(text).max(column) };
        let (mut peer_columns, mut process_columns) =
            (columns(&peer).max(self.peer_columns), wide(&process, self.process_columns));
        let mut state = format!(" {state:0$}", wide(&state, STATE));
        let count = if reset.count > 1 { format!(" ×{}", reset.count) } else { String::new() };
        let told = columns(&count) + 1 + columns(cause(reset));
        let mut others =
            columns(&time) + "SENT ".len() + " > ".len() + peer_columns + 1 + process_columns + columns(&state);
        if others + LOCAL_LEAST + told > width {
            // A narrow terminal has no room for it.
            others -= columns(&state);
            state.clear();
        }
        if others + LOCAL_LEAST + told > width {
            // Nor for columns.
            let least = (columns(&peer), columns(&process));
            others = (others + least.0 + least.1).saturating_sub(peer_columns + process_columns);
            (peer_columns, process_columns) = least;
        }
        let over = (others + LOCAL_LEAST + told).saturating_sub(width);
        if over > 0 {
            process = shorten_process(&process, process_columns.saturating_sub(over));
            others -= process_columns - columns(&process);
            process_columns = columns(&process);
        }
        // The ends and the cause have priority over the names.
        let least = others + columns(&reset.local.to_string()).min(*ENDPOINT.end()) + told;
        let place = self.place(reset, width.saturating_sub(least + 1), crowded);
        // Directly behind the process; the blanks of both columns follow.
        let process = match &place {
            Some((name, columns)) => {
                others += columns + 1;
                format!("{process} {name}")
            }
            None => process,
        };
        process_columns += place.as_ref().map_or(0, |(_, columns)| columns + 1);
        // Of two long IPv6 addresses, the peer's is the one to read whole, and the cause has priority over both.
        let mut room = width.saturating_sub(others + told);
        // The blanks of columns go before a part of an address does.
        let wanted = columns(&reset.local.to_string()).min(*ENDPOINT.end());
        for (column, least) in [(&mut process_columns, columns(&process)), (&mut peer_columns, columns(&peer))] {
            let given = take_blanks(column, least, wanted.saturating_sub(room));
            (room, others) = (room + given, others - given);
        }
        let local = shorten(&reset.local.to_string(), room.min(*ENDPOINT.end()));
        grow(&mut self.local_columns, columns(&local), &ENDPOINT);
        let mut local_columns = self.local_columns.min(room.max(columns(&local)));
        let figures = figures(reset, self.options.names, place.is_some());
        let mut left = width.saturating_sub(others + columns(&local).max(local_columns) + told);
        // So do they before the most significant figure that fits then; without one the columns stay.
        let spare = process_columns.saturating_sub(columns(&process))
            + peer_columns.saturating_sub(columns(&peer))
            + local_columns.saturating_sub(columns(&local));
        let mut needed = figures.iter().map(|figure| columns(figure) + 1);
        let wanted = needed.find(|&needed| needed <= left + spare).unwrap_or(0);
        let blanks = [
            (&mut process_columns, columns(&process)),
            (&mut peer_columns, columns(&peer)),
            (&mut local_columns, columns(&local)),
        ];
        for (column, least) in blanks {
            left += take_blanks(column, least, wanted.saturating_sub(left));
        }

        let mut line = format!(
            "{dim}{time}{dim:#}{accent}{label}{accent:#} {local:local_columns$} {accent}{arrow}{accent:#} \
             {peer:peer_columns$} {process:process_columns$}{state}{count}"
        );
        let style = style(fault_style(reset.cause.fault));
        line.extend([" ", &style.render().to_string(), cause(reset), &style.render_reset().to_string()]);
        for figure in figures {
            // A part is printed whole or not at all: half a figure is a wrong figure.
            if columns(&figure) < left {
                left -= columns(&figure) + 1;
                line.extend([" ", &figure]);
            }
        }
        if std::mem::take(&mut self.needs_header) {
            let widths = [columns(&time), local_columns, peer_columns, process_columns, columns(&state)];
            writeln!(out, "{dim}{}{dim:#}", sanitize::truncate(&header(widths), width))?;
        }
        writeln!(out, "{}", line.trim_end())
    }

    /// Pod or container of a record in less than `room` columns, and the columns for it; `None` where there is none, or
    /// no room. Records that have one are aligned; others keep the room for their figures.
    fn place(&mut self, reset: &Reset, room: usize, crowded: bool) -> Option<(String, usize)> {
        let name = place(reset).filter(|_| self.options.names && room > *PLACE.start())?;
        let width = room.saturating_sub(1).min(*PLACE.end());
        let name = sanitize::truncate(&name, width).into_owned();
        grow(&mut self.place_columns, columns(&name), &PLACE);
        let column = if crowded { columns(&name) } else { self.place_columns.min(width) };
        Some((name, column))
    }
}

impl Formatter for TextFormatter {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        // Losses and the summary go to standard error: standard output carries resets and nothing else.
        match record {
            Record::Reset(reset) => self.line(reset, out),
            Record::Ignored(record) => unapplied_line::ignored(record, &self.options, out),
            Record::Forwarded(record) => unapplied_line::forwarded(record, &self.options, out),
            Record::Lost(_) | Record::Summary(_) => Ok(()),
        }
    }
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// Widens a column for a text, within its limits.
fn grow(column: &mut usize, needed: usize, limits: &RangeInclusive<usize>) {
    *column = needed.clamp(*column, *limits.end());
}

/// Names of the columns over columns of these widths: time, this host's end, the peer's, process and state. The time and the state
/// may have none.
fn header([time_columns, local_columns, peer_columns, process_columns, state_columns]: [usize; 5]) -> String {
    let time = if time_columns == 0 { "" } else { "time" };
    let state = state_columns.checked_sub(1).map_or_else(String::new, |columns| format!(" {:columns$}", "state"));
    format!(
        "{time:time_columns$}     {:local_columns$}   {:peer_columns$} {:process_columns$}{state} cause, figures",
        "this host", "peer", "process"
    )
}

/// Narrows a column by its blanks beyond `least`, by `wanted` at most. Returns by how many.
fn take_blanks(column: &mut usize, least: usize, wanted: usize) -> usize {
    let given = column.saturating_sub(least).min(wanted);
    *column -= given;
    given
}

/// Code of the cause; where that is unknown, the kernel's reason.
fn cause(reset: &Reset) -> &str {
    match (&reset.reason, reset.cause.code) {
        (Some(reason), "unknown") => reason,
        (_, code) => code,
    }
}

const fn fault_style(fault: Fault) -> Style {
    match fault {
        Fault::Local => AnsiColor::Red.on_default().bold(),
        Fault::Peer | Fault::Path => AnsiColor::Cyan.on_default(),
        Fault::None => AnsiColor::Green.on_default(),
        Fault::Unknown => Style::new(),
    }
}

/// Shortens an address with its port to a number of columns: the port and the start of the address stay.
fn shorten(endpoint: &str, width: usize) -> String {
    if endpoint.len() <= width {
        return endpoint.to_owned();
    }
    // Addresses are ASCII.
    let port = endpoint.rfind(':').map_or(endpoint, |colon| &endpoint[colon..]);
    let head = width.saturating_sub(port.len() + 1);
    format!("{}…{port}", &endpoint[..head.min(endpoint.len() - port.len())])
}

/// Shortens a process to a number of columns: the PID and the start of the name stay.
fn shorten_process(process: &str, width: usize) -> String {
    let Some(bracket) = process.rfind('[') else { return process.to_owned() };
    let (name, pid) = process.split_at(bracket);
    format!("{}{pid}", sanitize::truncate(name, width.saturating_sub(pid.len()).max(2)))
}

fn process(reset: &Reset) -> String {
    let Some(process) = &reset.process else { return "-".to_owned() };
    let pid = format!("[{}]", process.pid);
    // A PID has up to seven digits; the name is shortened for it.
    let name = sanitize::truncate(&process.comm, PROCESS.end().saturating_sub(pid.len()));
    format!("{name}{pid}")
}

/// Pod of the owner, or else its container by name.
fn place(reset: &Reset) -> Option<String> {
    let container = || reset.container.as_ref()?.name.as_deref().map(str::to_owned);
    reset.pod.as_ref().map(ToString::to_string).or_else(container)
}

/// The few figures that matter, the most significant first. `names`: with names in place of numbers; `is_placed`: the
/// pod or the container is shown already.
fn figures(reset: &Reset, names: bool, is_placed: bool) -> Vec<String> {
    let mut figures = Vec::new();
    if let Some(actor) = &reset.actor {
        figures.push(format!("by {}[{}]", sanitize::truncate(&actor.comm, 15), actor.pid));
    }
    // Of a received reset it says more than any figure.
    if reset.direction == Direction::Received {
        figures.extend(other_end(reset, "by"));
    }
    let peer = reset.peer.name.as_deref().filter(|_| names);
    let peer = peer.map(|name| format!("peer {}", sanitize::truncate(name, HOME)));
    figures.extend(times(reset));
    let Some(socket) = &reset.socket else {
        figures.extend(reset.provoked_by.map(|packet| format!("to {}", packet.flags)));
        figures.extend(peer);
        return figures;
    };
    for (value, name) in
        [(socket.unread_bytes, "unread"), (socket.unacked_bytes, "unacked"), (socket.unsent_bytes, "unsent")]
    {
        if let Some(bytes @ 1..) = value {
            figures.push(format!("{name} {bytes}"));
        }
    }
    if reset.direction == Direction::Sent {
        figures.extend(other_end(reset, "to"));
    }
    figures.extend(peer);
    figures.extend(home(reset, names, is_placed));
    if let Some(age) = socket.age_ms {
        figures.push(format!("age {}", human_duration(age)));
    }
    figures
}

/// For how long the connection had been closed, an answer was awaited, and the connection had been silent, by what the cause is
/// about.
fn times(reset: &Reset) -> Vec<String> {
    let mut times = Vec::new();
    let mut tell = |name: &str, ms: Option<f64>| times.extend(ms.map(|ms| format!("{name} {}", human_duration(ms))));
    let long = |ms: Option<f64>| ms.filter(|&ms| ms >= 1000.0);
    let socket = reset.socket.as_ref();
    match (reset.direction, reset.cause.code) {
        // Another reset tells how its connection ended.
        (Direction::Sent, AFTERMATH) => {}
        (Direction::Sent, code) if reset.provoked_by.is_some() => {
            let (closed, silence) = reset.closing_times();
            let attempt = reset.internals.ending.as_ref().filter(|ending| ending.state == tcp::SYN_SENT);
            if code == "gave-up-waiting" {
                tell("waited", attempt.map_or(silence, |attempt| attempt.lifetime_ms));
            }
            tell("closed", closed);
            if code != "gave-up-waiting" {
                tell("idle", long(silence));
            }
        }
        // The request came at the end of the silence, and was not read.
        (Direction::Sent, "keepalive-race") => {
            let times = socket.and_then(|socket| socket.since_send_ms.zip(socket.since_receive_ms));
            tell("idle", times.map(|(answered, came)| (answered - came).max(0.0)));
        }
        (Direction::Received, "reused-closed-connection") => {
            tell("closed", socket.and_then(|socket| socket.fin_received_ms));
            tell("idle", long(reset.idle_ms()));
        }
        (Direction::Received, "client-gave-up") => tell("waited", socket.and_then(waited_ms)),
        _ => tell("idle", long(reset.idle_ms())),
    }
    times
}

/// How long the last request of a served connection had waited when its client ended it, by a FIN or by the reset, milliseconds.
fn waited_ms(socket: &Socket) -> Option<f64> {
    Some((socket.since_receive_ms? - socket.fin_received_ms.unwrap_or(0.0)).max(0.0))
}

/// The process at the other end, where that is on this host.
fn other_end(reset: &Reset, relation: &str) -> Option<String> {
    let process = reset.other_end.as_ref()?.process.as_ref()?;
    Some(format!("{relation} {}[{}] here", sanitize::truncate(&process.comm, 15), process.pid))
}

/// Where the owner belongs: its unit, unless that is named after the process, or else its container, unless that is
/// shown already.
fn home(reset: &Reset, names: bool, is_placed: bool) -> Option<String> {
    let named = |unit: &&str| {
        let name = unit.split(['.', '@']).next();
        reset.process.as_ref().is_none_or(|process| name != Some(&*process.comm))
    };
    if let Some(unit) = reset.unit.as_deref() {
        return Some(unit).filter(named).map(|unit| format!("in {}", sanitize::truncate(unit, HOME)));
    }
    let container = reset.container.as_ref().filter(|_| !is_placed)?;
    if let Some(name) = place(reset).filter(|_| names) {
        return Some(format!("in {}", sanitize::truncate(&name, HOME)));
    }
    let id = &*container.id;
    // Container engines shorten an id to twelve characters. Any other id is a chosen name.
    let is_hash = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(format!("in {}", if is_hash { id.chars().take(12).collect() } else { sanitize::truncate(id, HOME) }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::{Timestamp, tz::TimeZone};
    use rsttrace_common::event::{KIND_RECEIVED, ResetEvent};

    use super::*;
    use crate::{
        decode::{BitFields, Decoder, Reasons, clock::WallClock},
        format::{TextWidth, TimeFormat},
        model::Pod,
    };

    /// Lines of one formatter for records with these pods and peers.
    fn lines(names: bool, columns: usize, records: &[(Option<&str>, Option<&str>, &'static str)]) -> Vec<String> {
        let options = TextOptions {
            color: false,
            time: TimeFormat::None,
            started_ns: 0,
            zone: TimeZone::UTC,
            folds: false,
            width: TextWidth::Fixed(columns),
            names,
        };
        let mut formatter = TextFormatter::new(options);
        let mut decoder = Decoder::new("host".into(), Reasons::default(), BitFields::default(), None);
        let clock = WallClock { monotonic_ns: 0, wall: Timestamp::UNIX_EPOCH };
        let line = |&(pod, peer, code): &(Option<&str>, Option<&str>, &'static str)| {
            let mut reset = decoder.reset(&ResetEvent { kind: KIND_RECEIVED, ..ResetEvent::default() }, &clock);
            let pod =
                pod.map(|name| Pod { namespace: "shop".into(), name: name.into(), uid: "u".into(), container: None });
            (reset.pod, reset.peer.name, reset.cause.code) = (pod.map(Arc::new), peer.map(Into::into), code);
            let mut out = Vec::new();
            formatter.write(&Record::Reset(Arc::new(reset)), &mut out).expect("a vector takes everything");
            String::from_utf8(out).expect("UTF-8").trim_end().to_owned()
        };
        records.iter().map(line).collect()
    }

    #[test]
    fn names_have_the_room_that_is_left() {
        let long = "x".repeat(100);
        let records = [
            (Some("cart"), Some("shop/db"), "peer-aborted"),
            (None, None, "peer-aborted"),
            (Some("a"), None, "peer-aborted"),
            (Some(&*long), Some(&*long), "closed-with-unread-data"),
            (Some("a\u{1b}[31m"), Some("\n"), "peer-aborted"),
        ];
        let shown = lines(true, TextOptions::COLUMNS, &records);
        assert!(shown[0].contains(" - shop/cart "), "{}", shown[0]);
        assert!(shown[0].ends_with(" no socket   peer-aborted peer shop/db"), "{}", shown[0]);
        assert!(!shown[1].contains("shop") && shown[1].ends_with("no socket   peer-aborted"), "{}", shown[1]);
        // Aligned with the first.
        assert_eq!(shown[2].find("no socket"), shown[0].find("no socket"), "{}", shown[2]);
        assert!(shown[3].contains("- shop/xxx") && shown[3].contains("x… "), "{}", shown[3]);
        assert!(shown[3].ends_with("closed-with-unread-data"), "{}", shown[3]);
        assert!(
            shown.iter().all(|line| columns(line) <= TextOptions::COLUMNS && !line.contains(['\u{1b}', '\n'])),
            "{shown:?}"
        );
        let narrow = lines(true, 80, &records);
        assert!(narrow.iter().all(|line| columns(line) <= 80), "{narrow:?}");
        assert!(narrow.iter().zip(&records).all(|(line, (.., code))| line.contains(code)), "{narrow:?}");
        let plain = lines(false, TextOptions::COLUMNS, &records);
        assert!(plain.iter().all(|line| !line.contains("shop")), "{plain:?}");
    }

    #[test]
    fn columns_stay_where_their_blanks_make_no_room_for_a_figure() {
        let records =
            [(None, None, "peer-aborted"), (None, Some("a-name-that-is-longer-than-the-rest"), "peer-aborted")];
        let least = columns(&lines(true, TextOptions::COLUMNS, &records[..1])[0]);
        // From no room for the name to room for it with all blanks.
        for width in least..least + 20 {
            let shown = lines(true, width, &records);
            let has_name = shown[1].contains("peer a-name");
            let at = |line: &str| line.find("no socket");
            assert!(has_name || at(&shown[0]) == at(&shown[1]), "{width}: {shown:?}");
        }
    }

    #[test]
    fn a_shortened_address_keeps_its_port() {
        let long = "[2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535";
        let short = shorten(long, 21);
        assert_eq!(short.chars().count(), 21);
        assert!(short.ends_with("…:65535") && short.starts_with("[2001:db8"), "{short}");
        assert_eq!(shorten(long, 3), "…:65535");
        assert_eq!(shorten("10.0.0.1:80", 21), "10.0.0.1:80");
    }
}
