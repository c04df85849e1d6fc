//! One line a reset, to be read at a glance on a terminal of 120 columns.
//!
//! ```text
//! 12:03:04.123 SENT 10.0.0.5:8080         > 10.0.1.9:43210        nginx[812]        ESTABLISHED closed-with-unread-data unread 6
//! ```

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Look, Record, Sink, sanitize};
use crate::{
    diagnose::evidence::span,
    reset::{Direction, Endpoint, Fault, Reset},
};

/// Columns that a line takes at most.
const WIDTH: usize = 120;
/// Columns of an address with its port: an IPv4 one fits.
const ENDPOINT: usize = 21;
/// Columns of a process: a name of 15 bytes and a PID.
const PROCESS: usize = 20;
/// Columns of a state: the longest is ESTABLISHED.
const STATE: usize = 11;

/// Lines of text.
pub(super) struct Text {
    look: Look,
}

impl Text {
    pub(super) const fn new(look: Look) -> Self {
        Self { look }
    }
}

impl Sink for Text {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        // Losses and the summary are for standard error: standard output carries resets and nothing else.
        let Record::Reset(reset) = record else { return Ok(()) };
        line(&self.look, reset, out)
    }
}

fn line(look: &Look, reset: &Reset, out: &mut dyn Write) -> io::Result<()> {
    let style = |style: Style| if look.color { style } else { Style::new() };
    let (word, arrow, color) = match reset.direction {
        Direction::Sent => ("SENT", '>', AnsiColor::Yellow),
        Direction::Received => ("RECV", '<', AnsiColor::Magenta),
    };
    let (dim, direction) = (style(Style::new().dimmed()), style(color.on_default()));
    let time = look.time(reset.time);
    let (local, peer) = (endpoint(reset.local), endpoint(reset.peer));
    let process = process(reset);
    let state = reset.socket.as_ref().map_or_else(|| "no socket".to_owned(), |socket| socket.state.to_string());
    // Two long IPv6 addresses leave too little room: of the two, the peer's is the one to read whole.
    let used = time.chars().count() + 6 + peer.len().max(ENDPOINT) + 3 + PROCESS + 1 + STATE;
    let local = shorten(&local, WIDTH.saturating_sub(used + 1).max(ENDPOINT));

    write!(
        out,
        "{dim}{time}{dim:#} {direction}{word}{direction:#} {local:ENDPOINT$} {direction}{arrow}{direction:#} \
         {peer:ENDPOINT$} {process:PROCESS$} {state:STATE$}"
    )?;
    let mut left = WIDTH.saturating_sub(
        time.chars().count()
            + 6
            + local.chars().count().max(ENDPOINT)
            + 3
            + peer.len().max(ENDPOINT)
            + 1
            + process.chars().count().max(PROCESS)
            + 1
            + state.len().max(STATE),
    );
    let cause = cause(reset);
    let mut parts = vec![cause.to_owned()];
    parts.extend(figures(reset));
    for (index, part) in parts.iter().enumerate() {
        let columns = part.chars().count() + 1;
        // Whole or not at all: half a figure is a wrong figure.
        if columns > left {
            continue;
        }
        left -= columns;
        if index == 0 {
            let color = style(fault_color(reset.cause.fault));
            write!(out, " {color}{part}{color:#}")?;
        } else {
            write!(out, " {part}")?;
        }
    }
    if reset.count > 1 {
        write!(out, " ×{}", reset.count)?;
    }
    out.write_all(b"\n")
}

/// The cause, or where there is none the kernel's own word.
fn cause(reset: &Reset) -> &str {
    match (&reset.reason, reset.cause.code) {
        (Some(reason), "unknown") => reason,
        (_, code) => code,
    }
}

fn fault_color(fault: Fault) -> Style {
    match fault {
        Fault::Local => AnsiColor::Red.on_default().bold(),
        Fault::Peer | Fault::Path => AnsiColor::Cyan.on_default(),
        Fault::None => AnsiColor::Green.on_default(),
        Fault::Unknown => Style::new(),
    }
}

fn endpoint(end: Endpoint) -> String {
    if end.address.is_ipv6() {
        format!("[{}]:{}", end.address, end.port)
    } else {
        format!("{}:{}", end.address, end.port)
    }
}

/// The beginning and the end of an address, with the port.
fn shorten(endpoint: &str, width: usize) -> String {
    if endpoint.len() <= width {
        return endpoint.to_owned();
    }
    // Addresses are ASCII.
    let tail = width / 2;
    let head = width - tail - 1;
    format!(
        "{}…{}",
        endpoint.get(..head).unwrap_or_default(),
        endpoint.get(endpoint.len() - tail..).unwrap_or_default()
    )
}

fn process(reset: &Reset) -> String {
    let Some(process) = &reset.process else { return "-".to_owned() };
    let pid = format!("[{}]", process.pid);
    // A PID has up to seven digits; the name gives way.
    let name = sanitize::cut(&process.comm, PROCESS.saturating_sub(pid.len()));
    format!("{name}{pid}")
}

/// The few figures that matter, the most telling first.
fn figures(reset: &Reset) -> Vec<String> {
    let mut figures = Vec::new();
    if let Some(actor) = &reset.actor {
        figures.push(format!("by {}[{}]", sanitize::cut(&actor.comm, 15), actor.pid));
    }
    let Some(socket) = &reset.socket else {
        figures.extend(reset.provoked_by.map(|packet| format!("to {}", packet.flags)));
        return figures;
    };
    for (value, name) in
        [(socket.unread_bytes, "unread"), (socket.unacked_bytes, "unacked"), (socket.unsent_bytes, "unsent")]
    {
        if let Some(bytes @ 1..) = value {
            figures.push(format!("{name} {bytes}"));
        }
    }
    if let Some(idle) = socket.idle_before_send_ms.filter(|&idle| idle >= 1000.0) {
        figures.push(format!("idle {}", span(idle)));
    }
    if let Some(age) = socket.age_ms {
        figures.push(format!("age {}", span(age)));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_cut_keeps_its_port() {
        let long = "[2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535";
        let short = shorten(long, 21);
        assert_eq!(short.chars().count(), 21);
        assert!(short.ends_with("]:65535") && short.starts_with("[2001:db8"), "{short}");
        assert_eq!(shorten("10.0.0.1:80", 21), "10.0.0.1:80");
    }
}
