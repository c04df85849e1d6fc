//! `rsttrace export`: records for other tools, and for other people.

use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
};

use anyhow::anyhow;
use jiff::Zoned;

use super::replay;
use crate::{
    cli::{ExportFormat, ExportOptions},
    exit::Failure,
    export::{Anonymizer, TableWriter},
    filter::RecordFilter,
    format::{Formatter as _, json::JsonFormatter},
    replay::{Inputs, Line},
    util::messages::info,
};

/// Writer of one format.
enum Export<W: Write> {
    /// JSON lines as in a recording, with facts, headers and marks.
    Json(JsonFormatter, W),
    Csv(Box<TableWriter<W>>),
}

/// Exports the inputs to standard output. Blocks meanwhile. Fails with status 2 when an input cannot be read, and with status 1
/// when standard output cannot be written to.
pub(crate) fn run(options: ExportOptions) -> Result<(), Failure> {
    let ExportOptions { inputs, format, anonymize, times, filters } = options;
    if format == ExportFormat::Json && inputs.len() > 1 {
        return Err(Failure::usage("--format json takes one INPUT: its lines tell of one host"));
    }
    let range = replay::range(&times, &Zoned::now())?;
    let filter = RecordFilter::for_recording(filters)?;
    let mut inputs = Inputs::open(&inputs, range).map_err(Failure::usage)?;
    let mut anonymizer = anonymize.then(Anonymizer::default);
    let out = BufWriter::new(io::stdout().lock());
    let mut export = Export::new(format, out);
    let written = inputs.by_ref().try_for_each(|line| match wanted(line, &filter, anonymizer.as_mut()) {
        Some(line) => export.write(&line),
        None => Ok(()),
    });
    let is_foreign = inputs.is_foreign();
    let written = written.and_then(|()| if is_foreign { Ok(()) } else { export.finish() });
    let said = inputs.notes();
    if is_foreign {
        return Err(Failure::usage(format_args!("nothing to export: {}", said.join("; "))));
    }
    said.into_iter().for_each(info);
    written.map_err(Failure::stdout)?;
    if inputs.is_damaged() { Err(Failure::Running(anyhow!("an input could not be read to its end"))) } else { Ok(()) }
}

/// A line that passes the filters, with pseudonyms where they are wanted. Summaries have names, and are made anew by a replay.
fn wanted(line: Line, filter: &RecordFilter, anonymizer: Option<&mut Anonymizer>) -> Option<Line> {
    let mut line = match line {
        Line::Record(record) if replay::is_wanted(filter, &record) => Line::Record(record),
        Line::Record(_) | Line::Summary(_) => return None,
        other => other,
    };
    if let Line::Header(header) = &mut line
        && !filter.is_everything()
    {
        let of = &mut Arc::make_mut(header).of;
        Arc::make_mut(of).filtered = true;
    }
    match (&mut line, anonymizer) {
        (Line::Record(record), Some(anonymizer)) => anonymizer.record(record),
        (Line::Header(header), Some(anonymizer)) => anonymizer.header(Arc::make_mut(header)),
        _ => {}
    }
    Some(line)
}

impl<W: Write> Export<W> {
    fn new(format: ExportFormat, out: W) -> Self {
        match format {
            ExportFormat::Json => Self::Json(JsonFormatter::with_facts(), out),
            ExportFormat::Csv => Self::Csv(Box::new(TableWriter::new(out))),
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        match (self, line) {
            (Self::Json(formatter, out), Line::Record(record)) => formatter.write(record, out),
            (Self::Json(_, out), Line::Header(header)) => JsonFormatter::write_header(header, out),
            (Self::Json(_, out), Line::Mark(mark)) => JsonFormatter::write_mark(mark, out),
            (Self::Csv(table), Line::Record(record)) => table.write(record),
            _ => Ok(()),
        }
    }

    /// Writes what is left; of a table without rows the titles.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Json(_, out) => out.flush(),
            Self::Csv(table) => table.begin().and_then(|()| table.flush()),
        }
    }
}
