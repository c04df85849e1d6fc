//! Where the hierarchies of cgroups are mounted.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// A hierarchy of cgroups, or a part of one, where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where.
    pub mount: PathBuf,
    /// The cgroup that is to be seen there: `/` where it is all of them.
    pub root: PathBuf,
    /// Whether it is that of version 2, in which sockets are.
    pub is_version_2: bool,
    /// Whether it may limit memory: one of version 1 with that controller, or that of version 2.
    pub limits_memory: bool,
}

impl Hierarchy {
    /// The directory of a cgroup, by its path below the root of the hierarchy.
    pub fn directory(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        self.mount.join(below)
    }
}

/// All that are mounted. Of several mounts of one hierarchy, those of all of it come first. Reads `/proc/self/mountinfo`; empty
/// when that fails.
pub fn hierarchies() -> Vec<Hierarchy> {
    fs::read("/proc/self/mountinfo").map(|mountinfo| parse_mountinfo(&mountinfo)).unwrap_or_default()
}

/// In `mountinfo` the root is field 4, the mount point field 5, and the type stands behind a lone hyphen.
pub(crate) fn parse_mountinfo(mountinfo: &[u8]) -> Vec<Hierarchy> {
    let fields = mountinfo.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b' '));
    let mut found: Vec<Hierarchy> = fields
        .filter_map(|mut fields| {
            let (root, mount) = (fields.nth(3)?, fields.next()?);
            let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
            let is_version_2 = match fields.next()? {
                b"cgroup2" => true,
                b"cgroup" => false,
                _ => return None,
            };
            // Behind the source, in the options of the file system.
            let mut options = fields.nth(1).unwrap_or_default().split(|&byte| byte == b',');
            let limits_memory = is_version_2 || options.any(|option| option == b"memory");
            Some(Hierarchy { mount: unescaped(mount), root: unescaped(root), is_version_2, limits_memory })
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
            [Hierarchy { mount: "5".into(), root: "4".into(), is_version_2: true, limits_memory: true }]
        );
    }

    #[test]
    fn the_controller_of_memory_is_among_the_options() {
        let memory = |line: &[u8]| parse_mountinfo(line).first().map(|found| found.limits_memory);
        assert_eq!(memory(b"31 24 0:27 / /c rw - cgroup cgroup rw,cpu"), Some(false));
        assert_eq!(memory(b"31 24 0:27 / /c rw shared:9 - cgroup cgroup rw,cpu,memory"), Some(true));
    }

    #[test]
    fn directories_are_found_below_a_mounted_root() {
        let part = Hierarchy {
            mount: "/sys/fs/cgroup".into(),
            root: "/docker/x".into(),
            is_version_2: false,
            limits_memory: true,
        };
        for (path, directory) in
            [("/docker/x/a", "/sys/fs/cgroup/a"), ("/docker/x", "/sys/fs/cgroup/"), ("/b", "/sys/fs/cgroup/b")]
        {
            assert_eq!(part.directory(Path::new(path)), Path::new(directory));
        }
    }

    #[test]
    fn escapes_are_undone() {
        for (text, path) in [("/a\\040b", "/a b"), ("\\134\\134", "\\\\"), ("/a\\", "/a\\"), ("\\999\\04", "\\999\\04")]
        {
            assert_eq!(unescaped(text.as_bytes()), Path::new(path));
        }
    }
}
