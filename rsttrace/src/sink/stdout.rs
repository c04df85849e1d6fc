//! The thread that writes to standard output: a reader that is slow blocks this thread, and neither signals nor the
//! reading of the kernel's buffer, nor the sinks.
//!
//! Records are formatted before they go to the thread. A record consists of some ten allocations, and freeing these in
//! another thread than the one that allocated them cost more than formatting the line.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::throttle::WriteThrottle;
use crate::{
    format::Formatter,
    model::{Record, SinkCount},
    util::{counted, messages::info},
};

/// Chunks that may be queued for the thread. When the queue is full the pipeline waits, then the kernel's buffer fills,
/// where losses are counted.
const QUEUE: usize = 16;

/// Bytes after which a chunk is queued, and written, although more records are available.
const CHUNK_BYTES: usize = 64 * 1024;

/// Limit for the end of the run to wait for a reader that reads nothing.
pub(crate) const SHUTDOWN_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit for the end of the run to wait for a reader that makes progress.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Failed write to standard output.
#[derive(Debug)]
pub(crate) struct StdoutError {
    /// Reason; `BrokenPipe` when the reader has closed it.
    pub(crate) error: io::Error,
    /// Number of records that are not written.
    pub(crate) missing: u64,
}

impl fmt::Display for StdoutError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, are) = (counted(self.missing, "record"), if self.missing == 1 { "is" } else { "are" });
        write!(formatter, "cannot write to standard output, {records} {are} missing")
    }
}

impl Error for StdoutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// A block of whole lines.
#[derive(Default)]
struct Chunk {
    lines: Vec<u8>,
    /// Number of records in `lines`.
    records: u64,
    /// Why the record after `lines` could not be formatted; it is the last chunk then.
    error: Option<io::Error>,
}

impl Chunk {
    /// An empty chunk, in a buffer that has been written if there is one.
    fn new(empty: &Receiver<Vec<u8>>) -> Self {
        Self { lines: empty.try_recv().unwrap_or_default(), ..Self::default() }
    }

    /// Formats records until the chunk is full. Returns their number; stops at the first that cannot be formatted.
    fn fill(&mut self, records: &[Record], formatter: &mut dyn Formatter) -> usize {
        let before = self.records;
        for record in records {
            if self.lines.len() >= CHUNK_BYTES {
                break;
            }
            if let Err(error) = formatter.write(record, &mut self.lines) {
                self.error = Some(error);
                break;
            }
            self.records += 1;
        }
        usize::try_from(self.records - before).unwrap_or(usize::MAX)
    }

    /// Appends another chunk, and returns its buffer for reuse.
    fn append(&mut self, other: Self) -> Vec<u8> {
        self.lines.extend_from_slice(&other.lines);
        self.records += other.records;
        self.error = other.error;
        other.lines
    }
}

/// The pipeline's handle of the thread.
pub(crate) struct StdoutWriter {
    formatter: Box<dyn Formatter>,
    chunks: mpsc::Sender<Chunk>,
    /// Buffers that have been written and can be filled again.
    empty: Receiver<Vec<u8>>,
    done: oneshot::Receiver<io::Result<()>>,
    written: Arc<AtomicU64>,
    queued: u64,
    /// Most queued records where no backpressure applies; `None` where the pipeline waits for the reader.
    capacity: Option<usize>,
    dropped: u64,
}

/// Permission to queue one chunk.
pub(crate) struct ChunkPermit<'a> {
    slot: mpsc::Permit<'a, Chunk>,
    chunk: Chunk,
    formatter: &'a mut dyn Formatter,
    queued: &'a mut u64,
}

impl ChunkPermit<'_> {
    /// Queues as many records as a chunk takes, and returns their number. Never blocks.
    pub(crate) fn send(self, records: &[Record]) -> usize {
        let Self { slot, mut chunk, formatter, queued } = self;
        let taken = chunk.fill(records, formatter);
        *queued += chunk.records;
        slot.send(chunk);
        taken
    }
}

