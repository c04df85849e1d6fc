//! The thread that delivers to one sink, in batches, with retries and exponential backoff.

use std::{
    hash::{BuildHasher as _, RandomState},
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
    model::{Mark, Record},
    util::{
        counted,
        messages::{info, sentence},
        was,
    },
};

/// Most records in one call of [`Sink::deliver`].
const BATCH: usize = 512;

/// First delay after a failure, and the delay after progress.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest delay between two attempts: each failure doubles it.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Longest delay between two attempts at the end of the run.
const SHUTDOWN_BACKOFF_MAX: Duration = Duration::from_millis(500);

/// A delay with jitter, three quarters to all of it: after an outage of a collector, the programs that wait for it come
/// spread over time.
fn jittered(delay: Duration) -> Duration {
    // Each state has keys of its own, derived from random ones.
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(0);
    delay.mul_f64(0.25f64.mul_add(f64::from(random) / f64::from(u32::MAX), 0.75))
}

/// A command of the pipeline to a worker.
pub(super) enum SinkCommand {
    /// Deliver these records; the queue had room for them.
    Deliver(Vec<Record>),
    /// Reopen the file, after an external rotation.
    Reopen,
    /// Take a mark.
    Mark(Arc<Mark>),
    /// Deliver what is queued soon: the run ends. The delay is at most [`SHUTDOWN_BACKOFF_MAX`] from here on.
    Flush,
}

/// State that the worker and the pipeline share.
#[derive(Default)]
pub(super) struct SinkCounters {
    /// Records in the queue, and those that the sink is delivering.
    pub(super) waiting: AtomicUsize,
    /// Records that are at their destination.
    pub(super) delivered: AtomicU64,
    /// Records that the sink rejected, or that did not fit into the queue.
    pub(super) undelivered: AtomicU64,
    /// Whether the summary of the whole run was queued, behind everything else.
    pub(super) has_last_summary: AtomicBool,
    /// Whether the queue is full and that has been reported.
    pub(super) is_full: AtomicBool,
    /// Notified whenever `waiting` becomes 0.
    pub(super) idle: Notify,
}

/// Worker of one sink, which runs in its thread.
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

