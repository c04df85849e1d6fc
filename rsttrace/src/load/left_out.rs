//! Resets for which the kernel does not run a program.
//!
//! That is where the same CPU is running it already: a reset in an interrupt, in the middle of another, or of a task that
//! has preempted another. Programs behind the first see it and report it (`recursion.rs` of the kernel side).

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

use super::{Attached, Kernel, attach::Attacher, take_map};

/// The first programs that report resets, and those behind them.
const BEHIND: [(&str, &[&str]); 3] = [
    ("tcp_send_reset", &["send_reset_bak1", "send_reset_bak2"]),
    ("send_reset_2arg", &["send_2arg_bak1"]),
    ("tcp_receive_reset", &["recv_reset_bak1", "recv_reset_bak2"]),
];

/// The same of those that run for every connection, only where tasks are preempted in the middle of a program.
const BEHIND_OTHERS: [(&str, &str); 2] =
    [("inet_sock_set_state", "set_state_bak1"), ("tcp_destroy_sock", "destroy_bak1")];

/// How many programs go behind one that reports resets, for `BACKUPS` of the kernel side.
pub(super) fn depth(kernel: &Kernel) -> u32 {
    if kernel.preempts_tracepoints { 2 } else { 1 }
}

/// The programs that go behind this one.
pub(super) fn behind(first: &str, kernel: &Kernel) -> impl Iterator<Item = &'static str> {
    let depth = depth(kernel) as usize;
    let of_resets = BEHIND.iter().find(|(of, _)| *of == first).map(|(_, behind)| *behind);
    let of_others = BEHIND_OTHERS.iter().find(|(of, _)| *of == first).map(|(_, behind)| *behind);
    of_resets.unwrap_or_default().iter().copied().take(depth).chain(of_others.filter(|_| depth > 1))
}

/// The tracepoints of resets come first in the map.
const OF_RESETS: u32 = 2;

/// How many there are.
pub(super) struct LeftOut {
    /// What the kernel says of the first programs, opened while this process may.
    facts: Vec<File>,
    words: PerCpuArray<MapData, Claims>,
}

impl LeftOut {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { facts: Vec::new(), words: take_map(ebpf, "CLAIMS")?.try_into()? })
    }

    /// Begins to count, and puts the other programs behind the first, where the kernel leaves any out.
    pub(super) fn attach(&mut self, to: &mut Attacher<'_>, kernel: &Kernel, attached: &[Attached]) -> Result<()> {
        for Attached { way, .. } in attached {
            let mut behind = behind(way.program, kernel).peekable();
            if behind.peek().is_none() {
                continue;
            }
            let facts = File::open(format!("/proc/self/fdinfo/{}", to.fd(way.program)?))?;
            if misses(&facts)?.is_none() {
                continue;
            }
            if BEHIND.iter().any(|(of, _)| *of == way.program) {
                self.facts.push(facts);
            }
            for name in behind {
                to.attach_tracepoint(name, way.attach)?;
            }
        }
        Ok(())
    }

    /// Resets since the start for which none of the programs was run (5.19 and later).
    pub(super) fn count(&self) -> u64 {
        let left_out: u64 = self.facts.iter().filter_map(|file| misses(file).ok().flatten()).sum();
        let sets = (0..OF_RESETS * TASK_SHARDS).filter_map(|set| self.words.get(&set, 0).ok());
        let reported = sets.map(|cpus| cpus.iter().map(|words| words.handled_by_backup).sum::<u64>()).sum();
        left_out.saturating_sub(reported)
    }
}

/// How often the kernel did not run a program for its being run already; `None` where it does not say.
fn misses(mut facts: &File) -> io::Result<Option<u64>> {
    let mut text = String::new();
    facts.rewind()?;
    facts.read_to_string(&mut text)?;
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
        let of_probes = PROBES.iter().flat_map(|probe| probe.ways).map(|way| way.program);
        let behind = BEHIND.iter().flat_map(|(_, behind)| *behind).copied();
        let behind_others = BEHIND_OTHERS.iter().map(|(_, behind)| *behind);
        let mut names: HashMap<&str, &str> = HashMap::new();
        for name in of_probes.chain(behind).chain(behind_others) {
            let known = *names.entry(kept(name)).or_insert(name);
            assert_eq!(known, name, "the kernel keeps the same 15 characters of both");
        }
    }
}
