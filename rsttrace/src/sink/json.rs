//! One JSON object a line: the contract of `docs/output.md`.

use std::io::{self, Write};

use serde::Serialize;

use super::{Record, Sink, sanitize};
use crate::{
    aside::{Forwarded, Ignored},
    reset::Reset,
    sink::Lost,
    summary::Summary,
};

/// Version of the contract. Fields may be added; nothing is renamed, retyped or dropped without raising it.
const SCHEMA: u32 = 1;

/// JSON lines.
#[derive(Default)]
pub(super) struct Json {
    /// A line while it is made: serde writes it in some 300 pieces, each of which would be a call through `dyn Write`.
    line: Vec<u8>,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Body<'a> {
    Reset(&'a Reset),
    Ignored(&'a Ignored),
    Forwarded(&'a Forwarded),
    Lost(&'a Lost),
    Summary(&'a Summary),
}

impl Sink for Json {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        let body = match record {
            Record::Reset(reset) => Body::Reset(reset),
            Record::Ignored(ignored) => Body::Ignored(ignored),
            Record::Forwarded(forwarded) => Body::Forwarded(forwarded),
            Record::Lost(lost) => Body::Lost(lost),
            Record::Summary(summary) => Body::Summary(summary),
        };
        self.line.clear();
        serde_json::to_writer(&mut self.line, &Line { schema: SCHEMA, body })?;
        sanitize::escape_json(&mut self.line);
        self.line.push(b'\n');
        out.write_all(&self.line)
    }
}
