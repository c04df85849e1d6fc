//! The thread that delivers to one outlet, in batches, trying again with back-off.

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

use super::{Delivery, Outlet, pace::Pace};
use crate::{
    exit::{note, sentence},
    sink::Record,
};

/// Records that an outlet is handed at a time, at most.
const BATCH: usize = 512;

/// Between two attempts, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The same at most at the end of the run.
const LAST_BACK_OFF: Duration = Duration::from_millis(500);

/// What the pipeline wants of a thread.
pub(super) enum Order {
    /// As many as there was room for.
    Deliver(Vec<Record>),
    /// A new file, of those that write one.
    Reopen,
    /// The end is near: what failed is tried again soon.
    Hurry,
}

/// What both sides know.
#[derive(Default)]
pub(super) struct Counts {
    /// Records in the queue and in the outlet's hands.
    pub(super) waiting: AtomicUsize,
    /// Records that have arrived.
    pub(super) delivered: AtomicU64,
    /// Records that were refused, or did not fit into the queue.
    pub(super) undelivered: AtomicU64,
    /// The queue is full, and that has been said.
    pub(super) is_full: AtomicBool,
    /// Told whenever nothing is waiting any more.
    pub(super) idle: Notify,
}

/// One outlet, in its thread.
pub(super) struct Worker {
    name: Arc<str>,
    outlet: Box<dyn Outlet>,
    counts: Arc<Counts>,
    limit: usize,
    pending: Vec<Record>,
    failing: Option<Failing>,
    longest_back_off: Duration,
    refused: u64,
    said_refused: u64,
}

/// An outlet that does not get on.
struct Failing {
    next: Instant,
    back_off: Duration,
}

impl Worker {
    pub(super) fn new(name: Arc<str>, outlet: Box<dyn Outlet>, counts: Arc<Counts>, limit: usize) -> Self {
        Self {
            name,
            outlet,
            counts,
            limit,
            pending: Vec::new(),
            failing: None,
            longest_back_off: BACK_OFF.1,
            refused: 0,
            said_refused: 0,
        }
    }

    /// Delivers until the pipeline has gone and nothing is left.
    pub(super) fn work(mut self, orders: &Receiver<Order>) {
        let mut pace = Pace::default();
        let mut wait = None;
        let mut goes_on = true;
        while goes_on || !self.pending.is_empty() {
            goes_on = self.take(orders, wait) && goes_on;
            wait = None;
            if self.pending.is_empty() {
                continue;
            }
            let now = Instant::now();
            let left = match &self.failing {
                Some(failing) => failing.next.saturating_duration_since(now),
                // A whole batch waits for nobody, and neither does the rest at the end.
                None if self.pending.len() >= BATCH || !goes_on => Duration::ZERO,
                None => pace.delay(now),
            };
            if !left.is_zero() {
                wait = Some(left);
                continue;
            }
            self.deliver();
            // More may be there already.
            wait = (!self.pending.is_empty()).then_some(Duration::ZERO);
        }
        if let Err(error) = self.outlet.finish() {
            note(format_args!("sink {}: {}", self.name, sentence(&error)));
        }
    }

    /// Takes what has been ordered: waits for the first for so long, or until there is one. False when no more will come.
    fn take(&mut self, orders: &Receiver<Order>, wait: Option<Duration>) -> bool {
        let deadline = wait.map(|wait| Instant::now() + wait);
        let mut order = match deadline {
            None if self.pending.is_empty() => orders.recv().map_err(RecvTimeoutError::from),
            None => orders.recv_timeout(Duration::ZERO),
            Some(deadline) => orders.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        loop {
            match order {
                Ok(Order::Deliver(records)) => self.pending.extend(records),
                Ok(Order::Reopen) => self.reopen(),
                Ok(Order::Hurry) => {
                    self.longest_back_off = LAST_BACK_OFF;
                    if let Some(failing) = &mut self.failing {
                        *failing = Failing { next: Instant::now(), back_off: BACK_OFF.0 };
                    }
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    // Without orders to wait for, the time between two attempts has to pass otherwise.
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
            order = orders.recv_timeout(left);
        }
    }

    /// What is pending goes first to where it was meant to go.
    fn reopen(&mut self) {
        if !self.pending.is_empty() && self.failing.is_none() {
            self.deliver();
        }
        if let Err(error) = self.outlet.reopen() {
            note(format_args!("sink {}: {}", self.name, sentence(&error)));
        }
    }

    fn deliver(&mut self) {
        let batch = &self.pending[..self.pending.len().min(BATCH)];
        let Delivery { delivered, refused, trouble } = self.outlet.deliver(batch);
        let refused_count = refused.as_ref().map_or(0, |(count, _)| *count);
        let gone = (delivered + refused_count).min(batch.len());
        self.pending.drain(..gone);
        self.counts.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
        let before = self.counts.undelivered.fetch_add(refused_count as u64, Ordering::Relaxed);
        let waiting = self.counts.waiting.fetch_sub(gone, Ordering::AcqRel) - gone;
        if waiting == 0 {
            self.counts.idle.notify_one();
        }
        let was_full = waiting <= self.limit / 2 && self.counts.is_full.swap(false, Ordering::Relaxed);
        if was_full || trouble.is_none() && self.failing.is_some() {
            note(format_args!("sink {}: delivers again; {before} records were not delivered", self.name));
        }
        if let Some((count, why)) = refused {
            self.refused += count as u64;
            // Once, and then at each doubling.
            if self.refused >= 2 * self.said_refused {
                self.said_refused = self.refused;
                note(format_args!("sink {}: {} records were refused: {}", self.name, self.refused, sentence(&why)));
            }
        }
        match (trouble, self.failing.take()) {
            (None, _) => {}
            (Some(trouble), None) => {
                note(format_args!(
                    "sink {}: {}; up to {} records wait for it",
                    self.name,
                    sentence(&trouble),
                    self.limit
                ));
                self.failing = Some(Failing { next: Instant::now() + BACK_OFF.0, back_off: BACK_OFF.0 });
            }
            (Some(_), Some(Failing { back_off, .. })) => {
                // Whoever got something through is nearly well again.
                let back_off = if delivered > 0 { BACK_OFF.0 } else { (back_off * 2).min(self.longest_back_off) };
                self.failing = Some(Failing { next: Instant::now() + back_off, back_off });
            }
        }
    }
}
