//! Inputs: files, directories of segments, standard input; several of them in the order of time.

use std::{
    collections::VecDeque,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use ipnet::IpNet;

use super::{
    continuity::Continuity,
    lines::{Contents, Lines, ReadLine},
    parse::{Line, LineError, parse_line},
};
use crate::{
    capture::{Capture, CaptureError, Captured, CapturedPath},
    model::Record,
    util::segment_name,
};

/// Times that are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeRange {
    /// The first; `None` for all before.
    pub since: Option<Timestamp>,
    /// The end, which does not belong to it; `None` for all after.
    pub until: Option<Timestamp>,
}

/// Name of standard input in messages.
const STANDARD_INPUT: &str = "standard input";

/// How packet captures are read.
#[derive(Clone, Debug, Default)]
pub struct CaptureView {
    /// Addresses of the host whose records are made; empty where it is to be inferred.
    pub hosts: Vec<IpNet>,
    /// Whether resets that ended nothing are shown.
    pub ignored: bool,
    /// Whether it is kept what passed the place of capture ([`Inputs::paths`]).
    pub paths: bool,
}

/// Longest time by which a record may come earlier in a file than one before it, seconds.
const DISORDER_S: i64 = 60;

impl TimeRange {
    /// Whether nothing that is wanted comes after a line of this time.
    fn is_over(&self, time: Timestamp) -> bool {
        self.until.is_some_and(|until| time.as_second() > until.as_second() + DISORDER_S)
    }

    fn contains(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// An input that cannot be read.
#[derive(Debug)]
pub struct InputError {
    /// Path, as it was given.
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for InputError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot read {}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for InputError {}

/// Lines that were skipped.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    count: u64,
    /// The first one, with its place and the reason.
    first: Option<String>,
}

impl Skipped {
    fn add(&mut self, path: &Path, number: u64, why: impl fmt::Display) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{}:{number}: {why}", path.display()));
    }

    /// A sentence on them; `None` where there are none.
    fn note(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match self.count {
            1 => format!("a line was skipped: {first}"),
            count => format!("{count} lines were skipped; the first: {first}"),
        })
    }
}

/// A file that is read.
struct OpenFile {
    path: PathBuf,
    contents: OpenContents,
}

/// What it holds.
enum OpenContents {
    /// Lines, with the number of the last one.
    Lines(Lines, u64),
    Capture(Box<Capture>),
}

impl OpenFile {
    /// Begins to read a file. `number` is one that no other capture of the run has.
    fn new(path: PathBuf, contents: Contents, view: &CaptureView, number: u64) -> io::Result<Self> {
        let of_standard_input = path.as_os_str() == STANDARD_INPUT;
        let metadata = fs::metadata(if of_standard_input { Path::new("/dev/stdin") } else { &path });
        let is_pipe = !metadata.is_ok_and(|metadata| metadata.is_file());
        let contents = match contents {
            Contents::Lines(lines) => OpenContents::Lines(lines, 0),
            Contents::Capture(reader) => {
                OpenContents::Capture(Box::new(Capture::new(reader, view.hosts.clone(), number, is_pipe)?))
            }
        };
        Ok(Self { path, contents })
    }

    fn has_buffered(&self) -> bool {
        match &self.contents {
            OpenContents::Lines(lines, _) => lines.has_buffered(),
            OpenContents::Capture(capture) => capture.has_buffered(),
        }
    }
}

/// One input.
struct Input {
    /// Its place among the inputs, from 1 on.
    number: u64,
    /// Files that are not open yet, the oldest first.
    files: VecDeque<PathBuf>,
    open: Option<OpenFile>,
    /// The line that comes next, where it has been read already.
    next: Option<Line>,
    continuity: Continuity,
    /// What captures lack.
    notes: Vec<String>,
    /// How captures were read.
    remarks: Vec<String>,
    /// What passed the places of captures.
    paths: Vec<CapturedPath>,
}

/// All inputs.
pub struct Inputs {
    all: Vec<Input>,
    range: TimeRange,
    view: CaptureView,
    skipped: Skipped,
    /// Lines that were understood.
    understood: u64,
    /// Errors of reading in the middle of a file.
    errors: Vec<InputError>,
}

