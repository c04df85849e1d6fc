//! A record as names and values, for whoever stores those beside a line of text: the journal, syslog's structured data,
//! OpenTelemetry. What is not known has no field.

use std::{borrow::Cow, fmt::Display, io::Write as _};

use jiff::Timestamp;

use crate::{
    reset::{Cause, Container, Endpoint, Fault, Netns, Packet, Process, Reset, Socket},
    sink::{Look, Record, Sink as _, text::Text, word},
};

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Decimal(f64),
    Truth(bool),
}

impl Display for Value<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Number(number) => number.fmt(formatter),
            Self::Decimal(decimal) => decimal.fmt(formatter),
            Self::Truth(truth) => truth.fmt(formatter),
        }
    }
}

/// One field.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    /// In lower case, with underscores.
    pub(super) name: &'static str,
    /// After OpenTelemetry's semantic conventions where these have a name for it.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only collectors want it"))]
    pub(super) attribute: &'static str,
    pub(super) value: Value<'a>,
}

/// How much a record matters, by the numbers of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Priority {
    /// Somebody has something to change, or something was lost.
    Warning = 4,
    /// Whose it is, is not known.
    Notice = 5,
    /// Harmless, or an account of the run.
    Info = 6,
}

pub(super) fn priority(record: &Record) -> Priority {
    match record {
        Record::Reset(reset) if reset.cause.benign => Priority::Info,
        Record::Reset(reset) => match reset.cause.fault {
            Fault::Local | Fault::Peer | Fault::Path => Priority::Warning,
            Fault::Unknown => Priority::Notice,
            Fault::None => Priority::Info,
        },
        Record::Lost(_) => Priority::Warning,
        Record::Ignored(_) | Record::Forwarded(_) | Record::Summary(_) => Priority::Info,
    }
}

/// The `type` of a record.
pub(super) const fn kind(record: &Record) -> &'static str {
    match record {
        Record::Reset(_) => "reset",
        Record::Ignored(_) => "ignored",
        Record::Forwarded(_) => "forwarded",
        Record::Lost(_) => "lost",
        Record::Summary(_) => "summary",
    }
}

/// When it happened.
pub(super) fn time(record: &Record) -> Timestamp {
    match record {
        Record::Reset(reset) => reset.time,
        Record::Ignored(ignored) => ignored.time,
        Record::Forwarded(forwarded) => forwarded.time,
        Record::Lost(lost) => lost.time,
        Record::Summary(summary) => summary.time,
    }
}

/// Records in words, one line each.
pub(super) struct Words {
    text: Text,
}

impl Words {
    pub(super) const fn new(look: Look) -> Self {
        Self { text: Text::new(look) }
    }