/// State of a sink that fails.
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

    /// Delivers until the pipeline has closed the queue and nothing is left. Blocks for as long as the run lasts.
    pub(super) fn run(mut self, commands: &Receiver<SinkCommand>) {
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
                // A whole batch is delivered at once, and so is the rest at the end.
                None if self.pending.len() >= BATCH || !goes_on => Duration::ZERO,
                None => throttle.next_write_in(now),
            };
            if !left.is_zero() {
                wait = Some(left);
                continue;
            }
            self.deliver();
            // More commands may be queued already.
            wait = (!self.pending.is_empty()).then_some(Duration::ZERO);
        }
        if let Err(error) = self.sink.finish() {
            info(format_args!("sink {}: {}", self.name, sentence(&error)));
        }
    }

    /// Receives commands. Blocks until `wait` is over, or without a limit until there is a first command; returns at
    /// once when a batch is complete. False once the queue is closed.
    fn receive(&mut self, commands: &Receiver<SinkCommand>, wait: Option<Duration>) -> bool {
        let deadline = wait.map(|wait| Instant::now() + wait);
        let mut command = match deadline {
            None if self.pending.is_empty() => commands.recv().map_err(RecvTimeoutError::from),
            None => commands.recv_timeout(Duration::ZERO),
            Some(deadline) => commands.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        loop {
            match command {
                Ok(SinkCommand::Deliver(records)) => self.pending.extend(records),
                Ok(SinkCommand::Reopen) => self.reopen(),
                Ok(SinkCommand::Mark(mark)) => self.mark(&mark),
                Ok(SinkCommand::Flush) => {
                    self.max_delay = SHUTDOWN_BACKOFF_MAX;
                    if let Some(backoff) = &mut self.backoff {
                        *backoff = Backoff { next_attempt: Instant::now(), delay: BACKOFF_MIN };
                    }
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    // A closed queue cannot be waited for, and the delay before the next attempt has to pass.
                    if let Some(deadline) = deadline.filter(|_| !self.pending.is_empty()) {
                        thread::sleep(deadline.saturating_duration_since(Instant::now()));
                    }
                    return false;
                }
            }
            if self.pending.len() >= BATCH {
                return true;
            }
            // Under load the batch is collected to the end of the window, not to the next record.
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::ZERO,
            };
            command = commands.recv_timeout(left);
        }
    }

    /// Reopens the sink. Records that are pending belong to the old file and are delivered first.
    fn reopen(&mut self) {
        if !self.pending.is_empty() && self.backoff.is_none() {
            self.deliver();
        }
        if let Err(error) = self.sink.reopen() {
            info(format_args!("sink {}: {}", self.name, sentence(&error)));
        }
    }

    /// Passes a mark on, after the records that came before it. A sink that fails gets none: what it lacks is a gap.
    fn mark(&mut self, mark: &Mark) {
        while !self.pending.is_empty() && self.backoff.is_none() {
            self.deliver();
        }
        if self.pending.is_empty()
            && let Err(error) = self.sink.mark(mark)
        {
            info(format_args!("sink {}: {}", self.name, sentence(&error)));
        }
    }

    fn deliver(&mut self) {
        let batch = &self.pending[..self.pending.len().min(BATCH)];
        let DeliveryReport { delivered, rejected, error } = self.sink.deliver(batch);
        let rejected_count = rejected.as_ref().map_or(0, |(count, _)| *count);
        let finished = (delivered + rejected_count).min(batch.len());
        self.pending.drain(..finished);
        self.counts.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
        let before = self.counts.undelivered.fetch_add(rejected_count as u64, Ordering::Relaxed);
        let waiting = self.counts.waiting.fetch_sub(finished, Ordering::AcqRel) - finished;
        if waiting == 0 {
            self.counts.idle.notify_one();
        }
        let was_full = waiting <= self.capacity / 2 && self.counts.is_full.swap(false, Ordering::Relaxed);
        if was_full || error.is_none() && self.backoff.is_some() {
            let before = match before {
                0 => "no record was lost".to_owned(),
                before => format!("{} {} not delivered", counted(before, "record"), was(before)),
            };
            info(format_args!("sink {}: delivers again; {before}", self.name));
        }
        if let Some((count, why)) = rejected {
            self.rejected += count as u64;
            // Reported for the first rejected record and at each doubling.
            if self.rejected >= 2 * self.reported_rejected {
                self.reported_rejected = self.rejected;
                let records = counted(self.rejected, "record");
                info(format_args!("sink {}: {records} {} refused: {}", self.name, was(self.rejected), sentence(&why)));
            }
        }
        match (error, self.backoff.take()) {
            (None, _) => {}
            (Some(error), None) => {
                info(format_args!(
                    "sink {}: {}; up to {} wait for it",
                    self.name,
                    sentence(&error),
                    counted(self.capacity as u64, "record")
                ));
                self.backoff =
                    Some(Backoff { next_attempt: Instant::now() + jittered(BACKOFF_MIN), delay: BACKOFF_MIN });
            }
            (Some(_), Some(Backoff { delay, .. })) => {
                // A sink that delivered something is likely to recover: the delay starts over.
                let delay = if delivered > 0 { BACKOFF_MIN } else { (delay * 2).min(self.max_delay) };
                self.backoff = Some(Backoff { next_attempt: Instant::now() + jittered(delay), delay });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_jittered_within_bounds() {
        let delays: Vec<Duration> = (0..100).map(|_| jittered(BACKOFF_MAX)).collect();
        assert!(delays.iter().all(|delay| (BACKOFF_MAX * 3 / 4..=BACKOFF_MAX).contains(delay)), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay != delays[0]));
    }
}
