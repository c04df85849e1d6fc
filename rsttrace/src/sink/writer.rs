//! The thread that writes to standard output, so that a slow reader stops neither signals nor the kernel's buffer from
//! being looked after. Where there are other ways out, it stops these neither.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{Record, Sink, outlet::pace::Pace};
use crate::{exit::note, summary::SinkCount};

/// Batches that may wait for the writer. When they do, the pipeline waits, and then the kernel's buffer fills, where
/// losses are counted.
const QUEUE: usize = 16;

/// Records in a batch at most.
pub(crate) const BATCH: usize = 256;

/// Bytes after which the buffer is written even though more records are waiting.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long the end of the run waits for a reader that takes nothing.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How long it waits for one that takes something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the writing thread.
pub(crate) struct Writer {
    batches: mpsc::Sender<Vec<Record>>,
    done: oneshot::Receiver<io::Result<()>>,
    written: Arc<AtomicU64>,
    handed_over: u64,
    /// Records that may wait where nobody waits for the reader.
    limit: Option<usize>,
    missed: u64,
}

/// Room for one batch.
pub(crate) struct Place<'a> {
    permit: mpsc::Permit<'a, Vec<Record>>,
    handed_over: &'a mut u64,
}

impl Place<'_> {
    /// Hands over a batch.
    pub(crate) fn send(self, batch: Vec<Record>) {
        *self.handed_over += batch.len() as u64;
        self.permit.send(batch);
    }
}

impl Writer {
    /// Starts the thread. With a limit, records that find so many waiting are missed instead of waited for.
    pub(crate) fn start(sink: Box<dyn Sink>, limit: Option<usize>) -> Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().context("standard output is not open")?;
        let (batches, receiver) = mpsc::channel(limit.unwrap_or(QUEUE));
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (finished, done) = oneshot::channel();
        let written = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written);
        thread::Builder::new().name("rsttrace-writer".to_owned()).spawn(move || {
            let result = clock.block_on(write_all(receiver, sink, &mut File::from(stdout), &counter));
            // The pipeline may have gone without waiting.
            drop(finished.send(result));
        })?;
        Ok(Self { batches, done, written, handed_over: 0, limit, missed: 0 })
    }

    /// Whether everybody waits for its reader.
    pub(crate) const fn is_awaited(&self) -> bool {
        self.limit.is_none()
    }

    /// Hands over records without waiting, if this one is not to be waited for. False if it is, or if it has ended.
    pub(crate) fn offer(&mut self, records: &[Record]) -> bool {
        let Some(limit) = self.limit else { return false };
        let waiting = self.handed_over.saturating_sub(self.written.load(Ordering::Relaxed));
        let room = usize::try_from(waiting).map_or(0, |waiting| limit.saturating_sub(waiting)).min(records.len());
        let (fitting, rest) = records.split_at(room);
        if !fitting.is_empty() {
            match self.batches.try_send(fitting.to_vec()) {
                Ok(()) => self.handed_over += fitting.len() as u64,
                Err(mpsc::error::TrySendError::Full(_)) => return self.miss(records.len()),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.missed += records.len() as u64;
                    return false;
                }
            }
        }
        self.miss(rest.len())
    }

    fn miss(&mut self, records: usize) -> bool {
        if records > 0 && self.missed == 0 {
            note("standard output takes no more for now: records are not written to it");
        }
        self.missed += records as u64;
        true
    }

    /// What has been written where nobody waits for the reader, and what not.
    pub(crate) fn count(&self) -> SinkCount {
        let delivered = self.written.load(Ordering::Relaxed);
        let waiting = self.handed_over.saturating_sub(delivered);
        SinkCount { sink: "stdout".into(), delivered, undelivered: self.missed, waiting }
    }

    /// Waits for room for one more batch. `None` when the writer has ended, for a reason that [`Writer::finish`]
    /// tells.
    pub(crate) async fn place(&mut self) -> Option<Place<'_>> {
        Some(Place { permit: self.batches.reserve().await.ok()?, handed_over: &mut self.handed_over })
    }

    /// Waits until the writer has ended of itself, because it could not write.
    pub(crate) async fn failed(&self) {
        self.batches.closed().await;
    }

    /// Records that have been written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lets the writer finish until a deadline, or until it gets no further. An error tells what was not written, `left`
    /// records that could not be handed over included.
    pub(crate) async fn finish(mut self, deadline: Instant, left: usize) -> Result<()> {
        drop(self.batches);
        let result = loop {
            let before = self.written.load(Ordering::Relaxed);
            match timeout_at(deadline.min(Instant::now() + GRACE), &mut self.done).await {
                Ok(Ok(result)) => break result,
                Ok(Err(_)) => break Err(io::Error::other("the writer has died")),
                Err(_) if self.written.load(Ordering::Relaxed) > before && Instant::now() < deadline => {}
                Err(_) => break Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it")),
            }
        };
        let missing = self.handed_over.saturating_sub(self.written.load(Ordering::Relaxed)) + left as u64;
        result.with_context(|| format!("cannot write to standard output, {missing} records are missing"))
    }
}

async fn write_all(
    mut batches: mpsc::Receiver<Vec<Record>>,
    mut sink: Box<dyn Sink>,
    out: &mut File,
    written: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES * 2);
    // Somebody who watches sees each line as it comes.
    let mut pace = (!out.is_terminal()).then(Pace::default);
    while let Some(batch) = batches.recv().await {
        let mut buffered = 0;
        let mut next = Some(batch);
        while let Some(batch) = next {
            for record in &batch {
                sink.write(record, &mut buffer)?;
                buffered += 1;
                if buffer.len() >= BUFFER_BYTES {
                    flush(&mut buffer, &mut buffered, out, written)?;
                }
            }
            next = match batches.try_recv() {
                Ok(batch) => Some(batch),
                Err(_) => more(&mut batches, pace.as_mut()).await,
            };
        }
        // Nothing more is waiting: what there is goes out now.
        flush(&mut buffer, &mut buffered, out, written)?;
    }
    Ok(())
}

/// Under load, what comes soon enough to go out together with what there is.
async fn more(batches: &mut mpsc::Receiver<Vec<Record>>, pace: Option<&mut Pace>) -> Option<Vec<Record>> {
    let delay = pace.map_or(Duration::ZERO, |pace| pace.delay(std::time::Instant::now()));
    if delay.is_zero() { None } else { timeout(delay, batches.recv()).await.ok().flatten() }
}

/// Writes whole lines.
fn flush(buffer: &mut Vec<u8>, buffered: &mut u64, out: &mut File, written: &AtomicU64) -> io::Result<()> {
    out.write_all(buffer)?;
    written.fetch_add(*buffered, Ordering::Relaxed);
    buffer.clear();
    *buffered = 0;
    Ok(())
}
