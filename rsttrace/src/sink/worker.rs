//! The thread that delivers to one sink, in batches, trying again with back-off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{DeliveryReport, Sink, throttle::WriteThrottle};
use crate::{
    exit::{note, sentence},
    model::Record,
};

/// Records that an sink is handed at a time, at most.
const BATCH: usize = 512;

/// First delay after a failure, and the delay after progress.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest delay between two attempts: each failure doubles it.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The same at most at the end of the run.
const SHUTDOWN_BACKOFF_MAX: Duration = Duration::from_millis(500);

/// What the pipeline wants of a thread.
pub(super) enum Command {
    /// As many as there was room for.
    Deliver(Vec<Record>),
    /// A new file, of those that write one.
    Reopen,
    /// The end is near: what failed is tried again soon.
    Flush,
}

/// What both sides know.
#[derive(Default)]
pub(super) struct SinkCounters {
    /// Records in the queue and in the sink's hands.
    pub(super) waiting: AtomicUsize,
    /// Records that have arrived.
    pub(super) delivered: AtomicU64,
    /// Records that were rejected, or did not fit into the queue.
    pub(super) undelivered: AtomicU64,
    /// The queue is full, and that has been said.
    pub(super) is_full: AtomicBool,
    /// Told whenever nothing is waiting any more.
    pub(super) idle: Notify,
}

/// One sink, in its thread.
pub(super) struct Worker {
    name: Arc<str>,
    sink: Box<dyn Sink>,
    counts: Arc<SinkCounters>,
    capacity: usize,
    pending: Vec<Record>,
    backoff: Option<Backoff>,
    max_delay: Duration,
    rejected: u64,
    reported_rejected: u64,
}

/// An sink that does not get on.
struct Backoff {
    next_attempt: Instant,
    delay: Duration,
}

impl Worker {
    pub(super) fn new(name: Arc<str>, sink: Box<dyn Sink>, counts: Arc<SinkCounters>, capacity: usize) -> Self {
        Self {
            name,
            sink,
            counts,
            capacity,
            pending: Vec::new(),
            backoff: None,
            max_delay: BACKOFF_MAX,
            rejected: 0,
            reported_rejected: 0,
        }
    }

    /// Delivers until the pipeline has gone and nothing is left.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut throttle = WriteThrottle::default();
        let mut wait = None;
        let mut goes_on = true;
        while goes_on || !self.pending.is_empty() {
            goes_on = self.receive(commands, wait) && goes_on;
            wait = None;
            if self.pending.is_empty() {
                continue;
            }
            let now = Instant::now();
            let left = match &self.backoff {
                Some(backoff) => backoff.next_attempt.saturating_duration_since(now),
                // A whole batch waits for nobody, and neither does the rest at the end.
                None if self.pending.len() >= BATCH || !goes_on => Duration::ZERO,
                None => throttle.next_write_in(now),
            };
            if !left.is_zero() {
                wait = Some(left);
                continue;
            }
            self.deliver();
            // More may be there already.
            wait = (!self.pending.is_empty()).then_some(Duration::ZERO);
        }
        if let Err(error) = self.sink.finish() {
            note(format_args!("sink {}: {}", self.name, sentence(&error)));
        }
    }

    /// Takes what has been ordered: waits for the first for so long, or until there is one. False when no more will come.
    fn receive(&mut self, commands: &Receiver<Command>, wait: Option<Duration>) -> bool {
        let deadline = wait.map(|wait| Instant::now() + wait);
        let mut command = match deadline {
            None if self.pending.is_empty() => commands.recv().map_err(RecvTimeoutError::from),
            None => commands.recv_timeout(Duration::ZERO),
            Some(deadline) => commands.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        loop {
            match command {
                Ok(Command::Deliver(records)) => self.pending.extend(records),
                Ok(Command::Reopen) => self.reopen(),
                Ok(Command::Flush) => {
                    self.max_delay = SHUTDOWN_BACKOFF_MAX;
                    if let Some(backoff) = &mut self.backoff {
                        *backoff = Backoff { next_attempt: Instant::now(), delay: BACKOFF_MIN };
                    }
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    // Without commands to wait for, the time between two attempts has to pass otherwise.
                    if let Some(deadline) = deadline.filter(|_| !self.pending.is_empty()) {
                        thread::sleep(deadline.saturating_duration_since(Instant::now()));
                    }
                    return false;
                }
            }
            if self.pending.len() >= BATCH {
                return true;
            }
            // Under load a batch is waited for to the end of the window, not to the next record.
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::ZERO,
            };
            command = commands.recv_timeout(left);
        }
    }

    /// What is pending goes first to where it was meant to go.
    fn reopen(&mut self) {
        if !self.pending.is_empty() && self.backoff.is_none() {
            self.deliver();
        }
        if let Err(error) = self.sink.reopen() {
            note(format_args!("sink {}: {}", self.name, sentence(&error)));
        }
    }

    fn deliver(&mut self) {
        let batch = &self.pending[..self.pending.len().min(BATCH)];
        let DeliveryReport { delivered, rejected, error } = self.sink.deliver(batch);
        let rejected_count = rejected.as_ref().map_or(0, |(count, _)| *count);
        let gone = (delivered + rejected_count).min(batch.len());
        self.pending.drain(..gone);
        self.counts.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
        let before = self.counts.undelivered.fetch_add(rejected_count as u64, Ordering::Relaxed);
        let waiting = self.counts.waiting.fetch_sub(gone, Ordering::AcqRel) - gone;
        if waiting == 0 {
            self.counts.idle.notify_one();
        }
        let was_full = waiting <= self.capacity / 2 && self.counts.is_full.swap(false, Ordering::Relaxed);
        if was_full || error.is_none() && self.backoff.is_some() {
            note(format_args!("sink {}: delivers again; {before} records were not delivered", self.name));
        }
        if let Some((count, why)) = rejected {
            self.rejected += count as u64;
            // Once, and then at each doubling.
            if self.rejected >= 2 * self.reported_rejected {
                self.reported_rejected = self.rejected;
                note(format_args!("sink {}: {} records were refused: {}", self.name, self.rejected, sentence(&why)));
            }
        }
        match (error, self.backoff.take()) {
            (None, _) => {}
            (Some(error), None) => {
                note(format_args!(
                    "sink {}: {}; up to {} records wait for it",
                    self.name,
                    sentence(&error),
                    self.capacity
                ));
                self.backoff = Some(Backoff { next_attempt: Instant::now() + BACKOFF_MIN, delay: BACKOFF_MIN });
            }
            (Some(_), Some(Backoff { delay, .. })) => {
                // Whoever got something through is nearly well again.
                let delay = if delivered > 0 { BACKOFF_MIN } else { (delay * 2).min(self.max_delay) };
                self.backoff = Some(Backoff { next_attempt: Instant::now() + delay, delay });
            }
        }
    }
}
