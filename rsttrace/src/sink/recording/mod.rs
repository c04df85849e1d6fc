//! A recording: JSON lines with the facts of the diagnosis, in segments within limits of size, age and free space.
//!
//! A run appends to one segment at a time and begins it with a header. A full one is compressed by a thread of its own
//! ([`compress`]), and the oldest ones are removed ([`segments`]). What a crash leaves (a last line that is torn, a segment that
//! is not compressed) is repaired by the next run.

mod compress;
mod segments;

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use self::{
    compress::Compression,
    segments::{Room, SegmentDirectory},
};
use super::{DeliveryReport, Sink, line_file::LineFile};
use crate::{
    format::{Formatter as _, json::JsonFormatter},
    model::{ClockState, Mark, RECORDING_FORMAT, Record, RecordingContext, RecordingHeader},
    util::{messages::info, size, spelling, system_clock, time_span},
};

/// Smallest segment, bytes: a line may be as long as a command line, and more.
const SEGMENT_MIN: u64 = 1 << 20;
/// Smallest age.
const AGE_MIN: Duration = Duration::from_mins(1);
/// Segments into which a recording of its full size is divided at least, so that what is removed is a small part.
const SEGMENTS_MIN: u64 = 4;
/// Longest time for one segment: a segment is removed as a whole, when all of it is too old.
const SEGMENT_AGE_MAX: Duration = Duration::from_hours(24);

/// Options of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordingOptions {
    /// Directory of the segments; created where it is missing.
    pub(crate) directory: PathBuf,
    /// Size of all segments together, bytes.
    pub(crate) size: u64,
    /// Age from which on a segment is removed.
    pub(crate) age: Duration,
    /// Size of a segment before compression, bytes.
    pub(crate) segment: u64,
    /// Space that is left to others on the file system, bytes.
    pub(crate) min_free: u64,
}

/// As `DIR, up to 2 GiB and 7 days`.
impl fmt::Display for RecordingOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, age) = (size::shown(self.size), time_span::shown(self.age));
        write!(formatter, "{}, up to {size} and {age}", self.directory.display())
    }
}

impl RecordingOptions {
    /// Default of `size`, bytes.
    pub(crate) const SIZE: u64 = 2 << 30;
    /// Default of `age`.
    pub(crate) const AGE: Duration = Duration::from_hours(7 * 24);
    /// Default of `segment`, bytes.
    pub(crate) const SEGMENT: u64 = 64 << 20;
    /// Default of `min_free`, bytes.
    pub(crate) const MIN_FREE: u64 = 512 << 20;

    /// Parses `DIR[,size=SIZE][,age=TIME][,segment=SIZE][,min-free=SIZE]`. The error names the option that is wrong.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, String> {
        let mut parts = text.unwrap_or_default().split(',');
        let directory = parts.next().filter(|path| !path.is_empty()).ok_or("a directory is missing")?;
        let mut options = Self {
            directory: directory.into(),
            size: Self::SIZE,
            age: Self::AGE,
            segment: Self::SEGMENT,
            min_free: Self::MIN_FREE,
        };
        let mut segment = None;
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let named = |error: String| format!("{name}: {error}");
            match name {
                "size" => options.size = size::parse(value).map_err(named)?,
                "age" => options.age = time_span::parse(value).map_err(named)?,
                "segment" => segment = Some(size::parse(value).map_err(named)?),
                "min-free" => options.min_free = size::parse(value).map_err(named)?,
                _ => {
                    let known = spelling::similar(name, ["size", "age", "segment", "min-free"]);
                    let tip = known.map_or_else(String::new, |known| format!(", did you mean '{known}'?"));
                    return Err(format!("unknown option '{name}'{tip}"));
                }
            }
        }
        options.segment = segment.unwrap_or_else(|| Self::default_segment(options.size));
        options.check().map(|()| options)
    }

    /// Size of a segment of a recording of this size, where none is named.
    pub(crate) fn default_segment(size: u64) -> u64 {
        Self::SEGMENT.min(size / SEGMENTS_MIN)
    }

    /// Checks that the sizes go together. The error is a part of a sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.age < AGE_MIN {
            return Err("an age is a minute or more: 12h, 7d; a number alone is seconds".into());
        }
        if self.segment < SEGMENT_MIN {
            return Err("a segment has 1M or more, and the size is four times that or more".into());
        }
        if self.segment > self.size / SEGMENTS_MIN {
            return Err("a segment is at most a quarter of the size".into());
        }
        Ok(())
    }
}

