//! All the ways out of one run: standard output, and the outlets.

use std::future::pending;

use anyhow::Result;
use tokio::time::{Instant, timeout_at};

use super::{
    Record, Sink,
    outlet::crew::Crew,
    writer::{GRACE, PATIENCE, Writer},
};
use crate::{exit::Failure, summary::SinkCount};

/// Standard output, if it is wanted, and the outlets.
pub(crate) struct Ways {
    writer: Option<Writer>,
    crew: Crew,
}

impl Ways {
    /// Starts to write to standard output with this sink. Without a limit it is waited for; with one, since there are other
    /// ways out, it has a queue of so many records.
    pub(crate) fn start(sink: Option<Box<dyn Sink>>, crew: Crew, limit: Option<usize>) -> Result<Self> {
        Ok(Self { writer: sink.map(|sink| Writer::start(sink, limit)).transpose()?, crew })
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
                Some(writer) if writer.is_awaited() => {
                    let Some(place) = writer.place().await else { return false };
                    place.send(outbox)
                }
                writer => {
                    self.crew.offer(outbox);
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
        self.crew.reopen();
    }

    /// Waits until the outlets have delivered what they have, as long as the end of a run waits.
    pub(crate) async fn settle(&self) {
        self.crew.settle().await;
    }

    /// What every way has delivered, where there are several.
    pub(crate) fn counts(&self) -> Vec<SinkCount> {
        let stdout = self.writer.as_ref().filter(|writer| !writer.is_awaited()).map(Writer::count);
        stdout.into_iter().chain(self.crew.counts()).collect()
    }

    /// Hands over what is left and lets everything end. An error is standard output's.
    pub(crate) async fn finish(mut self, mut outbox: Vec<Record>) -> Result<(), Failure> {
        // A reader that takes nothing must not keep us; a writer that has ended says why itself.
        let deadline = Instant::now() + PATIENCE;
        let written = |ways: &Self| ways.writer.as_ref().map_or(0, Writer::written);
        loop {
            let before = written(&self);
            let gone = timeout_at(deadline.min(Instant::now() + GRACE), self.send(&mut outbox, drop)).await;
            if gone.is_ok() || written(&self) == before || Instant::now() >= deadline {
                break;
            }
        }
        let written = match self.writer {
            Some(writer) => writer.finish(deadline, outbox.len()).await,
            None => Ok(()),
        };
        self.crew.finish().await;
        written
    }
}
