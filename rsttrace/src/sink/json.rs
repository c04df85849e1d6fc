//! One JSON object a line: the contract of `docs/output.md`.

use std::io::{self, Write};

use serde::Serialize;

use super::{Record, Sink, sanitize};
/// Version of the contract. Fields may be added; nothing is renamed, retyped or dropped without raising it.
const SCHEMA: u32 = 1;

/// JSON lines.
#[derive(Default)]
pub(super) struct Json {
    /// A line while it is made: serde writes it in some 300 pieces, each of which would be a call through `dyn Write`.
    line: Vec<u8>,
}

impl Sink for Json {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        self.line.clear();
        match record {
            Record::Reset(reset) => self.object("reset", &**reset),
            Record::Ignored(ignored) => self.object("ignored", &**ignored),
            Record::Forwarded(forwarded) => self.object("forwarded", &**forwarded),
            Record::Lost(lost) => self.object("lost", lost),
            Record::Summary(summary) => self.object("summary", &**summary),
        }?;
        sanitize::escape_json(&mut self.line);
        self.line.push(b'\n');
        out.write_all(&self.line)
    }
}

impl Json {
    /// A record with what every line begins with. (serde's own way, `flatten`, took a fifth of the whole line's time.)
    fn object(&mut self, kind: &str, record: &impl Serialize) -> io::Result<()> {
        write!(self.line, "{{\"schema\":{SCHEMA},\"type\":\"{kind}\"")?;
        let end = self.line.len();
        serde_json::to_writer(&mut self.line, record)?;
        // Its opening brace, for it has fields.
        self.line[end] = b',';
        Ok(())
    }
}
