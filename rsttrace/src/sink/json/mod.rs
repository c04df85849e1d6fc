//! One JSON object a line: the contract of `docs/output.md`.

mod line;

use std::io::{self, Write};

use serde::Serialize;

use self::line::Line;
use super::{Record, Sink, sanitize};

/// Version of the contract. Fields may be added; nothing is renamed, retyped or dropped without raising it.
const SCHEMA: u32 = 1;

/// JSON lines.
#[derive(Default)]
pub(super) struct Json {
    /// A line while it is made, in some 300 pieces, each of which would be a call through `dyn Write`.
    line: Vec<u8>,
}

impl Sink for Json {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        self.line.clear();
        match record {
            Record::Reset(reset) => self.object("reset", &**reset),
            Record::Ignored(ignored) => self.object("ignored", &**ignored),
            Record::Forwarded(forwarded) => self.object("forwarded", &**forwarded),
            Record::Lost(lost) => self.rare("lost", lost),
            Record::Summary(summary) => self.rare("summary", &**summary),
        }?;
        self.line.push(b'\n');
        out.write_all(&self.line)
    }
}

impl Json {
    /// Begins a line; where its own fields begin. (serde's own way, `flatten`, took a fifth of the whole line's time.)
    fn begin(&mut self, kind: &str) -> io::Result<usize> {
        write!(self.line, "{{\"schema\":{SCHEMA},\"type\":\"{kind}\"")?;
        Ok(self.line.len())
    }

    /// A record with what every line begins with.
    fn object(&mut self, kind: &str, record: &impl Serialize) -> io::Result<()> {
        let start = self.begin(kind)?;
        record.serialize(Line(&mut self.line)).map_err(io::Error::other)?;
        self.join(start);
        Ok(())
    }

    /// One of those that come once in a while and have maps in them.
    fn rare(&mut self, kind: &str, record: &impl Serialize) -> io::Result<()> {
        let start = self.begin(kind)?;
        serde_json::to_writer(&mut self.line, record)?;
        sanitize::escape_json(&mut self.line);
        self.join(start);
        Ok(())
    }

    /// A comma instead of the opening brace, for every record has fields.
    fn join(&mut self, start: usize) {
        if let Some(brace) = self.line.get_mut(start) {
            *brace = b',';
        }
    }
}
