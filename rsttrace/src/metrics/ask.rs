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

/// A question to the pipeline: where to send the text of `/metrics` to.
pub(crate) type Scrape = oneshot::Sender<String>;

/// Questions in the channel: one for a scrape and one for a sign of life, and those that a scraper has left that hung up.
pub(super) const QUESTIONS: usize = 4;

/// How long the pipeline may take for a text, the scrapes before it included.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take for a sign of life. Probes wait for a second, Kubernetes' for one.
const SIGN_OF_LIFE: Duration = Duration::from_millis(900);

/// The pipeline, seen from the server.
#[derive(Debug)]
pub(super) struct Pipeline {
    questions: mpsc::Sender<Scrape>,
    /// Held by the scrape whose turn it is, so that no more than that one is ahead of a sign of life.
    turn: Mutex<()>,
    /// Told at each answer.
    answered: Notify,
    /// A sign of life has been asked for and has not come.
    is_asked: AtomicBool,
}

impl Pipeline {
    pub(super) fn new(questions: mpsc::Sender<Scrape>) -> Self {
        Self { questions, turn: Mutex::default(), answered: Notify::new(), is_asked: AtomicBool::new(false) }
    }

    /// The text of `/metrics`; `None` where it does not come in time.
    pub(super) async fn text(&self) -> Option<String> {
        let in_turn = async {
            let _turn = self.turn.lock().await;
            self.ask().await
        };
        timeout(PATIENCE, in_turn).await.ok().flatten()
    }

    /// Whether the pipeline answers within [`SIGN_OF_LIFE`]. Any answer from now on will do, so that this waits for the one
    /// scrape whose turn it is at most; however many ask at once, the pipeline is asked once.
    pub(super) async fn is_alive(self: &Arc<Self>) -> bool {
        let answered = self.answered.notified();
        if !self.is_asked.swap(true, Ordering::Relaxed) {
            let pipeline = Arc::clone(self);
            // A task of its own: the connection that asks may be ended before the answer comes.
            tokio::spawn(async move {
                drop(pipeline.ask().await);
                pipeline.is_asked.store(false, Ordering::Relaxed);
            });
        }
        timeout(SIGN_OF_LIFE, answered).await.is_ok()
    }

    async fn ask(&self) -> Option<String> {
        let (question, text) = oneshot::channel();
        self.questions.send(question).await.ok()?;
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

    /// Plays with a pipeline, and with the questions that it gets.
    fn play(with: impl AsyncFnOnce(Arc<Pipeline>, mpsc::Receiver<Scrape>)) {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(with(Arc::new(Pipeline::new(questions)), asked));
    }

    #[test]
    fn a_sign_of_life_waits_for_one_scrape_at_most() {
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
                while let Some(question) = asked.recv().await {
                    question.send("later".into()).unwrap_or_default();
                }
            });
            for scrape in scrapes {
                assert!(scrape.await.unwrap().is_some());
            }
        });
    }

    #[test]
    fn many_who_ask_for_a_sign_of_life_ask_once() {
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
            // Another finds the question that is there, and no answer either.
            assert!(!pipeline.is_alive().await);
            assert!(began.elapsed() < 3 * SIGN_OF_LIFE, "{:?}", began.elapsed());
        });
    }
}
