//! The sinks of a run as the pipeline sees them: each has a bounded queue and a thread ([`super::worker`]). The
//! pipeline never waits for a sink during the run; records that do not fit into a queue are counted as undelivered,
//! reported and dropped.

use std::{
    cell::OnceCell,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use super::{
    PreparedSink, Sink, SinkContext,
    worker::{SinkCommand, SinkCounters, Worker},
};
use crate::{
    model::{Mark, Record, SinkCount},
    util::{counted, messages::info, was},
};

/// Limit for the end of the run to wait for sinks, from [`SinkSet::flush`] to the end of [`SinkSet::shutdown`].
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Part of [`SHUTDOWN_TIMEOUT`] that is kept for [`SinkSet::shutdown`]: a sink that has delivered everything gets the
/// last summary, and syncs, beside one that delivers nothing.
const FINISH_RESERVE: Duration = Duration::from_secs(1);

/// Most records that are queued together where the run waits for room.
const BATCH_MAX: usize = 256;
/// Time between two looks at a queue that is waited for.
const ROOM_CHECK: Duration = Duration::from_millis(5);

/// The sinks of a run.
#[derive(Default)]
pub(crate) struct SinkSet {
    sinks: Vec<SinkHandle>,
    /// End of [`SHUTDOWN_TIMEOUT`]; set when the end of the run begins to wait.
    deadline: OnceCell<Instant>,
}

/// The pipeline's handle of one sink.
struct SinkHandle {
    name: Arc<str>,
    commands: Sender<SinkCommand>,
    counts: Arc<SinkCounters>,
    done: oneshot::Receiver<()>,
    capacity: usize,
}

impl SinkSet {
    /// Opens every sink and starts its thread; each queue holds `capacity` records. Fails where one sink cannot be
    /// opened or one thread not started. Opening may block on the file system, not on the network.
    pub(crate) fn start(prepared: Vec<PreparedSink>, capacity: usize, context: &SinkContext) -> Result<Self> {
        let mut sinks = Self::default();
        for sink in prepared {
            let name = sinks.unused_name(sink.label());
            sinks.add(name, capacity, sink.open(context)?)?;
        }
        Ok(sinks)
    }

    /// The name itself, or with a number behind it where another sink has the name: two sinks of one destination differ in
    /// their options alone.
    fn unused_name(&self, name: &str) -> String {
        let is_used = |name: &str| self.sinks.iter().any(|sink| &*sink.name == name);
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_used(name)).unwrap_or_default()
    }

    fn add(&mut self, name: String, capacity: usize, sink: Box<dyn Sink>) -> Result<()> {
        // `sink-journald`: the kernel keeps 15 characters of a thread's name.
        let thread_name = format!("sink-{}", name.split(':').next().unwrap_or_default());
        let (commands, receiver) = channel();
        let (finished, done) = oneshot::channel();
        let (name, counts) = (Arc::<str>::from(name), Arc::<SinkCounters>::default());
        let worker = Worker::new(Arc::clone(&name), sink, Arc::clone(&counts), capacity);
        thread::Builder::new().name(thread_name).spawn(move || {
            worker.run(&receiver);
            // The pipeline may have ended without waiting.
            let _ignored = finished.send(());
        })?;
        self.sinks.push(SinkHandle { name, commands, counts, done, capacity });
        Ok(())
    }

    /// Records that fit into every queue after [`Self::room`], as far as a batch of that size is of use.
    pub(crate) fn batch(&self) -> usize {
        self.sinks.iter().map(|sink| sink.capacity / 2).min().unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX)
    }

    /// Waits until every sink has room for half of its queue. A sink that delivers nothing is waited for without a limit.
    pub(crate) async fn room(&self) {
        for sink in &self.sinks {
            while sink.counts.waiting.load(Ordering::Acquire) > sink.capacity / 2 {
                // A worker notifies only once its queue is empty.
                let _ignored = timeout(ROOM_CHECK, sink.counts.idle.notified()).await;
            }
        }
    }

    /// Sends a mark to every sink.
    pub(crate) fn mark(&self, mark: &Arc<Mark>) {
        for sink in &self.sinks {
            // If the thread has died, its records count as waiting, and are reported at the end.
            let _ignored = sink.commands.send(SinkCommand::Mark(Arc::clone(mark)));
        }
    }

    /// Whether the run has no sinks.
    pub(crate) const fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Queues records for every sink, as far as its queue has room. Never blocks.
    pub(crate) fn offer(&self, records: &[Record]) {
        for sink in &self.sinks {
            sink.offer(records);
        }
    }

    /// Tells every sink to reopen its file.
    pub(crate) fn reopen(&self) {
        for sink in &self.sinks {
            // A thread that has died receives no command; its records count as waiting.
            let _ignored = sink.commands.send(SinkCommand::Reopen);
        }
    }

    /// End of [`SHUTDOWN_TIMEOUT`], which begins with the first call.
    fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| Instant::now() + SHUTDOWN_TIMEOUT)
    }

    /// Waits until every queue is empty, for [`SHUTDOWN_TIMEOUT`] without [`FINISH_RESERVE`] at most. Failed deliveries
    /// are repeated at shorter intervals from here on.
    pub(crate) async fn flush(&self) {
        let deadline = self.deadline() - FINISH_RESERVE;
        for sink in &self.sinks {
            let _ignored = sink.commands.send(SinkCommand::Flush);
        }
        for sink in &self.sinks {
            while sink.counts.waiting.load(Ordering::Acquire) > 0 {
                if timeout_at(deadline, sink.counts.idle.notified()).await.is_err() {
                    break;
                }
            }
        }
    }

    /// Delivered, undelivered and waiting records of each sink.
    pub(crate) fn counts(&self) -> impl Iterator<Item = SinkCount> {
        self.sinks.iter().map(SinkHandle::count)
    }

    /// Closes every queue, waits for the threads to end until [`SHUTDOWN_TIMEOUT`] is over, and reports what was not
    /// delivered. Returns what each sink has lost.
    pub(crate) async fn shutdown(self) -> Vec<SinkLoss> {
        let deadline = self.deadline();
        // Every queue is closed before the first thread is waited for: a sink that does not end delays no other.
        let ending: Vec<_> = self.sinks.into_iter().map(SinkHandle::close).collect();
        let mut losses = Vec::new();
        for (name, counts, done) in ending {
            let is_done = matches!(timeout_at(deadline, done).await, Ok(Ok(())));
            let left = counts.waiting.load(Ordering::Acquire) as u64;
            let has_summary = counts.has_last_summary.load(Ordering::Relaxed);
            // The summary is the last in the queue, and tells of the others.
            let waiting = left.saturating_sub(u64::from(has_summary));
            let undelivered = counts.undelivered.load(Ordering::Relaxed) + waiting;
            if undelivered > 0 {
                let records = counted(undelivered, "record");
                info(format_args!("sink {name}: {records} {} not delivered", was(undelivered)));
            } else if left > 0 {
                info(format_args!("sink {name}: the last summary was not delivered"));
            } else if !is_done {
                info(format_args!("sink {name}: it did not end in time"));
            }
            losses.push(SinkLoss { sink: name, undelivered, at_end: waiting });
        }
        losses
    }
}

