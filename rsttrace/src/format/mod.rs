//! Formats of records. A formatter does no I/O but through the `Write` that it is given.

mod dated;
pub(crate) mod fields;
mod fold;
pub(crate) mod json;
pub(crate) mod long;
pub(crate) mod summary_text;
pub(crate) mod text;
mod unapplied_line;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::ValueEnum;
use jiff::{Timestamp, tz::TimeZone};

#[cfg(feature = "schema")]
pub use self::json::schema::text as json_schema;
use self::{dated::DatedFormatter, fold::FoldingFormatter};
use crate::{model::Record, util::terminal};

/// Format of the records on standard output (`--output`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line per reset
    Text,
    /// A block per reset, with evidence and advice
    Long,
    /// One JSON object per line
    Json,
    /// One JSON object per line without objects in it, for tables: `cause`, `peer_port`, …
    JsonFlat,
    /// Nothing; for use with --sink, --metrics or --report
    None,
}

impl Format {
    /// Whether the format shows the evidence of a cause. Evidence is put into words only where a format or a sink shows it.
    pub const fn shows_evidence(self) -> bool {
        match self {
            Self::Text | Self::None => false,
            Self::Long | Self::Json | Self::JsonFlat => true,
        }
    }

    /// A new formatter for this format. `options` apply to text; JSON has none.
    pub fn formatter(self, options: TextOptions) -> Box<dyn Formatter> {
        match self {
            Self::Text if options.folds => {
                DatedFormatter::around(FoldingFormatter::new(text::TextFormatter::new(options.clone())), &options)
            }
            Self::Text => DatedFormatter::around(text::TextFormatter::new(options.clone()), &options),
            Self::Long => DatedFormatter::around(long::LongFormatter::new(options.clone()), &options),
            Self::Json => Box::new(json::JsonFormatter::default()),
            Self::JsonFlat => Box::new(json::flat::FlatJsonFormatter::default()),
            Self::None => Box::new(NullFormatter),
        }
    }
}

/// Form of the times in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimeFormat {
    /// Time of day in the local time zone (TZ); a line with the date where a day begins
    Local,
    /// Time of day in UTC, likewise
    Utc,
    /// Date, time and offset of the local time zone (RFC 3339)
    Iso,
    /// Seconds since the start
    Elapsed,
    /// No time, for a logger that adds its own
    None,
}

/// Writes records in one format.
pub trait Formatter: Send {
    /// Writes one record as whole lines; a record that the format leaves out writes nothing. Fails where `out` fails, and
    /// where a record has no form in this format.
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()>;

    /// When [`Self::flush`] is due, nanoseconds of `CLOCK_MONOTONIC`; `None` where nothing is held back.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Writes what was held back and is due at this time; all for [`u64::MAX`]. Fails as [`Self::write`] does.
    fn flush(&mut self, _now_ns: u64, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Columns of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextWidth {
    /// As many columns, which blocks are not wrapped into.
    Fixed(usize),
    /// Those of the terminal that standard output is.
    Terminal,
}

/// Presentation of text for people.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// Colours (ANSI escape sequences).
    pub color: bool,
    /// Form of the times.
    pub time: TimeFormat,
    /// Start of the run, `CLOCK_MONOTONIC` nanoseconds. Elapsed times count from here: unlike the wall clock, this one
    /// cannot be set.
    pub started_ns: u64,
    /// The local time zone.
    pub zone: TimeZone,
    /// Whether lines of a burst that are alike become one.
    pub folds: bool,
    /// Columns that lines are fitted into.
    pub width: TextWidth,
    /// Names of ports, users, peers, containers and pods beside the numbers.
    pub names: bool,
}

impl TextOptions {
    /// Columns of a line where it is no terminal.
    pub const COLUMNS: usize = 120;

    /// Columns of a line.
    pub(crate) fn columns(&self) -> usize {
        match self.width {
            TextWidth::Fixed(columns) => columns,
            TextWidth::Terminal => terminal::columns(io::stdout()).unwrap_or(Self::COLUMNS),
        }
    }

    /// Columns into which blocks are wrapped; `None` where they are not.
    pub(crate) fn wraps_at(&self) -> Option<usize> {
        match self.width {
            TextWidth::Fixed(_) => None,
            TextWidth::Terminal => terminal::columns(io::stdout()),
        }
    }

    /// A time in the chosen form with a trailing space; empty for [`TimeFormat::None`]. The same moment is given on both
    /// clocks: `time` on the wall clock, `ktime_ns` on `CLOCK_MONOTONIC`.
    pub(crate) fn format_time(&self, time: Timestamp, ktime_ns: u64) -> String {
        match self.time {
            TimeFormat::Local => time.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f ").to_string(),
            TimeFormat::Utc => time.strftime("%H:%M:%S%.3f ").to_string(),
            TimeFormat::Iso => time.to_zoned(self.zone.clone()).strftime("%FT%T%.3f%:z ").to_string(),
            TimeFormat::None => String::new(),
            TimeFormat::Elapsed => {
                let since = Duration::from_nanos(ktime_ns.abs_diff(self.started_ns)).as_secs_f64();
                format!("{:12.6} ", if ktime_ns < self.started_ns { -since } else { since })
            }
        }
    }
}

/// Formatter of [`Format::None`]: writes nothing.
struct NullFormatter;

impl Formatter for NullFormatter {
    fn write(&mut self, _: &Record, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
