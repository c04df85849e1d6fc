//! Files of one process in `/proc`. Any of them may be missing, huge, or truncated.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use super::{container, systemd_unit};
use crate::{
    cgroup_path::CgroupPath,
    model::Container,
    util::process_key::{ProcessKey, read_prefix},
};

/// Longest command line that is kept, bytes.
pub(super) const COMMAND_LINE_MAX: usize = 4096;

/// Longest part that is read of any other file, bytes. The path of a cgroup has 4,096 at most, and hosts with a
/// hierarchy for each controller have 14 of them.
const FILE_MAX: u64 = 64 << 10;

impl ProcessKey {
    /// Task with this key.
    #[cfg(test)]
    pub(super) fn task(self) -> crate::model::internals::KernelTask {
        let start_boottime_ns = self.start_boottime_ns();
        crate::model::internals::KernelTask { tgid: self.pid, start_boottime_ns, uid: None, comm: "x".into() }
    }

    fn path(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }

    /// Path of the executable; `None` if it cannot be read, as of a zombie.
    pub(super) fn executable(self) -> Option<Arc<str>> {
        Some(text(fs::read_link(self.path("exe")).ok()?.as_os_str()))
    }

    /// Real user id.
    pub(super) fn uid(self) -> Option<u32> {
        real_uid(&read_prefix(Path::new(&self.path("status")), FILE_MAX).ok()?)
    }

    /// Cgroup, unit and container.
    pub(super) fn membership(self) -> Option<CgroupMembership> {
        CgroupMembership::parse(&read_prefix(Path::new(&self.path("cgroup")), FILE_MAX).ok()?)
    }

    /// Command line, see [`join_arguments`].
    ///
    /// May block without end: the kernel copies the arguments from the memory of the process and takes its `mmap_lock`
    /// for that (`get_cmdline`), which a process that hangs in a page fault holds.
    pub(super) fn command_line(self) -> Option<Arc<str>> {
        join_arguments(&read_prefix(Path::new(&self.path("cmdline")), COMMAND_LINE_MAX as u64 + 1).ok()?)
    }
}

/// Cgroup of a process, and the unit and container that its path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupMembership {
    /// Path of the most specific of the process's cgroups.
    pub path: Option<CgroupPath>,
    /// systemd unit.
    pub unit: Option<Arc<str>>,
    /// Container.
    pub container: Option<Container>,
}

impl CgroupMembership {
    /// Derives unit and container from the path of a cgroup.
    pub fn from_path(path: CgroupPath) -> Self {
        Self { unit: systemd_unit::of_cgroup(&path), container: container::of_cgroup(&path), path: Some(path) }
    }

