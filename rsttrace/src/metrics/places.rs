//! The open connections of the server: a bounded number, of which the one that is needed least makes way for a new one.

use tokio::task::AbortHandle;

/// How far a connection has come. The least is the first that makes way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has not sent a whole request.
    Request,
    /// It is sent the text of `/metrics`, and may read it or not.
    Text,
    /// It waits for the text of `/metrics`.
    Scrape,
    /// It waits for any other answer, which is short and fits into the socket's buffer.
    Short,
}

/// One connection.
#[derive(Debug)]
struct Place {
    number: u64,
    stage: Stage,
    task: AbortHandle,
}

/// All connections, in the order in which they came.
#[derive(Debug)]
pub(super) struct Places {
    open: Vec<Place>,
    /// Connections at a time.
    limit: usize,
    /// Of these, scrapes: from the request to the last byte of the text, which is as long as the text takes memory.
    scrapes: usize,
    next: u64,
}

impl Places {
    pub(super) const fn new(limit: usize, scrapes: usize) -> Self {
        Self { open: Vec::new(), limit, scrapes, next: 0 }
    }

    /// Number of the next connection.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Takes up the connection of a task. Where there is no room, ends the oldest of those at the least stage.
    pub(super) fn add(&mut self, task: AbortHandle) {
        self.forget_ended();
        if self.open.len() >= self.limit {
            self.end_oldest(|_| true);
        }
        self.open.push(Place { number: self.next, stage: Stage::Request, task });
        self.next += 1;
    }

    /// Ends the oldest of the connections at the least stage, for want of descriptors. False where there is none.
    pub(super) fn make_room(&mut self) -> bool {
        self.forget_ended();
        self.end_oldest(|_| true)
    }

    /// Takes note that a connection has come so far. False where too many scrapes wait for the pipeline; the oldest that is
    /// being sent its text makes way for another.
    pub(super) fn reach(&mut self, number: u64, stage: Stage) -> bool {
        self.forget_ended();
        let is_scrape = |place: &Place| matches!(place.stage, Stage::Text | Stage::Scrape);
        let is_refused = stage == Stage::Scrape
            && self.open.iter().filter(|place| is_scrape(place)).count() >= self.scrapes
            && !self.end_oldest(|place| place.stage == Stage::Text);
        let reached = if is_refused { Stage::Short } else { stage };
        if let Some(place) = self.open.iter_mut().find(|place| place.number == number) {
            place.stage = reached;
        }
        !is_refused
    }

    fn forget_ended(&mut self) {
        self.open.retain(|place| !place.task.is_finished());
    }

    /// Ends the oldest of the connections at the least stage among these. False where there is none.
    fn end_oldest(&mut self, is_among: impl Fn(&Place) -> bool) -> bool {
        let among = self.open.iter().enumerate().filter(|(_, place)| is_among(place));
        // Of several that are least, the first is returned.
        let Some((index, _)) = among.min_by_key(|(_, place)| place.stage) else { return false };
        self.open.remove(index).task.abort();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{runtime::Builder, task::JoinHandle};

    use super::*;

    /// Plays with connections that go on until they are ended.
    fn play(with: impl AsyncFnOnce(Places)) {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(with(Places::new(4, 2)));
    }

    fn connect(places: &mut Places) -> JoinHandle<()> {
        let task = tokio::spawn(pending());
        places.add(task.abort_handle());
        task
    }

    /// Which of these have been ended.
    async fn ended(tasks: &[JoinHandle<()>]) -> Vec<usize> {
        // Each task that is to end has its turn.
        tokio::task::yield_now().await;
        tasks.iter().enumerate().filter(|(_, task)| task.is_finished()).map(|(index, _)| index).collect()
    }

    #[test]
    fn the_oldest_without_a_request_makes_way() {
        play(async |mut places| {
            let mut tasks: Vec<_> = (0..4).map(|_| connect(&mut places)).collect();
            assert!(places.reach(0, Stage::Short) && places.reach(1, Stage::Scrape));
            assert!(ended(&tasks).await.is_empty());
            tasks.push(connect(&mut places));
            assert_eq!(ended(&tasks).await, [2]);
            tasks.push(connect(&mut places));
            assert_eq!(ended(&tasks).await, [2, 3]);
        });
    }

    #[test]
    fn who_does_not_read_makes_way_before_who_waits() {
        play(async |mut places| {
            let mut tasks: Vec<_> = (0..4).map(|_| connect(&mut places)).collect();
            for (number, stage) in [Stage::Short, Stage::Scrape, Stage::Text, Stage::Short].into_iter().enumerate() {
                assert!(places.reach(number as u64, stage));
            }
            tasks.push(connect(&mut places));
            assert_eq!(ended(&tasks).await, [2]);
            // The new one has no request: it makes way for the next.
            tasks.push(connect(&mut places));
            assert_eq!(ended(&tasks).await, [2, 4]);
        });
    }

    #[test]
    fn one_that_has_ended_leaves_its_place() {
        play(async |mut places| {
            let mut tasks: Vec<_> = (0..4).map(|_| connect(&mut places)).collect();
            tasks[3].abort();
            assert_eq!(ended(&tasks).await, [3]);
            tasks.push(connect(&mut places));
            assert_eq!(ended(&tasks).await, [3]);
        });
    }

    #[test]
    fn scrapes_are_bounded() {
        play(async |mut places| {
            let tasks: Vec<_> = (0..4).map(|_| connect(&mut places)).collect();
            assert!(places.reach(0, Stage::Scrape) && places.reach(1, Stage::Scrape));
            assert!(!places.reach(2, Stage::Scrape), "two wait for the pipeline");
            assert!(places.reach(1, Stage::Text));
            assert!(places.reach(3, Stage::Scrape));
            assert_eq!(ended(&tasks).await, [1]);
        });
    }

    #[test]
    fn descriptors_are_had_from_connections() {
        play(async |mut places| {
            let tasks = [connect(&mut places)];
            assert!(places.make_room());
            assert!(!places.make_room());
            assert_eq!(ended(&tasks).await, [0]);
        });
    }
}