impl StdoutWriter {
    /// Starts the thread on a duplicate of standard output. Without a `capacity` the reader slows the pipeline down;
    /// with one, records beyond it are dropped. Fails where standard output is closed, or the thread cannot be started.
    pub(crate) fn start(formatter: Box<dyn Formatter>, capacity: Option<usize>) -> Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().context("cannot duplicate standard output")?;
        let (chunks, receiver) = mpsc::channel(capacity.unwrap_or(QUEUE));
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (finished, done) = oneshot::channel();
        let (emptied, empty) = std::sync::mpsc::sync_channel(QUEUE);
        let written = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written);
        thread::Builder::new().name("rsttrace-writer".to_owned()).spawn(move || {
            let result = clock.block_on(write_all(receiver, &emptied, &mut File::from(stdout), &counter));
            // The pipeline may have ended without waiting.
            let _ignored = finished.send(result);
        })?;
        Ok(Self { formatter, chunks, empty, done, written, queued: 0, capacity, dropped: 0 })
    }

    /// Whether the pipeline waits for the reader of standard output.
    pub(crate) const fn applies_backpressure(&self) -> bool {
        self.capacity.is_none()
    }

    /// Queues records without blocking, and drops what does not fit. False where the pipeline is to wait
    /// ([`StdoutWriter::permit`]), or the thread has ended.
    pub(crate) fn offer(&mut self, records: &[Record]) -> bool {
        let Some(capacity) = self.capacity else { return false };
        let waiting = self.queued.saturating_sub(self.written.load(Ordering::Relaxed));
        let room = usize::try_from(waiting).map_or(0, |waiting| capacity.saturating_sub(waiting)).min(records.len());
        let (mut fitting, rest) = records.split_at(room);
        while !fitting.is_empty() {
            let mut chunk = Chunk::new(&self.empty);
            let (taken, left) = fitting.split_at(chunk.fill(fitting, &mut *self.formatter));
            match self.chunks.try_send(chunk) {
                Ok(()) => self.queued += taken.len() as u64,
                Err(mpsc::error::TrySendError::Full(_)) => return self.drop_records(fitting.len() + rest.len()),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.dropped += (fitting.len() + rest.len()) as u64;
                    return false;
                }
            }
            fitting = left;
        }
        self.drop_records(rest.len())
    }

    fn drop_records(&mut self, records: usize) -> bool {
        if records > 0 && self.dropped == 0 {
            info("standard output takes no more for now: records are not written to it");
        }
        self.dropped += records as u64;
        true
    }

    /// When [`Self::flush_folded`] is due, nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        self.formatter.deadline_ns()
    }

    /// Queues the lines that were held back and are due at this time. Waits for room, if the pipeline waits for the reader. Cancel
    /// safe: lines that are not queued yet stay where they are.
    pub(crate) async fn flush_folded(&mut self, now_ns: u64) {
        if self.deadline_ns().is_none_or(|deadline_ns| deadline_ns > now_ns) {
            return;
        }
        let slot = match self.capacity {
            None => self.chunks.reserve().await.ok(),
            Some(_) => self.chunks.try_reserve().ok(),
        };
        let mut chunk = Chunk::new(&self.empty);
        if let Err(error) = self.formatter.flush(now_ns, &mut chunk.lines) {
            chunk.error = Some(error);
        }
        // Without room, the reader has not read for long: these lines are among what it misses.
        if let Some(slot) = slot {
            slot.send(chunk);
        }
    }

    /// Written, dropped and waiting records.
    pub(crate) fn count(&self) -> SinkCount {
        let delivered = self.written.load(Ordering::Relaxed);
        let waiting = self.queued.saturating_sub(delivered);
        SinkCount { sink: "stdout".into(), delivered, undelivered: self.dropped, waiting }
    }

    /// Waits until one more chunk can be queued. `None` when the thread has ended, for a reason that
    /// [`StdoutWriter::finish`] returns.
    pub(crate) async fn permit(&mut self) -> Option<ChunkPermit<'_>> {
        let slot = self.chunks.reserve().await.ok()?;
        let chunk = Chunk::new(&self.empty);
        Some(ChunkPermit { slot, chunk, formatter: &mut *self.formatter, queued: &mut self.queued })
    }

    /// Waits until the thread has ended by itself, because it could not write.
    pub(crate) async fn failed(&self) {
        self.chunks.closed().await;
    }

    /// Number of records that have been written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits for the thread to write what is queued, until `deadline`, or until it makes no progress for
    /// [`SHUTDOWN_IDLE_TIMEOUT`]. The error says how many records are missing, including `left`, which could not be
    /// queued.
    pub(crate) async fn finish(mut self, deadline: Instant, left: usize) -> Result<(), StdoutError> {
        // Where the thread does not make room, it is told below why.
        let _ignored = timeout_at(deadline, self.flush_folded(u64::MAX)).await;
        drop(self.chunks);
        let result = loop {
            let before = self.written.load(Ordering::Relaxed);
            match timeout_at(deadline.min(Instant::now() + SHUTDOWN_IDLE_TIMEOUT), &mut self.done).await {
                Ok(Ok(result)) => break result,
                Ok(Err(_)) => break Err(io::Error::other("the writer has died")),
                Err(_) if self.written.load(Ordering::Relaxed) > before && Instant::now() < deadline => {}
                Err(_) => break Err(io::Error::new(io::ErrorKind::TimedOut, "it is not read")),
            }
        };
        let missing = self.queued.saturating_sub(self.written.load(Ordering::Relaxed)) + left as u64;
        result.map_err(|error| StdoutError { error, missing })
    }
}

