//! Resets for which the kernel does not run a program.
//!
//! That is where the same CPU is running it already: a reset in an interrupt, in the middle of another. A second program
//! behind the first sees it and reports it (`nested.rs` of the kernel side).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::Result;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::RawTracePoint,
};

use super::{Attached, attach, probes::Attach, take_map};

/// The first program, and the second.
const PAIRS: [(&str, &str); 3] = [
    ("tcp_send_reset", "tcp_send_reset_left_out"),
    ("tcp_send_reset_without_reason", "tcp_send_reset_without_reason_left_out"),
    ("tcp_receive_reset", "tcp_receive_reset_left_out"),
];

/// The program that goes behind this one.
pub(super) fn second(first: &str) -> Option<&'static str> {
    PAIRS.iter().find(|(of, _)| *of == first).map(|(_, second)| *second)
}

/// A value of the map `WORDS`, of which the user side only wants the first: how many resets a second program has reported.
type Words = [u64; 15];

/// Places of that map.
const PLACES: [u32; 2] = [0, 1];

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

    /// Begins to count, and puts the second programs behind the first, where the kernel leaves any out.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf, attached: &[Attached]) -> Result<()> {
        for Attached { way, .. } in attached {
            let (Attach::RawTracepoint(tracepoint), Some(second)) = (way.attach, second(way.program)) else {
                continue;
            };
            let first: &mut RawTracePoint = attach::program(ebpf, way.program)?;
            let facts = File::open(format!("/proc/self/fdinfo/{}", first.fd()?.as_fd().as_raw_fd()))?;
            if misses(&facts)?.is_none() {
                continue;
            }
            self.facts.push(facts);
            let second: &mut RawTracePoint = attach::program(ebpf, second)?;
            attach::load(second)?;
            second.attach(tracepoint).map_err(attach::explain)?;
        }
        Ok(())
    }

    /// Resets since the start for which neither program was run (5.19 and later).
    pub(super) fn count(&self) -> u64 {
        let left_out: u64 = self.facts.iter().filter_map(|file| misses(file).ok().flatten()).sum();
        let reported = |place| self.words.get(&place, 0).map_or(0, |cpus| cpus.iter().map(|[count, ..]| count).sum());
        left_out.saturating_sub(PLACES.map(reported).into_iter().sum())
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
