//! Degradation: what works less well than it could is a value that is shown to the user, not a failure.

use std::fmt::{self, Display, Formatter};

/// Something that works less well than it could, or not at all, with its reason and effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The probe or feature.
    pub what: String,
    /// Reason, as a part of a sentence.
    pub why: String,
    /// What is missing in the output because of it.
    pub loss: String,
}

impl Display for Degraded {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { what, why, loss } = self;
        write!(formatter, "{what}: {why}; {loss}")
    }
}

/// Merges entries that share a reason, so that one missing kernel feature is reported once.
pub fn grouped(all: &[Degraded]) -> Vec<Degraded> {
    let mut groups: Vec<Degraded> = Vec::new();
    for one in all {
        if let Some(group) = groups.iter_mut().find(|group| group.why == one.why) {
            group.what = format!("{}, {}", group.what, one.what);
            group.loss = format!("{}; {}", group.loss, one.loss);
        } else {
            groups.push(one.clone());
        }
    }
    groups
}
