//! Paths of cgroups by their ids.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;

use super::procfs::CgroupMembership;
use crate::{cgroup_mounts::hierarchies, cgroup_path::CgroupPath};

/// Cgroups cached at once. A host has hundreds, seldom thousands.
const CAPACITY: usize = 16_384;

/// Minimum idle time after a scan of the hierarchy, as a multiple of the scan's duration (19 = at most 5 % of one CPU).
const SCAN_IDLE_FACTOR: u32 = 19;

/// Longest idle time after a scan.
const SCAN_IDLE_MAX: Duration = Duration::from_secs(1);

/// Cgroups of the version 2 hierarchy. The id of a cgroup is the inode number of its directory.
pub struct Cgroups {
    /// Mount point of the hierarchy; `None` if it is not mounted.
    root: Option<PathBuf>,
    known: HashMap<u64, Arc<CgroupMembership>>,
    /// Time from which on the hierarchy may be scanned again; `None` before the first scan.
    next_scan: Option<Instant>,
}

impl Cgroups {
    /// Finds the hierarchy in the mount table of this process. Without one, no cgroup has a path.
    pub fn detect() -> Self {
        let root = hierarchies().into_iter().find(|hierarchy| hierarchy.is_version_2).map(|hierarchy| hierarchy.mount);
        Self { root, known: HashMap::default(), next_scan: None }
    }

    /// Path of a cgroup below the root of the hierarchy, with the unit and container that it names. `None` if the
    /// cgroup is gone or the hierarchy is not mounted.
    ///
    /// `guess` is tried first, which costs one system call and is mostly right. Otherwise the whole hierarchy is
    /// scanned, unless it was shortly before.
    pub fn get(&mut self, id: u64, guess: Option<&CgroupPath>) -> Option<Arc<CgroupMembership>> {
        if let Some(known) = self.known.get(&id) {
            return Some(Arc::clone(known));
        }
        if let Some(guess) = guess
            && self.has_id(guess, id)
        {
            let membership = Arc::new(CgroupMembership::from_path(guess.clone()));
            self.insert(id, Arc::clone(&membership));
            return Some(membership);
        }
        let began = Instant::now();
        if self.next_scan.is_none_or(|next| next <= began) {
            self.scan();
            let ended = Instant::now();
            self.next_scan = Some(ended + ((ended - began) * SCAN_IDLE_FACTOR).min(SCAN_IDLE_MAX));
        }
        self.known.get(&id).cloned()
    }

    /// Returns whether the cgroup of this path has this id now.
    fn has_id(&self, path: &CgroupPath, id: u64) -> bool {
        let Some((root, below)) = self.root.as_ref().zip(path.as_path().strip_prefix("/").ok()) else { return false };
        root.join(below).metadata().is_ok_and(|found| found.ino() == id)
    }

    fn insert(&mut self, id: u64, membership: Arc<CgroupMembership>) {
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        self.known.insert(id, membership);
    }

    /// Reads the whole hierarchy. Entries of removed cgroups stay: the reset of a cgroup that is gone may be attributed
    /// later.
    fn scan(&mut self) {
        let Some(root) = &self.root else { return };
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        let mut pending = vec![root.clone()];
        while let Some(directory) = pending.pop() {
            if let (Ok(metadata), Ok(below)) = (directory.metadata(), directory.strip_prefix(root)) {
                let path = Path::new("/").join(below);
                let path = CgroupPath::new(path.as_os_str().as_bytes());
                self.known.insert(metadata.ino(), Arc::new(CgroupMembership::from_path(path)));
            }
            // A cgroup that is removed during the scan is no error.
            pending.extend(subdirectories(&directory).unwrap_or_default());
            if self.known.len() >= CAPACITY {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_guess_only_if_it_has_the_id() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = directory.path().join("a");
        fs::create_dir(&made).expect("a directory");
        let id = made.metadata().expect("it is there").ino();
        // No scan for the next minute.
        let next_scan = Some(Instant::now() + Duration::from_mins(1));
        let mut cgroups = Cgroups { root: Some(directory.path().into()), known: HashMap::default(), next_scan };
        let guess = CgroupPath::new(b"/a");
        for (id, guess) in [(id + 1, Some(&guess)), (id, None), (id, Some(&CgroupPath::new(b"/b")))] {
            assert_eq!(cgroups.get(id, guess), None);
        }
        assert_eq!(cgroups.get(id, Some(&guess)).and_then(|found| found.path.clone()), Some(guess));
        assert!(cgroups.get(id, None).is_some());
    }
}
