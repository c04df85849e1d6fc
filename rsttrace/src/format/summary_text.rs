//! Where the summary goes: into standard output as text, for pagers and files, or not into it.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::Formatter;
use crate::{
    model::{Record, Summary},
    util::sanitize::SanitizedLines,
};

/// Formatter that writes the summary as text, or leaves it out, and everything else as another one does.
pub(crate) struct SummaryFormatter {
    inner: Box<dyn Formatter>,
    /// How the summary is written; `None` to leave it out.
    text: Option<SummaryText>,
}

/// The summary as text.
#[derive(Clone, Debug)]
pub(crate) struct SummaryText {
    /// Zone of its times, which is that of the lines.
    pub(crate) zone: TimeZone,
    /// With names of peers beside their addresses.
    pub(crate) names: bool,
}

impl SummaryText {
    /// The text of a summary, with what heads it, without an end of line.
    pub(crate) fn of(&self, summary: &Summary) -> String {
        let summary = summary.in_zone(&self.zone);
        let text = if self.names { summary.to_string() } else { summary.without_names().to_string() };
        let separator = if summary.heading.is_empty() { "" } else { "\n" };
        format!("{}{separator}{text}", summary.heading)
    }
}

impl SummaryFormatter {
    /// Writes the summary as text.
    pub(crate) fn with_text(inner: Box<dyn Formatter>, text: SummaryText) -> Self {
        Self { inner, text: Some(text) }
    }

    /// Leaves the summary out.
    pub(crate) fn without(inner: Box<dyn Formatter>) -> Self {
        Self { inner, text: None }
    }
}

impl Formatter for SummaryFormatter {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        let Record::Summary(summary) = record else { return self.inner.write(record, out) };
        let Some(text) = &self.text else { return Ok(()) };
        self.inner.flush(u64::MAX, out)?;
        writeln!(out, "\n{}", SanitizedLines(&text.of(summary)))
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.inner.deadline_ns()
    }

    fn flush(&mut self, now_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        self.inner.flush(now_ns, out)
    }
}
