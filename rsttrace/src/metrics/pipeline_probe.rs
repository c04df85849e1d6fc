//! Requests from the server to the pipeline: scrapes, one at a time, and liveness probes.

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

/// A scrape, as the pipeline receives it: the sender for the text of `/metrics`.
pub(crate) type Scrape = oneshot::Sender<String>;

/// Capacity of the channel: one scrape, one liveness probe, and those whose client has hung up.
pub(super) const CHANNEL_CAPACITY: usize = 4;

/// Limit for the text of a scrape, including the wait for earlier ones.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit for a liveness probe. Probes time out after a second, Kubernetes' for one.
const LIVENESS_TIMEOUT: Duration = Duration::from_millis(900);

/// The pipeline as the server sees it.
#[derive(Debug)]
pub(super) struct PipelineProbe {
    scrapes: mpsc::Sender<Scrape>,
    /// Held during a scrape, so that at most one is queued before a liveness probe.
    scrape_lock: Mutex<()>,
    /// Notified at each answer of the pipeline.
    answered: Notify,
    /// Whether a liveness probe is under way.
    is_pending: AtomicBool,
}

impl PipelineProbe {
    pub(super) fn new(scrapes: mpsc::Sender<Scrape>) -> Self {
        Self { scrapes, scrape_lock: Mutex::default(), answered: Notify::new(), is_pending: AtomicBool::new(false) }
    }

    /// The text of `/metrics`; `None` where it does not come within [`SCRAPE_TIMEOUT`].
    pub(super) async fn text(&self) -> Option<String> {
        let scrape = async {
            let _guard = self.scrape_lock.lock().await;
            self.request().await
        };
        timeout(SCRAPE_TIMEOUT, scrape).await.ok().flatten()
    }

    /// Whether the pipeline answers within [`LIVENESS_TIMEOUT`]. Any answer from now on counts, so this waits for one
    /// scrape at most. Concurrent probes share one request to the pipeline.
    pub(super) async fn is_alive(self: &Arc<Self>) -> bool {
        let answered = self.answered.notified();
        if !self.is_pending.swap(true, Ordering::Relaxed) {
            let pipeline = Arc::clone(self);
            // A task of its own: the client's connection may end before the answer comes.
            tokio::spawn(async move {
                let _ignored = pipeline.request().await;
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

    /// Runs a test with a probe and the pipeline's end of the channel.
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
            // The other scrapes follow.
            tokio::spawn(async move {
                while let Some(scrape) = asked.recv().await {
                    let _ignored = scrape.send("later".into());
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
            // The next probe makes a new request.
            let of = Arc::clone(&pipeline);
            let alive = tokio::spawn(async move { of.is_alive().await });
            asked.recv().await.unwrap().send(String::new()).unwrap();
            assert!(alive.await.unwrap());
        });
    }

    #[test]
    fn detects_a_blocked_pipeline_within_a_second() {
        play(async |pipeline, _asked| {
            let began = Instant::now();
            assert!(!pipeline.is_alive().await);
            // The second probe shares the pending request, and gets no answer either.
            assert!(!pipeline.is_alive().await);
            assert!(began.elapsed() < 3 * LIVENESS_TIMEOUT, "{:?}", began.elapsed());
        });
    }
}
