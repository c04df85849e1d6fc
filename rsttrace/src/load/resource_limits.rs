//! Resource limits of this process, compared with what a start takes: too low a limit would end it in the middle.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use nix::sys::resource::{Resource, getrlimit};

use super::preflight::{Finding, Obstacle};
use crate::cgroup_mounts::{Hierarchy, hierarchies};

/// Memory that a start takes, in bytes, the maps in the kernel included. On x86-64 with two CPUs and buffers of the default
/// size the peak was 50 MB on either transport, with optimisation and without. In a fresh cgroup limited to 50 or 52 MiB all
/// of 48 starts succeeded, with 48 MiB 10 of 12, with 46 MiB 5 of 12, with 44 MiB none of 12; the others were killed. Memory
/// that an earlier run has left in the cgroup, and that the kernel frees a little later, adds to it.
const MEMORY: u64 = 52 << 20;

/// Memory that a start takes from Linux 7.0 on, in bytes: that charges more of the verifier's memory to the cgroup, and there
/// are more programs. On 7.2 the peak was 78 MB; with 72 MiB three of three starts succeeded, with 64 MiB none.
const MEMORY_FROM_7: u64 = 76 << 20;

/// Address space that a start takes, in bytes. Below 40 MiB (without optimisation: 52) starts were aborted or could not spawn
/// the threads that read `/proc`; the rest is for the threads of sinks.
const ADDRESS_SPACE: u64 = 64 << 20;

/// Memory that a start takes on a kernel of this release, bytes.
fn memory_on(release: &str) -> u64 {
    let major = release.split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major: u32| major >= 7) { MEMORY_FROM_7 } else { MEMORY }
}

/// Checks the memory limits of the cgroups of this process.
pub(super) fn memory() -> Finding {
    let limit = fs::read("/proc/self/cgroup").ok().and_then(|own| smallest_limit(&own, &hierarchies()));
    let found = limit
        .as_ref()
        .map_or_else(|| "no limit".to_owned(), |(bytes, at)| format!("{} MiB in {}", bytes >> 20, at.display()));
    let needed = memory_on(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default());
    let obstacle = limit.filter(|(bytes, _)| *bytes < needed).map(|(bytes, at)| Obstacle {
        reason: format!(
            "the memory limit of the cgroup {} is {} MiB, and a start takes {} MiB, the kernel's part included",
            at.display(),
            bytes >> 20,
            needed >> 20
        ),
        remedy: "raise it (MemoryMax= of a systemd unit, --memory of a container)",
    });
    Finding { subject: "memory", found, obstacle }
}

/// Checks `RLIMIT_AS`.
pub(super) fn address_space() -> Finding {
    let limit = getrlimit(Resource::RLIMIT_AS).map_or(u64::MAX, |(soft, _)| soft);
    let found = if limit == u64::MAX { "no limit".to_owned() } else { format!("{} MiB", limit >> 20) };
    let obstacle = (limit < ADDRESS_SPACE).then(|| Obstacle {
        reason: format!(
            "the limit of the address space (RLIMIT_AS) is {} MiB, and {} MiB are needed",
            limit >> 20,
            ADDRESS_SPACE >> 20
        ),
        remedy: "raise it ('ulimit -v')",
    });
    Finding { subject: "address space", found, obstacle }
}

/// The smallest memory limit, in bytes, of the cgroups in `own` (the contents of `/proc/self/cgroup`) and their ancestors, with
/// the directory of that cgroup; `None` when there is no limit.
fn smallest_limit(own: &[u8], hierarchies: &[Hierarchy]) -> Option<(u64, PathBuf)> {
    let lines = own.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut parts = line.splitn(3, |&byte| byte == b':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let controls_memory = controllers.split(|&byte| byte == b',').any(|controller| controller == b"memory");
        (number == b"0" || controls_memory).then(|| (number == b"0", Path::new(OsStr::from_bytes(path))))
    });
    let limits = lines.flat_map(|(is_version_2, path)| {
        let mounted =
            hierarchies.iter().filter(move |mounted| mounted.is_version_2 == is_version_2 && mounted.limits_memory);
        mounted.flat_map(move |mounted| {
            path.ancestors().filter_map(|path| {
                let directory = mounted.directory(path);
                Some((limit_in(&directory)?, directory))
            })
        })
    });
    limits.min_by_key(|(bytes, _)| *bytes)
}

/// Memory limit of one cgroup, in bytes; `None` for no limit. In version 1 it includes the limits of the ancestors, whose
/// directories a container may not see.
fn limit_in(directory: &Path) -> Option<u64> {
    let read = |file| fs::read_to_string(directory.join(file)).ok();
    // Version 1 has a number for no limit: the highest multiple of a page.
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 62);
    let above = read("memory.stat")
        .and_then(|stat| stat.lines().find_map(|line| number(line.strip_prefix("hierarchical_memory_limit ")?)));
    let own = ["memory.max", "memory.limit_in_bytes"].into_iter().filter_map(read).filter_map(|text| number(&text));
    own.chain(above).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(mount: &Path, is_version_2: bool) -> Hierarchy {
        Hierarchy { mount: mount.to_owned(), root: "/".into(), is_version_2, limits_memory: true }
    }

    #[test]
    fn takes_the_smallest_limit_of_all_ancestors() {
        let (new, old) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let write = |directory: &Path, file: &str, text: &str| {
            fs::create_dir_all(directory).expect("a directory");
            fs::write(directory.join(file), text).expect("a file");
        };
        write(&new.path().join("a"), "memory.max", "50331648\n");
        write(&new.path().join("a/b"), "memory.max", "max\n");
        let mounts = [hierarchy(new.path(), true), hierarchy(old.path(), false)];
        let found = |own: &str| smallest_limit(own.as_bytes(), &mounts);
        assert_eq!(found("0::/a/b\n"), Some((48 << 20, new.path().join("a"))));
        assert_eq!((found("0::/c\n"), found("5:cpu:/a\n"), found("\n:\n")), (None, None, None));
        write(&old.path().join("x"), "memory.limit_in_bytes", "9223372036854771712\n");
        write(&old.path().join("x"), "memory.stat", "cache 0\nhierarchical_memory_limit 33554432\nrss 5\n");
        assert_eq!(found("4:cpu,memory:/x\n0::/a/b\n"), Some((32 << 20, old.path().join("x"))));
        assert_eq!(found("4:cpuset:/x\n"), None);
        write(&old.path().join("y"), "memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(found("4:memory:/y\n"), None);
    }
}
