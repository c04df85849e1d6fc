//! A record as named values, for sinks that store fields beside a line of text: the journal, syslog's structured data,
//! OpenTelemetry. Unknown values have no field.

use std::{borrow::Cow, fmt::Display, io::Write as _};

use crate::{
    format::{Formatter as _, TextOptions, text::TextFormatter},
    model::{Cause, Container, Endpoint, Fault, Netns, Packet, Peer, Pod, Process, Record, Reset, Socket, Translated},
    util::{counted, serde_variant_name, was},
};

/// Value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Str(Cow<'a, str>),
    U64(u64),
    F64(f64),
    Bool(bool),
}

impl Display for Value<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Str(text) => formatter.write_str(text),
            Self::U64(number) => number.fmt(formatter),
            Self::F64(decimal) => decimal.fmt(formatter),
            Self::Bool(value) => value.fmt(formatter),
        }
    }
}

/// A named value of a record.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    /// Name in lower case, with underscores.
    pub(crate) name: &'static str,
    /// Name by OpenTelemetry's semantic conventions, where these have one.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only collectors want it"))]
    pub(crate) attribute: &'static str,
    pub(crate) value: Value<'a>,
}

/// Severity of a record, with the numbers of syslog (RFC 5424).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Severity {
    /// A side has something to change, or resets were lost.
    Warning = 4,
    /// The fault is not known.
    Notice = 5,
    /// Harmless, or a summary of the run.
    Info = 6,
}

pub(crate) fn severity(record: &Record) -> Severity {
    match record {
        Record::Reset(reset) if reset.cause.benign => Severity::Info,
        Record::Reset(reset) => match reset.cause.fault {
            Fault::Local | Fault::Peer | Fault::Path => Severity::Warning,
            Fault::Unknown => Severity::Notice,
            Fault::None => Severity::Info,
        },
        Record::Lost(_) => Severity::Warning,
        Record::Ignored(_) | Record::Forwarded(_) | Record::Summary(_) => Severity::Info,
    }
}

/// Formats records as one line of text each: the message beside the fields.
pub(crate) struct MessageText {
    text: TextFormatter,
}

impl MessageText {
    pub(crate) fn new(options: TextOptions) -> Self {
        Self { text: TextFormatter::new(options) }
    }

