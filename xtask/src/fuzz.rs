//! Fuzz targets under libFuzzer with stable Rust.
//!
//! cargo-fuzz asks for a nightly compiler, for its sanitizers. Coverage alone, which leads the search, is in stable compilers; memory
//! errors are not what safe code has, and a panic ends the run.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

/// What cargo-fuzz gives the compiler for coverage.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing \
    -Cdebug-assertions -Ccodegen-units=1";
/// Longest input, bytes.
const LENGTH_MAX: u32 = 1 << 16;
/// With a target named, libraries for the build itself have no coverage.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Run a fuzz target under libFuzzer, with stable Rust and a C++ compiler
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Target, by the name of its file in `fuzz/fuzz_targets`
    target: String,
    /// Number of inputs
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
}

/// Runs `cargo xtask fuzz`. Inputs that reach new code are kept below target/, and an input that fails is named at the end.
pub(crate) fn main(args: &Args) -> Result<()> {
    let fuzz = workspace::root()?.join("fuzz");
    let Args { target, runs } = args;
    if !fuzz.join("fuzz_targets").join(target).with_extension("rs").is_file() {
        bail!("there is no fuzz target '{target}': see fuzz/fuzz_targets");
    }
    let built = workspace::target_dir()?.join("libfuzzer");
    let mut build = process::cargo()?;
    lock_versions()?;
    build.args(["build", "--release", "--target", PLATFORM, "--bin", target, "--manifest-path"]);
    build.arg(fuzz.join("Cargo.toml")).arg("--target-dir").arg(&built);
    build.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", COVERAGE);
    process::run(&mut build)?;
    let found = built.join("found").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let program: PathBuf = built.join(PLATFORM).join("release").join(target);
    let mut run = Command::new(program);
    // The first directory gets what is found.
    run.arg(&found).arg(fuzz.join("corpus").join(target)).arg(format!("-runs={runs}"));
    run.arg(format!("-max_len={LENGTH_MAX}")).args(["-print_final_stats=1", "-verbosity=1"]);
    run.current_dir(&found);
    process::run(&mut run)
}

/// Gives the fuzz targets, which are no members of the workspace, its versions of dependencies: cargo keeps those in a lock file, and
/// adds the missing ones.
pub(crate) fn lock_versions() -> Result<()> {
    let root = workspace::root()?;
    fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock")).context("cannot copy Cargo.lock to fuzz")?;
    Ok(())
}
