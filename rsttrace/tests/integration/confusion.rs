//! Confusion table: expected causes against reported causes, over all scenarios of a run.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    sync::{Mutex, PoisonError},
};

static PAIRS: Mutex<BTreeMap<(String, String), u32>> = Mutex::new(BTreeMap::new());

/// Records one comparison of the expected and the reported cause.
pub(crate) fn note(expected: &str, given: &str) {
    let mut pairs = PAIRS.lock().unwrap_or_else(PoisonError::into_inner);
    *pairs.entry((expected.to_owned(), given.to_owned())).or_default() += 1;
}

/// Table of the comparisons recorded so far.
pub(crate) struct Table;

impl Display for Table {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let pairs = PAIRS.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.is_empty() {
            return Ok(());
        }
        let right: u32 = pairs.iter().filter(|((expected, given), _)| expected == given).map(|(_, count)| count).sum();
        let total: u32 = pairs.values().sum();
        writeln!(formatter, "causes: {right} of {total} records were called what they were")?;
        writeln!(formatter, "  {:<26}{:<26}{:>7}", "expected", "given", "records")?;
        for ((expected, given), count) in &*pairs {
            let mark = if expected == given { "" } else { "  <- wrong" };
            writeln!(formatter, "  {expected:<26}{given:<26}{count:>7}{mark}")?;
        }
        Ok(())
    }
}
