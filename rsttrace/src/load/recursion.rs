//! Tracepoint invocations for which the kernel does not run a program: recursion misses.
//!
//! Since 5.19 `__bpf_trace_run` skips a program that is already running on the CPU, for a reset in an interrupt in the middle
//! of another one, or for one of a task that has preempted another, and counts a `recursion_miss`. Backup programs on the
//! tracepoint handle those invocations (`recursion.rs` of the kernel side).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
};

use anyhow::Result;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use rsttrace_common::recursion::{Claims, TASK_SHARDS};

use super::{Attached, KernelInfo, attach::Attacher, maps::take_map};

/// The backup programs of a primary one.
struct Backups {
    primary: &'static str,
    /// In the order in which they are attached.
    programs: &'static [&'static str],
    /// Whether the primary reports resets: each invocation that is missed is a lost record then. The other primaries run for
    /// every connection, and have a backup only where a task may be preempted in the middle of a program.
    reports_resets: bool,
}

/// All primary programs that have backups.
const BACKUPS: [Backups; 5] = [
    Backups { primary: "tcp_send_reset", programs: &["send_reset_bak1", "send_reset_bak2"], reports_resets: true },
    Backups { primary: "send_reset_2arg", programs: &["send_2arg_bak1"], reports_resets: true },
    Backups { primary: "tcp_receive_reset", programs: &["recv_reset_bak1", "recv_reset_bak2"], reports_resets: true },
    Backups { primary: "inet_sock_set_state", programs: &["set_state_bak1"], reports_resets: false },
    Backups { primary: "tcp_destroy_sock", programs: &["destroy_bak1"], reports_resets: false },
];

/// Backups of each program that reports resets, for the kernel side's `BACKUPS`: 1 where only interrupts come in the middle of
/// a program, 2 where tasks may be preempted there (7.0).
pub(super) const fn backup_count(kernel: &KernelInfo) -> u32 {
    if kernel.preempts_tracepoints { 2 } else { 1 }
}

/// Backup programs of a primary one on this kernel, in the order in which they are attached; none for other programs.
pub(super) fn backups_of(primary: &str, kernel: &KernelInfo) -> impl Iterator<Item = &'static str> {
    let count = backup_count(kernel) as usize;
    BACKUPS
        .iter()
        .filter(move |backups| backups.primary == primary && (backups.reports_resets || count > 1))
        .flat_map(move |backups| backups.programs.iter().copied().take(count))
}

/// Backup programs of a primary one on any kernel.
pub(super) fn all_backups_of(primary: &str) -> impl Iterator<Item = &'static str> {
    BACKUPS
        .iter()
        .filter(move |backups| backups.primary == primary)
        .flat_map(|backups| backups.programs.iter().copied())
}

/// Tracepoints of resets, which are the first ones in the map `CLAIMS`.
const RESET_TRACEPOINTS: u32 = 2;

/// Counters of missed resets.
pub(super) struct RecursionMisses {
    /// `fdinfo` of the primary programs that report resets, opened while this process has the privilege for it.
    fdinfo: Vec<File>,
    claims: PerCpuArray<MapData, Claims>,
}

impl RecursionMisses {
    /// Takes the map of claims out of the object; nothing is counted yet. Fails when it has none.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { fdinfo: Vec::new(), claims: take_map(ebpf, "CLAIMS")?.try_into()? })
    }

    /// Attaches the backups of the attached primary programs, and begins to count. Does nothing on kernels that do not skip
    /// programs (before 5.19). Fails when `fdinfo` cannot be read or when the kernel refuses a backup.
    pub(super) fn attach(
        &mut self,
        attacher: &mut Attacher<'_>,
        kernel: &KernelInfo,
        attached: &[Attached],
    ) -> Result<()> {
        for Attached { option, .. } in attached {
            let mut backups = backups_of(option.program, kernel).peekable();
            if backups.peek().is_none() {
                continue;
            }
            let fdinfo = File::open(format!("/proc/self/fdinfo/{}", attacher.fd(option.program)?))?;
            if recursion_misses(&fdinfo)?.is_none() {
                continue;
            }
            if BACKUPS.iter().any(|backups| backups.reports_resets && backups.primary == option.program) {
                self.fdinfo.push(fdinfo);
            }
            for name in backups {
                attacher.attach_tracepoint(name, option.attach)?;
            }
        }
        Ok(())
    }

    /// Resets since the start that neither a primary program nor a backup handled; 0 before 5.19.
    pub(super) fn count(&self) -> u64 {
        let missed: u64 = self.fdinfo.iter().filter_map(|file| recursion_misses(file).ok().flatten()).sum();
        let shards = (0..RESET_TRACEPOINTS * TASK_SHARDS).filter_map(|shard| self.claims.get(&shard, 0).ok());
        let handled = shards.map(|cpus| cpus.iter().map(|claims| claims.handled_by_backup).sum::<u64>()).sum();
        missed.saturating_sub(handled)
    }
}

/// `recursion_misses` of a program's `fdinfo`; `None` before 5.19, where it has no such line.
fn recursion_misses(mut fdinfo: &File) -> io::Result<Option<u64>> {
    let mut text = String::new();
    fdinfo.rewind()?;
    fdinfo.read_to_string(&mut text)?;
    let line = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    Ok(line.and_then(|number| number.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::load::probes::PROBES;

    #[test]
    fn program_names_are_unique_within_what_the_kernel_keeps() {
        // `BPF_OBJ_NAME_LEN` is 16, the terminating NUL included.
        let kept = |name: &'static str| name.get(..15).unwrap_or(name);
        let primaries = PROBES.iter().flat_map(|probe| probe.options).map(|option| option.program);
        let backups = BACKUPS.iter().flat_map(|backups| backups.programs).copied();
        let mut names: HashMap<&str, &str> = HashMap::new();
        for name in primaries.chain(backups) {
            let known = *names.entry(kept(name)).or_insert(name);
            assert_eq!(known, name, "the kernel keeps the same 15 characters of both");
        }
    }
}
