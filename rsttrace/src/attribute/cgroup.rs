//! cgroup ids to paths.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;

use super::proc::Membership;

/// cgroups remembered at once; a host has hundreds, seldom thousands.
const REMEMBERED: usize = 16_384;

/// How often the file system is walked at most for ids that are not known.
const WALK_INTERVAL: Duration = Duration::from_secs(1);

/// The cgroups of the hierarchy of version 2. A cgroup's id is the inode number of its directory.
pub struct Cgroups {
    root: Option<PathBuf>,
    known: HashMap<u64, Arc<Membership>>,
    walked: Option<Instant>,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self { root: mount(), known: HashMap::default(), walked: None }
    }
}

impl Cgroups {
    /// The path of a cgroup below the root of the hierarchy, and what it says; `None` when it has gone or the hierarchy
    /// is not mounted.
    pub fn get(&mut self, id: u64) -> Option<Arc<Membership>> {
        if let Some(known) = self.known.get(&id) {
            return Some(Arc::clone(known));
        }
        if self.walked.is_none_or(|walked| walked.elapsed() >= WALK_INTERVAL) {
            self.walk();
        }
        self.known.get(&id).cloned()
    }

    /// Reads the whole hierarchy. Old entries stay: a cgroup may be gone by the time its reset is looked at.
    fn walk(&mut self) {
        self.walked = Some(Instant::now());
        let Some(root) = &self.root else { return };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let mut left = vec![root.clone()];
        while let Some(directory) = left.pop() {
            if let (Ok(metadata), Ok(below)) = (directory.metadata(), directory.strip_prefix(root)) {
                let path = Path::new("/").join(below);
                self.known.insert(metadata.ino(), Arc::new(Membership::of(&path.to_string_lossy())));
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

/// Where the hierarchy of version 2 is mounted.
pub fn mount() -> Option<PathBuf> {
    find_mount(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// In `mountinfo` the mount point is field 5, and the type stands behind a lone hyphen.
pub(super) fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        if source.split(' ').next()? != "cgroup2" {
            return None;
        }
        Some(PathBuf::from(mount.split(' ').nth(4)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_among_others() {
        let mountinfo = "24 1 0:22 / /proc rw - proc proc rw\n\
                         31 24 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                         30 24 0:26 / /sys/fs/cgroup/unified rw shared:8 master:1 - cgroup2 cgroup rw\n";
        assert_eq!(find_mount(mountinfo), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("nonsense\n - \n - cgroup2"), None);
    }
}
