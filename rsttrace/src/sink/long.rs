//! A block a reset, to paste into a ticket.

use std::{
    fmt::Display,
    io::{self, Write},
};

use anstyle::Style;

use super::{
    Look, Record, Sink, aside,
    names::Names,
    sanitize::{self, Harmless},
};
use crate::{
    diagnose::evidence::human_duration,
    reset::{CauseConfidence, Container, Direction, Endpoint, OwnerConfidence, Reset, Socket},
};

/// Characters of a command line that are shown; JSON has more.
const COMMAND_LINE: usize = 400;

/// Blocks of text.
pub(super) struct Long {
    look: Look,
    names: Names,
}

impl Long {
    pub(super) fn new(look: Look) -> Self {
        Self { look, names: Names::default() }
    }

    fn endpoint(&mut self, end: Endpoint) -> String {
        let Endpoint { address, port } = end;
        let shown = if address.is_ipv6() { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
        match self.look.names.then(|| self.names.service(port)).flatten() {
            Some(service) => format!("{shown} ({})", Harmless(service)),
            None => shown,
        }
    }

    fn process(&self, reset: &Reset) -> String {
        let Some(process) = &reset.process else {
            // Nobody owns what is not there.
            return if reset.socket.is_some() { "not known" } else { "none, since there is no socket" }.to_owned();
        };
        let mut shown = format!("{}[{}]", Harmless(&process.comm), process.pid);
        if let Some(line) = process.command_line.as_deref().or(process.executable.as_deref()) {
            shown = format!("{shown}: {}", sanitize::cut(line, COMMAND_LINE));
        }
        if let Some(uid) = process.uid {
            let name = process.user.as_deref().filter(|_| self.look.names);
            shown += &name.map_or_else(|| format!(", uid {uid}"), |name| format!(", user {}", Harmless(name)));
        }
        let sure = if process.confidence == OwnerConfidence::Exact { "" } else { ", not certain" };
        format!("{shown} (known by {}{sure})", format!("{:?}", process.provenance).to_lowercase())
    }
}

impl Sink for Long {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        let reset = match record {
            Record::Reset(reset) => reset,
            Record::Ignored(record) => return aside::ignored(record, &self.look, out),
            Record::Forwarded(record) => return aside::forwarded(record, &self.look, out),
            Record::Lost(_) | Record::Summary(_) => return Ok(()),
        };
        let bold = if self.look.color { Style::new().bold() } else { Style::new() };
        let (verb, arrow) = match reset.direction {
            Direction::Sent => ("sent to", "->"),
            Direction::Received => ("received from", "<-"),
        };
        let time = self.look.time(reset.time, reset.facts.ktime_ns);
        writeln!(out, "{bold}{time}reset {verb} {}: {}{bold:#}", reset.peer.address, reset.cause.code)?;
        let ends = format!("{} {arrow} {}", self.endpoint(reset.local), self.endpoint(reset.peer));
        let process = self.process(reset);
        let mut row = |name: &str, value: &dyn Display| writeln!(out, "  {name:<10} {value}");
        row("when", &format_args!("{:.3} on {}", reset.time, Harmless(&reset.host)))?;
        row("ends", &ends)?;
        row("process", &process)?;
        if let Some(actor) = &reset.actor {
            row("actor", &format_args!("{}[{}]", Harmless(&actor.comm), actor.pid))?;
        }
        if let Some(unit) = reset.unit.as_deref() {
            row("unit", &Harmless(unit))?;
        }
        if let Some(container) = &reset.container {
            row("container", &self::container(container))?;
        }
        // A path that unit and container were read off says no more than they do.
        if reset.unit.is_none()
            && reset.container.is_none()
            && let Some(path) = cgroup(reset)
        {
            row("cgroup", &Harmless(path))?;
        }
        if let Some(socket) = &reset.socket {
            row("socket", &socket_line(socket))?;
        }
        row("cause", &format_args!("{} ({})", reset.cause.summary, confidence(reset.cause.confidence)))?;
        row("whose", &format_args!("sent by {}; {}", reset.cause.sender.in_words(), reset.cause.fault.in_words()))?;
        for (index, evidence) in reset.cause.evidence.lines().enumerate() {
            row(if index == 0 { "evidence" } else { "" }, &Harmless(evidence))?;
        }
        row("advice", &reset.cause.advice)?;
        out.write_all(b"\n")
    }
}

const fn confidence(confidence: CauseConfidence) -> &'static str {
    match confidence {
        CauseConfidence::Certain => "certain",
        CauseConfidence::Likely => "likely",
        CauseConfidence::Guess => "a guess",
    }
}

/// The owner's cgroup, or where that is not known, the socket's.
fn cgroup(reset: &Reset) -> Option<&str> {
    let of_owner = reset.process.as_ref().and_then(|process| process.cgroup.as_deref());
    of_owner.or_else(|| reset.cgroup.as_ref()?.path.as_deref())
}

fn container(container: &Container) -> String {
    let id = Harmless(&container.id);
    let shown =
        container.runtime.as_ref().map_or_else(|| id.to_string(), |runtime| format!("{} {id}", Harmless(runtime)));
    match &container.pod_uid {
        Some(pod) => format!("{shown}, Kubernetes pod {}", Harmless(pod)),
        None => shown,
    }
}

fn socket_line(socket: &Socket) -> String {
    let mut parts = vec![socket.state.to_string()];
    if let Some(role) = socket.role {
        parts.push(format!("this host is the {}", format!("{role:?}").to_lowercase()));
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