    pub(super) fn of(&mut self, record: &Record) -> String {
        let mut line = Vec::new();
        match record {
            Record::Lost(lost) => write!(line, "{} resets were lost in {}", lost.count, word(&lost.r#where)),
            Record::Summary(summary) => {
                let first = summary.to_string();
                write!(line, "{} {}", first.lines().next().unwrap_or_default(), summary.verdict)
            }
            Record::Reset(_) | Record::Ignored(_) | Record::Forwarded(_) => self.text.write(record, &mut line),
        }
        // A vector takes everything.
        .unwrap_or_default();
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }
}

/// Every field of a record.
pub(super) fn of(record: &Record) -> Vec<Field<'_>> {
    let mut fields = Fields(Vec::with_capacity(48));
    fields.text("type", "rsttrace.type", kind(record));
    match record {
        Record::Reset(reset) => fields.reset(reset),
        Record::Ignored(ignored) => {
            fields.text("hook", "rsttrace.hook", word(&ignored.hook));
            fields.ends(word(&ignored.family), ignored.local, ignored.peer);
            fields.place(ignored.netns, ignored.process.as_ref(), ignored.socket.as_ref(), ignored.packet.as_ref());
            fields.some_text("reason", "rsttrace.reason", ignored.reason.as_deref());
            fields.text("why", "rsttrace.why", ignored.why.code);
        }
        Record::Forwarded(forwarded) => {
            fields.text("family", "network.type", word(&forwarded.family));
            fields.some_text("interface", "network.interface.name", forwarded.interface.name.as_deref());
            fields.text("from", "rsttrace.from", forwarded.from.address.to_string());
            fields.number("from_port", "rsttrace.from.port", forwarded.from.port);
            fields.text("to", "rsttrace.to", forwarded.to.address.to_string());
            fields.number("to_port", "rsttrace.to.port", forwarded.to.port);
            fields.packet(&forwarded.packet);
            fields.text("maker", "rsttrace.maker", word(&forwarded.maker));
        }
        Record::Lost(lost) => {
            fields.number("count", "rsttrace.count", lost.count);
            fields.text("where", "rsttrace.where", word(&lost.r#where));
        }
        Record::Summary(summary) => {
            fields.truth("final", "rsttrace.final", summary.r#final);
            fields.number("resets", "rsttrace.resets", summary.resets);
            fields.number("sent", "rsttrace.sent", summary.sent);
            fields.number("received", "rsttrace.received", summary.received);
            fields.number("lost", "rsttrace.lost", summary.lost);
            fields.decimal("duration_s", "rsttrace.duration_s", Some(summary.duration_s));
        }
    }
    fields.0
}

struct Fields<'a>(Vec<Field<'a>>);

impl<'a> Fields<'a> {
    fn add(&mut self, name: &'static str, attribute: &'static str, value: Value<'a>) {
        self.0.push(Field { name, attribute, value });
    }

    fn text(&mut self, name: &'static str, attribute: &'static str, text: impl Into<Cow<'a, str>>) {
        self.add(name, attribute, Value::Text(text.into()));
    }

    fn some_text(&mut self, name: &'static str, attribute: &'static str, text: Option<&'a str>) {
        if let Some(text) = text {
            self.text(name, attribute, text);
        }
    }

    fn number(&mut self, name: &'static str, attribute: &'static str, number: impl Into<u64>) {
        self.add(name, attribute, Value::Number(number.into()));
    }

    fn some_number(&mut self, name: &'static str, attribute: &'static str, number: Option<impl Into<u64>>) {
        if let Some(number) = number {
            self.number(name, attribute, number);
        }
    }

    fn decimal(&mut self, name: &'static str, attribute: &'static str, decimal: Option<f64>) {
        if let Some(decimal) = decimal {
            self.add(name, attribute, Value::Decimal(decimal));
        }
    }

    fn truth(&mut self, name: &'static str, attribute: &'static str, truth: bool) {
        self.add(name, attribute, Value::Truth(truth));
    }

    fn reset(&mut self, reset: &'a Reset) {
        self.number("seq", "rsttrace.seq", reset.seq);
        self.number("count", "rsttrace.count", reset.count);
        self.text("direction", "rsttrace.direction", word(&reset.direction));
        self.text("hook", "rsttrace.hook", word(&reset.hook));
        self.ends(word(&reset.family), reset.local, reset.peer);
        self.place(reset.netns, reset.process.as_ref(), reset.socket.as_ref(), reset.packet.as_ref());
        if let Some(actor) = &reset.actor {
            self.number("actor_pid", "rsttrace.actor.pid", actor.pid);
            self.text("actor", "rsttrace.actor.name", &*actor.comm);
        }
        self.some_text("cgroup", "rsttrace.cgroup", reset.cgroup.as_ref().and_then(|cgroup| cgroup.path.as_deref()));
        self.some_text("unit", "systemd.unit", reset.unit.as_deref());
        if let Some(Container { runtime, id, pod_uid }) = &reset.container {
            self.text("container_id", "container.id", &**id);
            self.some_text("container_runtime", "container.runtime.name", runtime.as_deref());
            self.some_text("pod_uid", "k8s.pod.uid", pod_uid.as_deref());
        }
        if let Some(packet) = &reset.provoked_by {
            self.text("provoked_by", "rsttrace.provoked_by", packet.flags.to_string());
        }
        self.some_text("reason", "rsttrace.reason", reset.reason.as_deref());
        self.cause(&reset.cause);
    }

    fn cause(&mut self, cause: &'a Cause) {
        self.text("cause", "rsttrace.cause", cause.code);
        self.text("sender", "rsttrace.sender", word(&cause.sender));
        self.text("fault", "rsttrace.fault", word(&cause.fault));
        self.text("confidence", "rsttrace.confidence", word(&cause.confidence));
        self.truth("benign", "rsttrace.benign", cause.benign);
        self.text("summary", "rsttrace.summary", &*cause.summary);
        if !cause.evidence.is_empty() {
            self.text("evidence", "rsttrace.evidence", cause.evidence.to_string());
        }
        self.text("advice", "rsttrace.advice", &*cause.advice);
    }

    fn ends(&mut self, family: String, local: Endpoint, peer: Endpoint) {
        self.text("family", "network.type", family);
        self.text("local", "network.local.address", local.address.to_string());
        self.number("local_port", "network.local.port", local.port);
        self.text("peer", "network.peer.address", peer.address.to_string());
        self.number("peer_port", "network.peer.port", peer.port);
    }

    fn place(
        &mut self,
        netns: Option<Netns>,
        process: Option<&'a Process>,
        socket: Option<&'a Socket>,
        packet: Option<&'a Packet>,
    ) {
        self.some_number("netns", "rsttrace.netns", netns.map(|netns| netns.inode));
        if let Some(process) = process {
            self.process(process);
        }
        if let Some(socket) = socket {
            self.socket(socket);
        }
        if let Some(packet) = packet {
            self.packet(packet);
        }
    }

    fn process(&mut self, process: &'a Process) {
        self.number("pid", "process.pid", process.pid);
        self.text("process", "process.executable.name", &*process.comm);
        self.some_text("executable", "process.executable.path", process.executable.as_deref());
        self.some_text("command_line", "process.command_line", process.command_line.as_deref());
        self.some_number("uid", "process.real_user.id", process.uid);
        self.some_text("user", "process.real_user.name", process.user.as_deref());
        self.some_text("process_cgroup", "process.linux.cgroup", process.cgroup.as_deref());
        self.text("owner_provenance", "rsttrace.owner.provenance", word(&process.provenance));
        self.text("owner_confidence", "rsttrace.owner.confidence", word(&process.confidence));
    }

    fn socket(&mut self, socket: &'a Socket) {
        self.text("state", "rsttrace.state", socket.state.to_string());
        if let Some(role) = socket.role {
            self.text("role", "rsttrace.role", word(&role));
        }
        self.decimal("age_ms", "rsttrace.age_ms", socket.age_ms);
        self.decimal("idle_before_send_ms", "rsttrace.idle_before_send_ms", socket.idle_before_send_ms);
        self.decimal("since_send_ms", "rsttrace.since_send_ms", socket.since_send_ms);
        self.decimal("since_receive_ms", "rsttrace.since_receive_ms", socket.since_receive_ms);
        self.decimal("fin_received_ms", "rsttrace.fin_received_ms", socket.fin_received_ms);
        self.decimal("fin_sent_ms", "rsttrace.fin_sent_ms", socket.fin_sent_ms);
        self.some_number("bytes_sent", "rsttrace.bytes_sent", socket.bytes_sent);
        self.some_number("bytes_acked", "rsttrace.bytes_acked", socket.bytes_acked);
        self.some_number("bytes_received", "rsttrace.bytes_received", socket.bytes_received);
        self.some_number("unacked_bytes", "rsttrace.unacked_bytes", socket.unacked_bytes);
        self.some_number("unsent_bytes", "rsttrace.unsent_bytes", socket.unsent_bytes);
        self.some_number("unread_bytes", "rsttrace.unread_bytes", socket.unread_bytes);
        self.some_number("rtt_us", "rsttrace.rtt_us", socket.rtt_us);
        self.some_number("retransmits", "rsttrace.retransmits", socket.retransmits);
    }

    fn packet(&mut self, packet: &'a Packet) {
        self.number("ttl", "rsttrace.ttl", packet.ttl);
        self.some_number("handshake_ttl", "rsttrace.handshake_ttl", packet.handshake_ttl);
        self.text("flags", "rsttrace.flags", packet.flags.to_string());
    }
}