impl Inputs {
    /// Opens inputs: a file, a directory of segments, or `-` for standard input. Blocks until the first bytes of each can be
    /// read. Fails where one cannot be read, and for a directory without segments.
    pub fn open(paths: &[PathBuf], range: TimeRange, view: CaptureView) -> Result<Self, InputError> {
        let mut inputs = Vec::new();
        for (number, path) in (1..).zip(paths) {
            let failed = |error| InputError { path: path.clone(), error };
            let mut input = Input {
                number,
                files: VecDeque::new(),
                open: None,
                next: None,
                continuity: Continuity::default(),
                notes: Vec::new(),
                remarks: Vec::new(),
                paths: Vec::new(),
            };
            if path.as_os_str() != "-" && fs::metadata(path).map_err(failed)?.is_dir() {
                input.files = segments(path, range).map_err(failed)?.into();
            } else {
                let (name, contents) = if path.as_os_str() == "-" {
                    (STANDARD_INPUT.into(), Contents::of(io::stdin()))
                } else {
                    (path.clone(), Contents::open(path))
                };
                let contents = contents.map_err(failed)?;
                input.open = Some(OpenFile::new(name, contents, &view, number).map_err(failed)?);
            }
            inputs.push(input);
        }
        Ok(Self { all: inputs, range, view, skipped: Skipped::default(), understood: 0, errors: Vec::new() })
    }

    /// Whether the next line can be had without waiting for it, as far as that is known.
    pub fn has_more_at_once(&self) -> bool {
        self.all.iter().all(|input| input.next.is_some() || input.open.as_ref().is_none_or(OpenFile::has_buffered))
    }

    /// What has to be said of the inputs at their end, one line each.
    pub fn notes(&self) -> Vec<String> {
        let errors = self.errors.iter().map(|error| format!("{error}; what comes after it in this file is missing"));
        let continuity = self.all.iter().flat_map(|input| input.continuity.notes());
        let captures = self.all.iter().flat_map(|input| input.notes.iter().cloned());
        errors.chain(self.skipped.note()).chain(continuity).chain(captures).collect()
    }

    /// How the captures among them were read, one line each.
    pub fn remarks(&self) -> impl Iterator<Item = &str> {
        self.all.iter().flat_map(|input| input.remarks.iter().map(String::as_str))
    }

    /// What passed the places of the captures that were read to their ends, where it is kept.
    pub fn paths(&self) -> impl Iterator<Item = &CapturedPath> {
        self.all.iter().flat_map(|input| &input.paths)
    }

    /// Whether a packet capture is open.
    pub fn is_capture(&self) -> bool {
        let is_open = |file: &OpenFile| matches!(file.contents, OpenContents::Capture(_));
        self.all.iter().any(|input| input.open.as_ref().is_some_and(is_open))
    }

    /// Number of lines that were skipped so far.
    pub const fn skipped(&self) -> u64 {
        self.skipped.count
    }

    /// Whether no line was understood, of those that there were.
    pub const fn is_foreign(&self) -> bool {
        self.understood == 0 && self.skipped.count > 0
    }

