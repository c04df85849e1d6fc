//! The path of a cgroup: bytes to compare, text to show.

use std::{ffi::OsStr, ops::Deref, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Path of a cgroup below the root of its hierarchy. Its names may be any bytes but `/`, newline and zero. As `str`, what
/// is not UTF-8 is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath {
    text: Arc<str>,
    /// Only where it is not what the text says.
    raw: Option<Arc<Path>>,
}

impl CgroupPath {
    /// Takes the bytes as the kernel has them.
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text: text.into(), raw: None },
            Err(_) => Self {
                text: String::from_utf8_lossy(bytes).into(),
                raw: Some(Path::new(OsStr::from_bytes(bytes)).into()),
            },
        }
    }

    /// The path itself, which names a directory below the place where the hierarchy is mounted.
    pub fn as_path(&self) -> &Path {
        self.raw.as_deref().unwrap_or_else(|| Path::new(&*self.text))
    }
}

impl From<&str> for CgroupPath {
    fn from(text: &str) -> Self {
        Self { text: text.into(), raw: None }
    }
}

impl Deref for CgroupPath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Serialize for CgroupPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

/// From text: of a path with bytes that are not UTF-8 it is not the path itself.
impl<'de> Deserialize<'de> for CgroupPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { text: Deserialize::deserialize(deserializer)?, raw: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_and_text_is_shown() {
        for (bytes, text) in [
            (&b"/system.slice"[..], "/system.slice"),
            (b"/a b\\x20\xc3\xa9", "/a b\\x20\u{e9}"),
            (b"/bk\xff", "/bk\u{fffd}"),
        ] {
            let path = CgroupPath::new(bytes);
            assert_eq!((path.as_path().as_os_str().as_bytes(), &*path), (bytes, text));
            assert_eq!(serde_json::to_value(&path).ok(), Some(text.into()));
        }
    }

    #[test]
    fn equal_text_of_different_bytes_differs() {
        assert_ne!(CgroupPath::new(b"/bk\xff"), CgroupPath::new(b"/bk\xfe"));
        assert_ne!(CgroupPath::new(b"/bk\xff"), CgroupPath::new("/bk\u{fffd}".as_bytes()));
    }
}
