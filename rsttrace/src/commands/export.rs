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
    diagnose::Diagnosis,
    exit::Failure,
    export::{Anonymizer, PcapngWriter, TableWriter},
    filter::RecordFilter,
    format::{Formatter as _, json::JsonFormatter},
    model::{Record, Reset},
    pipeline::{captured::CapturedChain, processor::Output},
    replay::{Inputs, Line},
    sandbox::{self, Requirements},
    util::messages::info,
};

/// Writer of one format.
enum Export<W: Write> {
    /// JSON lines as in a recording, with facts, headers and marks.
    Json(JsonFormatter, W),
    Csv(Box<TableWriter<W>>),
    Pcapng(PcapngWriter<W>),
}

/// Exports the inputs to standard output. Blocks meanwhile. Fails with status 2 when an input cannot be read, and with status 1
/// when standard output cannot be written to.
pub(crate) fn run(options: ExportOptions) -> Result<(), Failure> {
    let ExportOptions { inputs, captures, format, anonymize, times, filters } = options;
    if format == ExportFormat::Json && inputs.len() > 1 {
        return Err(Failure::usage("--format json takes one INPUT: its lines tell of one host"));
    }
    let range = replay::range(&times, &Zoned::now())?;
    let view = replay::view(captures, &filters);
    let mut captured = CapturedChain::new(&Diagnosis::default(), RecordFilter::for_recording(filters.clone())?);
    let filter = RecordFilter::for_recording(filters)?;
    let mut inputs = Inputs::open(&inputs, range, view).map_err(Failure::usage)?;
    sandbox::enter_reader(Requirements::default());
    let mut anonymizer = anonymize.then(Anonymizer::default);
    let out = BufWriter::new(io::stdout().lock());
    let mut export = Export::new(format, out);
    let mut ready = Ready::default();
    let mut written = Ok(());
    while written.is_ok()
        && let Some(line) = inputs.next()
    {
        match line {
            Line::Captured(reset) => captured.take(*reset, &mut ready),
            line => ready.0.push(line),
        }
        written = export.write_all(&mut ready, &filter, anonymizer.as_mut());
    }
    captured.finish(&mut ready);
    let written = written.and_then(|()| export.write_all(&mut ready, &filter, anonymizer.as_mut()));
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

/// Lines that can be written.
#[derive(Default)]
struct Ready(Vec<Line>);

impl Output for Ready {
    fn observe(&mut self, _: &Reset) {}

    fn emit(&mut self, record: Record) {
        self.0.push(Line::Record(record));
    }
}

/// A line that passes the filters, with pseudonyms where they are wanted. Summaries have names, and are made anew by a replay.
fn wanted(line: Line, filter: &RecordFilter, anonymizer: Option<&mut Anonymizer>) -> Option<Line> {
    let mut line = match line {
        Line::Record(record) if replay::is_wanted(filter, &record) => Line::Record(record),
        Line::Record(_) | Line::Captured(_) | Line::Summary(_) => return None,
        other => other,
    };
    if let Line::Header(header) = &mut line
        && !filter.is_everything()
    {
        let of = &mut Arc::make_mut(header).of;
        let of = Arc::make_mut(of);
        of.filtered = true;
        if let Some(filters) = &mut of.filters {
            filters.others.push("filters of an export".to_owned());
        }
    }
    match (&mut line, anonymizer) {
        (Line::Record(record), Some(anonymizer)) => anonymizer.record(record),
        (Line::Header(header), Some(anonymizer)) => anonymizer.header(Arc::make_mut(header)),
        (Line::Mark(mark), Some(anonymizer)) => anonymizer.mark(mark),
        _ => {}
    }
    Some(line)
}

impl<W: Write> Export<W> {
    fn new(format: ExportFormat, out: W) -> Self {
        match format {
            ExportFormat::Json => Self::Json(JsonFormatter::with_facts(), out),
            ExportFormat::Csv => Self::Csv(Box::new(TableWriter::new(out))),
            ExportFormat::Pcapng => Self::Pcapng(PcapngWriter::new(out)),
        }
    }

    /// Writes the lines that pass the filters.
    fn write_all(
        &mut self,
        ready: &mut Ready,
        filter: &RecordFilter,
        mut anonymizer: Option<&mut Anonymizer>,
    ) -> io::Result<()> {
        ready.0.drain(..).try_for_each(|line| match wanted(line, filter, anonymizer.as_deref_mut()) {
            Some(line) => self.write(&line),
            None => Ok(()),
        })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        match (self, line) {
            (Self::Json(formatter, out), Line::Record(record)) => formatter.write(record, out),
            (Self::Json(_, out), Line::Header(header)) => JsonFormatter::write_header(header, out),
            (Self::Json(_, out), Line::Mark(mark)) => JsonFormatter::write_mark(mark, out),
            (Self::Csv(table), Line::Record(record)) => table.write(record),
            (Self::Pcapng(capture), Line::Record(record)) => capture.write(record),
            _ => Ok(()),
        }
    }

    /// Writes what is left; of a table without rows the titles, of a capture without packets its header.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Json(_, out) => out.flush(),
            Self::Csv(table) => table.begin().and_then(|()| table.flush()),
            Self::Pcapng(capture) => capture.begin().and_then(|()| capture.flush()),
        }
    }
}