async fn write_all(
    mut chunks: mpsc::Receiver<Chunk>,
    emptied: &SyncSender<Vec<u8>>,
    out: &mut File,
    written: &AtomicU64,
) -> io::Result<()> {
    // A full channel means that there are buffers enough: this one is freed.
    let reuse = |mut lines: Vec<u8>| {
        lines.clear();
        let _ignored = emptied.try_send(lines);
    };
    // A person at a terminal sees each line at once.
    let mut throttle = (!out.is_terminal()).then(WriteThrottle::default);
    while let Some(mut chunk) = chunks.recv().await {
        while chunk.lines.len() < CHUNK_BYTES && chunk.error.is_none() {
            let next = match chunks.try_recv() {
                Ok(next) => Some(next),
                Err(_) => more(&mut chunks, throttle.as_mut()).await,
            };
            let Some(next) = next else { break };
            reuse(chunk.append(next));
        }
        // The chunk is full, or no more are queued.
        out.write_all(&chunk.lines)?;
        written.fetch_add(chunk.records, Ordering::Relaxed);
        if let Some(error) = chunk.error {
            return Err(error);
        }
        reuse(chunk.lines);
    }
    Ok(())
}

/// Waits under load for the next chunk, which is then written together with this one. `None` when the throttle lets the
/// write go now, when none comes in time, or when the channel is closed.
async fn more(chunks: &mut mpsc::Receiver<Chunk>, throttle: Option<&mut WriteThrottle>) -> Option<Chunk> {
    let delay = throttle.map_or(Duration::ZERO, |throttle| throttle.next_write_in(std::time::Instant::now()));
    if delay.is_zero() { None } else { timeout(delay, chunks.recv()).await.ok().flatten() }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Lost, LostWhere};

    /// Writes counts, and fails beyond two.
    struct UpToTwo;

    impl Formatter for UpToTwo {
        fn write(&mut self, record: &Record, out: &mut dyn io::Write) -> io::Result<()> {
            match record {
                Record::Lost(Lost { count: count @ ..=2, .. }) => writeln!(out, "{count}"),
                _ => Err(io::Error::other("too many")),
            }
        }
    }

    #[test]
    fn a_format_error_ends_the_writer_and_is_not_counted() {
        let lost =
            |count| Record::Lost(Lost { time: Timestamp::UNIX_EPOCH, host: None, count, r#where: LostWhere::Kernel });
        let mut chunk = Chunk::default();
        assert_eq!(chunk.fill(&[1, 2, 3, 4].map(lost), &mut UpToTwo), 2);
        let written = AtomicU64::new(0);
        let (chunks, receiver) = mpsc::channel(1);
        chunks.try_send(chunk).expect("room for one");
        let (emptied, _empty) = std::sync::mpsc::sync_channel(1);
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a clock");
        let mut out = tempfile::tempfile().expect("a file");
        let error = clock.block_on(write_all(receiver, &emptied, &mut out, &written)).expect_err("it has ended");
        assert_eq!((error.to_string().as_str(), written.load(Ordering::Relaxed)), ("too many", 2));
        assert_eq!(out.metadata().expect("its size").len(), 4);
    }
}
