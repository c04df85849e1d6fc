//! One JSON object a line: the contract of `docs/output.md`.

mod buffer;
mod line;

use std::io::{self, Write};

use serde::Serialize;

use self::{buffer::Buffer, line::Line};
use super::{Record, Sink, sanitize};

/// What a line of this kind begins with. (serde's own way, `flatten`, took a fifth of the whole line's time.)
///
/// `schema` is the version of the contract: fields may be added; nothing is renamed, retyped or dropped without raising it.
macro_rules! beginning {
    ($kind:literal) => {
        concat!("{\"schema\":1,\"type\":\"", $kind, "\"")
    };
}

/// JSON lines.
#[derive(Default)]
pub(super) struct Json {
    line: Buffer,
}

impl Sink for Json {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        self.line.clear();
        match record {
            Record::Reset(reset) => self.object(beginning!("reset"), &**reset),
            Record::Ignored(ignored) => self.object(beginning!("ignored"), &**ignored),
            Record::Forwarded(forwarded) => self.object(beginning!("forwarded"), &**forwarded),
            Record::Lost(lost) => self.rare(beginning!("lost"), lost),
            Record::Summary(summary) => self.rare(beginning!("summary"), &**summary),
        }?;
        self.line.append([b"\n"]);
        out.write_all(self.line.written())
    }
}

impl Json {
    /// A record behind what its line begins with.
    fn object(&mut self, beginning: &'static str, record: &impl Serialize) -> io::Result<()> {
        self.line.append([beginning.as_bytes()]);
        record.serialize(Line::behind_others(&mut self.line)).map_err(io::Error::other)
    }

    /// One of those that come once in a while and have maps in them.
    fn rare(&mut self, beginning: &'static str, record: &impl Serialize) -> io::Result<()> {
        let mut fields = serde_json::to_vec(record)?;
        sanitize::escape_json(&mut fields);
        // Every record has fields: a comma instead of the opening brace.
        self.line.append([beginning.as_bytes(), b",", fields.get(1..).unwrap_or_default()]);
        Ok(())
    }
}
