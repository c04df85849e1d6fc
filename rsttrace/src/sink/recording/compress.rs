//! Compression of a full segment, in a thread of its own at low priority, while the next one is written.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::setpriority_process;
use zstd::{bulk::Compressor, zstd_safe::CParameter};

use super::segments::free_space;
use crate::util::segment_name::{COMPRESSED, PLAIN, UNFINISHED};

/// Level of zstd. On 72 MB of records in such frames it was 2.6 times as fast as level 3, the default, and its result a tenth
/// smaller.
const LEVEL: i32 = 1;
/// Bytes of lines in a frame, the last line aside. A reader needs one frame at a time in memory.
const FRAME_BYTES: usize = 256 << 10;
/// Priority of the thread (`nice`), from -20 to 19.
const PRIORITY: i32 = 15;

/// A compression that goes on.
pub(super) struct Compression {
    path: PathBuf,
    is_cancelled: Arc<AtomicBool>,
    thread: JoinHandle<Result<PathBuf>>,
}

impl Compression {
    /// Begins to compress a segment. `min_free` bytes stay free on its file system. Fails where there can be no thread.
    pub(super) fn start(path: &Path, min_free: u64) -> Result<Self> {
        let owned = path.to_owned();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&is_cancelled);
        let thread = thread::Builder::new().name("compress".into()).spawn(move || {
            // What runs beside it is more important; where that cannot be set it runs as it is.
            let _ignored = setpriority_process(None, PRIORITY);
            compress(&owned, min_free, &cancelled)
        });
        Ok(Self { path: path.into(), is_cancelled, thread: thread.context("cannot start a thread")? })
    }

    /// The segment that is being compressed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Stops it and leaves nothing of it, since the segment was removed. Blocks for the rest of a frame.
    pub(super) fn cancel(self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        if let Ok(done) = self.finish() {
            // It had ended before it was stopped.
            let _ignored = fs::remove_file(done);
        }
    }

    /// Whether [`Self::finish`] does not block.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Path of the compressed segment, which has taken the place of the other. Blocks until it is there. Fails where it could
    /// not be written; then the segment is as it was.
    pub(super) fn finish(self) -> Result<PathBuf> {
        self.thread.join().map_err(|_panic| anyhow!("the thread has ended"))?
    }
}

/// Compresses a segment and removes it.
fn compress(path: &Path, min_free: u64, is_cancelled: &AtomicBool) -> Result<PathBuf> {
    let name = path.to_str().and_then(|name| name.strip_suffix(PLAIN)).context("it is no segment")?;
    let (done, unfinished) =
        (PathBuf::from(format!("{name}{COMPRESSED}")), PathBuf::from(format!("{name}{UNFINISHED}")));
    let written = write_frames(path, &unfinished, min_free, is_cancelled);
    if let Err(error) = written {
        let _ignored = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::rename(&unfinished, &done)?;
    // It is gone already where it was removed for want of room.
    let _ignored = fs::remove_file(path);
    Ok(done)
}

fn write_frames(from: &Path, to: &Path, min_free: u64, is_cancelled: &AtomicBool) -> Result<()> {
    let mut lines = BufReader::new(File::open(from)?);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(to)?;
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    loop {
        let is_last = lines.read_until(b'\n', &mut frame)? == 0;
        if frame.len() >= FRAME_BYTES || is_last && !frame.is_empty() {
            if is_cancelled.load(Ordering::Relaxed) {
                bail!("the segment was removed");
            }
            let bytes = compressor.compress(&frame)?;
            if free_space(&file).is_some_and(|free| free < min_free.saturating_add(bytes.len() as u64)) {
                bail!("no room");
            }
            file.write_all(&bytes)?;
            frame.clear();
        }
        if is_last {
            // Its age counts from its last record.
            file.set_modified(lines.get_ref().metadata()?.modified()?)?;
            file.sync_all()?;
            return Ok(());
        }
    }
}
