//! CPU affinity of processes that have connections to each other.

use std::io;

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

/// Set of one CPU, the same for every caller with this number. Each CPU has its own queue for packets of a loopback or
/// virtual device: two packets of one connection that are sent on two CPUs may arrive out of order.
pub(crate) fn shared_by(number: u64) -> io::Result<CpuSet> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let mut chosen = CpuSet::new();
    let index = number % u64::try_from(cpus.len()).map_err(io::Error::other)?;
    chosen.set(cpus[usize::try_from(index).map_err(io::Error::other)?])?;
    Ok(chosen)
}
