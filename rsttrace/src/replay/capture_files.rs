//! Packet captures of several files: what a capture program that begins a new file by size or time has written.
//!
//! A file that begins where another ends goes on with that one's connections, where their names differ in digits alone. Their order
//! is told by the times of their packets: a ring of files begins anew with the first name.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{directory::Directory, source::TimeRange};
use crate::capture::Carried;

/// Longest time by which the first packet of a file may be earlier than the last one of the file before it, nanoseconds: packets of
/// several processors are written slightly out of order.
const OVERLAP_MAX_NS: u64 = 100_000_000;

/// A capture whose time has not come yet.
pub(super) struct WaitingCapture {
    pub(super) path: PathBuf,
    /// Time of its first packet, nanoseconds since 1970.
    pub(super) first_ns: u64,
}

/// A capture that has been read to its end.
pub(super) struct EndedCapture {
    /// The first of its files, and the last one.
    first: PathBuf,
    last: PathBuf,
    /// Number of its files.
    files: u64,
    /// What its last file has handed on.
    pub(super) carried: Carried,
}

/// The files that one goes on with.
pub(super) struct FilesBefore {
    first: PathBuf,
    files: u64,
}

impl EndedCapture {
    /// A file that has been read, and those before it that it went on with.
    pub(super) fn new(path: PathBuf, before: Option<FilesBefore>, carried: Carried) -> Self {
        let (first, files) = before.map_or_else(|| (path.clone(), 1), |before| (before.first, before.files + 1));
        Self { first, last: path, files, carried }
    }

    /// Whether a file with this name and first packet goes on with it.
    fn precedes(&self, path: &Path, first_ns: u64) -> bool {
        let is_before = |(_, last_ns): (u64, u64)| last_ns <= first_ns.saturating_add(OVERLAP_MAX_NS);
        self.carried.span_ns().is_some_and(is_before) && kind_of_name(&self.last) == kind_of_name(path)
    }

    /// The files, and what the last of them has handed on.
    pub(super) fn hand_on(self) -> (FilesBefore, Carried) {
        (FilesBefore { first: self.first, files: self.files }, self.carried)
    }

    /// How it was read, one line each.
    pub(super) fn remarks(&self) -> Vec<String> {
        self.of_files(self.carried.remarks())
    }

    /// What it lacks, one line each.
    pub(super) fn notes(&self) -> Vec<String> {
        self.of_files(self.carried.notes())
    }

    fn of_files(&self, texts: Vec<String>) -> Vec<String> {
        let name = match self.files {
            1 => self.first.display().to_string(),
            files => format!("{files} files, {} to {}", self.first.display(), self.last.display()),
        };
        texts.into_iter().map(|text| format!("{name}: {text}")).collect()
    }
}

/// Finds the capture that a file goes on with among those that have ended: of several the one whose name has the longest
/// beginning in common with its own, and the latest of these.
pub(super) fn preceding<'a>(
    ended: impl Iterator<Item = &'a mut Option<EndedCapture>>,
    path: &Path,
    first_ns: u64,
) -> Option<&'a mut Option<EndedCapture>> {
    let precedes = |one: &&mut Option<EndedCapture>| one.as_ref().is_some_and(|one| one.precedes(path, first_ns));
    let nearness = |one: &&mut Option<EndedCapture>| {
        one.as_ref().map(|one| (common_beginning(&one.last, path), one.carried.span_ns()))
    };
    ended.filter(precedes).max_by_key(nearness)
}

/// The captures of a directory in groups that may be one capture each: those whose names differ in digits alone. `None` where it
/// has none. Fails where it cannot be read.
pub fn groups(directory: &Path) -> io::Result<Option<Vec<Vec<PathBuf>>>> {
    let Directory::Captures(files) = Directory::open(directory, TimeRange::default())? else { return Ok(None) };
    let mut groups: Vec<Vec<PathBuf>> = Vec::new();
    for file in files {
        let kind = kind_of_name(&file);
        let is_of = |group: &&mut Vec<PathBuf>| group.first().is_some_and(|first| kind_of_name(first) == kind);
        match groups.iter_mut().find(is_of) {
            Some(group) => group.push(file),
            None => groups.push(vec![file]),
        }
    }
    Ok(Some(groups))
}

/// The directory of a file, and its name without digits and without the extension of a compression.
fn kind_of_name(path: &Path) -> (Option<&Path>, String) {
    let is_compressed = path.extension().is_some_and(|extension| extension == "gz" || extension == "zst");
    let name = if is_compressed { path.file_stem() } else { path.file_name() };
    let bytes = name.unwrap_or_default().as_encoded_bytes().iter().copied().filter(|byte| !byte.is_ascii_digit());
    (path.parent(), String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
}

/// Bytes that two names have in common at their beginning.
fn common_beginning(a: &Path, b: &Path) -> usize {
    let (a, b) = (a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes());
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_capture_differ_in_digits_alone() {
        let is_one = |a: &str, b: &str| kind_of_name(Path::new(a)) == kind_of_name(Path::new(b));
        assert!(is_one("/c/a.pcap", "/c/a.pcap1") && is_one("/c/a.pcap9", "/c/a.pcap10"));
        assert!(is_one("trace_00001_20261128140300.pcapng", "trace_00002_20261128150300.pcapng.gz"));
        assert!(
            !is_one("client.pcap", "server.pcap") && !is_one("/c/a.pcap", "/d/a.pcap") && !is_one("a.pcap", "a.pcapng")
        );
    }
}
