//! What the files of one process in `/proc` say. Any of them may be missing, huge, or end in the middle.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::Arc,
};

use super::{container, service};
use crate::{cgroup_path::CgroupPath, facts::KernelTask, model::Container};

/// Nanoseconds of a tick of the times in `/proc/PID/stat` (`USER_HZ` is 100 on every architecture that has BTF).
const STAT_TICK_NS: u64 = 10_000_000;

/// Longest command line that is kept, in bytes.
pub(super) const COMMAND_LINE_MAX: usize = 4096;

/// Most that is read of any other file, in bytes: a path of a cgroup has 4,096 at most, and hosts with a hierarchy for
/// each controller have 14 of them.
const FILE_MAX: u64 = 64 << 10;

/// Flag of a thread of the kernel in `/proc/PID/stat` (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A process for good: a PID is given again, but not within the clock tick of the start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    start_ticks: u64,
}

impl Identity {
    /// As the kernel side names it.
    pub(super) const fn of(task: &KernelTask) -> Self {
        Self { pid: task.tgid, start_ticks: task.start_boottime_ns / STAT_TICK_NS }
    }

    /// The process that has this PID now; `None` for a thread of the kernel, too.
    pub(crate) fn of_program(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (stat.flags & KERNEL_THREAD == 0).then_some(Self { pid, start_ticks: stat.start_ticks })
    }

    /// As the kernel side might name it.
    #[cfg(test)]
    pub(super) fn task(self) -> KernelTask {
        let start_boottime_ns = self.start_ticks * STAT_TICK_NS;
        KernelTask { tgid: self.pid, start_boottime_ns, uid: None, comm: "x".into() }
    }

    /// Whether the process is still there, as far as `/proc` shows it.
    pub(crate) fn lives(self) -> bool {
        self.has_the_pid().unwrap_or(false)
    }

    /// Whether this process has its PID now, and not another; `None` where `/proc` shows nobody under it.
    pub(super) fn has_the_pid(self) -> Option<bool> {
        Some(Stat::read(self.pid)?.start_ticks == self.start_ticks)
    }

    fn file(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }

    /// Path of the program.
    pub(super) fn executable(self) -> Option<Arc<str>> {
        Some(text(fs::read_link(self.file("exe")).ok()?.as_os_str()))
    }

    /// Real user id.
    pub(super) fn uid(self) -> Option<u32> {
        real_uid(&read(Path::new(&self.file("status")), FILE_MAX).ok()?)
    }

    /// Where it belongs.
    pub(super) fn membership(self) -> Option<Membership> {
        Membership::parse(&read(Path::new(&self.file("cgroup")), FILE_MAX).ok()?)
    }

    /// Arguments joined by spaces. The kernel fetches them out of the process's memory, and waits while that is locked:
    /// for a process that hangs in the middle of a page fault, without end.
    pub(super) fn command_line(self) -> Option<Arc<str>> {
        command_line(&read(Path::new(&self.file("cmdline")), COMMAND_LINE_MAX as u64 + 1).ok()?)
    }
}

/// What counts of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    flags: u64,
    start_ticks: u64,
}

/// When the process of a directory such as `/proc/PID` was started, in clock ticks since boot.
pub(crate) fn start_ticks(process: &Path) -> io::Result<u64> {
    let stat = Stat::parse(&read(&process.join("stat"), FILE_MAX)?);
    stat.map(|stat| stat.start_ticks).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&read(Path::new(&format!("/proc/{pid}/stat")), FILE_MAX).ok()?)
    }

    /// Flags are field 9, the start time is field 22. The name in field 2 may hold anything, parentheses too.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after_name = stat.get(stat.iter().rposition(|&byte| byte == b')')? + 1..)?;
        let mut fields = std::str::from_utf8(after_name).ok()?.split_ascii_whitespace();
        let flags = fields.nth(6)?.parse().ok()?;
        Some(Self { flags, start_ticks: fields.nth(12)?.parse().ok()? })
    }
}

/// The cgroups of a process, and what they say of where it belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Path of the cgroup that says most.
    pub path: Option<CgroupPath>,
    /// systemd unit.
    pub unit: Option<Arc<str>>,
    /// Container.
    pub container: Option<Container>,
}

impl Membership {
    /// What one path says.
    pub fn of(path: CgroupPath) -> Self {
        Self { unit: service::unit(&path), container: container::container(&path), path: Some(path) }
    }

