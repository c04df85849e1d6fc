//! Identity of a process, as `/proc` shows it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Unit of the times in `/proc/PID/stat`, nanoseconds (`USER_HZ` is 100 on every architecture that has BTF).
const STAT_TICK_NS: u64 = 10_000_000;

/// Longest part of `/proc/PID/stat` that is read, bytes.
const STAT_MAX: u64 = 4096;

/// Flag of a kernel thread in `/proc/PID/stat` (`PF_KTHREAD`).
const PF_KTHREAD: u64 = 0x0020_0000;

/// Flag of an exiting task in `/proc/PID/stat` (`PF_EXITING`).
const PF_EXITING: u64 = 0x4;

/// Identity of a process: its PID and start time. A PID is reused, but not within the clock tick of the start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProcessKey {
    pub(crate) pid: u32,
    /// Start time, ticks of [`STAT_TICK_NS`] since boot.
    start_ticks: u64,
}

impl ProcessKey {
    /// Key of a process by its PID and its start time in nanoseconds since boot (`task_struct.start_boottime`).
    pub(crate) const fn new(pid: u32, start_boottime_ns: u64) -> Self {
        Self { pid, start_ticks: start_boottime_ns / STAT_TICK_NS }
    }

    /// Key of the process that has this PID now; `None` if there is none or it is a kernel thread.
    pub(crate) fn of_running(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (stat.flags & PF_KTHREAD == 0).then_some(Self { pid, start_ticks: stat.start_ticks })
    }

    /// Start time, nanoseconds since boot, as exact as `/proc` shows it.
    #[cfg(test)]
    pub(crate) const fn start_boottime_ns(self) -> u64 {
        self.start_ticks * STAT_TICK_NS
    }

    /// Returns whether the process is there, a zombie included; `false` also if `/proc` does not show it.
    pub(crate) fn is_running(self) -> bool {
        self.still_has_pid().unwrap_or(false)
    }

    /// Returns whether the PID is still that of this process and not reused; `None` if `/proc` shows no process of this
    /// PID.
    pub(crate) fn still_has_pid(self) -> Option<bool> {
        Some(Stat::read(self.pid)?.start_ticks == self.start_ticks)
    }

    /// Whether the process is exiting, or a zombie.
    pub(crate) fn is_exiting(self) -> bool {
        Stat::read(self.pid).is_none_or(|stat| stat.flags & PF_EXITING != 0)
    }

    /// Parses any bytes as `/proc/PID/stat`.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn fuzz(data: &[u8]) {
        let _ignored = Stat::parse(data);
    }
}

/// Used fields of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// `PF_*`.
    flags: u64,
    /// Start time, ticks of [`STAT_TICK_NS`] since boot.
    start_ticks: u64,
}

/// Start time of the process of a directory such as `/proc/PID`, clock ticks since boot. Blocks as
/// [`read_prefix`] does. Fails when its `stat` cannot be read or is malformed.
pub(crate) fn start_ticks(process: &Path) -> io::Result<u64> {
    let stat = Stat::parse(&read_prefix(&process.join("stat"), STAT_MAX)?);
    stat.map(|stat| stat.start_ticks).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&read_prefix(Path::new(&format!("/proc/{pid}/stat")), STAT_MAX).ok()?)
    }

    /// Parses field 9, the flags, and field 22, the start time. Field 2, the name in parentheses, may contain any
    /// bytes, parentheses included, so fields are counted from the last `)`.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after_name = stat.get(stat.iter().rposition(|&byte| byte == b')')? + 1..)?;
        let mut fields = std::str::from_utf8(after_name).ok()?.split_ascii_whitespace();
        let flags = fields.nth(6)?.parse().ok()?;
        Some(Self { flags, start_ticks: fields.nth(12)?.parse().ok()? })
    }
}

/// Reads the first `limit` bytes of a file. Blocks while the kernel makes them. Fails when the file cannot be
/// opened or read.
pub(crate) fn read_prefix(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn finds_the_start_time_after_any_name() {
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
    fn finds_this_process_and_none_of_another_start_time() {
        let pid = std::process::id();
        let me = ProcessKey::of_running(pid).expect("proc is mounted");
        assert!(me.is_running());
        assert!(!ProcessKey { pid, start_ticks: me.start_ticks + 2 }.is_running());
        assert!(!ProcessKey { pid: u32::MAX, start_ticks: 0 }.is_running());
    }

    #[test]
    fn kernel_threads_have_no_key() {
        let two = fs::read("/proc/2/stat").expect("proc is mounted");
        // In a container PID 2 may be any process.
        if two.starts_with(b"2 (kthreadd)") {
            assert_eq!(ProcessKey::of_running(2), None);
        }
    }
}
