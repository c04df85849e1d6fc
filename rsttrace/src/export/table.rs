//! Resets as a table in CSV (RFC 4180), a row each.

use std::io::{self, Write};

use csv::{ErrorKind, Terminator, Writer, WriterBuilder};
use jiff::Timestamp;

use crate::{
    format::fields::{Value, record_fields},
    model::Record,
};

/// Columns in their order: the time, and the fields that the journal and syslog get, under their names.
const COLUMNS: [&str; 74] = [
    "time",
    "host",
    "seq",
    "count",
    "direction",
    "cause",
    "fault",
    "confidence",
    "benign",
    "sender",
    "family",
    "local",
    "local_port",
    "peer",
    "peer_port",
    "peer_name",
    "process",
    "pid",
    "state",
    "role",
    "age_ms",
    "idle_before_send_ms",
    "since_send_ms",
    "since_receive_ms",
    "fin_received_ms",
    "fin_sent_ms",
    "bytes_sent",
    "bytes_acked",
    "bytes_received",
    "unacked_bytes",
    "unsent_bytes",
    "unread_bytes",
    "lost_bytes",
    "rtt_us",
    "retransmits",
    "incident",
    "incident_role",
    "other_end_seq",
    "other_end_pid",
    "other_end_comm",
    "other_end_cause",
    "reason",
    "provoked_by",
    "ttl",
    "handshake_ttl",
    "flags",
    "reset_seq",
    "reset_timestamp",
    "actor",
    "actor_pid",
    "executable",
    "command_line",
    "uid",
    "user",
    "owner_provenance",
    "owner_confidence",
    "netns",
    "cgroup",
    "process_cgroup",
    "unit",
    "container_id",
    "container_runtime",
    "container_name",
    "container_image",
    "container_service",
    "pod_namespace",
    "pod_name",
    "pod_uid",
    "pod_container",
    "translated_local",
    "translated_local_port",
    "translated_peer",
    "translated_peer_port",
    "hook",
];
/// Columns of texts for people, behind the others.
const TEXTS: [&str; 3] = ["summary", "evidence", "advice"];

/// Writes resets as rows, below a row of titles.
pub(crate) struct TableWriter<W: Write> {
    writer: Writer<W>,
    /// Whether the titles are written.
    is_begun: bool,
}

impl<W: Write> TableWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { writer: WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out), is_begun: false }
    }

    /// Writes the row of titles, unless it is there. Fails where it cannot be written.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.writer.write_record(COLUMNS.iter().chain(&TEXTS)).map_err(io_error)?;
        }
        Ok(())
    }

    /// Writes a reset as a row; other records have none. Fails where it cannot be written.
    pub(crate) fn write(&mut self, record: &Record) -> io::Result<()> {
        let Record::Reset(reset) = record else { return Ok(()) };
        self.begin()?;
        let fields = record_fields(record);
        for column in COLUMNS.iter().chain(&TEXTS) {
            let cell = match *column {
                "time" => written(reset.time),
                "host" => cell(&reset.host),
                column => match fields.iter().find(|field| field.name == column).map(|field| &field.value) {
                    Some(Value::Str(text)) => cell(text),
                    Some(value) => value.to_string(),
                    None => String::new(),
                },
            };
            self.writer.write_field(cell).map_err(io_error)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(io_error)?;
        Ok(())
    }

    /// Writes what is buffered. Fails where it cannot be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The error of the output itself, by which a closed pipe is recognised.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(error) => error,
        kind => io::Error::other(format!("{kind:?}")),
    }
}

fn written(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// A text that no spreadsheet takes for a formula: names and command lines are written by strangers.
fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use super::*;
    use crate::replay::{Line, parse_line};

    fn golden() -> impl Iterator<Item = Record> {
        include_str!("../../tests/golden/json.txt").lines().filter_map(|line| match parse_line(line.as_bytes()) {
            Ok(Line::Record(record @ Record::Reset(_))) => Some(record),
            _ => None,
        })
    }

    #[test]
    fn every_field_has_a_column() {
        // How a translation was found is no matter of a table, and a row is a reset.
        let left_out = ["type", "translated_by"];
        let columns: HashSet<&str> = COLUMNS.iter().chain(&TEXTS).copied().chain(left_out).collect();
        for record in golden() {
            for field in record_fields(&record) {
                assert!(columns.contains(field.name), "{}", field.name);
            }
        }
    }

    #[test]
    fn rows_are_read_back() {
        let mut table = TableWriter::new(Vec::new());
        let mut count = 0;
        for record in golden() {
            table.write(&record).expect("a vector");
            count += 1;
        }
        let Some(Record::Reset(mut first)) = golden().next() else { return };
        Arc::make_mut(&mut first).host = "=cmd|'/c \"x\"',\n".into();
        table.write(&Record::Reset(first)).expect("a vector");
        let bytes = table.writer.into_inner().expect("a vector");
        let mut reader = csv::Reader::from_reader(&*bytes);
        let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), count + 1);
        assert_eq!(rows.last().and_then(|row| row.get(1)), Some("'=cmd|'/c \"x\"',\n"));
    }
}
