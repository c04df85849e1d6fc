//! Escapes in the names of systemd units (systemd-escape(1)). Pure.

use std::borrow::Cow;

/// Replaces every `\xNN` by the byte that it stands for. A malformed escape stays as it is, and invalid UTF-8 becomes
/// U+FFFD.
pub(super) fn unescape(name: &str) -> Cow<'_, str> {
    if !name.contains("\\x") {
        return name.into();
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = rest
            .strip_prefix(b"\\x")
            .and_then(|rest| std::str::from_utf8(rest.get(..2)?).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { rest.get(4..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_escapes_and_keeps_malformed_ones() {
        for (name, expected) in
            [("a\\x2db", "a-b"), ("a\\x2", "a\\x2"), ("\\xzz", "\\xzz"), ("a", "a"), ("\\xff", "\u{fffd}")]
        {
            assert_eq!(unescape(name), expected);
        }
    }
}
