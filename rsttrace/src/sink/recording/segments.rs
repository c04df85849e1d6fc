//! The segments of a recording in their directory: their names and sizes, and the removal of the oldest.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::ErrorKind,
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use nix::sys::statvfs::{FsFlags, Statvfs, fstatvfs};

use super::super::line_file::LineFile;
use crate::util::{messages::info, segment_name, size};

/// Most segments of one second.
const SEGMENTS_A_SECOND: u32 = 9999;

/// A file of a recording.
#[derive(Debug)]
struct SegmentFile {
    path: PathBuf,
    bytes: u64,
    /// Last change.
    changed: SystemTime,
}

/// Limits for what is about to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of all segments together.
    pub(super) size: u64,
    /// Bytes that stay free on the file system.
    pub(super) min_free: u64,
    /// Bytes that are about to be written.
    pub(super) bytes: u64,
}

impl Room {
    /// Bytes that have to be free before the write.
    const fn least_free(self) -> u64 {
        self.min_free.saturating_add(self.bytes)
    }
}

/// The directory, locked against other recorders.
pub(super) struct SegmentDirectory {
    path: PathBuf,
    /// Open for its lock, and to ask its file system for free space.
    handle: File,
    /// Segments in the order of their names, which is that of their times.
    segments: Vec<SegmentFile>,
    /// Name of the last one that was begun, without its ending.
    last: Option<String>,
    /// Whether a removal for want of free space has been reported.
    is_short: bool,
}

/// Creates a directory with mode 0750, where it is missing, and opens it then.
pub(super) fn create_directory(path: &Path) -> Result<Option<File>> {
    let cannot = || format!("cannot create {}", path.display());
    match DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        created => {
            created.with_context(cannot)?;
            // What was created, and nothing that has taken its place since.
            let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
            OpenOptions::new().read(true).custom_flags(flags).open(path).map(Some).with_context(cannot)
        }
    }
}

