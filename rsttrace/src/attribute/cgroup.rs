//! cgroup ids to paths.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;

use super::proc::Membership;
use crate::{cgroup_mounts::hierarchies, cgroup_path::CgroupPath};

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

#[cfg(test)]
mod tests {
    use super::*;

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
