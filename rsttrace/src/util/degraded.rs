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

/// What is missing in the output, each once, in one sentence; `None` where nothing is.
pub fn limits(all: &[Degraded]) -> Option<String> {
    let losses = losses(all);
    (!losses.is_empty()).then(|| losses.join("; "))
}

/// What is missing in the output, each once.
pub fn losses(all: &[Degraded]) -> Vec<String> {
    // What differs only in the part in brackets is one: `… (IPv4)`, `… (IPv6)`.
    let mut limits: Vec<(&str, Vec<&str>)> = Vec::new();
    for Degraded { loss, .. } in all {
        let split = loss.strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
        let (text, of) = split.unwrap_or((loss, ""));
        match limits.iter_mut().find(|(other, _)| *other == text) {
            Some((_, all)) if !all.contains(&of) => all.push(of),
            Some(_) => {}
            None => limits.push((text, vec![of])),
        }
    }
    let losses = limits.into_iter().map(|(text, mut of)| {
        of.retain(|part| !part.is_empty());
        if of.is_empty() { text.to_owned() } else { format!("{text} ({})", of.join(" and ")) }
    });
    losses.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn degraded(loss: &str) -> Degraded {
        Degraded { what: "a probe".to_owned(), why: "no reason".to_owned(), loss: loss.to_owned() }
    }

    #[test]
    fn each_limit_is_told_once() {
        assert_eq!(limits(&[]), None);
        let losses =
            ["resets are not seen (IPv4)", "owners are unknown", "resets are not seen (IPv6)", "owners are unknown"];
        let all = losses.map(degraded);
        assert_eq!(limits(&all).as_deref(), Some("resets are not seen (IPv4 and IPv6); owners are unknown"));
        assert_eq!(limits(&[degraded("times (ms)"), degraded("times")]).as_deref(), Some("times (ms)"));
    }
}
