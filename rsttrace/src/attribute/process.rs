//! What `/proc` says of a process.

use std::{ffi::OsStr, fs, num::NonZeroUsize, os::unix::ffi::OsStrExt as _, sync::Arc};

use lru::LruCache;

use crate::reset::KernelTask;

/// Processes remembered at once.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Nanoseconds of a tick of the times in `/proc/PID/stat` (`USER_HZ` is 100 on every architecture that has BTF).
const STAT_TICK_NS: u64 = 10_000_000;

/// Longest command line that is kept, in bytes.
const COMMAND_LINE_MAX: usize = 4096;

/// Details of one process, each `None` where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Path of the program.
    pub executable: Option<Arc<str>>,
    /// Arguments joined by spaces, cut at 4,096 bytes.
    pub command_line: Option<Arc<str>>,
    /// Real user id.
    pub uid: Option<u32>,
}

/// The processes that have been looked at.
pub struct Processes(LruCache<(u32, u64), Arc<Details>>);

impl Default for Processes {
    fn default() -> Self {
        Self(LruCache::new(REMEMBERED))
    }
}

impl Processes {
    /// Details of the process; empty ones when it has gone, or when its PID has gone to another.
    pub fn details(&mut self, task: &KernelTask) -> Arc<Details> {
        Arc::clone(
            self.0.get_or_insert((task.tgid, task.start_boottime_ns), || Arc::new(read(task).unwrap_or_default())),
        )
    }
}

fn read(task: &KernelTask) -> Option<Details> {
    let directory = format!("/proc/{}", task.tgid);
    if !is_the_same(&directory, task) {
        return None;
    }
    let details = Details {
        executable: fs::read_link(format!("{directory}/exe")).ok().map(|path| text(path.as_os_str())),
        command_line: command_line(&fs::read(format!("{directory}/cmdline")).unwrap_or_default()),
        uid: fs::read_to_string(format!("{directory}/status")).ok().as_deref().and_then(real_uid),
    };
    // It may have ended, and its PID been given away, while we read.
    is_the_same(&directory, task).then_some(details)
}

/// Whether the process of this directory is the one, by its start time.
pub(super) fn is_the_same(directory: &str, task: &KernelTask) -> bool {
    fs::read(format!("{directory}/stat"))
        .ok()
        .and_then(|stat| start_ticks(&stat))
        .is_some_and(|ticks| ticks == task.start_boottime_ns / STAT_TICK_NS)
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold anything, parentheses too.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let after_name = stat.get(stat.iter().rposition(|&byte| byte == b')')? + 1..)?;
    std::str::from_utf8(after_name).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn command_line(bytes: &[u8]) -> Option<Arc<str>> {
    let bytes = bytes.get(..COMMAND_LINE_MAX).unwrap_or(bytes);
    let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
    let joined: Vec<u8> = bytes.get(..end)?.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect();
    Some(text(OsStr::from_bytes(&joined)))
}

fn real_uid(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

fn text(bytes: &OsStr) -> Arc<str> {
    bytes.to_string_lossy().into()
}

/// The process of this PID, for tests.
#[cfg(test)]
pub(super) fn named(pid: u32) -> KernelTask {
    let ticks = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|stat| start_ticks(&stat)).unwrap_or_default();
    KernelTask { tgid: pid, start_boottime_ns: ticks * STAT_TICK_NS, uid: None, comm: "x".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 424242 99";
        for name in ["cat", "a) b", "(sd-pam)", "S 1 2", ") 1 2 3 )"] {
            assert_eq!(start_ticks(format!("7 ({name}){rest}").as_bytes()), Some(424_242), "{name}");
        }
        for stat in [&b""[..], b"7 (cat", b"7 (cat) S 1", b"\xff\xff) \xff"] {
            assert_eq!(start_ticks(stat), None);
        }
    }

    #[test]
    fn arguments_are_joined_and_bounded() {
        assert_eq!(command_line(b"java\0-jar\0gw.jar\0").as_deref(), Some("java -jar gw.jar"));
        assert_eq!(command_line(b""), None);
        assert_eq!(command_line(b"\0\0"), None);
        assert_eq!(command_line(b"a\xff\0").as_deref(), Some("a\u{fffd}"));
        assert_eq!(command_line(&vec![b'x'; 100_000]).map(|line| line.len()), Some(COMMAND_LINE_MAX));
    }

    #[test]
    fn this_process_is_found_and_another_start_time_is_not() {
        let stat = fs::read("/proc/self/stat").expect("proc is mounted");
        let start_boottime_ns = start_ticks(&stat).expect("a start time") * STAT_TICK_NS;
        let mut task = KernelTask { tgid: std::process::id(), start_boottime_ns, uid: None, comm: "x".into() };
        let details = Processes::default().details(&task);
        assert_eq!(
            details.executable.as_deref(),
            std::env::current_exe().ok().as_deref().and_then(|path| path.to_str())
        );
        assert!(details.command_line.is_some() && details.uid.is_some());
        task.start_boottime_ns += 2 * STAT_TICK_NS;
        assert_eq!(*Processes::default().details(&task), Details::default());
    }
}
