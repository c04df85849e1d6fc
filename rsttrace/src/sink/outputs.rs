//! The run's outputs: standard output and the configured sinks.

use std::{future::pending, sync::Arc};

use anyhow::Result;
use tokio::time::{Instant, timeout_at};

use super::{
    set::{SinkLoss, SinkSet},
    stdout::{SHUTDOWN_IDLE_TIMEOUT, SHUTDOWN_TIMEOUT, StdoutError, StdoutWriter},
};
use crate::{
    format::Formatter,
    model::{Mark, Record, SinkCount},
};

/// Standard output, if it is wanted, and the sinks.
pub(crate) struct Outputs {
    writer: Option<StdoutWriter>,
    sinks: SinkSet,
}

impl Outputs {
    /// Starts the thread that writes to standard output, if there is a formatter for it. Without a `capacity` the
    /// pipeline waits for its reader; with one, records beyond that number are dropped. Fails where standard output is
    /// closed.
    pub(crate) fn start(
        formatter: Option<Box<dyn Formatter>>,
        sinks: SinkSet,
        capacity: Option<usize>,
    ) -> Result<Self> {
        Ok(Self { writer: formatter.map(|formatter| StdoutWriter::start(formatter, capacity)).transpose()?, sinks })
    }

    /// Waits until writing to standard output has failed; forever where it is not written to.
    pub(crate) async fn failed(&self) {
        match &self.writer {
            Some(writer) => writer.failed().await,
            None => pending().await,
        }
    }

    /// Queues all records of the outbox. Returns false when writing to standard output has failed. Waits for the reader
    /// of standard output where that applies backpressure. Cancel safe: records that are not queued yet stay in the
    /// outbox. `done` gets each record that is queued everywhere.
    pub(crate) async fn send(&mut self, outbox: &mut Vec<Record>, mut done: impl FnMut(Record)) -> bool {
        let mut goes_on = true;
        while !outbox.is_empty() {
            let taken = match &mut self.writer {
                Some(writer) if writer.applies_backpressure() => {
                    let Some(permit) = writer.permit().await else { return false };
                    permit.send(outbox)
                }
                writer => {
                    self.sinks.offer(outbox);
                    // A failure ends the run, but the sinks get what there is first.
                    goes_on &= writer.as_mut().is_none_or(|writer| writer.offer(outbox));
                    outbox.len()
                }
            };
            outbox.drain(..taken).for_each(&mut done);
        }
        goes_on
    }

    /// Queues all records of the outbox, and waits for standard output and for every sink to have room: nothing is dropped.
    /// Returns false when writing to standard output has failed. Cancel safe as [`Self::send`] is.
    pub(crate) async fn send_all(&mut self, outbox: &mut Vec<Record>) -> bool {
        while !outbox.is_empty() {
            self.sinks.room().await;
            let mut part: Vec<Record> = outbox.drain(..outbox.len().min(self.sinks.batch())).collect();
            if !self.send(&mut part, drop).await {
                return false;
            }
        }
        true
    }

    /// When [`Self::flush_folded`] is due, nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn folded_deadline_ns(&self) -> Option<u64> {
        self.writer.as_ref().and_then(StdoutWriter::deadline_ns)
    }

    /// Writes the lines of text that were held back and are due at this time. Waits for the reader of standard output where that
    /// applies backpressure. Cancel safe.
    pub(crate) async fn flush_folded(&mut self, now_ns: u64) {
        if let Some(writer) = &mut self.writer {
            writer.flush_folded(now_ns).await;
        }
    }

    /// Sends a mark to the sinks.
    pub(crate) fn mark(&self, mark: &Arc<Mark>) {
        self.sinks.mark(mark);
    }

    /// Tells the sinks to reopen their files.
    pub(crate) fn reopen(&self) {
        self.sinks.reopen();
    }

    /// Waits until the sinks have delivered what is queued, within the limit of the end of the run.
    pub(crate) async fn flush(&self) {
        self.sinks.flush().await;
    }

    /// Delivered, undelivered and waiting records of each output; empty where standard output is the only one.
    pub(crate) fn counts(&self) -> Vec<SinkCount> {
        let stdout = self.writer.as_ref().filter(|writer| !writer.applies_backpressure()).map(StdoutWriter::count);
        stdout.into_iter().chain(self.sinks.counts()).collect()
    }

    /// Queues what is left, closes every output and waits for it. The error is that of standard output; sinks report
    /// their own, and their losses are returned.
    pub(crate) async fn finish(mut self, mut outbox: Vec<Record>) -> (Result<(), StdoutError>, Vec<SinkLoss>) {
        // A reader that reads nothing is given up at the deadline; a thread that has ended returns its own error.
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let written = |outputs: &Self| outputs.writer.as_ref().map_or(0, StdoutWriter::written);
        loop {
            let before = written(&self);
            let queued =
                timeout_at(deadline.min(Instant::now() + SHUTDOWN_IDLE_TIMEOUT), self.send(&mut outbox, drop)).await;
            if queued.is_ok() || written(&self) == before || Instant::now() >= deadline {
                break;
            }
        }
        let written = match self.writer {
            Some(writer) => writer.finish(deadline, outbox.len()).await,
            None => Ok(()),
        };
        (written, self.sinks.shutdown().await)
    }
}