    /// Parses `/proc/PID/cgroup`: a line `0::PATH` for version 2, and one `NUMBER:CONTROLLERS:PATH` for each hierarchy
    /// of version 1. `None` if no line has a path.
    ///
    /// On hosts that have both versions, container engines may use only version 1. So a line with a container is
    /// preferred to one with a unit, and that to one with any other cgroup than the root; then version 2, then
    /// systemd's own hierarchy. The kernel escapes nothing in this file, and allows no newline in the name of a cgroup
    /// (`cgroup_mkdir`).
    pub(super) fn parse(file: &[u8]) -> Option<Self> {
        let lines = file.split(|&byte| byte == b'\n').filter_map(|line| {
            let mut parts = line.splitn(3, |&byte| byte == b':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            let rank = if number == b"0" { 2 } else { u8::from(controllers == b"name=systemd") };
            path.starts_with(b"/").then_some((rank, path))
        });
        let candidates = lines.map(|(rank, path)| (Self::from_path(CgroupPath::new(path)), rank));
        let best = candidates.max_by_key(|(found, rank)| {
            let is_below_root = found.path.as_deref() != Some("/");
            (found.container.is_some(), found.unit.is_some(), is_below_root, *rank)
        });
        best.map(|(found, _)| found)
    }
}

/// Joins NUL-terminated arguments by spaces; `None` if there is no text. Trailing NULs and blanks, with which programs
/// that set their title (setproctitle) fill the rest of the area, are dropped. Beyond [`COMMAND_LINE_MAX`] bytes the
/// line is cut and ends in `…`.
pub(super) fn join_arguments(bytes: &[u8]) -> Option<Arc<str>> {
    let kept = bytes.get(..COMMAND_LINE_MAX).unwrap_or(bytes);
    let end = kept.iter().rposition(|&byte| byte != 0 && byte != b' ')? + 1;
    let joined: Vec<u8> = kept.get(..end)?.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect();
    let mut line = String::from_utf8_lossy(&joined).into_owned();
    if bytes.len() > COMMAND_LINE_MAX {
        line.push('…');
    }
    Some(line.into())
}

/// Parses the real user id from `/proc/PID/status`.
fn real_uid(status: &[u8]) -> Option<u32> {
    // The name, in the first line, is the only text that the process chooses; the kernel escapes newlines in it.
    let status = String::from_utf8_lossy(status);
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

fn text(bytes: &OsStr) -> Arc<str> {
    String::from_utf8_lossy(bytes.as_bytes()).into()
}

/// Parses any bytes as each of the files, and checks that the results are bounded.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(data: &[u8]) {
    let line = join_arguments(data);
    // Each invalid byte becomes U+FFFD, of three bytes.
    assert!(line.is_none_or(|line| !line.is_empty() && !line.contains('\0') && line.len() <= COMMAND_LINE_MAX * 3 + 3));
    if let Some(membership) = CgroupMembership::parse(data) {
        assert!(membership.path.is_some_and(|path| path.starts_with('/')));
        assert!(membership.unit.is_none_or(|unit| !unit.is_empty() && !unit.contains('/')));
    }
    let _ignored = real_uid(data);
    ProcessKey::fuzz(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e8c1d2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";

    #[test]
    fn joins_and_bounds_arguments() {
        assert_eq!(join_arguments(b"java\0-jar\0gw.jar\0").as_deref(), Some("java -jar gw.jar"));
        assert_eq!(join_arguments(b"nginx: worker process\0\0\0\0\0").as_deref(), Some("nginx: worker process"));
        assert_eq!(join_arguments(b"postgres: idle    \0").as_deref(), Some("postgres: idle"));
        assert_eq!(join_arguments(b"sh\0-c\0\0x\0").as_deref(), Some("sh -c  x"));
        assert_eq!(join_arguments(b""), None);
        assert_eq!(join_arguments(b"\0\0"), None);
        assert_eq!(join_arguments(b"a\xff\0").as_deref(), Some("a\u{fffd}"));
        let long = join_arguments(&[b'x'; COMMAND_LINE_MAX + 1]).expect("a line");
        assert_eq!(long.trim_end_matches('…').len(), COMMAND_LINE_MAX);
        assert!(long.ends_with('…'));
        assert_eq!(join_arguments(&[b'x'; COMMAND_LINE_MAX]).map(|line| line.len()), Some(COMMAND_LINE_MAX));
    }

    #[test]
    fn parses_the_real_user_id() {
        assert_eq!(real_uid(b"Name:\tUid:\\n\nUid:\t1000\t0\t0\t0\nGid:\t5\n"), Some(1000));
        assert_eq!(real_uid(b"Name:\tx\nUid:"), None);
        assert_eq!(real_uid(b"\xff\nUid:\t-1"), None);
    }

    /// Path, unit, and id of the container.
    fn membership(file: &str) -> Option<(String, Option<String>, Option<String>)> {
        let found = CgroupMembership::parse(file.replace("ID", ID).as_bytes())?;
        let text = |text: Arc<str>| text.to_string();
        Some((
            found.path.map(|path| path.to_string())?,
            found.unit.map(text),
            found.container.map(|container| text(container.id)),
        ))
    }

    #[test]
    fn prefers_the_most_specific_line() {
        let nginx = ("/system.slice/nginx.service".to_owned(), Some("nginx.service".to_owned()), None);
        // Version 2 alone; version 1 alone; both, with systemd in version 2; a removed cgroup.
        for file in [
            "0::/system.slice/nginx.service\n",
            "3:cpu,cpuacct:/system.slice\n2:name=systemd:/system.slice/nginx.service\n1:pids:/a\n",
            "2:cpu:/\n1:name=systemd:/system.slice/nginx.service\n0::/system.slice/nginx.service\n",
            "0::/system.slice/nginx.service (deleted)\n",
        ] {
            assert_eq!(membership(file), Some(nginx.clone()), "{file}");
        }
        let docker = |unit: Option<&str>| Some((format!("/docker/{ID}"), unit.map(str::to_owned), Some(ID.to_owned())));
        // An engine that uses version 1 alone: in version 2 the container is in the cgroup of its service.
        assert_eq!(
            membership("4:memory:/docker/ID\n1:cpu:/docker/ID\n0::/system.slice/docker.service\n"),
            docker(None)
        );
        assert_eq!(membership("11:name=systemd:/docker/ID\n10:cpuset:/docker/ID\n"), docker(None));
    }

    #[test]
    fn prefers_any_cgroup_to_the_root() {
        let path = |file| membership(file).map(|(path, ..)| path);
        assert_eq!(path("9:name=systemd:/\n4:memory:/jobs/7\n0::/\n").as_deref(), Some("/jobs/7"));
        assert_eq!(path("9:name=systemd:/\n0::/\n").as_deref(), Some("/"));
        assert_eq!(path("0::/a:b:c\n").as_deref(), Some("/a:b:c"));
        assert_eq!(path("0::/../x\n").as_deref(), Some("/../x"));
        for malformed in ["", "\n", "0:", "0::", "0::relative\n", "::\n:\n"] {
            assert_eq!(path(malformed), None, "{malformed:?}");
        }
        let path =
            CgroupMembership::parse(b"1:cpu:/\n0::/\xff\xfe \\x41:\xc3\xa9 (deleted)\n").and_then(|found| found.path);
        assert_eq!(path, Some(CgroupPath::new(b"/\xff\xfe \\x41:\xc3\xa9")));
    }

    #[test]
    fn reads_the_files_of_this_process() {
        let pid = std::process::id();
        let me = ProcessKey::of_running(pid).expect("proc is mounted");
        assert_eq!(me.executable().as_deref(), std::env::current_exe().ok().as_deref().and_then(Path::to_str));
        assert!(me.command_line().is_some() && me.uid().is_some() && me.membership().is_some());
    }
}
