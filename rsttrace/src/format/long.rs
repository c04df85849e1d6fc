//! A block an incident, to paste into a ticket: its first record in full, and what the further ones add to it.
//!
//! Nothing is held back: a record that follows those of its incident is appended to their block, and one that comes when
//! another incident has begun has a block of its own.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use anstyle::Style;

use super::{Formatter, TextOptions, unapplied_line};
use crate::{
    model::Record,
    model::{
        AFTERMATH, CauseConfidence, Container, Direction, Endpoint, Hook, IncidentRole, OTHER_END_CAPTURED,
        OTHER_END_HERE, OtherEnd, OwnerConfidence, Pod, Reset, Socket,
    },
    util::{
        human_duration,
        sanitize::{self, Sanitized},
        serde_variant_name,
        service_names::ServiceNames,
        terminal,
    },
};

/// Columns before the value of a row.
const INDENT: usize = 13;
/// Most characters of a command line; JSON has more.
const COMMAND_LINE: usize = 400;

/// Formatter of blocks of text.
pub(super) struct LongFormatter {
    options: TextOptions,
    service_names: ServiceNames,
    /// The incident whose block was written last; `None` after a line.
    open: Option<OpenBlock>,
    /// Whether anything was written, which a blank line separates from the next block.
    has_written: bool,
}

/// A block that further records of its incident are appended to.
struct OpenBlock {
    incident: u64,
    /// Time of its first record, `CLOCK_MONOTONIC` nanoseconds.
    ktime_ns: u64,
}

impl LongFormatter {
    pub(super) fn new(options: TextOptions) -> Self {
        Self { options, service_names: ServiceNames::default(), open: None, has_written: false }
    }

    /// Both ends with an arrow in the direction of the reset, this host's first.
    fn ends(&mut self, reset: &Reset) -> String {
        let arrow = match reset.direction {
            Direction::Sent => "->",
            Direction::Received => "<-",
        };
        format!("{} {arrow} {}", self.endpoint(reset.local), self.endpoint(reset.peer.end()))
    }

    fn endpoint(&mut self, end: Endpoint) -> String {
        match self.options.names.then(|| self.service_names.service(end.port)).flatten() {
            Some(service) => format!("{end} ({})", Sanitized(service)),
            None => end.to_string(),
        }
    }

    /// What stands on the other side of a translation for each end that it changes.
    fn translated(&mut self, reset: &Reset) -> Option<String> {
        let translated = reset.translated?;
        let mut parts = Vec::new();
        if translated.peer != reset.peer.end() {
            parts.push(format!("behind {}: {}", reset.peer, self.endpoint(translated.peer)));
        }
        if translated.local != reset.local {
            parts.push(format!("the peer sees {} as {}", reset.local, self.endpoint(translated.local)));
        }
        (!parts.is_empty()).then(|| format!("{} ({})", parts.join("; "), serde_variant_name(&translated.by)))
    }

    fn process(&self, reset: &Reset) -> String {
        let Some(process) = &reset.process else {
            // Where there is no socket, there is no owner either.
            let lack = match reset.socket {
                _ if reset.hook == Hook::Capture => "not shown by a capture",
                Some(_) => "not known",
                None => "none, since there is no socket",
            };
            return lack.to_owned();
        };
        let mut shown = format!("{}[{}]", Sanitized(&process.comm), process.pid);
        if let Some(line) = process.command_line.as_deref().or(process.executable.as_deref()) {
            shown = format!("{shown}: {}", sanitize::truncate(line, COMMAND_LINE));
        }
        if let Some(uid) = process.uid {
            let name = process.user.as_deref().filter(|_| self.options.names);
            shown += &name.map_or_else(|| format!(", uid {uid}"), |name| format!(", user {}", Sanitized(name)));
        }
        let sure = if process.confidence == OwnerConfidence::Exact { "" } else { ", likely" };
        format!("{shown} (owner known {}{sure})", process.provenance.in_words())
    }

    /// Ends the block that is open, before a line or another block.
    fn separate(&mut self, is_block: bool, out: &mut dyn Write) -> io::Result<()> {
        let is_due = if is_block { self.has_written } else { self.open.is_some() };
        self.open = None;
        self.has_written = true;
        if is_due { out.write_all(b"\n") } else { Ok(()) }
    }

