//! How far runners of tests have come, and how long what is left will take.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between two lines about the progress.
const INTERVAL: Duration = Duration::from_secs(30);

/// Counts of several runners, some of which may not have begun.
pub(crate) struct Progress {
    state: Mutex<State>,
}

struct State {
    runners: Vec<Runner>,
    begun: Instant,
    told: Instant,
}

struct Runner {
    name: String,
    /// Number of its tests, once it has said so.
    tests: Option<usize>,
    ended: usize,
    failed: usize,
}

impl Progress {
    /// Progress of runners with these names.
    pub(crate) fn of(names: &[&str]) -> Self {
        let runner = |name: &str| Runner { name: name.to_owned(), tests: None, ended: 0, failed: 0 };
        let now = Instant::now();
        let state = State { runners: names.iter().copied().map(runner).collect(), begun: now, told: now };
        Self { state: Mutex::new(state) }
    }

    /// Takes a line of a runner's output, and prints the progress on standard error if the last line about it was some time
    /// ago.
    pub(crate) fn take(&self, name: &str, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runner) = state.runners.iter_mut().find(|runner| runner.name == name) else { return };
        runner.take(line);
        if state.told.elapsed() >= INTERVAL
            && let Some(text) = state.text(state.begun.elapsed())
        {
            state.told = Instant::now();
            eprintln!("== {text}");
        }
    }
}

impl Runner {
    fn take(&mut self, line: &str) {
        if let Some(tests) = line.strip_prefix("running ").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
            // A second number is that of a repetition.
            self.tests.get_or_insert(tests);
        } else if line.starts_with("test ") && !line.starts_with("test result:") {
            self.ended += 1;
            self.failed += usize::from(line.ends_with("FAILED"));
        }
    }
}

impl State {
    /// Counts of the runners, and the time that what is left takes if it goes on at this pace; `None` before the first test
    /// has ended.
    fn text(&self, elapsed: Duration) -> Option<String> {
        let known: Vec<usize> = self.runners.iter().filter_map(|runner| runner.tests).collect();
        let ended: usize = self.runners.iter().map(|runner| runner.ended).sum();
        if ended == 0 {
            return None;
        }
        // Those that have not begun are taken to have as many as the others.
        let waiting = (self.runners.len() - known.len()) * known.iter().sum::<usize>() / known.len().max(1);
        let left = (known.iter().sum::<usize>() + waiting).saturating_sub(ended);
        let minutes = (elapsed.as_secs() * left as u64 / ended as u64).div_ceil(60);
        let counts: Vec<String> = self.runners.iter().map(Runner::count).collect();
        Some(format!("{}; about {minutes} min left", counts.join(", ")))
    }
}

impl Runner {
    fn count(&self) -> String {
        let Self { name, tests, ended, failed } = self;
        let failed = if *failed == 0 { String::new() } else { format!(" ({failed} failed)") };
        tests.map_or_else(|| format!("{name}: waits"), |tests| format!("{name}: {ended} of {tests}{failed}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_estimates() {
        let progress = Progress::of(&["6.1", "6.12"]);
        progress.take("6.1", "running 40 tests");
        assert_eq!(progress.state.lock().unwrap().text(Duration::from_mins(1)), None);
        for line in ["test a ... ok", "test b ... ignored", "some line", "test result: ok", "test c ... FAILED"] {
            progress.take("6.1", line);
        }
        progress.take("another", "test a ... ok");
        let state = progress.state.lock().unwrap();
        // 3 of 80 in 6 s: 77 in 154 s.
        let text = state.text(Duration::from_secs(6));
        assert_eq!(text.as_deref(), Some("6.1: 3 of 40 (1 failed), 6.12: waits; about 3 min left"));
    }
}
