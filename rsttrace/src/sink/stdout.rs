//! The thread that writes to standard output, so that a slow reader stops neither signals nor the kernel's buffer from
//! being looked after. Where there are other ways out, it stops these neither.
//!
//! Records become lines before they go there: a record is some ten pieces of memory, and to give those back in another
//! thread than the one that took them cost more than to write the line.

use std::{
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
    exit::{Failure, note},
    format::Formatter,
    model::{Record, SinkCount},
};

/// Chunks that may wait for the writer. When they do, the pipeline waits, and then the kernel's buffer fills, where
/// losses are counted.
const QUEUE: usize = 16;

/// Bytes after which a chunk is handed over, and written, even though more records are waiting.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long the end of the run waits for a reader that takes nothing.
pub(crate) const SHUTDOWN_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it waits for one that takes something.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Whole lines.
#[derive(Default)]
struct Chunk {
    lines: Vec<u8>,
    /// What they stand for.
    records: u64,
    /// Why the record behind them could not be printed: nothing comes after it.
    error: Option<io::Error>,
}

impl Chunk {
    /// An empty one, in memory that has been used before if there is some.
    fn new(empty: &Receiver<Vec<u8>>) -> Self {
        Self { lines: empty.try_recv().unwrap_or_default(), ..Self::default() }
    }

    /// Prints records until the chunk is full; how many.
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

    /// Adds another, whose memory can be used again then.
    fn append(&mut self, other: Self) -> Vec<u8> {
        self.lines.extend_from_slice(&other.lines);
        self.records += other.records;
        self.error = other.error;
        other.lines
    }
}

/// The way to the writing thread.
pub(crate) struct StdoutWriter {
    formatter: Box<dyn Formatter>,
    chunks: mpsc::Sender<Chunk>,
    /// What has been written and can be filled again.
    empty: Receiver<Vec<u8>>,
    done: oneshot::Receiver<io::Result<()>>,
    written: Arc<AtomicU64>,
    queued: u64,
    /// Records that may wait where nobody waits for the reader.
    capacity: Option<usize>,
    dropped: u64,
}

/// Room for one chunk.
pub(crate) struct Permit<'a> {
    permit: mpsc::Permit<'a, Chunk>,
    chunk: Chunk,
    formatter: &'a mut dyn Formatter,
    queued: &'a mut u64,
}

impl Permit<'_> {
    /// Hands over as many records as a chunk takes; how many that were.
    pub(crate) fn send(self, records: &[Record]) -> usize {
        let Self { permit, mut chunk, formatter, queued } = self;
        let taken = chunk.fill(records, formatter);
        *queued += chunk.records;
        permit.send(chunk);
        taken
    }
}

impl StdoutWriter {
    /// Starts the thread. With a capacity, records that find so many waiting are dropped instead of waited for.
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
            // The pipeline may have gone without waiting.
            drop(finished.send(result));
        })?;
        Ok(Self { formatter, chunks, empty, done, written, queued: 0, capacity, dropped: 0 })
    }

    /// Whether everybody waits for its reader.
    pub(crate) const fn applies_backpressure(&self) -> bool {
        self.capacity.is_none()
    }

    /// Hands over records without waiting, if this one is not to be waited for. False if it is, or if it has ended.
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
            note("standard output takes no more for now: records are not written to it");
        }
        self.dropped += records as u64;
        true
    }

    /// What has been written where nobody waits for the reader, and what not.
    pub(crate) fn count(&self) -> SinkCount {
        let delivered = self.written.load(Ordering::Relaxed);
        let waiting = self.queued.saturating_sub(delivered);
        SinkCount { sink: "stdout".into(), delivered, undelivered: self.dropped, waiting }
    }

    /// Waits for room for one more chunk. `None` when the writer has ended, for a reason that [`StdoutWriter::finish`]
    /// tells.
    pub(crate) async fn permit(&mut self) -> Option<Permit<'_>> {
        let permit = self.chunks.reserve().await.ok()?;
        let chunk = Chunk::new(&self.empty);
        Some(Permit { permit, chunk, formatter: &mut *self.formatter, queued: &mut self.queued })
    }

    /// Waits until the writer has ended of itself, because it could not write.
    pub(crate) async fn failed(&self) {
        self.chunks.closed().await;
    }

    /// Records that have been written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lets the writer finish until a deadline, or until it gets no further. An error tells what was not written, `left`
    /// records that could not be handed over included.
    pub(crate) async fn finish(mut self, deadline: Instant, left: usize) -> Result<(), Failure> {
        drop(self.chunks);
        let result = loop {
            let before = self.written.load(Ordering::Relaxed);
            match timeout_at(deadline.min(Instant::now() + SHUTDOWN_IDLE_TIMEOUT), &mut self.done).await {
                Ok(Ok(result)) => break result,
                Ok(Err(_)) => break Err(io::Error::other("the writer has died")),
                Err(_) if self.written.load(Ordering::Relaxed) > before && Instant::now() < deadline => {}
                Err(_) => break Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it")),
            }
        };
        let missing = self.queued.saturating_sub(self.written.load(Ordering::Relaxed)) + left as u64;
        result.map_err(|error| {
            Failure::stdout(error, format!("cannot write to standard output, {missing} records are missing"))
        })
    }
}

async fn write_all(
    mut chunks: mpsc::Receiver<Chunk>,
    emptied: &SyncSender<Vec<u8>>,
    out: &mut File,
    written: &AtomicU64,
) -> io::Result<()> {
    // One too many is given back to the allocator.
    let reuse = |mut lines: Vec<u8>| {
        lines.clear();
        emptied.try_send(lines).unwrap_or_default();
    };
    // Somebody who watches sees each line as it comes.
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
        // It is full, or nothing more is waiting: what there is goes out now.
        out.write_all(&chunk.lines)?;
        written.fetch_add(chunk.records, Ordering::Relaxed);
        if let Some(error) = chunk.error {
            return Err(error);
        }
        reuse(chunk.lines);
    }
    Ok(())
}

/// Under load, what comes soon enough to go out together with what there is.
async fn more(chunks: &mut mpsc::Receiver<Chunk>, throttle: Option<&mut WriteThrottle>) -> Option<Chunk> {
    let delay = throttle.map_or(Duration::ZERO, |throttle| throttle.next_write_in(std::time::Instant::now()));
    if delay.is_zero() { None } else { timeout(delay, chunks.recv()).await.ok().flatten() }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Lost, LostWhere};

    /// Prints counts, and cannot count beyond two.
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
    fn what_cannot_be_printed_ends_the_writer_and_is_not_counted() {
        let lost = |count| Record::Lost(Lost { time: Timestamp::UNIX_EPOCH, count, r#where: LostWhere::Kernel });
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
