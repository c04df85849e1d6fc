//! The ways out: one record, many sinks. A sink does no I/O but through the `Write` that it is given.

mod aside;
mod json;
mod long;
pub mod names;
pub mod outlet;
pub mod sanitize;
mod text;
pub(crate) mod ways;
mod writer;

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    aside::{Forwarded, Ignored},
    cli::{Format, TimeFormat},
    moment::timestamp,
    reset::Reset,
    summary::Summary,
};

/// What a sink prints. A copy is cheap: every way out has its own.
#[derive(Clone, Debug)]
pub enum Record {
    /// A reset.
    Reset(Arc<Reset>),
    /// A reset that arrived and was ignored.
    Ignored(Arc<Ignored>),
    /// A reset that was forwarded.
    Forwarded(Arc<Forwarded>),
    /// Resets that the kernel reported and nobody will ever see.
    Lost(Lost),
    /// The end of the run.
    Summary(Arc<Summary>),
}

/// Resets that were lost on the way.
#[derive(Clone, Debug, Serialize)]
pub struct Lost {
    /// When it was noticed.
    #[serde(serialize_with = "timestamp")]
    pub time: Timestamp,
    /// How many.
    pub count: u64,
    /// Where.
    pub r#where: LostWhere,
}

/// Where resets were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LostWhere {
    /// The buffer was full, or the kernel did not run the program.
    Kernel,
    /// A sample could not be read.
    Userspace,
}

/// The word that serde has for a value without fields.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Prints records.
pub trait Sink: Send {
    /// Prints one record, whole lines only.
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()>;
}

/// How a sink shows things to a person.
#[derive(Clone, Debug)]
pub struct Look {
    /// Colours.
    pub color: bool,
    /// How to show times.
    pub time: TimeFormat,
    /// When the run began, on the clock of the events (`CLOCK_MONOTONIC`, nanoseconds), which nobody can set.
    pub started_ns: u64,
    /// The local time zone.
    pub zone: TimeZone,
    /// Names of ports and users beside the numbers.
    pub names: bool,
}

impl Look {
    /// A time as this look shows it, with a space behind it; nothing if it shows none. It is given on both clocks.
    pub(crate) fn time(&self, time: Timestamp, ktime_ns: u64) -> String {
        match self.time {
            TimeFormat::Local => time.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f ").to_string(),
            TimeFormat::Utc => time.strftime("%H:%M:%S%.3f ").to_string(),
            TimeFormat::None => String::new(),
            TimeFormat::Elapsed => {
                let since = Duration::from_nanos(ktime_ns.abs_diff(self.started_ns)).as_secs_f64();
                format!("{:12.6} ", if ktime_ns < self.started_ns { -since } else { since })
            }
        }
    }
}

/// The sink for a format.
pub fn sink(format: Format, look: Look) -> Box<dyn Sink> {
    match format {
        Format::Text => Box::new(text::Text::new(look)),
        Format::Long => Box::new(long::Long::new(look)),
        Format::Json => Box::new(json::Json::default()),
        Format::None => Box::new(None),
    }
}

/// Prints nothing.
struct None;

impl Sink for None {
    fn write(&mut self, _: &Record, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