/// Segment that lines are appended to.
struct ActiveSegment {
    path: PathBuf,
    file: LineFile,
    begun: SystemTime,
    /// Length of the file, bytes, after the last write.
    bytes: u64,
}

/// The sink.
pub(super) struct RecordingSink {
    options: RecordingOptions,
    host: Arc<str>,
    run: Timestamp,
    context: Arc<RecordingContext>,
    directory: SegmentDirectory,
    formatter: JsonFormatter,
    /// `None` after an attempt to begin one has failed.
    active: Option<ActiveSegment>,
    /// Segments begun.
    segments: u64,
    /// Full segments that wait for their compression, the oldest first.
    full: VecDeque<PathBuf>,
    compression: Option<Compression>,
    /// Whether the last compression has failed: the next one begins with a mark.
    compression_fails: bool,
    /// Formatted lines that are not written yet.
    block: Vec<u8>,
    line: Vec<u8>,
}

impl RecordingSink {
    /// Opens the directory, repairs what an earlier run has left in it, and begins a segment. Blocks on the file system. Fails
    /// where the directory cannot be used or is in use by another rsttrace.
    pub(super) fn open(options: RecordingOptions, host: Arc<str>, context: Arc<RecordingContext>) -> Result<Self> {
        let mut directory = SegmentDirectory::open(&options.directory)?;
        let full = directory.recover()?.into();
        let mut sink = Self {
            options,
            host,
            run: Timestamp::now(),
            context,
            directory,
            formatter: JsonFormatter::with_facts(),
            active: None,
            segments: 0,
            full,
            compression: None,
            compression_fails: false,
            block: Vec::new(),
            line: Vec::new(),
        };
        sink.active()?;
        Ok(sink)
    }

    /// The segment to append to: a new one where there is none, or where the file was removed.
    fn active(&mut self) -> Result<&mut ActiveSegment> {
        let active = match self.active.take() {
            Some(active) if !active.file.is_removed(&active.path)? => active,
            Some(ActiveSegment { path, .. }) => {
                info(format_args!("{}: the file was removed, a new segment is begun", path.display()));
                self.directory.forget(&path);
                self.begin()?
            }
            None => self.begin()?,
        };
        Ok(self.active.insert(active))
    }

    /// Begins a segment with its header.
    fn begin(&mut self) -> Result<ActiveSegment> {
        let header = RecordingHeader {
            time: Timestamp::now(),
            format: RECORDING_FORMAT,
            segment: self.segments + 1,
            run: self.run,
            host: Arc::clone(&self.host),
            of: Arc::clone(&self.context),
            clock: clock_state(),
        };
        let mut line = Vec::new();
        JsonFormatter::write_header(&header, &mut line)?;
        self.make_room(line.len())?;
        let (path, file) = self.directory.create(header.time, &self.host)?;
        let mut active = ActiveSegment { path, file, begun: SystemTime::now(), bytes: 0 };
        active.append(&line, &mut self.directory)?;
        self.segments += 1;
        Ok(active)
    }

    /// Closes the segment; it is compressed when the one before is. A failure leaves it as it is for the next run.
    fn close(&mut self) -> Result<()> {
        let Some(ActiveSegment { path, file, .. }) = self.active.take() else { return Ok(()) };
        file.sync(&path)?;
        self.full.push_back(path);
        self.compress();
        Ok(())
    }

    /// Goes on with the compression of full segments, without waiting for it.
    fn compress(&mut self) {
        if let Some(compression) = self.compression.take_if(|compression| compression.is_finished()) {
            let path = compression.path().to_owned();
            match compression.finish() {
                Ok(done) => self.directory.replace(&path, &done),
                Err(error) => {
                    if !std::mem::replace(&mut self.compression_fails, true) {
                        info(format_args!("{}: not compressed for now: {error:#}", path.display()));
                    }
                    self.full.push_front(path);
                    return;
                }
            }
            self.compression_fails = false;
        }
        if self.compression.is_none()
            && let Some(path) = self.full.pop_front()
        {
            match Compression::start(&path, self.options.min_free) {
                Ok(compression) => self.compression = Some(compression),
                Err(error) => info(format_args!("{}: not compressed: {error:#}", path.display())),
            }
        }
    }

    /// Forgets segments that were removed, and stops the compression of one. Blocks for the rest of a frame then, a millisecond.
    fn forget(&mut self, removed: &[PathBuf]) {
        self.full.retain(|path| !removed.contains(path));
        let is_removed = |compression: &mut Compression| removed.iter().any(|path| path == compression.path());
        if let Some(compression) = self.compression.take_if(is_removed) {
            compression.cancel();
        }
    }

