//! Which CPU processes work on that have connections to each other.

use std::io;

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

/// One CPU for all that share a number. Each CPU has a queue of its own for what comes in by a loopback or virtual
/// device: two packets of one connection, sent on two CPUs, may arrive in the other order.
pub(crate) fn shared_by(number: u64) -> io::Result<CpuSet> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let mut chosen = CpuSet::new();
    let index = number % u64::try_from(cpus.len()).map_err(io::Error::other)?;
    chosen.set(cpus[usize::try_from(index).map_err(io::Error::other)?])?;
    Ok(chosen)
}
