//! All the outputs out of one run: standard output, and the outlets.

use std::future::pending;

use anyhow::Result;
use tokio::time::{Instant, timeout_at};

use super::{
    set::SinkSet,
    stdout::{SHUTDOWN_IDLE_TIMEOUT, SHUTDOWN_TIMEOUT, StdoutWriter},
};
use crate::{
    exit::Failure,
    format::Formatter,
    model::{Record, SinkCount},
};

/// Standard output, if it is wanted, and the outlets.
pub(crate) struct Outputs {
    writer: Option<StdoutWriter>,
    sinks: SinkSet,
}

impl Outputs {
    /// Starts to write to standard output with this sink. Without a capacity it is waited for; with one, since there are other
    /// outputs out, it has a queue of so many records.
    pub(crate) fn start(sink: Option<Box<dyn Formatter>>, sinks: SinkSet, capacity: Option<usize>) -> Result<Self> {
        Ok(Self { writer: sink.map(|sink| StdoutWriter::start(sink, capacity)).transpose()?, sinks })
    }

    /// Waits until standard output has failed.
    pub(crate) async fn failed(&self) {
        match &self.writer {
            Some(writer) => writer.failed().await,
            None => pending().await,
        }
    }

    /// Hands records over; false when standard output has failed. Cancelling it loses nothing: what has not been handed
    /// over stays in the outbox. `done` takes those that have been.
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
                    // Its end is the run's, but what there is goes to the others.
                    goes_on &= writer.as_mut().is_none_or(|writer| writer.offer(outbox));
                    outbox.len()
                }
            };
            outbox.drain(..taken).for_each(&mut done);
        }
        goes_on
    }

    /// Tells the outlets to begin new files.
    pub(crate) fn reopen(&self) {
        self.sinks.reopen();
    }

    /// Waits until the outlets have delivered what they have, as long as the end of a run waits.
    pub(crate) async fn flush(&self) {
        self.sinks.flush().await;
    }

    /// What every way has delivered, where there are several.
    pub(crate) fn counts(&self) -> Vec<SinkCount> {
        let stdout = self.writer.as_ref().filter(|writer| !writer.applies_backpressure()).map(StdoutWriter::count);
        stdout.into_iter().chain(self.sinks.counts()).collect()
    }

    /// Hands over what is left and lets everything end. An error is standard output's.
    pub(crate) async fn finish(mut self, mut outbox: Vec<Record>) -> Result<(), Failure> {
        // A reader that takes nothing must not keep us; a writer that has ended says why itself.
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let written = |outputs: &Self| outputs.writer.as_ref().map_or(0, StdoutWriter::written);
        loop {
            let before = written(&self);
            let gone =
                timeout_at(deadline.min(Instant::now() + SHUTDOWN_IDLE_TIMEOUT), self.send(&mut outbox, drop)).await;
            if gone.is_ok() || written(&self) == before || Instant::now() >= deadline {
                break;
            }
        }
        let written = match self.writer {
            Some(writer) => writer.finish(deadline, outbox.len()).await,
            None => Ok(()),
        };
        self.sinks.shutdown().await;
        written
    }
}