    fn block(&mut self, reset: &Reset, out: &mut dyn Write) -> io::Result<()> {
        let bold = if self.options.color { Style::new().bold() } else { Style::new() };
        let verb = match reset.direction {
            Direction::Sent => "sent to",
            Direction::Received => "received from",
        };
        let time = self.options.format_time(reset.time, reset.internals.ktime_ns);
        writeln!(out, "{bold}{time}reset {verb} {}: {}{bold:#}", reset.peer.address, reset.cause.code)?;
        let (ends, process, translated) = (self.ends(reset), self.process(reset), self.translated(reset));
        let names = self.options.names;
        row(out, "when", &format_args!("{:.3} on {}", reset.time, Sanitized(&reset.host)))?;
        row(out, "ends", &ends)?;
        if let Some(translated) = translated {
            row(out, "translated", &translated)?;
        }
        let name = |name: &Option<Arc<str>>| name.as_deref().filter(|_| names).map(|name| Sanitized(name).to_string());
        if let Some(peer) = name(&reset.peer.name) {
            row(out, "peer", &peer)?;
        }
        row(out, "process", &process)?;
        if let Some(actor) = &reset.actor {
            row(out, "actor", &format_args!("{}[{}]", Sanitized(&actor.comm), actor.pid))?;
        }
        places(reset, names, out)?;
        if let Some(socket) = &reset.socket {
            row(out, "socket", &socket_line(socket))?;
        }
        row(
            out,
            "cause",
            &format_args!("{} ({})", Sanitized(&reset.cause.summary), confidence(reset.cause.confidence)),
        )?;
        row(
            out,
            "whose",
            &format_args!("sent by {}; {}", reset.cause.sender.in_words(), reset.cause.fault.in_words()),
        )?;
        for (index, evidence) in reset.cause.evidence.lines().enumerate() {
            row(out, if index == 0 { "evidence" } else { "" }, &Sanitized(evidence))?;
        }
        row(out, "advice", &Sanitized(&reset.cause.advice))?;
        if let Some(other) = &reset.other_end {
            row(out, "other end", &other_end(other, names))?;
        }
        if reset.incident_role != IncidentRole::First {
            row(out, "incident", &format_args!("of record {}: {}", reset.incident, reset.incident_role.in_words()))?;
        }
        Ok(())
    }

    /// Appends a further record of the incident whose block is open: what it adds to that.
    fn append(&mut self, reset: &Reset, first_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        let (ends, process) = (self.ends(reset), self.process(reset));
        let is_other_end = reset.incident_role == IncidentRole::OtherEnd;
        let name = if is_other_end { "there" } else { "then" };
        let verb = match reset.direction {
            Direction::Sent => "sent",
            Direction::Received => "received",
        };
        let after_ms = Duration::from_nanos(reset.internals.ktime_ns.saturating_sub(first_ns)).as_secs_f64() * 1e3;
        // The kernel reports the two ends of one reset in either order.
        let after = if is_other_end { String::new() } else { format!(" {} later", human_duration(after_ms)) };
        row(out, name, &format_args!("{ends}: reset {verb}{after}, {}", reset.cause.code))?;
        if reset.socket.is_some() {
            row(out, "", &process)?;
        }
        if let Some(socket) = &reset.socket {
            row(out, "", &socket_line(socket))?;
        }
        // That of an aftermath says nothing new, and the block names the other end.
        if reset.cause.code != AFTERMATH {
            let tells_other_end =
                |line: &&str| line.starts_with(OTHER_END_HERE) || line.starts_with(OTHER_END_CAPTURED);
            for evidence in reset.cause.evidence.lines().filter(|line| !tells_other_end(line)) {
                row(out, "", &Sanitized(evidence))?;
            }
        }
        Ok(())
    }
}

impl Formatter for LongFormatter {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        let reset = match record {
            Record::Reset(reset) => reset,
            Record::Ignored(record) => {
                self.separate(false, out)?;
                return unapplied_line::ignored(record, &self.options, out);
            }
            Record::Forwarded(record) => {
                self.separate(false, out)?;
                return unapplied_line::forwarded(record, &self.options, out);
            }
            Record::Lost(_) | Record::Summary(_) => return Ok(()),
        };
        let is_further = reset.incident_role != IncidentRole::First;
        let mut text = Vec::new();
        let first_ns = self.open.as_ref().filter(|open| is_further && open.incident == reset.incident);
        if let Some(first_ns) = first_ns.map(|open| open.ktime_ns) {
            self.append(reset, first_ns, &mut text)?;
        } else {
            self.separate(true, &mut text)?;
            self.block(reset, &mut text)?;
            self.open = Some(OpenBlock { incident: reset.incident, ktime_ns: reset.internals.ktime_ns });
        }
        match self.options.wraps_at() {
            Some(columns) => {
                let text = String::from_utf8_lossy(&text);
                out.write_all(terminal::wrap(&text, columns, |_| INDENT).as_bytes())
            }
            None => out.write_all(&text),
        }
    }
}

