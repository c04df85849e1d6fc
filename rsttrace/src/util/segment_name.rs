//! Names of the segments of a recording: `20261128T081500Z-HOST.jsonl`, and `.jsonl.zst` when it is compressed. Their order is
//! that of their times.

/// Ending of a segment that is not compressed.
pub(crate) const PLAIN: &str = ".jsonl";
/// Ending of a compressed segment.
pub(crate) const COMPRESSED: &str = ".jsonl.zst";
/// Ending of a segment that is being compressed.
pub(crate) const UNFINISHED: &str = ".jsonl.zst.tmp";

/// Whether a file name is that of a segment, compressed or not.
pub(crate) fn is_segment(name: &str) -> bool {
    let Some((stamp, rest)) = name.split_at_checked(17) else { return false };
    let is_stamp = stamp.bytes().zip(b"00000000T000000Z-").all(|(byte, &form)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == form,
    });
    is_stamp && [PLAIN, COMPRESSED, UNFINISHED].iter().any(|ending| rest.ends_with(ending))
}

/// The name of a segment without its ending; `None` for any other name.
pub(crate) fn stem(name: &str) -> Option<&str> {
    let without = |ending| name.strip_suffix(ending);
    [PLAIN, COMPRESSED, UNFINISHED].into_iter().find_map(without).filter(|_| is_segment(name))
}

/// Whether it is the name of a segment that is being compressed.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_are_recognised() {
        for name in
            ["20261128T081500Z-gw-1.jsonl", "20261128T031204Z-gw-1~0002.jsonl.zst", "20261128T031204Z-a.jsonl.zst.tmp"]
        {
            assert!(is_segment(name), "{name}");
        }
        for name in [
            "",
            "resets.jsonl",
            "20261128T081500Z-gw-1.json",
            "2026112 T081500Z-gw-1.jsonl",
            "20261128T081500Z.jsonl",
            "ä",
        ] {
            assert!(!is_segment(name), "{name}");
        }
    }
}