impl SegmentDirectory {
    /// Opens and locks a directory. Fails where it cannot be read, or another rsttrace records there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(path)
            .with_context(|| format!("cannot open {shown}"))?;
        match handle.try_lock() {
            Err(fs::TryLockError::WouldBlock) => bail!("{shown} is in use: another rsttrace records there"),
            // Some network file systems have no locks.
            Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        }
        let mut segments = Vec::new();
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {shown}"))? {
            let entry = entry.with_context(|| format!("cannot read {shown}"))?;
            // A link is not followed: `metadata` of an entry is the entry's own.
            let Some(metadata) = entry.metadata().ok().filter(fs::Metadata::is_file) else { continue };
            if entry.file_name().to_str().is_some_and(segment_name::is_segment) {
                let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                segments.push(SegmentFile { path: entry.path(), bytes: metadata.len(), changed });
            }
        }
        segments.sort_by(|one, other| one.path.cmp(&other.path));
        let last = segments.iter().filter_map(|segment| segment_name::stem(segment.path.file_name()?.to_str()?));
        let last = last.max().map(str::to_owned);
        Ok(Self { path: path.into(), handle, segments, last, is_short: false })
    }

    /// Removes unfinished compressions of an earlier run, repairs the ends of its segments, and returns those that are not
    /// compressed, the oldest first.
    pub(super) fn recover(&mut self) -> Result<Vec<PathBuf>> {
        self.remove_where(|segment| segment.path.to_string_lossy().ends_with(segment_name::UNFINISHED));
        let mut plain = Vec::new();
        for segment in &mut self.segments {
            if segment.path.to_string_lossy().ends_with(segment_name::PLAIN) {
                let mut file = LineFile::new(&segment.path)?;
                segment.bytes = file.length(&segment.path)?.unwrap_or(segment.bytes);
                plain.push(segment.path.clone());
            }
        }
        Ok(plain)
    }

    /// Creates a segment, named after its time and host. Its name sorts behind those of all before it, also where the clock was
    /// set back or those are gone.
    pub(super) fn create(&mut self, time: Timestamp, host: &str) -> Result<(PathBuf, LineFile)> {
        let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
        let host: String =
            host.chars().take(64).map(|character| if is_plain(character) { character } else { '_' }).collect();
        let now = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let last = self.last.as_deref().unwrap_or_default();
        let stamp = last.get(..now.len()).filter(|before| **before > *now).unwrap_or(&now);
        for number in 1..=SEGMENTS_A_SECOND {
            // A letter that sorts behind the ending of the first one of a second.
            let suffix = if number == 1 { String::new() } else { format!("~{number:04}") };
            let name = format!("{stamp}-{host}{suffix}");
            if *name <= *last {
                continue;
            }
            let path = self.path.join(format!("{name}{}", segment_name::PLAIN));
            match OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path) {
                Ok(_) => {
                    let file = LineFile::new(&path)?;
                    self.segments.push(SegmentFile { path: path.clone(), bytes: 0, changed: SystemTime::now() });
                    self.last = Some(name);
                    return Ok((path, file));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
            }
        }
        bail!("{}: {SEGMENTS_A_SECOND} segments of one second", self.path.display())
    }

    /// Notes the size of a segment.
    pub(super) fn note(&mut self, path: &Path, bytes: u64) {
        // The last one, as long as it is written to.
        if let Some(segment) = self.segments.iter_mut().rfind(|segment| segment.path == path) {
            (segment.bytes, segment.changed) = (bytes, SystemTime::now());
        }
    }

    /// Size of a segment, bytes; 0 where there is none of this path.
    fn bytes_of(&self, path: &Path) -> u64 {
        self.segments.iter().find(|segment| segment.path == path).map_or(0, |segment| segment.bytes)
    }

    /// Forgets a segment that is gone.
    pub(super) fn forget(&mut self, path: &Path) {
        self.segments.retain(|segment| segment.path != path);
    }

    /// Notes that a segment was compressed.
    pub(super) fn replace(&mut self, plain: &Path, compressed: &Path) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.path == plain) {
            let bytes = fs::metadata(compressed).map_or(0, |metadata| metadata.len());
            (segment.path, segment.bytes) = (compressed.into(), bytes);
        }
    }

    /// Removes the oldest segments, but not the active one, until what is about to be written fits within the limits. Returns
    /// what was removed, and an error where it does not fit then. `compressed` is the segment that is being compressed.
    pub(super) fn make_room(
        &mut self,
        room: Room,
        active: Option<&Path>,
        compressed: Option<&Path>,
    ) -> (Vec<PathBuf>, Result<()>) {
        let mut removed = Vec::new();
        loop {
            // A segment that is being compressed takes its place twice for a moment; a quarter of it is far more than that.
            let used: u64 = self.segments.iter().map(|segment| segment.bytes).sum::<u64>()
                + compressed.map_or(0, |path| self.bytes_of(path) / 4);
            let status = fstatvfs(self.handle.as_fd()).ok();
            if status.is_some_and(|status| status.flags().contains(FsFlags::ST_RDONLY)) {
                // Some have no free space, which is not what is wrong.
                let error = anyhow!("{}: its file system is read-only", self.path.display());
                return (removed, Err(error));
            }
            let free = status.as_ref().map(free_of);
            let is_short = free.is_some_and(|free| free < room.least_free());
            if used + room.bytes <= room.size && !is_short {
                // Reported once while it is short, and not at each removal.
                let is_ample = |free| free > room.min_free.saturating_add(room.min_free / 4);
                self.is_short &= !free.is_none_or(is_ample);
                return (removed, Ok(()));
            }
            if is_short && free.is_some_and(|free| free.saturating_add(self.removable(active)) < room.least_free()) {
                // Others have filled the disk: what was recorded would be gone, and there would be no room still.
                let error = self.no_room(room, free.unwrap_or_default(), self.removable(active) > 0);
                return (removed, Err(error));
            }
            if is_short && !std::mem::replace(&mut self.is_short, true) {
                info(format_args!(
                    "{}: {} free: the oldest segments are removed",
                    self.path.display(),
                    size::shown(free.unwrap_or_default())
                ));
            }
            let Some(oldest) = self.segments.iter().position(|segment| active != Some(&*segment.path)) else {
                let error = anyhow!("{}: no room, and no older segment is left to remove", self.path.display());
                return (removed, Err(error));
            };
            removed.push(self.remove(oldest));
        }
    }

    /// The error where a file system has too little free space; `has_older`: with segments that could be removed.
    fn no_room(&self, room: Room, free: u64, has_older: bool) -> anyhow::Error {
        let (path, free) = (self.path.display(), size::shown(free));
        let older = if has_older { "; older segments stay, since they are too small to make up for it" } else { "" };
        match room.min_free {
            0 => anyhow!(
                "{path}: no room on the disk: {free} free, and a write takes {}{older}",
                size::shown(room.bytes)
            ),
            least => {
                let least = size::shown(least);
                anyhow!("{path}: no room on the disk: {free} free, and {least} to stay free (--min-free){older}")
            }
        }
    }

    /// Bytes of all segments but the active one.
    fn removable(&self, active: Option<&Path>) -> u64 {
        self.segments.iter().filter(|segment| active != Some(&*segment.path)).map(|segment| segment.bytes).sum()
    }

    /// Removes segments that were last changed longer ago than this, but not the active one. Returns what was removed.
    pub(super) fn remove_older(&mut self, age: Duration, active: Option<&Path>) -> Vec<PathBuf> {
        // A clock that was set back makes nothing older.
        let is_older = |segment: &SegmentFile| segment.changed.elapsed().is_ok_and(|elapsed| elapsed > age);
        self.remove_where(|segment| is_older(segment) && active != Some(&*segment.path))
    }

    fn remove_where(&mut self, mut chosen: impl FnMut(&SegmentFile) -> bool) -> Vec<PathBuf> {
        let mut removed = Vec::new();
        while let Some(place) = self.segments.iter().position(&mut chosen) {
            removed.push(self.remove(place));
        }
        removed
    }

    /// Removes the segment at this place. One that cannot be removed is reported and forgotten: it no longer counts.
    fn remove(&mut self, place: usize) -> PathBuf {
        let SegmentFile { path, .. } = self.segments.remove(place);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                info(format_args!("cannot remove {}: {error}", path.display()));
            }
            _ => {}
        }
        path
    }
}

/// Bytes that this process may still write on the file system of an open file; `None` where that is not known.
pub(super) fn free_space(file: &File) -> Option<u64> {
    fstatvfs(file.as_fd()).ok().as_ref().map(free_of)
}

fn free_of(status: &Statvfs) -> u64 {
    status.blocks_available().saturating_mul(status.fragment_size())
}