/// Records that a sink has lost during a run, without the summary of the run.
#[derive(Debug)]
pub(crate) struct SinkLoss {
    /// Name of the sink.
    pub(crate) sink: Arc<str>,
    /// All of them.
    pub(crate) undelivered: u64,
    /// Those that still waited at the end.
    pub(crate) at_end: u64,
}

impl SinkLoss {
    /// Changes the counts of a summary, taken before the end, to what the end has made of them.
    pub(crate) fn settle(losses: &[Self], counts: &mut [SinkCount]) {
        for count in counts {
            let Some(loss) = losses.iter().find(|loss| loss.sink == count.sink) else { continue };
            let all = count.delivered + count.undelivered + count.waiting;
            (count.delivered, count.undelivered, count.waiting) =
                (all.saturating_sub(loss.undelivered), loss.undelivered, 0);
        }
    }
}

impl SinkHandle {
    /// Closes the queue; the worker ends when it has delivered what is in it.
    fn close(self) -> (Arc<str>, Arc<SinkCounters>, oneshot::Receiver<()>) {
        (self.name, self.counts, self.done)
    }

    fn offer(&self, records: &[Record]) {
        let waiting = self.counts.waiting.load(Ordering::Acquire);
        let room = self.capacity.saturating_sub(waiting).min(records.len());
        let (fitting, rest) = records.split_at(room);
        if !fitting.is_empty() {
            self.counts.waiting.fetch_add(fitting.len(), Ordering::AcqRel);
            // If the thread has died, the records count as waiting, and are reported at the end.
            let _ignored = self.commands.send(SinkCommand::Deliver(fitting.to_vec()));
        }
        let is_last_summary = |record: &Record| matches!(record, Record::Summary(summary) if summary.r#final);
        if fitting.last().is_some_and(is_last_summary) {
            self.counts.has_last_summary.store(true, Ordering::Relaxed);
        }
        let lost = rest.iter().filter(|record| !is_last_summary(record)).count();
        if lost == 0 {
            return;
        }
        self.counts.undelivered.fetch_add(lost as u64, Ordering::Relaxed);
        if !self.counts.is_full.swap(true, Ordering::Relaxed) {
            info(format_args!(
                "sink {}: {} and no more fit: from now on records are not delivered",
                self.name,
                if self.capacity == 1 {
                    "1 record waits".to_owned()
                } else {
                    format!("{} records wait", self.capacity)
                }
            ));
        }
    }

    fn count(&self) -> SinkCount {
        SinkCount {
            sink: Arc::clone(&self.name),
            delivered: self.counts.delivered.load(Ordering::Relaxed),
            undelivered: self.counts.undelivered.load(Ordering::Relaxed),
            waiting: self.counts.waiting.load(Ordering::Acquire) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use anyhow::anyhow;
    use jiff::Timestamp;

    use super::{super::DeliveryReport, *};
    use crate::model::{Lost, LostWhere};

    fn records(counts: std::ops::Range<u64>) -> Vec<Record> {
        counts
            .map(|count| {
                Record::Lost(Lost { time: Timestamp::UNIX_EPOCH, host: None, count, r#where: LostWhere::Kernel })
            })
            .collect()
    }

    /// Keeps what it is given; fails `failures` times first, and rejects every multiple of `rejects`.
    struct Kept {
        records: Arc<Mutex<Vec<u64>>>,
        failures: u32,
        rejects: u64,
    }

    impl Sink for Kept {
        fn deliver(&mut self, records: &[Record]) -> DeliveryReport {
            let mut kept = self.records.lock().unwrap();
            for (index, record) in records.iter().enumerate() {
                if self.failures > 0 {
                    self.failures -= 1;
                    return DeliveryReport::stopped(index, anyhow!("not now"));
                }
                let Record::Lost(lost) = record else { unreachable!() };
                if lost.count % self.rejects == 0 {
                    return DeliveryReport {
                        delivered: index,
                        rejected: Some((1, anyhow!("a multiple"))),
                        error: None,
                    };
                }
                kept.push(lost.count);
            }
            DeliveryReport::complete(records.len())
        }
    }

    /// Never returns.
    struct Stuck;

    impl Sink for Stuck {
        fn deliver(&mut self, _: &[Record]) -> DeliveryReport {
            loop {
                thread::park();
            }
        }
    }

    fn keeping(failures: u32, rejects: u64) -> (Box<Kept>, Arc<Mutex<Vec<u64>>>) {
        let records = Arc::<Mutex<Vec<u64>>>::default();
        (Box::new(Kept { records: Arc::clone(&records), failures, rejects }), records)
    }

    fn run(future: impl Future<Output = ()>) {
        // Only the sinks' threads make progress; the runtime waits for them.
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future);
    }

    #[test]
    fn a_blocked_sink_delays_no_other() {
        let mut sinks = SinkSet::default();
        let (sink, kept) = keeping(0, u64::MAX);
        sinks.add("stuck".into(), 100, Box::new(Stuck)).unwrap();
        sinks.add("kept".into(), 100_000, sink).unwrap();
        for start in (1..=50_000).step_by(250) {
            sinks.offer(&records(start..start + 250));
        }
        run(async {
            sinks.flush().await;
            let counts: Vec<SinkCount> = sinks.counts().collect();
            assert_eq!((counts[0].delivered, counts[0].undelivered, counts[0].waiting), (0, 49_900, 100));
            assert_eq!((counts[1].delivered, counts[1].undelivered, counts[1].waiting), (50_000, 0, 0));
        });
        assert!(kept.lock().unwrap().iter().copied().eq(1..=50_000));
    }

    /// Delivers what it is given, and takes this long to sync.
    struct Syncing(Arc<Mutex<Vec<u64>>>, Duration);

    impl Sink for Syncing {
        fn deliver(&mut self, records: &[Record]) -> DeliveryReport {
            let counts = records.iter().map(|record| if let Record::Lost(lost) = record { lost.count } else { 0 });
            self.0.lock().unwrap().extend(counts);
            DeliveryReport::complete(records.len())
        }

        fn finish(&mut self) -> Result<()> {
            thread::sleep(self.1);
            self.0.lock().unwrap().push(0);
            Ok(())
        }
    }

    #[test]
    fn flush_and_shutdown_share_one_deadline() {
        let mut sinks = SinkSet::default();
        let synced = Arc::<Mutex<Vec<u64>>>::default();
        for name in ["first", "second"] {
            sinks.add(name.into(), 100, Box::new(Stuck)).unwrap();
        }
        sinks.add("syncing".into(), 100, Box::new(Syncing(Arc::clone(&synced), FINISH_RESERVE / 2))).unwrap();
        sinks.offer(&records(1..8));
        let began = Instant::now();
        run(async {
            sinks.flush().await;
            let counts: Vec<SinkCount> = sinks.counts().collect();
            let counts = counts.iter().map(|count| (count.delivered, count.undelivered, count.waiting));
            assert!(counts.eq([(0, 0, 7), (0, 0, 7), (7, 0, 0)]));
            // The summary comes when the blocked sinks have used up their time.
            sinks.offer(&records(8..9));
            let losses = sinks.shutdown().await;
            let losses: Vec<_> = losses.iter().map(|loss| (loss.undelivered, loss.at_end)).collect();
            assert_eq!(losses, [(8, 8), (8, 8), (0, 0)]);
        });
        // Only scheduling of this thread can add to the limit.
        assert!(began.elapsed() < SHUTDOWN_TIMEOUT + FINISH_RESERVE, "{:?}", began.elapsed());
        assert_eq!(*synced.lock().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 0], "it was not waited for");
    }

    #[test]
    fn retries_come_sooner_at_the_end() {
        let mut sinks = SinkSet::default();
        let (sink, kept) = keeping(7, u64::MAX);
        sinks.add("kept".into(), 1_000, sink).unwrap();
        sinks.offer(&records(1..101));
        // Seven delays that double would take twelve seconds.
        run(async {
            sinks.flush().await;
            assert_eq!(sinks.counts().next().unwrap().waiting, 0);
        });
        assert_eq!(kept.lock().unwrap().len(), 100);
    }

    #[test]
    fn failures_are_retried_and_rejections_counted() {
        let mut sinks = SinkSet::default();
        let (sink, kept) = keeping(3, 10);
        sinks.add("kept".into(), 1_000, sink).unwrap();
        sinks.offer(&records(1..101));
        run(async {
            sinks.flush().await;
            let count = sinks.counts().next().unwrap();
            assert_eq!((count.delivered, count.undelivered, count.waiting), (90, 10, 0));
            let losses = sinks.shutdown().await;
            assert_eq!((losses[0].undelivered, losses[0].at_end), (10, 0));
        });
        assert!(kept.lock().unwrap().iter().copied().eq((1..=100).filter(|count| count % 10 != 0)));
    }
}
