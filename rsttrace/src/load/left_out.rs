//! Resets for which the kernel does not run a program.
//!
//! That is where the same CPU is running it already: a reset in an interrupt, in the middle of another, or of a task that
//! has preempted another. Programs behind the first see it and report it (`nested.rs` of the kernel side).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
};

use anyhow::Result;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use rsttrace_common::nested::{SETS, Words};

use super::{Attached, Kernel, attach::Attacher, take_map};

/// The first programs that report resets, and those behind them.
const BEHIND: [(&str, &[&str]); 3] = [
    ("tcp_send_reset", &["tcp_send_reset_left_out", "tcp_send_reset_left_out_twice"]),
    ("tcp_send_reset_without_reason", &["tcp_send_reset_without_reason_left_out"]),
    ("tcp_receive_reset", &["tcp_receive_reset_left_out", "tcp_receive_reset_left_out_twice"]),
];

/// The same of those that run for every connection, only where tasks are preempted in the middle of a program.
const BEHIND_OTHERS: [(&str, &str); 2] =
    [("inet_sock_set_state", "inet_sock_set_state_left_out"), ("tcp_destroy_sock", "tcp_destroy_sock_left_out")];

/// How many programs go behind one that reports resets, for `PROGRAMS_BEHIND` of the kernel side.
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
    words: PerCpuArray<MapData, Words>,
}

impl LeftOut {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { facts: Vec::new(), words: take_map(ebpf, "WORDS")?.try_into()? })
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
        let sets = (0..OF_RESETS * SETS).filter_map(|set| self.words.get(&set, 0).ok());
        let reported = sets.map(|cpus| cpus.iter().map(|words| words.done_behind).sum::<u64>()).sum();
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
