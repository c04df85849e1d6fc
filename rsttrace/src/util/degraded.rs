//! Degrade, do not die: what works less well than it could is a value that is shown to the user.

use std::fmt::{self, Display, Formatter};

/// Something that works less well than it could, or not at all, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The probe, or whatever else it is.
    pub what: String,
    /// Why.
    pub why: String,
    /// What a reader of the output loses.
    pub loss: String,
}

impl Display for Degraded {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { what, why, loss } = self;
        write!(formatter, "{what}: {why}; {loss}")
    }
}

/// The same with what has one reason said at once: a kernel that refuses one probe refuses its like.
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
