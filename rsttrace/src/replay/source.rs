//! Inputs: files, directories of segments, standard input; several of them in the order of time.

use std::{
    collections::VecDeque,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;

use super::{
    capture_files::{EndedCapture, FilesBefore, WaitingCapture, preceding},
    continuity::Continuity,
    directory::Directory,
    lines::{Contents, Lines, ReadLine},
    parse::{Line, LineError, parse_line},
};
use crate::{
    capture::{Capture, CaptureError, Captured, CapturedPath},
    model::Record,
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
    /// Options in use that are for captures alone.
    pub options_of_captures: Vec<&'static str>,
    /// Options in use that select by what packets do not show.
    pub filters_of_kernel: Vec<&'static str>,
}

impl CaptureView {
    /// A sentence on options without effect on these inputs.
    fn note(&self, has_captures: bool) -> Option<String> {
        let verb =
            |options: &[&str], one: &'static str, many: &'static str| if options.len() == 1 { one } else { many };
        if has_captures && !self.filters_of_kernel.is_empty() {
            let options = &self.filters_of_kernel;
            let (select, are) = (verb(options, "selects", "select"), options.join(" and "));
            return Some(format!("{are} {select} no reset of a packet capture, which does not show it"));
        }
        let unused = &self.options_of_captures;
        if has_captures || unused.is_empty() {
            return None;
        }
        Some(format!(
            "{} {} no effect: no input is a packet capture",
            unused.join(" and "),
            verb(unused, "has", "have")
        ))
    }
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

/// A sentence on a file that could not be read on.
fn broken_off(path: PathBuf, error: io::Error) -> String {
    format!("{}; what comes after it in this file is missing", InputError { path, error })
}

/// A sentence on a file of which this many parts could not be decompressed.
fn damaged(path: &Path, places: u64) -> String {
    let (parts, were, their) = if places == 1 { ("part", "was", "its") } else { ("parts", "were", "their") };
    format!("{}: {places} damaged {parts} of it {were} left out; {their} records are missing", path.display())
}

/// Lines that were skipped.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    count: u64,
    /// Places at which files that have been read were damaged.
    damaged: u64,
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

/// A time in nanoseconds since 1970.
fn time_of(ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or(Timestamp::MAX)
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
    /// The capture that is to be read from the time of its first packet on.
    waiting: Option<WaitingCapture>,
    /// The files that the open capture goes on with.
    before: Option<FilesBefore>,
    /// The capture that has been read.
    ended: Option<EndedCapture>,
    /// The line that comes next, where it has been read already.
    next: Option<Line>,
    continuity: Continuity,
    /// What captures lack.
    notes: Vec<String>,
    /// How captures were read.
    remarks: Vec<String>,
    /// Times of the first and the last packets of captures.
    captured: Vec<(Timestamp, Timestamp)>,
    /// What passed the places of captures.
    paths: Vec<CapturedPath>,
}

/// All inputs.
pub struct Inputs {
    all: Vec<Input>,
    range: TimeRange,
    view: CaptureView,
    has_captures: bool,
    skipped: Skipped,
    /// Lines that were understood.
    understood: u64,
    /// Sentences on what could not be read.
    errors: Vec<String>,
}

impl Inputs {
    /// Opens inputs: a file, a directory of segments or of captures, or `-` for standard input. Blocks until the first bytes of each
    /// can be read. Fails where one cannot be read, and for a directory with neither.
    pub fn open(paths: &[PathBuf], range: TimeRange, view: CaptureView) -> Result<Self, InputError> {
        let mut inputs = Self {
            all: Vec::new(),
            range,
            view,
            has_captures: false,
            skipped: Skipped::default(),
            understood: 0,
            errors: Vec::new(),
        };
        for path in paths {
            inputs.add(path).map_err(|error| InputError { path: path.clone(), error })?;
        }
        Ok(inputs)
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str() != "-" && fs::metadata(path)?.is_dir() {
            match Directory::open(path, self.range)? {
                Directory::Segments(files) => {
                    self.all.push(Input { files: files.into(), ..Input::new(self.all.len()) });
                }
                // A capture program may just have begun one of them.
                Directory::Captures(files) => {
                    for file in files {
                        let added = Contents::open(&file).and_then(|contents| self.add_file(&file, contents));
                        self.errors.extend(added.err().map(|error| broken_off(file, error)));
                    }
                }
            }
            return Ok(());
        }
        if path.as_os_str() == "-" {
            self.add_file(Path::new(STANDARD_INPUT), Contents::of(io::stdin())?)
        } else {
            self.add_file(path, Contents::open(path)?)
        }
    }

    /// Adds a file as an input of its own. Fails where it is no capture although it begins as one.
    fn add_file(&mut self, path: &Path, contents: Contents) -> io::Result<()> {
        let mut input = Input::new(self.all.len());
        let mut file = OpenFile::new(path.to_owned(), contents, &self.view, input.number)?;
        self.has_captures |= matches!(file.contents, OpenContents::Capture(_));
        match &mut file.contents {
            // It is opened again when its time has come.
            OpenContents::Capture(capture) if fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) => {
                let first_ns = capture.first_ns().unwrap_or(0);
                input.waiting = Some(WaitingCapture { path: path.to_owned(), first_ns });
            }
            OpenContents::Lines(..) | OpenContents::Capture(_) => input.open = Some(file),
        }
        self.all.push(input);
        Ok(())
    }

    /// Times that are read.
    pub const fn range(&self) -> TimeRange {
        self.range
    }

    /// Whether the next line can be had without waiting for it, as far as that is known.
    pub fn has_more_at_once(&self) -> bool {
        let is_ready = |input: &Input| match &input.open {
            _ if input.next.is_some() => true,
            Some(file) => file.has_buffered(),
            None => input.waiting.is_none(),
        };
        self.all.iter().all(is_ready)
    }

    /// What has to be said of the inputs at their end, one line each.
    pub fn notes(&self) -> Vec<String> {
        let errors = self.errors.iter().cloned();
        let continuity = self.all.iter().flat_map(|input| input.continuity.notes());
        let captures = self.all.iter().flat_map(|input| input.notes.iter().cloned());
        errors
            .chain(self.skipped.note())
            .chain(continuity)
            .chain(captures)
            .chain(self.view.note(self.has_captures))
            .collect()
    }

    /// How the captures among them were read, one line each.
    pub fn remarks(&self) -> impl Iterator<Item = &str> {
        self.all.iter().flat_map(|input| input.remarks.iter().map(String::as_str))
    }

    /// Times of the first and the last packets of the captures among them, as far as they are read.
    pub fn captured(&self) -> Vec<(Timestamp, Timestamp)> {
        let spans = self.all.iter().flat_map(|input| input.captured.iter());
        let TimeRange { since, until } = self.range;
        let within = |time: Timestamp| since.map_or(time, |since| time.max(since)).min(until.unwrap_or(Timestamp::MAX));
        spans.map(|&(first, last)| (within(first), within(last))).collect()
    }

    /// What passed the places of the captures that were read to their ends, where it is kept.
    pub fn paths(&self) -> impl Iterator<Item = &CapturedPath> {
        self.all.iter().flat_map(|input| &input.paths)
    }

    /// Whether one of them is a packet capture.
    pub const fn has_captures(&self) -> bool {
        self.has_captures
    }

    /// Number of places so far at which something is missing: lines that were skipped, parts that could not be decompressed.
    pub fn holes(&self) -> u64 {
        let open = self.all.iter().filter_map(|input| match &input.open.as_ref()?.contents {
            OpenContents::Lines(lines, _) => Some(lines.damaged_places()),
            OpenContents::Capture(_) => None,
        });
        self.skipped.count + self.skipped.damaged + open.sum::<u64>()
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
        let headers = self.all.iter().flat_map(|input| input.continuity.last_headers());
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
            let ahead = self.all.iter_mut().filter_map(|input| Some((input.next_ns()?, input)));
            let Some((_, first)) = ahead.min_by_key(|(time_ns, _)| *time_ns) else {
                self.all.iter_mut().for_each(|input| input.keep_ended(self.view.paths));
                return None;
            };
            if let Some(waiting) = first.waiting.take() {
                if self.range.is_over(time_of(waiting.first_ns)) {
                    continue;
                }
                let number = first.number;
                self.begin_capture(waiting, number);
                continue;
            }
            let line = first.next.take()?;
            match &line {
                Line::Header(header) => first.continuity.header(header),
                Line::Mark(mark) => first.continuity.mark(mark),
                Line::Record(Record::Reset(reset)) if reset.internals.record > 0 => {
                    first.continuity.record(&reset.host, reset.time, reset.internals.ktime_ns);
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

impl Inputs {
    /// Begins to read a capture, with the connections of the one that it goes on with.
    fn begin_capture(&mut self, waiting: WaitingCapture, number: u64) {
        let WaitingCapture { path, first_ns } = waiting;
        let before = preceding(self.all.iter_mut().map(|input| &mut input.ended), &path, first_ns);
        let before = before.and_then(Option::take);
        if self.all.iter().all(|input| input.waiting.is_none()) {
            // None of the others is gone on with any more.
            self.all.iter_mut().for_each(|input| input.keep_ended(self.view.paths));
        }
        let opened =
            Contents::open(&path).and_then(|contents| OpenFile::new(path.clone(), contents, &self.view, number));
        let Some(input) = self.all.iter_mut().find(|input| input.number == number) else { return };
        match opened {
            Ok(mut file) => {
                if let (OpenContents::Capture(capture), Some(before)) = (&mut file.contents, before) {
                    let (files, carried) = before.hand_on();
                    capture.go_on_with(carried);
                    input.before = Some(files);
                }
                input.open = Some(file);
            }
            Err(error) => self.errors.push(broken_off(path, error)),
        }
    }
}

impl Input {
    /// An input behind this many others.
    fn new(others: usize) -> Self {
        Self {
            number: others as u64 + 1,
            files: VecDeque::new(),
            open: None,
            waiting: None,
            before: None,
            ended: None,
            next: None,
            continuity: Continuity::default(),
            notes: Vec::new(),
            remarks: Vec::new(),
            captured: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Time of what comes next, nanoseconds since 1970: of the next line, or of the first packet of a capture that has not begun.
    fn next_ns(&self) -> Option<i128> {
        let waiting = self.waiting.as_ref().map(|waiting| i128::from(waiting.first_ns));
        waiting.or_else(|| self.next.as_ref().map(|line| line.time().as_nanosecond()))
    }

    /// Reads no further.
    fn end(&mut self) {
        (self.files, self.open) = (VecDeque::new(), None);
    }

    /// Keeps what there is to say of a capture that nothing goes on with, and what passed its place where `paths` says so.
    fn keep_ended(&mut self, paths: bool) {
        if let Some(ended) = self.ended.take() {
            self.remarks.extend(ended.remarks());
            self.notes.extend(ended.notes());
            self.paths.extend(paths.then(|| ended.carried.path()));
            self.captured.extend(ended.carried.span_ns().map(|(first, last)| (time_of(first), time_of(last))));
        }
    }

    /// The next line that is understood, or record of a capture.
    fn read(&mut self, view: &CaptureView, skipped: &mut Skipped, errors: &mut Vec<String>) -> Option<Line> {
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
                        self.end_capture(skipped, errors);
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
                    let places = lines.damaged_places();
                    if places > 0 {
                        skipped.damaged += places;
                        errors.push(damaged(path, places));
                    }
                    self.open = None;
                    continue;
                }
                Err(error) => {
                    let places = lines.damaged_places();
                    if places > 0 {
                        skipped.damaged += places;
                        errors.push(damaged(path, places));
                    }
                    errors.push(broken_off(path.clone(), error));
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
    fn open_next(&mut self, view: &CaptureView, errors: &mut Vec<String>) -> Option<()> {
        let path = self.files.pop_front()?;
        // The recorder may have compressed or removed it since.
        let contents = Contents::open(&path)
            .or_else(|error| Contents::open(&path.with_extension("jsonl.zst")).map_err(|_compressed| error));
        match contents.and_then(|contents| OpenFile::new(path.clone(), contents, view, self.number)) {
            Ok(file) => self.open = Some(file),
            Err(error) => errors.push(broken_off(path, error)),
        }
        Some(())
    }

    /// Closes a capture, and keeps what there is to say of it.
    fn end_capture(&mut self, skipped: &mut Skipped, errors: &mut Vec<String>) {
        let Some(OpenFile { path, contents: OpenContents::Capture(capture) }) = self.open.take() else { return };
        let (error, carried) = capture.end();
        let is_foreign = carried.is_foreign();
        self.ended = Some(EndedCapture::new(path.clone(), self.before.take(), carried));
        match error {
            // As by a capture program that was killed; the last packet is lost, as a recording's last line.
            Some(error @ CaptureError::CutOff { .. }) => self.notes.push(format!("{}: {error}", path.display())),
            Some(CaptureError::Io(error)) => errors.push(broken_off(path, error)),
            Some(error) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
                errors.push(broken_off(path, error));
            }
            None if is_foreign => skipped.add(&path, 1, "it has no packet of a link type that is read"),
            None => {}
        }
    }
}
