//! cgroup ids to paths.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;

use super::proc::Membership;
use crate::cgroup_path::CgroupPath;

/// cgroups remembered at once; a host has hundreds, seldom thousands.
const REMEMBERED: usize = 16_384;

/// After a walk for an id that is not known there is no other for so many times as long as it took: 5 % of one CPU.
const REST: u32 = 19;

/// Longest time without a walk.
const REST_MAX: Duration = Duration::from_secs(1);

/// The cgroups of the hierarchy of version 2. A cgroup's id is the inode number of its directory.
pub struct Cgroups {
    root: Option<PathBuf>,
    known: HashMap<u64, Arc<Membership>>,
    /// When the next walk may begin; `None` before the first.
    next_walk: Option<Instant>,
}

impl Default for Cgroups {
    fn default() -> Self {
        let root = hierarchies().into_iter().find(|hierarchy| hierarchy.is_version_2).map(|hierarchy| hierarchy.mount);
        Self { root, known: HashMap::default(), next_walk: None }
    }
}

impl Cgroups {
    /// The path of a cgroup below the root of the hierarchy, and what it says; `None` when it has gone or the hierarchy
    /// is not mounted. It is looked for at `guess` first, where it mostly is: that is one system call.
    pub fn get(&mut self, id: u64, guess: Option<&CgroupPath>) -> Option<Arc<Membership>> {
        if let Some(known) = self.known.get(&id) {
            return Some(Arc::clone(known));
        }
        if let Some(guess) = guess
            && self.is_at(id, guess)
        {
            let found = Arc::new(Membership::of(guess.clone()));
            self.keep(id, Arc::clone(&found));
            return Some(found);
        }
        let began = Instant::now();
        if self.next_walk.is_none_or(|next| next <= began) {
            self.walk();
            let ended = Instant::now();
            self.next_walk = Some(ended + ((ended - began) * REST).min(REST_MAX));
        }
        self.known.get(&id).cloned()
    }

    /// Whether the cgroup of this path has this id now.
    fn is_at(&self, id: u64, path: &CgroupPath) -> bool {
        let Some((root, below)) = self.root.as_ref().zip(path.as_path().strip_prefix("/").ok()) else { return false };
        root.join(below).metadata().is_ok_and(|found| found.ino() == id)
    }

    fn keep(&mut self, id: u64, membership: Arc<Membership>) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(id, membership);
    }

    /// Reads the whole hierarchy. Old entries stay: a cgroup may be gone by the time its reset is looked at.
    fn walk(&mut self) {
        let Some(root) = &self.root else { return };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let mut left = vec![root.clone()];
        while let Some(directory) = left.pop() {
            if let (Ok(metadata), Ok(below)) = (directory.metadata(), directory.strip_prefix(root)) {
                let path = Path::new("/").join(below);
                let path = CgroupPath::new(path.as_os_str().as_bytes());
                self.known.insert(metadata.ino(), Arc::new(Membership::of(path)));
            }
            // A cgroup that goes away while we walk is no error.
            left.extend(subdirectories(&directory).unwrap_or_default());
            if self.known.len() >= REMEMBERED {
                return;
            }
        }
    }
}

fn subdirectories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A hierarchy of cgroups, or a part of one, where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where.
    pub mount: PathBuf,
    /// The cgroup that is to be seen there: `/` where it is all of them.
    pub root: PathBuf,
    /// Whether it is that of version 2, in which sockets are.
    pub is_version_2: bool,
}

/// All that are mounted. Of several mounts of one hierarchy, those of all of it come first.
pub fn hierarchies() -> Vec<Hierarchy> {
    fs::read("/proc/self/mountinfo").map(|mountinfo| parse_mountinfo(&mountinfo)).unwrap_or_default()
}

/// In `mountinfo` the root is field 4, the mount point field 5, and the type stands behind a lone hyphen.
pub(super) fn parse_mountinfo(mountinfo: &[u8]) -> Vec<Hierarchy> {
    let fields = mountinfo.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b' '));
    let mut found: Vec<Hierarchy> = fields
        .filter_map(|mut fields| {
            let (root, mount) = (fields.nth(3)?, fields.next()?);
            let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
            let is_version_2 = kind == b"cgroup2";
            (is_version_2 || kind == b"cgroup").then(|| Hierarchy {
                mount: unescaped(mount),
                root: unescaped(root),
                is_version_2,
            })
        })
        .collect();
    found.sort_by_key(|hierarchy| hierarchy.root != Path::new("/"));
    found
}

/// A path of `mountinfo`, in which blank, tab, newline and backslash are `\ooo` (`seq_path`).
fn unescaped(mut text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        let code = rest.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, length) = match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => (byte, 3),
            None => (first, 0),
        };
        bytes.push(byte);
        text = rest.get(length..).unwrap_or_default();
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_among_others() {
        let mountinfo = b"24 1 0:22 / /proc rw - proc proc rw\n\
                          33 24 0:26 /docker/x /mnt/\xff\\040part rw - cgroup2 cgroup rw\n\
                          31 24 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                          30 24 0:26 / /sys/fs/cgroup/unified rw shared:8 master:1 - cgroup2 cgroup rw\n";
        let found: Vec<_> = parse_mountinfo(mountinfo)
            .into_iter()
            .map(|found| {
                (found.mount.into_os_string().into_vec(), found.root.display().to_string(), found.is_version_2)
            })
            .collect();
        assert_eq!(
            found,
            [
                (b"/sys/fs/cgroup/cpu".to_vec(), "/".to_owned(), false),
                (b"/sys/fs/cgroup/unified".to_vec(), "/".to_owned(), true),
                (b"/mnt/\xff part".to_vec(), "/docker/x".to_owned(), true),
            ]
        );
        assert_eq!(
            parse_mountinfo(b"nonsense\n - \n - cgroup2\n1 2 3 4 5 - cgroup2"),
            [Hierarchy { mount: "5".into(), root: "4".into(), is_version_2: true }]
        );
    }

    #[test]
    fn escapes_are_undone() {
        for (text, path) in [("/a\\040b", "/a b"), ("\\134\\134", "\\\\"), ("/a\\", "/a\\"), ("\\999\\04", "\\999\\04")]
        {
            assert_eq!(unescaped(text.as_bytes()), Path::new(path));
        }
    }

    #[test]
    fn a_guess_is_only_taken_where_it_has_the_id() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = directory.path().join("a");
        fs::create_dir(&made).expect("a directory");
        let id = made.metadata().expect("it is there").ino();
        // Nothing is walked for the next minute.
        let next_walk = Some(Instant::now() + Duration::from_mins(1));
        let mut cgroups = Cgroups { root: Some(directory.path().into()), known: HashMap::default(), next_walk };
        let guess = CgroupPath::new(b"/a");
        for (id, guess) in [(id + 1, Some(&guess)), (id, None), (id, Some(&CgroupPath::new(b"/b")))] {
            assert_eq!(cgroups.get(id, guess), None);
        }
        assert_eq!(cgroups.get(id, Some(&guess)).and_then(|found| found.path.clone()), Some(guess));
        assert!(cgroups.get(id, None).is_some());
    }
}
