//! Names of users, from `/etc/passwd` alone: a lookup through the C library may ask a directory server, and a record
//! does not wait for the network.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc};

use foldhash::HashMap;

/// Shortest interval between two checks of the file for changes, nanoseconds.
const CHECK_INTERVAL_NS: u64 = 10_000_000_000;

/// Size of the largest file that is read, bytes: room for 100,000 users. With a larger file no user has a name.
const FILE_MAX: u64 = 8 << 20;

/// User names by user id.
pub(super) struct Users {
    file: PathBuf,
    names: HashMap<u32, Arc<str>>,
    /// Inode number, size and modification time of the file as it was read; `None` before that.
    version: Option<(u64, u64, i64, i64)>,
    /// Time of the last check, nanoseconds of `CLOCK_MONOTONIC`; `None` before the first.
    checked_ns: Option<u64>,
}

impl Default for Users {
    fn default() -> Self {
        Self { file: "/etc/passwd".into(), names: HashMap::default(), version: None, checked_ns: None }
    }
}

impl Users {
    /// Name of a user for an event at `at_ns`, nanoseconds of `CLOCK_MONOTONIC`; `None` if it has none. Reads the file
    /// again if it has changed, at most once in [`CHECK_INTERVAL_NS`].
    pub(super) fn name(&mut self, uid: u32, at_ns: u64) -> Option<Arc<str>> {
        if self.checked_ns.is_none_or(|checked_ns| at_ns.saturating_sub(checked_ns) >= CHECK_INTERVAL_NS) {
            self.checked_ns = Some(at_ns);
            self.read_if_changed();
        }
        self.names.get(&uid).cloned()
    }

    /// Reads the file if it has changed. Keeps the names that it has if the file cannot be read.
    fn read_if_changed(&mut self) {
        let Ok(metadata) = fs::metadata(&self.file) else { return };
        let version = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        if self.version == Some(version) || !metadata.is_file() || metadata.size() > FILE_MAX {
            return;
        }
        if let Ok(bytes) = fs::read(&self.file) {
            self.version = Some(version);
            self.names = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}

/// Parses passwd(5). Of several names for one number the first is taken, as by the C library. Malformed lines, comments
/// and the `+` and `-` entries of NIS are skipped.
pub(super) fn parse(passwd: &str) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::default();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1))
            && !name.is_empty()
            && !name.starts_with(['#', '+', '-'])
            && let Ok(uid) = uid.parse()
        {
            names.entry(uid).or_insert_with(|| name.into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_and_skips_malformed_lines() {
        let names = parse(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# c:x:1:\n+nis:x:2:\n:x:3:\nshort\nshort:x\nbad:x:y:\n\
             big:x:4294967296:\nwww-data:x:33:33\n\u{fffd}:x:5:5\n",
        );
        let expected = [(0, "root"), (33, "www-data"), (5, "\u{fffd}")];
        assert_eq!(names, expected.map(|(uid, name)| (uid, Arc::from(name))).into_iter().collect());
    }

    #[test]
    fn reads_a_changed_file_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("passwd");
        let mut users = Users { file: file.clone(), ..Users::default() };
        let mut now_ns = 1;
        assert_eq!(users.name(7, now_ns), None);
        fs::write(&file, "seven:x:7:").expect("a file");
        // Not before the interval has passed.
        assert_eq!(users.name(7, now_ns), None);
        now_ns += CHECK_INTERVAL_NS;
        assert_eq!(users.name(7, now_ns).as_deref(), Some("seven"));
        fs::write(&file, "another:x:7:").expect("a file");
        now_ns += CHECK_INTERVAL_NS;
        assert_eq!(users.name(7, now_ns).as_deref(), Some("another"));
        // Absent for a moment, while it is being replaced.
        fs::remove_file(&file).expect("it is there");
        now_ns += CHECK_INTERVAL_NS;
        assert_eq!(users.name(7, now_ns).as_deref(), Some("another"));
    }
}