/// Rows of the block of an incident, for a page: name and value. A row without a name continues the one before. `further` are
/// the further records of the incident. Ports have no names, which differ between hosts.
pub(crate) fn rows(reset: &Reset, further: &[Arc<Reset>], options: &TextOptions) -> Vec<(String, String)> {
    let mut formatter = LongFormatter { service_names: ServiceNames::none(), ..LongFormatter::new(options.clone()) };
    let mut text = Vec::new();
    // A vector takes everything.
    let _ignored = formatter.block(reset, &mut text);
    for further in further {
        let _ignored = formatter.append(further, reset.internals.ktime_ns, &mut text);
    }
    let text = String::from_utf8_lossy(&text);
    // The first line is the title.
    let split = |line: &str| {
        let (name, value) = (line.get(2..INDENT - 1)?, line.get(INDENT..)?);
        Some((name.trim_end().to_owned(), value.to_owned()))
    };
    text.lines().skip(1).filter_map(split).collect()
}

/// Writes one row of a block; without a name it continues the one above.
fn row(out: &mut dyn Write, name: &str, value: &dyn Display) -> io::Result<()> {
    writeln!(out, "  {name:<10} {value}")
}

/// Writes where the owner belongs: unit, container, pod, or else its cgroup.
fn places(reset: &Reset, names: bool, out: &mut dyn Write) -> io::Result<()> {
    if let Some(unit) = reset.unit.as_deref() {
        row(out, "unit", &Sanitized(unit))?;
    }
    if let Some(container) = &reset.container {
        row(out, "container", &self::container(container, names))?;
    }
    if let Some(pod) = reset.pod.as_deref().filter(|_| names) {
        row(out, "pod", &self::pod(pod))?;
    }
    // The path adds nothing to the unit and the container that were read off it.
    if reset.unit.is_none()
        && reset.container.is_none()
        && let Some(path) = cgroup(reset)
    {
        row(out, "cgroup", &Sanitized(path))?;
    }
    Ok(())
}

const fn confidence(confidence: CauseConfidence) -> &'static str {
    match confidence {
        CauseConfidence::Certain => "certain",
        CauseConfidence::Likely => "likely",
        CauseConfidence::Guess => "a guess",
    }
}

/// Path of the owner's cgroup; where that is unknown, of the socket's.
fn cgroup(reset: &Reset) -> Option<&str> {
    let of_owner = reset.process.as_ref().and_then(|process| process.cgroup.as_deref());
    of_owner.or_else(|| reset.cgroup.as_ref()?.path.as_deref())
}

fn container(container: &Container, names: bool) -> String {
    let Container { runtime, id, pod_uid, name, image, service } = container;
    let mut shown = runtime.as_ref().map_or_else(String::new, |runtime| format!("{} ", Sanitized(runtime)));
    match name.as_deref().filter(|_| names) {
        Some(name) => shown = format!("{shown}{} ({})", Sanitized(name), Sanitized(id)),
        None => shown = format!("{shown}{}", Sanitized(id)),
    }
    for (what, text) in [("image", image), ("service", service)] {
        if let Some(text) = text.as_deref().filter(|_| names) {
            shown = format!("{shown}, {what} {}", Sanitized(text));
        }
    }
    match pod_uid {
        Some(pod) => format!("{shown}, Kubernetes pod {}", Sanitized(pod)),
        None => shown,
    }
}

fn pod(pod: &Pod) -> String {
    let shown = format!("{}/{}", Sanitized(&pod.namespace), Sanitized(&pod.name));
    match &pod.container {
        Some(container) => format!("{shown}, container {}", Sanitized(container)),
        None => shown,
    }
}

/// Process, container and network namespace of the other end, and the cause there.
fn other_end(other: &OtherEnd, names: bool) -> String {
    let process = other.process.as_ref();
    let mut shown = process.map_or_else(
        || "unknown process".to_owned(),
        |process| format!("{}[{}]", Sanitized(&process.comm), process.pid),
    );
    if let Some(container) = &other.container {
        shown = format!("{shown} in {}", self::container(container, names));
    }
    if let Some(netns) = other.netns {
        shown = format!("{shown}, network namespace {}", netns.inode);
    }
    let number = other.seq.map_or_else(String::new, |seq| format!(", record {seq}"));
    format!("{shown}, on this host: {}{number}", other.cause)
}

fn socket_line(socket: &Socket) -> String {
    let mut parts = vec![socket.state.to_string()];
    if let Some(role) = socket.role {
        parts.push(format!("this host is the {}", serde_variant_name(&role)));
    }
    if let Some(age) = socket.age_ms {
        parts.push(format!("open for {}", human_duration(age)));
    }
    if let (Some(sent), Some(received)) = (socket.bytes_sent, socket.bytes_received) {
        parts.push(format!("{sent} bytes sent, {received} received"));
    }
    if let Some(rtt) = socket.rtt_us {
        parts.push(format!("round trip {}", human_duration(f64::from(rtt) / 1000.0)));
    }
    parts.join(", ")
}
