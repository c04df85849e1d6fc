//! Questions to the pipeline: one scrape at a time, and whether it answers at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot},
    time::timeout,
};

/// A scrape to the pipeline: where to send the text of `/metrics` to.
pub(crate) type Scrape = oneshot::Sender<String>;

/// Questions in the channel: one for a scrape and one for a sign of life, and those that a scraper has left that hung up.
pub(super) const CHANNEL_CAPACITY: usize = 4;

/// How long the pipeline may take for a text, the scrapes before it included.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take for a sign of life. Probes wait for a second, Kubernetes' for one.
const LIVENESS_TIMEOUT: Duration = Duration::from_millis(900);

/// The pipeline, seen from the server.
#[derive(Debug)]
pub(super) struct PipelineProbe {
    scrapes: mpsc::Sender<Scrape>,
    /// Held by the scrape whose scrape_lock it is, so that no more than that one is ahead of a sign of life.
    scrape_lock: Mutex<()>,
    /// Told at each answer.
    answered: Notify,
    /// A sign of life has been asked for and has not come.
    is_pending: AtomicBool,
}

impl PipelineProbe {
    pub(super) fn new(scrapes: mpsc::Sender<Scrape>) -> Self {
        Self { scrapes, scrape_lock: Mutex::default(), answered: Notify::new(), is_pending: AtomicBool::new(false) }
    }

    /// The text of `/metrics`; `None` where it does not come in time.
    pub(super) async fn text(&self) -> Option<String> {
        let scrape = async {
            let _guard = self.scrape_lock.lock().await;
            self.request().await
        };
        timeout(SCRAPE_TIMEOUT, scrape).await.ok().flatten()
    }

    /// Whether the pipeline answers within [`LIVENESS_TIMEOUT`]. Any answer from now on will do, so that this waits for the one
    /// scrape whose scrape_lock it is at most; however many request at once, the pipeline is asked once.
    pub(super) async fn is_alive(self: &Arc<Self>) -> bool {
        let answered = self.answered.notified();
        if !self.is_pending.swap(true, Ordering::Relaxed) {
            let pipeline = Arc::clone(self);
            // A task of its own: the connection that asks may be ended before the answer comes.
            tokio::spawn(async move {
                drop(pipeline.request().await);
                pipeline.is_pending.store(false, Ordering::Relaxed);
            });
        }
        timeout(LIVENESS_TIMEOUT, answered).await.is_ok()
    }

    async fn request(&self) -> Option<String> {
        let (scrape, text) = oneshot::channel();
        self.scrapes.send(scrape).await.ok()?;
        let text = text.await.ok()?;
        self.answered.notify_waiters();
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::runtime::Builder;

    use super::*;

    /// Plays with a pipeline, and with the scrapes that it gets.
    fn play(with: impl AsyncFnOnce(Arc<PipelineProbe>, mpsc::Receiver<Scrape>)) {
        let (scrapes, asked) = mpsc::channel(CHANNEL_CAPACITY);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(with(Arc::new(PipelineProbe::new(scrapes)), asked));
    }

    #[test]
    fn a_liveness_probe_waits_for_one_scrape_at_most() {
        play(async |pipeline, mut asked| {
            let scrapes: Vec<_> = (0..50)
                .map(|_| {
                    let pipeline = Arc::clone(&pipeline);
                    tokio::spawn(async move { pipeline.text().await })
                })
                .collect();
            tokio::task::yield_now().await;
            let of = Arc::clone(&pipeline);
            let alive = tokio::spawn(async move { of.is_alive().await });
            asked.recv().await.unwrap().send("first".into()).unwrap();
            assert!(alive.await.unwrap());
            // The others have their turns.
            tokio::spawn(async move {
                while let Some(scrape) = asked.recv().await {
                    scrape.send("later".into()).unwrap_or_default();
                }
            });
            for scrape in scrapes {
                assert!(scrape.await.unwrap().is_some());
            }
        });
    }

    #[test]
    fn concurrent_liveness_probes_share_one_request() {
        play(async |pipeline, mut asked| {
            let alive: Vec<_> = (0..50)
                .map(|_| {
                    let pipeline = Arc::clone(&pipeline);
                    tokio::spawn(async move { pipeline.is_alive().await })
                })
                .collect();
            asked.recv().await.unwrap().send(String::new()).unwrap();
            for alive in alive {
                assert!(alive.await.unwrap());
            }
            assert!(asked.try_recv().is_err());
            // The next asks anew.
            let of = Arc::clone(&pipeline);
            let alive = tokio::spawn(async move { of.is_alive().await });
            asked.recv().await.unwrap().send(String::new()).unwrap();
            assert!(alive.await.unwrap());
        });
    }

    #[test]
    fn a_pipeline_that_stands_still_shows_within_a_second() {
        play(async |pipeline, _asked| {
            let began = Instant::now();
            assert!(!pipeline.is_alive().await);
            // Another finds the scrape that is there, and no answer either.
            assert!(!pipeline.is_alive().await);
            assert!(began.elapsed() < 3 * LIVENESS_TIMEOUT, "{:?}", began.elapsed());
        });
    }
}
