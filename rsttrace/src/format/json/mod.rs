//! One JSON object a line: the contract of `docs/output.md`.

mod buffer;
pub(super) mod flat;
#[cfg(feature = "schema")]
pub(super) mod schema;
mod serializer;

use std::io::{self, Write};

use serde::Serialize;

use self::{buffer::Buffer, serializer::JsonSerializer};
use super::Formatter;
use crate::{
    model::{JoinSummary, Mark, Pair, Record, RecordingHeader, internals::Internals},
    util::sanitize,
};

/// Start of a line of this type. (serde's own way, `flatten`, took a fifth of the time of the whole line.)
///
/// `schema` is the version of the contract: fields may be added; renaming, retyping or removing one raises it.
macro_rules! envelope {
    ($kind:literal) => {
        concat!("{\"schema\":1,\"type\":\"", $kind, "\"")
    };
}

/// Formatter of JSON lines.
#[derive(Default)]
pub(crate) struct JsonFormatter {
    line: Buffer,
    /// Whether resets have their facts: what their diagnosis began with.
    facts: bool,
}

impl Formatter for JsonFormatter {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        self.line.clear();
        match record {
            Record::Reset(reset) => {
                self.write_record(envelope!("reset"), &**reset).and_then(|()| self.append_facts(&reset.internals))
            }
            Record::Ignored(ignored) => self.write_record(envelope!("ignored"), &**ignored),
            Record::Forwarded(forwarded) => self.write_record(envelope!("forwarded"), &**forwarded),
            Record::Lost(lost) => self.write_via_serde_json(envelope!("lost"), lost),
            Record::Summary(summary) => self.write_via_serde_json(envelope!("summary"), &**summary),
        }?;
        self.line.append([b"\n"]);
        out.write_all(self.line.written())
    }
}

impl JsonFormatter {
    /// A formatter for recordings.
    pub(crate) fn with_facts() -> Self {
        Self { facts: true, ..Self::default() }
    }

    /// Writes the first line of a segment of a recording. Fails where `out` fails.
    pub(crate) fn write_header(header: &RecordingHeader, out: &mut dyn Write) -> io::Result<()> {
        Self::write_line(envelope!("recording"), header, out)
    }

    /// Writes a mark of a recording. Fails where `out` fails.
    pub(crate) fn write_mark(mark: &Mark, out: &mut dyn Write) -> io::Result<()> {
        Self::write_line(envelope!("mark"), mark, out)
    }

    /// Writes a pair of `rsttrace join`. Fails where `out` fails.
    pub(crate) fn write_pair(pair: &Pair, out: &mut dyn Write) -> io::Result<()> {
        Self::write_line(envelope!("pair"), pair, out)
    }

    /// Writes the last line of `rsttrace join`. Fails where `out` fails.
    pub(crate) fn write_join(join: &JoinSummary, out: &mut dyn Write) -> io::Result<()> {
        Self::write_line(envelope!("join"), join, out)
    }

    fn write_line(envelope: &'static str, value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
        let mut formatter = Self::default();
        formatter.write_via_serde_json(envelope, value)?;
        formatter.line.append([b"\n"]);
        out.write_all(formatter.line.written())
    }

    /// Adds the facts to the object that was written last, where they are wanted.
    fn append_facts(&mut self, facts: &Internals) -> io::Result<()> {
        // What was read from a file without facts has none.
        if !self.facts || facts.record == 0 {
            return Ok(());
        }
        self.line.pop();
        self.line.append([b",\"facts\":"]);
        facts.serialize(JsonSerializer::new(&mut self.line)).map_err(io::Error::other)?;
        self.line.append([b"}"]);
        Ok(())
    }

    /// Writes a record after the start of its line.
    fn write_record(&mut self, envelope: &'static str, record: &impl Serialize) -> io::Result<()> {
        self.line.append([envelope.as_bytes()]);
        record.serialize(JsonSerializer::continuing_object(&mut self.line)).map_err(io::Error::other)
    }

    /// Writes a record by `serde_json`: for types that come rarely and contain maps, which [`JsonSerializer`] does not
    /// know.
    fn write_via_serde_json(&mut self, envelope: &'static str, record: &impl Serialize) -> io::Result<()> {
        let mut fields = serde_json::to_vec(record)?;
        sanitize::escape_json(&mut fields);
        // Every record has fields, so a comma replaces the opening brace.
        self.line.append([envelope.as_bytes(), b",", fields.get(1..).unwrap_or_default()]);
        Ok(())
    }
}
