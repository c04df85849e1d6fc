//! Sizes in bytes, as the command line and the specifications of sinks name them.

use super::counted;

/// Parses a size: a whole number of bytes, or with one of the units K, M and G (powers of 1,024), in either case and with or
/// without a following `B` or `iB`. The error is a part of a sentence.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        _ => None,
    };
    let factor = shift.map(|shift| 1_u64 << shift);
    let bytes = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    bytes.ok_or_else(|| format!("'{text}' is not a size such as 65536, 64K or 100M"))
}

/// A size with the largest unit of which it has one or more: `2 GiB`, `1.5 MiB`, `12 KiB`, `1 byte`.
pub(crate) fn shown(bytes: u64) -> String {
    let unit = [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(shift, _)| bytes >> shift > 0);
    let Some((shift, name)) = unit else { return counted(bytes, "byte").to_string() };
    let (whole, tenths) = (bytes >> shift, ((bytes & ((1 << shift) - 1)) * 10) >> shift);
    if tenths == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenths} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_the_usual_spellings() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("20k", 20 << 10), ("64KiB", 64 << 10), ("1MB", 1 << 20), ("3g", 3 << 30)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "k", "1KK", "1.5M", "-1", " 1", "1 M", "1T", "99999999999G", "1Mi"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_with_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (12 << 10, "12 KiB"),
            (3 << 19, "1.5 MiB"),
            (512 << 20, "512 MiB"),
            (2 << 30, "2 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(shown(bytes), text);
        }
    }
}
