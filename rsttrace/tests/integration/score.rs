//! Score of the run: the number of records whose owner a scenario knew, how many were right, and how they were found.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde_json::Value;

static ASKED: AtomicU64 = AtomicU64::new(0);
static RIGHT: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Counts a record whose owner is about to be checked.
pub(crate) fn asked() {
    ASKED.fetch_add(1, Relaxed);
}

/// Counts an owner that was right, by its provenance.
pub(crate) fn right(process: &Value) {
    let word = |key: &str| process[key].as_str().unwrap_or_default().to_owned();
    *RIGHT.lock().unwrap().entry(format!("{} {}", word("provenance"), word("confidence"))).or_default() += 1;
}

/// The score in one line.
pub(crate) struct Score;

impl Display for Score {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let right = RIGHT.lock().unwrap();
        write!(formatter, "owners: {} seen, {} right", ASKED.load(Relaxed), right.values().sum::<u64>())?;
        let mut separator = ": ";
        for (how, count) in &*right {
            write!(formatter, "{separator}{how} {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}
