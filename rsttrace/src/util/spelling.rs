//! Suggestions for words that were mistyped.

/// Smallest similarity (Jaro-Winkler, from 0 to 1) of a word that is suggested.
const SIMILAR: f64 = 0.8;

/// The most similar of the known words; `None` where none is similar.
pub(crate) fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = known.into_iter().map(|other| (other, strsim::jaro_winkler(word, other)));
    let best = rated.filter(|(_, similarity)| *similarity >= SIMILAR).max_by(|one, other| one.1.total_cmp(&other.1));
    best.map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_words_are_suggested() {
        let known = ["keepalive-race", "keepalive-answer", "connection-refused"];
        assert_eq!(similar("connection-refuse", known), Some("connection-refused"));
        assert_eq!(similar("keepalve-race", known), Some("keepalive-race"));
        assert_eq!(similar("xyz", known), None);
        assert_eq!(similar("", known), None);
    }
}