    pub(crate) fn of(&mut self, record: &Record) -> String {
        let mut line = Vec::new();
        // Writing to a vector cannot fail.
        let _ignored = match record {
            Record::Lost(lost) => {
                let (resets, place) = (counted(lost.count, "reset"), serde_variant_name(&lost.r#where));
                write!(line, "{resets} {} lost in {place}", was(lost.count))
            }
            Record::Summary(summary) => {
                let first = summary.to_string();
                write!(line, "{} {}", first.lines().next().unwrap_or_default(), summary.verdict)
            }
            Record::Reset(_) | Record::Ignored(_) | Record::Forwarded(_) => self.text.write(record, &mut line),
        };
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }
}

/// The fields of a record, in the order of the JSON record.
pub(crate) fn record_fields(record: &Record) -> Vec<Field<'_>> {
    let mut fields = FieldList(Vec::with_capacity(48));
    fields.text("type", "rsttrace.type", record.type_name());
    match record {
        Record::Reset(reset) => fields.reset(reset),
        Record::Ignored(ignored) => {
            fields.text("hook", "rsttrace.hook", serde_variant_name(&ignored.hook));
            fields.ends(serde_variant_name(&ignored.family), ignored.local, &ignored.peer);
            fields.place(ignored.netns, ignored.process.as_ref(), ignored.socket.as_ref(), ignored.packet.as_ref());
            fields.text_if_known("reason", "rsttrace.reason", ignored.reason.as_deref());
            fields.text("ignored_because", "rsttrace.ignored_because", ignored.ignored_because.code);
        }
        Record::Forwarded(forwarded) => {
            fields.text("family", "network.type", serde_variant_name(&forwarded.family));
            fields.text_if_known("interface", "network.interface.name", forwarded.interface.name.as_deref());
            fields.number_if_known("netns", "rsttrace.netns", forwarded.netns.map(|netns| netns.inode));
            fields.text("from", "rsttrace.from", forwarded.from.address.to_string());
            fields.number("from_port", "rsttrace.from.port", forwarded.from.port);
            fields.text("to", "rsttrace.to", forwarded.to.address.to_string());
            fields.number("to_port", "rsttrace.to.port", forwarded.to.port);
            fields.packet(&forwarded.packet);
            fields.text("origin", "rsttrace.origin", serde_variant_name(&forwarded.origin));
        }
        Record::Lost(lost) => {
            fields.number("count", "rsttrace.count", lost.count);
            fields.text("where", "rsttrace.where", serde_variant_name(&lost.r#where));
        }
        Record::Summary(summary) => {
            fields.flag("final", "rsttrace.final", summary.r#final);
            fields.number("resets", "rsttrace.resets", summary.resets);
            fields.number("sent", "rsttrace.sent", summary.sent);
            fields.number("received", "rsttrace.received", summary.received);
            fields.number("lost", "rsttrace.lost", summary.lost);
            fields.number("incidents", "rsttrace.incidents", summary.incidents);
            fields.float("duration_s", "rsttrace.duration_s", Some(summary.duration_s));
        }
    }
    fields.0
}

struct FieldList<'a>(Vec<Field<'a>>);

impl<'a> FieldList<'a> {
    fn add(&mut self, name: &'static str, attribute: &'static str, value: Value<'a>) {
        self.0.push(Field { name, attribute, value });
    }

    fn text(&mut self, name: &'static str, attribute: &'static str, text: impl Into<Cow<'a, str>>) {
        self.add(name, attribute, Value::Str(text.into()));
    }

    fn text_if_known(&mut self, name: &'static str, attribute: &'static str, text: Option<&'a str>) {
        if let Some(text) = text {
            self.text(name, attribute, text);
        }
    }

    fn number(&mut self, name: &'static str, attribute: &'static str, number: impl Into<u64>) {
        self.add(name, attribute, Value::U64(number.into()));
    }

    fn number_if_known(&mut self, name: &'static str, attribute: &'static str, number: Option<impl Into<u64>>) {
        if let Some(number) = number {
            self.number(name, attribute, number);
        }
    }

    fn float(&mut self, name: &'static str, attribute: &'static str, decimal: Option<f64>) {
        if let Some(decimal) = decimal {
            self.add(name, attribute, Value::F64(decimal));
        }
    }

    fn flag(&mut self, name: &'static str, attribute: &'static str, value: bool) {
        self.add(name, attribute, Value::Bool(value));
    }

    fn reset(&mut self, reset: &'a Reset) {
        self.number("seq", "rsttrace.seq", reset.seq);
        self.number("count", "rsttrace.count", reset.count);
        self.text("direction", "rsttrace.direction", serde_variant_name(&reset.direction));
        self.text("hook", "rsttrace.hook", serde_variant_name(&reset.hook));
        self.ends(serde_variant_name(&reset.family), reset.local, &reset.peer);
        self.place(reset.netns, reset.process.as_ref(), reset.socket.as_ref(), reset.packet.as_ref());
        if let Some(actor) = &reset.actor {
            self.number("actor_pid", "rsttrace.actor.pid", actor.pid);
            self.text("actor", "rsttrace.actor.name", &*actor.comm);
        }
        self.text_if_known(
            "cgroup",
            "rsttrace.cgroup",
            reset.cgroup.as_ref().and_then(|cgroup| cgroup.path.as_deref()),
        );
        self.text_if_known("unit", "systemd.unit", reset.unit.as_deref());
        self.container(reset.container.as_ref(), reset.pod.as_deref());
        if let Some(packet) = &reset.provoked_by {
            self.text("provoked_by", "rsttrace.provoked_by", packet.flags.to_string());
        }
        if let Some(Translated { local, peer, by }) = reset.translated {
            self.text("translated_local", "rsttrace.translated.local.address", local.address.to_string());
            self.number("translated_local_port", "rsttrace.translated.local.port", local.port);
            self.text("translated_peer", "rsttrace.translated.peer.address", peer.address.to_string());
            self.number("translated_peer_port", "rsttrace.translated.peer.port", peer.port);
            self.text("translated_by", "rsttrace.translated.by", serde_variant_name(&by));
        }
        if let Some(timestamp) = reset.segment.timestamp {
            self.flag("reset_timestamp", "rsttrace.reset.timestamp", timestamp);
        }
        if let Some(seq) = reset.segment.seq {
            self.number("reset_seq", "rsttrace.reset.seq", seq);
        }
        self.text_if_known("reason", "rsttrace.reason", reset.reason.as_deref());
        self.cause(&reset.cause);
        self.number("incident", "rsttrace.incident", reset.incident);
        self.text("incident_role", "rsttrace.incident_role", serde_variant_name(&reset.incident_role));
        if let Some(other) = &reset.other_end {
            if let Some(seq) = other.seq {
                self.number("other_end_seq", "rsttrace.other_end.seq", seq);
            }
            if let Some(process) = &other.process {
                self.number("other_end_pid", "rsttrace.other_end.pid", process.pid);
                self.text("other_end_comm", "rsttrace.other_end.comm", &*process.comm);
            }
            self.text("other_end_cause", "rsttrace.other_end.cause", other.cause);
        }
    }

    fn container(&mut self, container: Option<&'a Container>, pod: Option<&'a Pod>) {
        if let Some(Container { runtime, id, pod_uid, name, image, service }) = container {
            self.text("container_id", "container.id", &**id);
            self.text_if_known("container_runtime", "container.runtime.name", runtime.as_deref());
            self.text_if_known("container_name", "container.name", name.as_deref());
            self.text_if_known("container_image", "container.image.name", image.as_deref());
            self.text_if_known("container_service", "rsttrace.container.service", service.as_deref());
            let pod_uid = pod_uid.as_deref().or_else(|| pod.map(|pod| &*pod.uid));
            self.text_if_known("pod_uid", "k8s.pod.uid", pod_uid);
        }
        if let Some(Pod { namespace, name, uid: _, container }) = pod {
            self.text("pod_namespace", "k8s.namespace.name", &**namespace);
            self.text("pod_name", "k8s.pod.name", &**name);
            self.text_if_known("pod_container", "k8s.container.name", container.as_deref());
        }
    }

    fn cause(&mut self, cause: &'a Cause) {
        self.text("cause", "rsttrace.cause", cause.code);
        self.text("sender", "rsttrace.sender", serde_variant_name(&cause.sender));
        self.text("fault", "rsttrace.fault", serde_variant_name(&cause.fault));
        self.text("confidence", "rsttrace.confidence", serde_variant_name(&cause.confidence));
        self.flag("benign", "rsttrace.benign", cause.benign);
        if let Some(lost) = cause.lost_bytes {
            self.number("lost_bytes", "rsttrace.lost_bytes", lost);
        }
        self.text("summary", "rsttrace.summary", &*cause.summary);
        if !cause.evidence.is_empty() {
            self.text("evidence", "rsttrace.evidence", cause.evidence.to_string());
        }
        self.text("advice", "rsttrace.advice", &*cause.advice);
    }

    fn ends(&mut self, family: String, local: Endpoint, peer: &'a Peer) {
        self.text("family", "network.type", family);
        self.text("local", "network.local.address", local.address.to_string());
        self.number("local_port", "network.local.port", local.port);
        self.text("peer", "network.peer.address", peer.address.to_string());
        self.number("peer_port", "network.peer.port", peer.port);
        self.text_if_known("peer_name", "rsttrace.peer.name", peer.name.as_deref());
    }

    fn place(
        &mut self,
        netns: Option<Netns>,
        process: Option<&'a Process>,
        socket: Option<&'a Socket>,
        packet: Option<&'a Packet>,
    ) {
        self.number_if_known("netns", "rsttrace.netns", netns.map(|netns| netns.inode));
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
        self.text_if_known("executable", "process.executable.path", process.executable.as_deref());
        self.text_if_known("command_line", "process.command_line", process.command_line.as_deref());
        self.number_if_known("uid", "process.real_user.id", process.uid);
        self.text_if_known("user", "process.real_user.name", process.user.as_deref());
        self.text_if_known("process_cgroup", "process.linux.cgroup", process.cgroup.as_deref());
        self.text("owner_provenance", "rsttrace.owner.provenance", serde_variant_name(&process.provenance));
        self.text("owner_confidence", "rsttrace.owner.confidence", serde_variant_name(&process.confidence));
    }

    fn socket(&mut self, socket: &'a Socket) {
        self.text("state", "rsttrace.state", socket.state.to_string());
        if let Some(role) = socket.role {
            self.text("role", "rsttrace.role", serde_variant_name(&role));
        }
        self.float("age_ms", "rsttrace.age_ms", socket.age_ms);
        self.float("idle_before_send_ms", "rsttrace.idle_before_send_ms", socket.idle_before_send_ms);
        self.float("since_send_ms", "rsttrace.since_send_ms", socket.since_send_ms);
        self.float("since_receive_ms", "rsttrace.since_receive_ms", socket.since_receive_ms);
        self.float("fin_received_ms", "rsttrace.fin_received_ms", socket.fin_received_ms);
        self.float("fin_sent_ms", "rsttrace.fin_sent_ms", socket.fin_sent_ms);
        self.number_if_known("bytes_sent", "rsttrace.bytes_sent", socket.bytes_sent);
        self.number_if_known("bytes_acked", "rsttrace.bytes_acked", socket.bytes_acked);
        self.number_if_known("bytes_received", "rsttrace.bytes_received", socket.bytes_received);
        self.number_if_known("unacked_bytes", "rsttrace.unacked_bytes", socket.unacked_bytes);
        self.number_if_known("unsent_bytes", "rsttrace.unsent_bytes", socket.unsent_bytes);
        self.number_if_known("unread_bytes", "rsttrace.unread_bytes", socket.unread_bytes);
        self.number_if_known("rtt_us", "rsttrace.rtt_us", socket.rtt_us);
        self.number_if_known("retransmits", "rsttrace.retransmits", socket.retransmits);
    }

    fn packet(&mut self, packet: &'a Packet) {
        self.number("ttl", "rsttrace.ttl", packet.ttl);
        self.number_if_known("handshake_ttl", "rsttrace.handshake_ttl", packet.handshake_ttl);
        self.text("flags", "rsttrace.flags", packet.flags.to_string());
    }
}
