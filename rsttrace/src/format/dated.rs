//! The date in text, whose lines have the time of day alone: one line where a day begins.
//!
//! ```text
//! 23:59:58.123 RECV 10.0.0.5:43210 < 10.0.1.9:8080 nginx[812] ESTABLISHED peer-aborted
//! Sunday, 2026-11-29
//! 00:00:01.456 RECV 10.0.0.5:43212 < 10.0.1.9:8080 nginx[812] ESTABLISHED peer-aborted
//! ```

use std::{
    io::{self, Write},
    ops::Range,
};

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use super::{Formatter, TextOptions, TimeFormat};
use crate::model::Record;

/// Formatter that writes the date before the first record of every day but the one on which the run began.
pub(super) struct DatedFormatter<F> {
    inner: F,
    zone: TimeZone,
    /// Start of the run, `CLOCK_MONOTONIC` nanoseconds.
    started_ns: u64,
    /// The day of the last record; `None` before the first.
    day: Option<Range<Timestamp>>,
}

impl<F: Formatter + 'static> DatedFormatter<F> {
    /// The formatter with dates, where its times are those of a day.
    pub(super) fn around(inner: F, options: &TextOptions) -> Box<dyn Formatter> {
        let zone = match options.time {
            TimeFormat::Local => options.zone.clone(),
            TimeFormat::Utc => TimeZone::UTC,
            TimeFormat::Iso | TimeFormat::Elapsed | TimeFormat::None => return Box::new(inner),
        };
        Box::new(Self { inner, zone, started_ns: options.started_ns, day: None })
    }

    /// Writes the date if another day has begun. The clock may have been set, so that it is an earlier one.
    fn date(&mut self, time: Timestamp, ktime_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        let day = self.day.get_or_insert_with(|| {
            let since_start = SignedDuration::from_nanos((ktime_ns.saturating_sub(self.started_ns)).cast_signed());
            day_of(&time.saturating_sub(since_start).unwrap_or(time).to_zoned(self.zone.clone()))
        });
        if day.contains(&time) {
            return Ok(());
        }
        let now = time.to_zoned(self.zone.clone());
        *day = day_of(&now);
        // What is held back is of the day before.
        self.inner.flush(u64::MAX, out)?;
        writeln!(out, "{}", now.strftime("%A, %F"))
    }
}

/// The day that a time is on; the time alone where a day has no end, which is beyond every calendar.
fn day_of(time: &Zoned) -> Range<Timestamp> {
    let bounds =
        time.start_of_day().and_then(|begin| Ok((begin.timestamp(), time.tomorrow()?.start_of_day()?.timestamp())));
    bounds.map_or(time.timestamp()..time.timestamp(), |(begin, end)| begin..end)
}

impl<F: Formatter + 'static> Formatter for DatedFormatter<F> {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        match record {
            Record::Reset(reset) => self.date(reset.time, reset.internals.ktime_ns, out)?,
            Record::Ignored(ignored) => self.date(ignored.time, ignored.ktime_ns, out)?,
            Record::Forwarded(forwarded) => self.date(forwarded.time, forwarded.ktime_ns, out)?,
            Record::Lost(_) | Record::Summary(_) => {}
        }
        self.inner.write(record, out)
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.inner.deadline_ns()
    }

    fn flush(&mut self, now_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        self.inner.flush(now_ns, out)
    }
}