    /// `/proc/PID/cgroup`: a line `0::PATH` for version 2, and one `NUMBER:CONTROLLERS:PATH` for each hierarchy of
    /// version 1. On hosts that have both, container engines may use only those of version 1, so the line with a
    /// container goes before one with a unit, and that before one that only tells of some cgroup. Of lines that say as
    /// much, version 2 counts, then systemd's own hierarchy. The kernel escapes nothing in it, and lets no cgroup have
    /// a newline in its name (`cgroup_mkdir`).
    fn parse(file: &[u8]) -> Option<Self> {
        let lines = file.split(|&byte| byte == b'\n').filter_map(|line| {
            let mut parts = line.splitn(3, |&byte| byte == b':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            let trust = if number == b"0" { 2 } else { u8::from(controllers == b"name=systemd") };
            path.starts_with(b"/").then_some((trust, path))
        });
        let best = lines.map(|(trust, path)| (Self::of(CgroupPath::new(path)), trust)).max_by_key(|(found, trust)| {
            let somewhere = found.path.as_deref() != Some("/");
            (found.container.is_some(), found.unit.is_some(), somewhere, *trust)
        });
        best.map(|(found, _)| found)
    }
}

/// Reads the beginning of a file.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A longer line is cut, and says so with `…`. Programs that name themselves fill what is left with zeroes or blanks.
/// Arguments, each with a zero behind it, joined by spaces.
pub(super) fn command_line(bytes: &[u8]) -> Option<Arc<str>> {
    let kept = bytes.get(..COMMAND_LINE_MAX).unwrap_or(bytes);
    let end = kept.iter().rposition(|&byte| byte != 0 && byte != b' ')? + 1;
    let joined: Vec<u8> = kept.get(..end)?.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect();
    let mut line = String::from_utf8_lossy(&joined).into_owned();
    if bytes.len() > COMMAND_LINE_MAX {
        line.push('…');
    }
    Some(line.into())
}

fn real_uid(status: &[u8]) -> Option<u32> {
    // The name, in the first line, is the only thing in here that the process has chosen; the kernel escapes it.
    let status = String::from_utf8_lossy(status);
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

fn text(bytes: &OsStr) -> Arc<str> {
    String::from_utf8_lossy(bytes.as_bytes()).into()
}

/// Any bytes as each of the files. What is kept is bounded, and a path is one.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(data: &[u8]) {
    let line = command_line(data);
    // A byte that is no UTF-8 becomes a character of three.
    assert!(line.is_none_or(|line| !line.is_empty() && !line.contains('\0') && line.len() <= COMMAND_LINE_MAX * 3 + 3));
    if let Some(membership) = Membership::parse(data) {
        assert!(membership.path.is_some_and(|path| path.starts_with('/')));
        assert!(membership.unit.is_none_or(|unit| !unit.is_empty() && !unit.contains('/')));
    }
    let _ = (Stat::parse(data), real_uid(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e8c1d2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = " S 1 2 3 4 5 4194560 7 8 9 10 11 12 13 14 15 16 17 18 424242 99";
        for name in ["cat", "a) b", "(sd-pam)", "S 1 2", ") 1 2 3 )", "\u{1b}\n)"] {
            let stat = Stat { flags: 4_194_560, start_ticks: 424_242 };
            assert_eq!(Stat::parse(format!("7 ({name}){rest}").as_bytes()), Some(stat), "{name}");
        }
        for stat in [&b""[..], b"7 (cat", b"7 (cat) S 1", b"\xff\xff) \xff", b")"] {
            assert_eq!(Stat::parse(stat), None);
        }
    }

    #[test]
    fn arguments_are_joined_and_bounded() {
        assert_eq!(command_line(b"java\0-jar\0gw.jar\0").as_deref(), Some("java -jar gw.jar"));
        assert_eq!(command_line(b"nginx: worker process\0\0\0\0\0").as_deref(), Some("nginx: worker process"));
        assert_eq!(command_line(b"postgres: idle    \0").as_deref(), Some("postgres: idle"));
        assert_eq!(command_line(b"sh\0-c\0\0x\0").as_deref(), Some("sh -c  x"));
        assert_eq!(command_line(b""), None);
        assert_eq!(command_line(b"\0\0"), None);
        assert_eq!(command_line(b"a\xff\0").as_deref(), Some("a\u{fffd}"));
        let long = command_line(&[b'x'; COMMAND_LINE_MAX + 1]).expect("a line");
        assert_eq!(long.trim_end_matches('…').len(), COMMAND_LINE_MAX);
        assert!(long.ends_with('…'));
        assert_eq!(command_line(&[b'x'; COMMAND_LINE_MAX]).map(|line| line.len()), Some(COMMAND_LINE_MAX));
    }

    #[test]
    fn the_real_user_is_the_first() {
        assert_eq!(real_uid(b"Name:\tUid:\\n\nUid:\t1000\t0\t0\t0\nGid:\t5\n"), Some(1000));
        assert_eq!(real_uid(b"Name:\tx\nUid:"), None);
        assert_eq!(real_uid(b"\xff\nUid:\t-1"), None);
    }

    /// Path, unit, and id of the container.
    fn membership(file: &str) -> Option<(String, Option<String>, Option<String>)> {
        let found = Membership::parse(file.replace("ID", ID).as_bytes())?;
        let text = |text: Arc<str>| text.to_string();
        Some((
            found.path.map(|path| path.to_string())?,
            found.unit.map(text),
            found.container.map(|container| text(container.id)),
        ))
    }

    #[test]
    fn the_line_that_says_most_is_taken() {
        let nginx = ("/system.slice/nginx.service".to_owned(), Some("nginx.service".to_owned()), None);
        // Version 2 alone; version 1 alone; both, with systemd in version 2; one that has gone.
        for file in [
            "0::/system.slice/nginx.service\n",
            "3:cpu,cpuacct:/system.slice\n2:name=systemd:/system.slice/nginx.service\n1:pids:/a\n",
            "2:cpu:/\n1:name=systemd:/system.slice/nginx.service\n0::/system.slice/nginx.service\n",
            "0::/system.slice/nginx.service (deleted)\n",
        ] {
            assert_eq!(membership(file), Some(nginx.clone()), "{file}");
        }
        let docker = |unit: Option<&str>| Some((format!("/docker/{ID}"), unit.map(str::to_owned), Some(ID.to_owned())));
        // An engine that uses version 1 alone leaves its own service in version 2.
        assert_eq!(
            membership("4:memory:/docker/ID\n1:cpu:/docker/ID\n0::/system.slice/docker.service\n"),
            docker(None)
        );
        assert_eq!(membership("11:name=systemd:/docker/ID\n10:cpuset:/docker/ID\n"), docker(None));
    }

    #[test]
    fn one_that_only_tells_of_some_cgroup_goes_before_the_root() {
        let path = |file| membership(file).map(|(path, ..)| path);
        assert_eq!(path("9:name=systemd:/\n4:memory:/jobs/7\n0::/\n").as_deref(), Some("/jobs/7"));
        assert_eq!(path("9:name=systemd:/\n0::/\n").as_deref(), Some("/"));
        assert_eq!(path("0::/a:b:c\n").as_deref(), Some("/a:b:c"));
        assert_eq!(path("0::/../x\n").as_deref(), Some("/../x"));
        for nonsense in ["", "\n", "0:", "0::", "0::relative\n", "::\n:\n"] {
            assert_eq!(path(nonsense), None, "{nonsense:?}");
        }
        let path = Membership::parse(b"1:cpu:/\n0::/\xff\xfe \\x41:\xc3\xa9 (deleted)\n").and_then(|found| found.path);
        assert_eq!(path, Some(CgroupPath::new(b"/\xff\xfe \\x41:\xc3\xa9")));
    }

    #[test]
    fn this_process_is_found_and_another_start_time_is_not() {
        let pid = std::process::id();
        let me = Identity::of_program(pid).expect("proc is mounted");
        assert!(me.lives());
        assert_eq!(me.executable().as_deref(), std::env::current_exe().ok().as_deref().and_then(Path::to_str));
        assert!(me.command_line().is_some() && me.uid().is_some() && me.membership().is_some());
        assert!(!Identity { pid, start_ticks: me.start_ticks + 2 }.lives());
        assert!(!Identity { pid: u32::MAX, start_ticks: 0 }.lives());
    }

    #[test]
    fn threads_of_the_kernel_are_no_programs() {
        let two = fs::read("/proc/2/stat").expect("proc is mounted");
        // In a container PID 2 may be anything.
        if two.starts_with(b"2 (kthreadd)") {
            assert_eq!(Identity::of_program(2), None);
        }
    }
}
