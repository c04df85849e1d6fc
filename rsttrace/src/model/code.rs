//! Codes of causes and reasons from files, as the constants that they are in this program.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

use serde::{Deserialize as _, Deserializer, de};

/// A code. An alias, since serde would borrow a `&'static str` from the text that it reads.
pub(super) type Code = &'static str;

/// Most codes that are kept. This version has fewer than a hundred; others come from files of other versions.
const CODES_MAX: usize = 1000;
/// Longest code, bytes.
const BYTES_MAX: usize = 64;

/// Codes that were read. They are never freed, and bounded in number and length.
static CODES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

/// Deserializes a code. Fails for what is none, and beyond [`CODES_MAX`] different ones.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    intern(&text).ok_or_else(|| de::Error::custom("expected the code of a cause"))
}

fn intern(text: &str) -> Option<&'static str> {
    let is_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > BYTES_MAX || !text.bytes().all(is_code) {
        return None;
    }
    let mut codes = CODES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = codes.get(text) {
        return Some(known);
    }
    if codes.len() >= CODES_MAX {
        return None;
    }
    let code: &'static str = Box::leak(text.into());
    codes.insert(code);
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_kept_once_and_what_is_none_is_refused() {
        let first = intern("keepalive-race").expect("a code");
        assert!(std::ptr::eq(first, intern("keepalive-race").expect("the code again")));
        for text in ["", "Keepalive", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(intern(text), None, "{text}");
        }
    }
}
