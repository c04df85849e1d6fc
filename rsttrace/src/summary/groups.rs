//! Resets by the fields of `--group-by`.

use std::collections::HashSet;

use super::heavy_hitters::HeavyHitters;
use crate::model::{GroupField, GroupRow, GroupTable, Reset};

/// Most groups in a summary.
const MAX_ROWS: usize = 100;

/// Counts by group, in bounded memory.
#[derive(Debug)]
pub(super) struct Groups {
    by: Vec<GroupField>,
    counts: HeavyHitters<Vec<Option<String>>>,
}

impl Groups {
    /// `by`: the fields; one that is repeated counts once.
    pub(super) fn new(mut by: Vec<GroupField>) -> Self {
        let mut seen = HashSet::new();
        by.retain(|field| seen.insert(*field));
        Self { by, counts: HeavyHitters::default() }
    }

    pub(super) fn count(&mut self, reset: &Reset) {
        self.counts.count(self.by.iter().map(|field| field.of(reset)).collect(), reset.count);
    }

    /// The table up to now.
    pub(super) fn table(&self) -> GroupTable {
        let rows = self.counts.rows();
        GroupTable {
            by: self.by.clone(),
            further: (self.counts.error() == 0).then(|| rows.len().saturating_sub(MAX_ROWS)),
            rows: rows.into_iter().take(MAX_ROWS).map(|(values, count)| GroupRow { values, count }).collect(),
            error: self.counts.error(),
        }
    }
}