    /// Removes the oldest segments until so many bytes more fit within the limits. Fails where they do not.
    fn make_room(&mut self, bytes: usize) -> Result<()> {
        let limits = Room { size: self.options.size, min_free: self.options.min_free, bytes: bytes as u64 };
        let active = self.active.as_ref().map(|active| active.path.as_path());
        let compressed = self.compression.as_ref().map(Compression::path);
        let removed = self.directory.make_room(limits, active, compressed);
        let (removed, result) = removed;
        self.forget(&removed);
        result
    }

    /// Writes the block. Where that fails nothing of it stays in the file.
    fn write_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let written = self.write_lines(&block);
        self.block = block;
        self.block.clear();
        written
    }

    fn write_lines(&mut self, lines: &[u8]) -> Result<()> {
        self.make_room(lines.len())?;
        // A file that is removed during the write takes the lines with it: one retry here, then the worker's.
        for _ in 0..2 {
            self.active()?;
            let Some(active) = &mut self.active else { continue };
            active.append(lines, &mut self.directory)?;
            if !active.file.is_removed(&active.path)? {
                return Ok(());
            }
        }
        bail!("cannot write to {}: its files are removed at each write", self.options.directory.display())
    }

    /// Whether the segment has no room for the block and the line, or is too old for more.
    fn is_full(&self) -> bool {
        let Some(active) = &self.active else { return false };
        let length = active.bytes + (self.block.len() + self.line.len()) as u64;
        let age = active.begun.elapsed().unwrap_or_default();
        length > self.options.segment || age > SEGMENT_AGE_MAX.min(self.options.age / 8)
    }

    /// Appends records. `delivered` is the number of those that are in a segment, also where it fails.
    fn append(&mut self, records: &[Record], delivered: &mut usize) -> Result<()> {
        self.block.clear();
        self.active()?;
        for (index, record) in records.iter().enumerate() {
            self.line.clear();
            self.formatter.write(record, &mut self.line)?;
            if self.is_full() {
                self.write_block()?;
                *delivered = index;
                self.close()?;
                self.active()?;
            }
            self.block.extend_from_slice(&self.line);
        }
        self.write_block()?;
        if !self.compression_fails {
            self.compress();
        }
        Ok(())
    }
}

impl ActiveSegment {
    /// Appends lines, or nothing.
    fn append(&mut self, lines: &[u8], directory: &mut SegmentDirectory) -> Result<()> {
        let cannot = || format!("cannot write to {}", self.path.display());
        let before = self.file.length(&self.path)?.with_context(cannot)?;
        self.file.append(lines).with_context(cannot)?;
        self.bytes = before + lines.len() as u64;
        directory.note(&self.path, self.bytes);
        Ok(())
    }
}

impl Sink for RecordingSink {
    fn deliver(&mut self, records: &[Record]) -> DeliveryReport {
        let mut delivered = 0;
        match self.append(records, &mut delivered) {
            Ok(()) => DeliveryReport::complete(records.len()),
            Err(error) => DeliveryReport::stopped(delivered, error),
        }
    }

    fn mark(&mut self, mark: &Mark) -> Result<()> {
        self.line.clear();
        JsonFormatter::write_mark(mark, &mut self.line)?;
        self.block.clear();
        self.block.extend_from_slice(&self.line);
        self.write_block()?;
        self.line.clear();
        if self.is_full() {
            self.close()?;
        }
        let active = self.active.as_ref().map(|active| active.path.as_path());
        let removed = self.directory.remove_older(self.options.age, active);
        self.forget(&removed);
        self.compress();
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.close()?;
        self.active().map(drop)
    }

    fn finish(&mut self) -> Result<()> {
        // The segment stays as it is: its compression would take longer than the end of a run may.
        self.active.as_ref().map_or(Ok(()), |active| active.file.sync(&active.path))
    }
}

fn clock_state() -> ClockState {
    let discipline = system_clock::discipline();
    ClockState {
        monotonic_ns: system_clock::monotonic_ns().unwrap_or(0),
        synchronized: discipline.map(|discipline| discipline.is_synchronized),
        estimated_error_us: discipline.map(|discipline| discipline.estimated_error_us),
    }
}

/// Creates the directory of a recording with mode 0750, where it is missing, and opens it then; its parent has to exist. Blocks
/// on the file system. Fails where it cannot be created.
pub(crate) fn create_directory(path: &Path) -> Result<Option<File>> {
    segments::create_directory(path)
}

#[cfg(test)]
mod recording_tests;
