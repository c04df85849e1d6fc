//! `--cgroup`: the only cgroup that is wanted, with those below it.

use std::{
    fs,
    io::ErrorKind,
    path::{Component, Path, PathBuf},
};

use crate::{
    cgroup_mounts::{Hierarchy, hierarchies},
    cgroup_path::CgroupPath,
};

/// The wanted cgroup.
#[derive(Debug, PartialEq, Eq)]
pub struct WantedCgroup {
    /// Path below the root of its hierarchy.
    path: PathBuf,
    /// A note where there is none now, or where that is not known.
    note: Option<String>,
}

impl WantedCgroup {
    /// Looks for a cgroup that is named as `/proc/PID/cgroup` does, or by its directory. It need not be there now: that of
    /// a service is made when the service starts.
    pub fn find(path: &Path) -> Self {
        Self::find_in(path, &hierarchies())
    }

    fn find_in(given: &Path, hierarchies: &[Hierarchy]) -> Self {
        let shown = given.display();
        let path = below_mount(given, hierarchies);
        let note = if hierarchies.is_empty() {
            Some(format!(
                "cannot check whether cgroup {shown} exists: no cgroup hierarchy is mounted here, so the cgroups of sockets \
                 have no paths, and only those of owners are compared"
            ))
        } else if hierarchies.iter().any(|hierarchy| exists(hierarchy, &path)) {
            None
        } else if path.starts_with("/..") || hierarchies.iter().any(|hierarchy| hierarchy.root != Path::new("/")) {
            Some(format!("cannot check whether cgroup {shown} exists: only a part of the hierarchy is visible here"))
        } else {
            let best = hierarchies.iter().find(|hierarchy| hierarchy.is_version_2).or(hierarchies.first());
            let mount = best.map(|hierarchy| hierarchy.mount.display().to_string()).unwrap_or_default();
            Some(format!(
                "no cgroup {shown} now; waiting for it (name one as in /proc/PID/cgroup, or a directory in {mount})"
            ))
        };
        Self { path, note }
    }

    /// Whether this is the cgroup, or one below it.
    pub fn holds(&self, path: &CgroupPath) -> bool {
        path.as_path().starts_with(&self.path)
    }

    /// A note for the start, where there is no such cgroup now, or where that is not known.
    pub fn note(&self) -> Option<String> {
        self.note.clone()
    }
}

/// Whether there is a cgroup of this path, as far as it can be looked at.
fn exists(hierarchy: &Hierarchy, path: &Path) -> bool {
    match fs::metadata(hierarchy.directory(path)) {
        Ok(found) => found.is_dir(),
        Err(error) => {
            !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
        }
    }
}

/// A cgroup's path below its hierarchy's root, whether it is given like that or with the mount point in front. `.` and
/// `..` are worked out, but for those that lead out of the root, as `/proc/PID/cgroup` has them in a cgroup namespace.
fn below_mount(path: &Path, hierarchies: &[Hierarchy]) -> PathBuf {
    // Mounts may lie in others.
    let below = hierarchies.iter().filter_map(|hierarchy| path.strip_prefix(&hierarchy.mount).ok());
    let below = below.min_by_key(|below| below.as_os_str().len()).unwrap_or(path);
    let mut result = PathBuf::from("/");
    for component in below.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir if result.file_name().is_some() => drop(result.pop()),
            Component::ParentDir => result.push(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    fn hierarchy(mount: &Path, is_version_2: bool) -> Hierarchy {
        Hierarchy { mount: mount.to_owned(), root: "/".into(), is_version_2, limits_memory: false }
    }

    #[test]
    fn both_paths_name_a_cgroup() {
        let mounts =
            [hierarchy(Path::new("/sys/fs/cgroup"), true), hierarchy(Path::new("/sys/fs/cgroup/memory"), false)];
        for (path, below) in [
            ("/sys/fs/cgroup/system.slice/a.service", "/system.slice/a.service"),
            ("/system.slice/a.service", "/system.slice/a.service"),
            ("system.slice/./b/../a.service/", "/system.slice/a.service"),
            ("/sys/fs/cgroup/memory/jobs", "/jobs"),
            ("/sys/fs/cgroup", "/"),
            ("/../../other", "/../../other"),
        ] {
            assert_eq!(below_mount(Path::new(path), &mounts), Path::new(below), "{path}");
        }
    }

    #[test]
    fn a_missing_cgroup_is_noted() {
        let (first, second) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let name = OsStr::from_bytes(b"bk\xff \xc3\xa9");
        fs::create_dir(second.path().join(name)).expect("a directory");
        fs::write(first.path().join("cgroup.procs"), "").expect("a file");
        let mounts = [hierarchy(first.path(), true), hierarchy(second.path(), false)];
        let wanted = WantedCgroup::find_in(&Path::new("/").join(name), &mounts);
        assert_eq!(wanted.note(), None);
        assert_eq!(WantedCgroup::find_in(&second.path().join(name), &mounts), wanted);
        for path in ["/nonexistent", "/cgroup.procs", "/cgroup.procs/x"] {
            let note = WantedCgroup::find_in(Path::new(path), &mounts).note().expect("it is nowhere");
            assert!(note.contains(&format!("no cgroup {path} now; waiting for it")), "{note}");
        }
    }

    #[test]
    fn an_uncertain_cgroup_is_accepted_with_a_warning() {
        let directory = tempfile::tempdir().expect("a directory");
        let part = Hierarchy { root: "/docker/x".into(), ..hierarchy(directory.path(), true) };
        for (path, mounts) in [("/a", &[][..]), ("/../a", &[hierarchy(directory.path(), true)]), ("/docker/y", &[part])]
        {
            let note = WantedCgroup::find_in(Path::new(path), mounts).note();
            assert!(note.is_some_and(|note| note.contains(path) && note.contains("cannot check")));
        }
    }

    #[test]
    fn bytes_are_compared() {
        let holds = |wanted: &[u8], path: &[u8]| {
            WantedCgroup { path: OsStr::from_bytes(wanted).into(), note: None }.holds(&CgroupPath::new(path))
        };
        assert!(holds(b"/bk\xff", b"/bk\xff") && holds(b"/bk\xff", b"/bk\xff/a"));
        assert!(
            !holds(b"/bk\xff", b"/bk\xfe") && !holds(b"/bk\xff", "/bk\u{fffd}".as_bytes()) && !holds(b"/b", b"/bk")
        );
    }
}
