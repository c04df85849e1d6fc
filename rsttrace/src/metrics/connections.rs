//! The open connections of the server: a bounded number, beyond which the least important one is evicted.

use tokio::task::AbortHandle;

/// Progress of a connection, in the order of eviction: the least is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// No whole request has been received.
    Request,
    /// The text of `/metrics` is being sent; the client may read it or not.
    Response,
    /// The client waits for the text of `/metrics`.
    Scrape,
    /// The client waits for any other response, which is short and fits into the socket's buffer.
    ShortResponse,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    number: u64,
    progress: Progress,
    task: AbortHandle,
}

/// The connections, in the order in which they were accepted.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    open: Vec<Connection>,
    /// Most connections at a time.
    capacity: usize,
    /// Most scrapes at a time: from the request to the last byte of the text, for as long as the text takes memory.
    scrapes: usize,
    next_number: u64,
}

impl ConnectionTable {
    pub(super) const fn new(capacity: usize, scrapes: usize) -> Self {
        Self { open: Vec::new(), capacity, scrapes, next_number: 0 }
    }

    /// Number of the next connection.
    pub(super) const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Adds the connection of a task. Where the table is full, evicts the oldest of those with the least progress.
    pub(super) fn insert(&mut self, task: AbortHandle) {
        self.remove_finished();
        if self.open.len() >= self.capacity {
            self.evict(|_| true);
        }
        self.open.push(Connection { number: self.next_number, progress: Progress::Request, task });
        self.next_number += 1;
    }

    /// Evicts the oldest of the connections with the least progress, to free its descriptor. False where there is none.
    pub(super) fn evict_one(&mut self) -> bool {
        self.remove_finished();
        self.evict(|_| true)
    }

    /// Records the progress of a connection. False where it would be one scrape too many; the oldest one whose text is
    /// being sent is evicted first.
    pub(super) fn advance(&mut self, number: u64, progress: Progress) -> bool {
        self.remove_finished();
        let is_scrape = |connection: &Connection| matches!(connection.progress, Progress::Response | Progress::Scrape);
        let is_refused = progress == Progress::Scrape
            && self.open.iter().filter(|connection| is_scrape(connection)).count() >= self.scrapes
            && !self.evict(|connection| connection.progress == Progress::Response);
        let new_progress = if is_refused { Progress::ShortResponse } else { progress };
        if let Some(connection) = self.open.iter_mut().find(|connection| connection.number == number) {
            connection.progress = new_progress;
        }
        !is_refused
    }

    fn remove_finished(&mut self) {
        self.open.retain(|connection| !connection.task.is_finished());
    }

    /// Evicts the oldest of the candidates with the least progress. False where there is no candidate.
    fn evict(&mut self, is_candidate: impl Fn(&Connection) -> bool) -> bool {
        let candidates = self.open.iter().enumerate().filter(|(_, connection)| is_candidate(connection));
        // `min_by_key` returns the first of several minima.
        let Some((index, _)) = candidates.min_by_key(|(_, connection)| connection.progress) else { return false };
        self.open.remove(index).task.abort();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{runtime::Builder, task::JoinHandle};

    use super::*;

    /// Runs a test with a table for four connections and two scrapes.
    fn play(with: impl AsyncFnOnce(ConnectionTable)) {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(with(ConnectionTable::new(4, 2)));
    }

    fn connect(connections: &mut ConnectionTable) -> JoinHandle<()> {
        let task = tokio::spawn(pending());
        connections.insert(task.abort_handle());
        task
    }

    /// Indices of the tasks that have been aborted.
    async fn ended(tasks: &[JoinHandle<()>]) -> Vec<usize> {
        // Lets each aborted task end.
        tokio::task::yield_now().await;
        tasks.iter().enumerate().filter(|(_, task)| task.is_finished()).map(|(index, _)| index).collect()
    }

    #[test]
    fn evicts_the_oldest_without_a_request() {
        play(async |mut connections| {
            let mut tasks: Vec<_> = (0..4).map(|_| connect(&mut connections)).collect();
            assert!(connections.advance(0, Progress::ShortResponse) && connections.advance(1, Progress::Scrape));
            assert!(ended(&tasks).await.is_empty());
            tasks.push(connect(&mut connections));
            assert_eq!(ended(&tasks).await, [2]);
            tasks.push(connect(&mut connections));
            assert_eq!(ended(&tasks).await, [2, 3]);
        });
    }

    #[test]
    fn evicts_a_client_that_does_not_read_before_one_that_waits() {
        play(async |mut connections| {
            let mut tasks: Vec<_> = (0..4).map(|_| connect(&mut connections)).collect();
            for (number, progress) in
                [Progress::ShortResponse, Progress::Scrape, Progress::Response, Progress::ShortResponse]
                    .into_iter()
                    .enumerate()
            {
                assert!(connections.advance(number as u64, progress));
            }
            tasks.push(connect(&mut connections));
            assert_eq!(ended(&tasks).await, [2]);
            // The new connection has sent no request, so it is evicted next.
            tasks.push(connect(&mut connections));
            assert_eq!(ended(&tasks).await, [2, 4]);
        });
    }

    #[test]
    fn removes_finished_connections() {
        play(async |mut connections| {
            let mut tasks: Vec<_> = (0..4).map(|_| connect(&mut connections)).collect();
            tasks[3].abort();
            assert_eq!(ended(&tasks).await, [3]);
            tasks.push(connect(&mut connections));
            assert_eq!(ended(&tasks).await, [3]);
        });
    }

    #[test]
    fn scrapes_are_bounded() {
        play(async |mut connections| {
            let tasks: Vec<_> = (0..4).map(|_| connect(&mut connections)).collect();
            assert!(connections.advance(0, Progress::Scrape) && connections.advance(1, Progress::Scrape));
            assert!(!connections.advance(2, Progress::Scrape), "two wait for the pipeline");
            assert!(connections.advance(1, Progress::Response));
            assert!(connections.advance(3, Progress::Scrape));
            assert_eq!(ended(&tasks).await, [1]);
        });
    }

    #[test]
    fn eviction_frees_a_descriptor() {
        play(async |mut connections| {
            let tasks = [connect(&mut connections)];
            assert!(connections.evict_one());
            assert!(!connections.evict_one());
            assert_eq!(ended(&tasks).await, [0]);
        });
    }
}
