//! Files of a directory that is read: segments of a recording, or packet captures.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{lines::Contents, source::TimeRange};
use crate::util::{sanitize::Sanitized, segment_name};

/// What a directory holds.
pub(super) enum Directory {
    /// The segments of a recording, in the order of time.
    Segments(Vec<PathBuf>),
    /// Packet captures, in the order of their names.
    Captures(Vec<PathBuf>),
}

impl Directory {
    /// Looks for what can be read: without the segments that end before the times begin. Fails where there is nothing.
    pub(super) fn open(path: &Path, range: TimeRange) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        let is_segment = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| segment_name::is_segment(name) && !segment_name::is_unfinished(name))
        };
        let found: Vec<PathBuf> = files.iter().filter(is_segment).cloned().collect();
        if !found.is_empty() {
            return Ok(Self::Segments(segments(found, range)));
        }
        // What cannot be opened is told with the other files, if it is a capture by its name.
        let is_capture = |path: &PathBuf| matches!(Contents::open(path), Ok(Contents::Capture(_)));
        let lines = files.iter().find(|path| is_lines(path)).cloned();
        files.retain(is_capture);
        if files.is_empty() {
            let message = "the directory has neither a recording (files named as 20261128T081500Z-HOST.jsonl) nor packet captures";
            let lines = lines.map_or_else(String::new, |path| {
                format!(
                    "; records of --sink json are read by the name of their file: {}",
                    Sanitized(&path.display().to_string())
                )
            });
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{message}{lines}")));
        }
        Ok(Self::Captures(files))
    }
}

/// Whether a file has the records of `--sink json`, or will have them by its name.
fn is_lines(path: &Path) -> bool {
    const BEGINNING: &[u8] = br#"{"schema":"#;
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGINNING.len() as u64).read_to_end(&mut begin));
    let is_named = path.extension().is_some_and(|end| end == "json" || end == "jsonl");
    read.is_ok() && (begin == BEGINNING || begin.is_empty() && is_named)
}

/// The segments of a recording, in the order of their names, without those that end before the times begin.
fn segments(mut found: Vec<PathBuf>, range: TimeRange) -> Vec<PathBuf> {
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
    found.into_iter().enumerate().filter(|(place, _)| !is_over(*place)).map(|(_, path)| path).collect()
}
