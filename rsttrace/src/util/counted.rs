//! Counts with their nouns.

use std::fmt::{self, Display};

/// A count with its noun, whose plural has an `s`: `1 reset`, `2 resets`.
pub(crate) fn counted(count: u64, noun: &str) -> impl Display {
    fmt::from_fn(move |formatter| match count {
        1 => write!(formatter, "1 {noun}"),
        _ => write!(formatter, "{count} {noun}s"),
    })
}

/// Verb behind a count.
pub(crate) const fn was(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let text = [0, 1, 2].map(|count| counted(count, "reset").to_string());
        assert_eq!(text, ["0 resets", "1 reset", "2 resets"]);
    }
}
