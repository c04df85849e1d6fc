//! All checks that a change has to pass.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{ebpf, lint, test};

/// Run lint, ebpf --check and test, stopping at the first failure
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Skip the virtual machines with other kernels
    #[arg(long)]
    no_vm: bool,
}

/// Runs `cargo xtask ci`.
pub(crate) fn main(args: &Args) -> Result<()> {
    step("lint", lint::main)?;
    step("ebpf --check", || ebpf::main(&ebpf::Args { check: true }))?;
    step("test", || test::main(&test::Args::all(args.no_vm)))
}

/// Runs one step and prints how long it took.
fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== cargo xtask {name}");
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    let outcome = if result.is_ok() { "passed" } else { "failed" };
    eprintln!("== cargo xtask {name} {outcome} after {seconds:.1} s");
    result.with_context(|| format!("`cargo xtask {name}` failed"))
}
