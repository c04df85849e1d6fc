//! The integration tests on other kernels, each in a virtual machine.

mod apt;
mod disk;
mod foreign_root;
mod guest;
mod kernel;
mod machine;
mod modules;

use std::{
    env,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

use self::{
    guest::{Guest, Programs},
    kernel::Kernel,
    machine::{Outcome, Settings},
};
use crate::{arch::Arch, progress::Progress, setup, workspace};

/// Number of machines that run concurrently, each in its thread.
const CONCURRENT_MACHINES: usize = 2;
/// Scenarios about processors, which also run on a machine with two.
const PROCESSOR_SCENARIOS: &str = "machine::";
/// Arguments of the runner without others: what a kernel decides; and in `cargo xtask test`, the core of it.
const OF_KERNELS: [&str; 2] = ["--selection", "kernel"];
const CORE: [&str; 2] = ["--selection", "core"];
/// Additional ones on another architecture, whose machines have no programs to test with.
const WITHOUT_PROGRAMS: [&str; 2] = ["--skip", "real_programs"];
/// Default limit for one kernel in seconds, on a busy machine.
const LIMIT: u64 = 3600;

/// Run the integration tests on other kernels, each in a virtual machine (software emulation, a few minutes each)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to test; all of them if none is named
    #[arg(value_enum, value_name = "KERNEL")]
    kernels: Vec<Kernel>,
    /// Architecture of the machines; aarch64 runs all scenarios but those of other programs
    #[arg(long, value_enum, value_name = "ARCH", default_value = "x86_64")]
    arch: Arch,
    /// Download the kernels again: Debian updates them now and then
    #[arg(long)]
    refresh: bool,
    /// Run programs without optimisation, here those of `cargo xtask test`: for a few scenarios, each of which takes longer
    #[arg(long)]
    unoptimized: bool,
    /// Time limit for each kernel
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT)]
    limit: u64,
    /// Number of processors of each machine; with several, which wait for each other, everything takes twice as long
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: u8,
    /// Script or program to run in place of the integration tests, which are `/guest/tests` there; `RSTTRACE_BIN` names rsttrace
    #[arg(long, value_name = "FILE")]
    exec: Option<PathBuf>,
    /// Arguments of the integration runner, or of --exec: `cargo xtask vm 6.1 -- filter`; without any it plays what the kernel
    /// decides (`-- --selection all`: everything)
    #[arg(last = true)]
    tests: Vec<String>,
}

/// Result of one kernel.
pub(crate) struct Run {
    pub(crate) kernel: &'static str,
    /// The runner's closing line, or an error.
    pub(crate) closing: String,
    pub(crate) is_good: bool,
}

/// Runs `cargo xtask vm`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let runs = run_kernels(args)?;
    eprintln!("== all kernels");
    for run in &runs {
        eprintln!("{}: {}", run.kernel, run.closing);
    }
    let failed: Vec<_> = runs.iter().filter(|run| !run.is_good).map(|run| run.kernel).collect();
    if failed.is_empty() { Ok(()) } else { bail!("tests failed on {}", failed.join(", ")) }
}

/// Runs every kernel, with these arguments for the runner; without any, the core of the scenarios, and those about processors
/// with two of them. The programs are those that this machine has tested: what an optimised build saves in the machines, half a
/// second of each scenario, it takes to be made.
pub(crate) fn run_all(tests: Vec<String>) -> Result<Vec<Run>> {
    let of_processors = tests.is_empty();
    let tests = if of_processors { CORE.map(str::to_owned).to_vec() } else { tests };
    let args = Args {
        kernels: Vec::new(),
        arch: Arch::X86_64,
        refresh: false,
        unoptimized: true,
        limit: LIMIT,
        cpus: 1,
        exec: None,
        tests,
    };
    let mut runs = run_kernels(&args)?;
    if of_processors {
        runs.extend(run_kernels(&Args {
            kernels: vec![Kernel::Trixie],
            cpus: 2,
            tests: vec![PROCESSOR_SCENARIOS.into()],
            ..args
        })?);
    }
    Ok(runs)
}

fn run_kernels(args: &Args) -> Result<Vec<Run>> {
    if env::consts::ARCH != "x86_64" {
        bail!("the virtual machines run programs built for x86_64: use such a machine");
    }
    setup::for_vm()?;
    if !args.arch.is_native() {
        setup::for_foreign_vm()?;
    }
    let programs = Programs::build(&directory(args.arch)?, args.arch, !args.unoptimized)?;
    let kernels = if args.kernels.is_empty() { Kernel::of(args.arch) } else { &args.kernels };
    // A kernel that is not available counts as a failure, and does not keep the others from being tested.
    let guests: Vec<_> = kernels.iter().map(|kernel| (kernel.name(), prepare(*kernel, args, &programs))).collect();

    let mut runs = Vec::new();
    // The newest first: it takes the longest, and would run alone at the end.
    let waiting = Mutex::new(guests.into_iter().rev());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let settings = Settings { arch: args.arch, cpus: args.cpus, limit: Duration::from_secs(args.limit) };
    let progress = Progress::of(&kernels.iter().map(|kernel| kernel.name()).collect::<Vec<_>>());
    let boot = |name, guest: Result<Guest>| machine::boot(name, &guest?, settings, &progress);
    let runner =
        || std::iter::from_fn(&next).map(|(name, guest)| summarize(name, boot(name, guest))).collect::<Vec<_>>();
    thread::scope(|scope| {
        let runners: Vec<_> = (0..CONCURRENT_MACHINES).map(|_| scope.spawn(runner)).collect();
        runs.extend(runners.into_iter().filter_map(|runner| runner.join().ok()).flatten());
    });
    if runs.len() != kernels.len() {
        bail!("{} of {} kernels have been tested", runs.len(), kernels.len());
    }
    runs.sort_by_key(|run| kernels.iter().position(|kernel| kernel.name() == run.kernel));
    Ok(runs)
}

/// Prepares everything that a kernel is started with.
fn prepare(kernel: Kernel, args: &Args, programs: &Programs) -> Result<Guest> {
    let directory = directory(args.arch)?.join(kernel.name());
    let mut tests = args.tests.clone();
    if tests.is_empty() && args.exec.is_none() {
        tests.extend(OF_KERNELS.map(str::to_owned));
        tests.extend(WITHOUT_PROGRAMS.map(str::to_owned).into_iter().filter(|_| !args.arch.is_native()));
    }
    guest::make(&directory, programs, kernel.image(args.arch, args.refresh)?, args.exec.as_deref(), &tests)
}

/// Directory for the files of an architecture's machines.
fn directory(arch: Arch) -> Result<PathBuf> {
    let directory = workspace::target_dir()?.join("vm");
    Ok(if arch.is_native() { directory } else { directory.join(arch.name()) })
}

fn summarize(kernel: &'static str, outcome: Result<Outcome>) -> Run {
    match outcome {
        Ok(outcome) => Run { kernel, closing: outcome.to_string(), is_good: outcome.is_good() },
        Err(error) => Run { kernel, closing: format!("{error:#}"), is_good: false },
    }
}
