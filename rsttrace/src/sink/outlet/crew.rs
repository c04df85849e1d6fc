//! The outlets of a run as the pipeline sees them: each has a bounded queue and a thread ([`super::worker`]). Nobody ever
//! waits for one of them; what does not fit into a queue is counted, said, and gone.

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
    time::{Instant, timeout_at},
};

use super::{
    Given, Outlet, Spec,
    worker::{Counts, Order, Worker},
};
use crate::{exit::note, sink::Record, summary::SinkCount};

/// How long the end of the run waits for outlets, from [`Crew::settle`] to the end of [`Crew::finish`].
const GRACE: Duration = Duration::from_secs(5);

/// The part of it that is kept for [`Crew::finish`]: an outlet that has delivered everything gets the last summary, and
/// syncs, beside one that delivers nothing.
const LAST: Duration = Duration::from_secs(1);

/// Every outlet of a run.
#[derive(Default)]
pub(crate) struct Crew {
    members: Vec<Member>,
    /// When the end of the run has waited long enough; set once it begins to wait.
    deadline: OnceCell<Instant>,
}

/// One outlet, seen from the pipeline.
struct Member {
    name: Arc<str>,
    orders: Sender<Order>,
    counts: Arc<Counts>,
    done: oneshot::Receiver<()>,
    limit: usize,
}

impl Crew {
    /// Opens every outlet and starts its thread; each queue holds so many records.
    pub(crate) fn start(specs: &[Spec], limit: usize, given: &Given) -> Result<Self> {
        let mut crew = Self::default();
        for spec in specs {
            crew.add(spec.to_string(), limit, spec.open(given)?)?;
        }
        Ok(crew)
    }

    fn add(&mut self, name: String, limit: usize, outlet: Box<dyn Outlet>) -> Result<()> {
        // `sink-journald`: the kernel shows 15 characters of it.
        let thread_name = format!("sink-{}", name.split(':').next().unwrap_or_default());
        let (orders, receiver) = channel();
        let (finished, done) = oneshot::channel();
        let (name, counts) = (Arc::<str>::from(name), Arc::<Counts>::default());
        let worker = Worker::new(Arc::clone(&name), outlet, Arc::clone(&counts), limit);
        thread::Builder::new().name(thread_name).spawn(move || {
            worker.work(&receiver);
            // The pipeline may have gone without waiting.
            finished.send(()).unwrap_or_default();
        })?;
        self.members.push(Member { name, orders, counts, done, limit });
        Ok(())
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Gives records to every outlet, as far as its queue has room.
    pub(crate) fn offer(&self, records: &[Record]) {
        for member in &self.members {
            member.offer(records);
        }
    }

    /// Tells every outlet to begin a new file.
    pub(crate) fn reopen(&self) {
        for member in &self.members {
            // A thread that has died takes no order, and its records are counted.
            member.orders.send(Order::Reopen).unwrap_or_default();
        }
    }

    /// The end of [`GRACE`], which begins with the first call.
    fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| Instant::now() + GRACE)
    }

    /// Waits until everything is delivered, [`GRACE`] without [`LAST`] at most.
    pub(crate) async fn settle(&self) {
        let deadline = self.deadline() - LAST;
        for member in &self.members {
            member.orders.send(Order::Hurry).unwrap_or_default();
        }
        for member in &self.members {
            while member.counts.waiting.load(Ordering::Acquire) > 0 {
                if timeout_at(deadline, member.counts.idle.notified()).await.is_err() {
                    break;
                }
            }
        }
    }

    /// What each has delivered, and what not.
    pub(crate) fn counts(&self) -> impl Iterator<Item = SinkCount> {
        self.members.iter().map(Member::count)
    }

    /// Lets every outlet end, waits for that until [`GRACE`] is over, and says what was left.
    pub(crate) async fn finish(self) {
        let deadline = self.deadline();
        // Every queue is closed before the first is waited for: one outlet that does not end holds up no other.
        let ending: Vec<_> = self.members.into_iter().map(Member::close).collect();
        for (name, counts, done) in ending {
            let is_done = matches!(timeout_at(deadline, done).await, Ok(Ok(())));
            let waiting = counts.waiting.load(Ordering::Acquire) as u64;
            let undelivered = counts.undelivered.load(Ordering::Relaxed) + waiting;
            if undelivered > 0 {
                note(format_args!("sink {name}: {undelivered} records were not delivered"));
            } else if !is_done {
                note(format_args!("sink {name}: it did not end in time"));
            }
        }
    }
}

impl Member {
    /// Closes the queue; the worker ends when it has delivered what is in it.
    fn close(self) -> (Arc<str>, Arc<Counts>, oneshot::Receiver<()>) {
        (self.name, self.counts, self.done)
    }

