//! The integration tests on other kernels, each in a virtual machine that has nothing else.

mod apt;
mod guest;
mod kernel;
mod machine;

use std::{env, time::Duration};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use self::{guest::Programs, kernel::Kernel, machine::Outcome};
use crate::{setup, workspace};

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
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    limit: u64,
    /// What the integration runner is given: `cargo xtask vm 6.1 -- filter`
    #[arg(last = true)]
    tests: Vec<String>,
}

/// Runs `cargo xtask vm`.
pub(crate) fn main(args: &Args) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        bail!("the virtual machines run programs built for x86_64: use such a machine");
    }
    setup::for_vm()?;
    let programs = Programs::build()?;
    let kernels = if args.kernels.is_empty() { Kernel::value_variants() } else { &args.kernels };
    let runs: Vec<_> = kernels.iter().map(|kernel| (kernel.name(), play(*kernel, args, &programs))).collect();

    eprintln!("== all kernels");
    let mut failed = Vec::new();
    for (name, outcome) in &runs {
        match outcome {
            Ok(outcome) => eprintln!("{name}: {outcome}"),
            Err(error) => eprintln!("{name}: {error:#}"),
        }
        if !outcome.as_ref().is_ok_and(Outcome::is_good) {
            failed.push(*name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("tests failed on {}", failed.join(", ")) }
}

/// Everything for one kernel.
fn play(kernel: Kernel, args: &Args, programs: &Programs) -> Result<Outcome> {
    let name = kernel.name();
    eprintln!("== {name}");
    let image = kernel.image(args.refresh)?;
    let directory = workspace::target_dir()?.join("vm").join(name);
    let initramfs = guest::initramfs(&directory, programs, &image, &args.tests)?;
    machine::boot(&image.vmlinuz(), &initramfs, Duration::from_secs(args.limit))
}