    /// Whether an input could not be read to its end.
    pub const fn is_damaged(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Times in which a recorder did not run.
    pub fn gaps(&self) -> Vec<(Timestamp, Timestamp)> {
        self.all.iter().flat_map(|input| input.continuity.gaps().iter().copied()).collect()
    }

    /// What the recorders could not see, each once.
    pub fn degraded(&self) -> Vec<String> {
        let headers = self.all.iter().filter_map(|input| input.continuity.last_header());
        let mut all: Vec<String> = headers.flat_map(|header| header.of.degraded.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Iterator for Inputs {
    type Item = Line;

    /// The next line within the times, of several inputs the one with the earliest time; `None` at the end. Blocks until it is
    /// there.
    fn next(&mut self) -> Option<Line> {
        loop {
            for input in &mut self.all {
                if input.next.is_none() {
                    input.next = input.read(&self.view, &mut self.skipped, &mut self.errors);
                    self.understood += u64::from(input.next.is_some());
                }
            }
            let ahead = self.all.iter_mut().filter(|input| input.next.is_some());
            let first = ahead.min_by_key(|input| input.next.as_ref().map(Line::time))?;
            let line = first.next.take()?;
            match &line {
                Line::Header(header) => first.continuity.header(header),
                Line::Mark(mark) => first.continuity.mark(mark),
                Line::Record(Record::Reset(reset)) if reset.internals.record > 0 => {
                    first.continuity.record(reset.time, reset.internals.ktime_ns);
                }
                Line::Record(_) | Line::Captured(_) | Line::Summary(_) => {}
            }
            // A header describes what comes after it.
            let is_header_before = matches!(line, Line::Header(_)) && !self.range.is_over(line.time());
            if self.range.contains(line.time()) || is_header_before {
                return Some(line);
            }
            if self.range.since.is_some_and(|since| line.time() < since) {
                first.continuity.forget_notes();
            } else if self.range.is_over(line.time()) {
                first.end();
            }
        }
    }
}

impl Input {
    /// Reads no further.
    fn end(&mut self) {
        (self.files, self.open) = (VecDeque::new(), None);
    }

    /// The next line that is understood, or record of a capture.
    fn read(&mut self, view: &CaptureView, skipped: &mut Skipped, errors: &mut Vec<InputError>) -> Option<Line> {
        loop {
            let Some(OpenFile { path, contents }) = &mut self.open else {
                self.open_next(view, errors)?;
                continue;
            };
            let (lines, number) = match contents {
                OpenContents::Lines(lines, number) => (lines, number),
                OpenContents::Capture(capture) => match capture.next_record() {
                    Some(Captured::Reset(reset)) => return Some(Line::Captured(reset)),
                    Some(Captured::Ignored(ignored)) if view.ignored => {
                        return Some(Line::Record(Record::Ignored(Arc::from(ignored))));
                    }
                    Some(Captured::Ignored(_)) => continue,
                    None => {
                        self.end_capture(view, skipped, errors);
                        continue;
                    }
                },
            };
            *number += 1;
            let parsed = match lines.next() {
                Ok(Some(ReadLine::Whole([]))) => continue,
                Ok(Some(ReadLine::Whole(line))) => parse_line(line),
                Ok(Some(ReadLine::TooLong)) => Err(LineError::Foreign),
                Ok(None) => {
                    self.open = None;
                    continue;
                }
                Err(error) => {
                    errors.push(InputError { path: path.clone(), error });
                    self.open = None;
                    continue;
                }
            };
            match parsed {
                Ok(line) => return Some(line),
                Err(why) => skipped.add(path, *number, why),
            }
        }
    }

    /// Opens the next file; `None` where there is none.
    fn open_next(&mut self, view: &CaptureView, errors: &mut Vec<InputError>) -> Option<()> {
        let path = self.files.pop_front()?;
        // The recorder may have compressed or removed it since.
        let contents = Contents::open(&path)
            .or_else(|error| Contents::open(&path.with_extension("jsonl.zst")).map_err(|_compressed| error));
        match contents.and_then(|contents| OpenFile::new(path.clone(), contents, view, self.number)) {
            Ok(file) => self.open = Some(file),
            Err(error) => errors.push(InputError { path, error }),
        }
        Some(())
    }

    /// Closes a capture, and keeps what there is to say of it.
    fn end_capture(&mut self, view: &CaptureView, skipped: &mut Skipped, errors: &mut Vec<InputError>) {
        let Some(OpenFile { path, contents: OpenContents::Capture(capture) }) = self.open.take() else { return };
        self.remarks.push(format!("{}: {}", path.display(), capture.remark()));
        self.notes.extend(capture.notes().into_iter().map(|note| format!("{}: {note}", path.display())));
        self.paths.extend(capture.path().filter(|_| view.paths));
        let is_foreign = capture.is_foreign();
        match capture.into_error() {
            // As by a capture program that was killed; the last packet is lost, as a recording's last line.
            Some(error @ CaptureError::CutOff { .. }) => self.notes.push(format!("{}: {error}", path.display())),
            Some(CaptureError::Io(error)) => errors.push(InputError { path, error }),
            Some(error) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
                errors.push(InputError { path, error });
            }
            None if is_foreign => skipped.add(&path, 1, "it has no packet of a link type that is read"),
            None => {}
        }
    }
}

/// The segments of a recording in the order of time, without those that end before the times begin. Fails where there are none.
fn segments(directory: &Path, range: TimeRange) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_segment =
            name.to_str().is_some_and(|name| segment_name::is_segment(name) && !segment_name::is_unfinished(name));
        if is_segment && entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    if found.is_empty() {
        let message = "the directory has no recording (no files named as 20261128T081500Z-HOST.jsonl)";
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    found.sort();
    // A segment that was compressed in the middle of a crash is there twice.
    found.dedup_by(|later, earlier| {
        later.with_extension("") == *earlier && later.extension().is_some_and(|end| end == "zst")
    });
    // The next one begins where a segment ends.
    let began = |path: &PathBuf| {
        let stamp = path.file_name()?.to_str()?.get(..15)?;
        Some(DateTime::strptime("%Y%m%dT%H%M%S", stamp).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let begun: Vec<Option<Timestamp>> = found.iter().map(began).collect();
    let is_over = |place: usize| match (begun.get(place + 1).copied().flatten(), range.since) {
        (Some(next), Some(since)) => next < since,
        _ => false,
    };
    Ok(found.into_iter().enumerate().filter(|(place, _)| !is_over(*place)).map(|(_, path)| path).collect())
}