    fn offer(&self, records: &[Record]) {
        let waiting = self.counts.waiting.load(Ordering::Acquire);
        let room = self.limit.saturating_sub(waiting).min(records.len());
        let (fitting, rest) = records.split_at(room);
        if !fitting.is_empty() {
            self.counts.waiting.fetch_add(fitting.len(), Ordering::AcqRel);
            // If the thread has died they go on waiting, and are counted at the end.
            self.orders.send(Order::Deliver(fitting.to_vec())).unwrap_or_default();
        }
        if rest.is_empty() {
            return;
        }
        self.counts.undelivered.fetch_add(rest.len() as u64, Ordering::Relaxed);
        if !self.counts.is_full.swap(true, Ordering::Relaxed) {
            note(format_args!(
                "sink {}: {} records wait and no more fit: from now on records are not delivered",
                self.name, self.limit
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

    use super::{super::Delivery, *};
    use crate::sink::{Lost, LostWhere};

    fn records(counts: std::ops::Range<u64>) -> Vec<Record> {
        counts
            .map(|count| Record::Lost(Lost { time: Timestamp::UNIX_EPOCH, count, r#where: LostWhere::Kernel }))
            .collect()
    }

    /// Keeps what it is handed; fails so many times first, and refuses every multiple of a number.
    struct Kept {
        records: Arc<Mutex<Vec<u64>>>,
        failures: u32,
        refuses: u64,
    }

    impl Outlet for Kept {
        fn deliver(&mut self, records: &[Record]) -> Delivery {
            let mut kept = self.records.lock().unwrap();
            for (index, record) in records.iter().enumerate() {
                if self.failures > 0 {
                    self.failures -= 1;
                    return Delivery::stopped(index, anyhow!("not now"));
                }
                let Record::Lost(lost) = record else { unreachable!() };
                if lost.count % self.refuses == 0 {
                    return Delivery { delivered: index, refused: Some((1, anyhow!("a multiple"))), trouble: None };
                }
                kept.push(lost.count);
            }
            Delivery::complete(records.len())
        }
    }

    /// Never comes back.
    struct Stuck;

    impl Outlet for Stuck {
        fn deliver(&mut self, _: &[Record]) -> Delivery {
            loop {
                thread::park();
            }
        }
    }

    fn keeping(failures: u32, refuses: u64) -> (Box<Kept>, Arc<Mutex<Vec<u64>>>) {
        let records = Arc::<Mutex<Vec<u64>>>::default();
        (Box::new(Kept { records: Arc::clone(&records), failures, refuses }), records)
    }

    fn run(future: impl Future<Output = ()>) {
        // Time stands still for whoever waits, but for the threads.
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future);
    }

    #[test]
    fn one_that_is_stuck_harms_no_other() {
        let mut crew = Crew::default();
        let (outlet, kept) = keeping(0, u64::MAX);
        crew.add("stuck".into(), 100, Box::new(Stuck)).unwrap();
        crew.add("kept".into(), 100_000, outlet).unwrap();
        for start in (1..=50_000).step_by(250) {
            crew.offer(&records(start..start + 250));
        }
        run(async {
            crew.settle().await;
            let counts: Vec<SinkCount> = crew.counts().collect();
            assert_eq!((counts[0].delivered, counts[0].undelivered, counts[0].waiting), (0, 49_900, 100));
            assert_eq!((counts[1].delivered, counts[1].undelivered, counts[1].waiting), (50_000, 0, 0));
        });
        assert!(kept.lock().unwrap().iter().copied().eq(1..=50_000));
    }

    /// Delivers what it is handed, but syncs for so long.
    struct Syncing(Arc<Mutex<Vec<u64>>>, Duration);

    impl Outlet for Syncing {
        fn deliver(&mut self, records: &[Record]) -> Delivery {
            let counts = records.iter().map(|record| if let Record::Lost(lost) = record { lost.count } else { 0 });
            self.0.lock().unwrap().extend(counts);
            Delivery::complete(records.len())
        }

        fn finish(&mut self) -> Result<()> {
            thread::sleep(self.1);
            self.0.lock().unwrap().push(0);
            Ok(())
        }
    }

    #[test]
    fn the_whole_end_has_one_deadline() {
        let mut crew = Crew::default();
        let synced = Arc::<Mutex<Vec<u64>>>::default();
        for name in ["first", "second"] {
            crew.add(name.into(), 100, Box::new(Stuck)).unwrap();
        }
        crew.add("syncing".into(), 100, Box::new(Syncing(Arc::clone(&synced), LAST / 2))).unwrap();
        crew.offer(&records(1..8));
        let began = Instant::now();
        run(async {
            crew.settle().await;
            let counts: Vec<SinkCount> = crew.counts().collect();
            let counts = counts.iter().map(|count| (count.delivered, count.undelivered, count.waiting));
            assert!(counts.eq([(0, 0, 7), (0, 0, 7), (7, 0, 0)]));
            // The summary comes when the others have taken what time they had.
            crew.offer(&records(8..9));
            crew.finish().await;
        });
        // Nothing but the thread that looks at the clock can be late.
        assert!(began.elapsed() < GRACE + LAST, "{:?}", began.elapsed());
        assert_eq!(*synced.lock().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 0], "it was not waited for");
    }

    #[test]
    fn at_the_end_it_is_tried_again_soon() {
        let mut crew = Crew::default();
        let (outlet, kept) = keeping(7, u64::MAX);
        crew.add("kept".into(), 1_000, outlet).unwrap();
        crew.offer(&records(1..101));
        // Seven back-offs that double take twelve seconds.
        run(async {
            crew.settle().await;
            assert_eq!(crew.counts().next().unwrap().waiting, 0);
        });
        assert_eq!(kept.lock().unwrap().len(), 100);
    }

    #[test]
    fn what_fails_is_tried_again_and_what_is_refused_is_counted() {
        let mut crew = Crew::default();
        let (outlet, kept) = keeping(3, 10);
        crew.add("kept".into(), 1_000, outlet).unwrap();
        crew.offer(&records(1..101));
        run(async {
            crew.settle().await;
            let count = crew.counts().next().unwrap();
            assert_eq!((count.delivered, count.undelivered, count.waiting), (90, 10, 0));
            crew.finish().await;
        });
        assert!(kept.lock().unwrap().iter().copied().eq((1..=100).filter(|count| count % 10 != 0)));
    }
}
