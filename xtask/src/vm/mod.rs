//! The integration tests on other kernels, each in a virtual machine of its own.

mod apt;
mod disk;
mod guest;
mod kernel;
mod machine;
mod modules;

use std::{
    env,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use self::{
    guest::{Guest, Programs},
    kernel::Kernel,
    machine::Outcome,
};
use crate::{setup, workspace};

/// Machines at once. Each is one thread.
const AT_ONCE: usize = 2;
/// What is about processors, and is played once more on a machine that has two.
const OF_PROCESSORS: &str = "machine::";
/// The longest that one kernel may take, in seconds, on a machine that has other things to do.
const LIMIT: u64 = 3600;

/// Run the integration tests on other kernels, each in a virtual machine (software emulation, a few minutes each)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernels; all of them if none is named
    #[arg(value_enum, value_name = "KERNEL")]
    kernels: Vec<Kernel>,
    /// Download the kernels again: Debian updates them now and then
    #[arg(long)]
    refresh: bool,
    /// The longest that one kernel may take
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT)]
    limit: u64,
    /// Processors of each machine. Where there are several, they wait for each other, and all takes twice as long
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: u8,
    /// What the integration runner is given: `cargo xtask vm 6.1 -- filter`
    #[arg(last = true)]
    tests: Vec<String>,
}

/// How it went with one kernel.
pub(crate) struct Run {
    pub(crate) kernel: &'static str,
    /// The runner's closing line, or what went wrong.
    pub(crate) closing: String,
    pub(crate) is_good: bool,
}

/// Runs `cargo xtask vm`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let runs = play(args)?;
    eprintln!("== all kernels");
    for run in &runs {
        eprintln!("{}: {}", run.kernel, run.closing);
    }
    let failed: Vec<_> = runs.iter().filter(|run| !run.is_good).map(|run| run.kernel).collect();
    if failed.is_empty() { Ok(()) } else { bail!("tests failed on {}", failed.join(", ")) }
}

/// Every kernel, with these arguments for the runner; without any, what is about processors on two of them as well.
pub(crate) fn play_all(tests: Vec<String>) -> Result<Vec<Run>> {
    let args = Args { kernels: Vec::new(), refresh: false, limit: LIMIT, cpus: 1, tests };
    let mut runs = play(&args)?;
    if args.tests.is_empty() {
        runs.extend(play(&Args { kernels: vec![Kernel::Trixie], cpus: 2, tests: vec![OF_PROCESSORS.into()], ..args })?);
    }
    Ok(runs)
}

fn play(args: &Args) -> Result<Vec<Run>> {
    if env::consts::ARCH != "x86_64" {
        bail!("the virtual machines run programs built for x86_64: use such a machine");
    }
    setup::for_vm()?;
    let programs = Programs::build(&workspace::target_dir()?.join("vm"))?;
    let kernels = if args.kernels.is_empty() { Kernel::value_variants() } else { &args.kernels };
    // A kernel that cannot be had is a failure like any other, and does not keep the others from being tested.
    let guests: Vec<_> = kernels.iter().map(|kernel| (kernel.name(), prepare(*kernel, args, &programs))).collect();

    let mut runs = Vec::new();
    let waiting = Mutex::new(guests.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let limit = Duration::from_secs(args.limit);
    let boot = |name, guest: Result<Guest>| machine::boot(name, &guest?, args.cpus, limit);
    let player = || std::iter::from_fn(&next).map(|(name, guest)| run(name, boot(name, guest))).collect::<Vec<_>>();
    thread::scope(|scope| {
        let players: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(player)).collect();
        runs.extend(players.into_iter().filter_map(|player| player.join().ok()).flatten());
    });
    if runs.len() != kernels.len() {
        bail!("{} of {} kernels have been tested", runs.len(), kernels.len());
    }
    runs.sort_by_key(|run| kernels.iter().position(|kernel| kernel.name() == run.kernel));
    Ok(runs)
}

/// Everything that a kernel is started with.
fn prepare(kernel: Kernel, args: &Args, programs: &Programs) -> Result<Guest> {
    let directory = workspace::target_dir()?.join("vm").join(kernel.name());
    guest::make(&directory, programs, kernel.image(args.refresh)?, &args.tests)
}

fn run(kernel: &'static str, outcome: Result<Outcome>) -> Run {
    match outcome {
        Ok(outcome) => Run { kernel, closing: outcome.to_string(), is_good: outcome.is_good() },
        Err(error) => Run { kernel, closing: format!("{error:#}"), is_good: false },
    }
}
