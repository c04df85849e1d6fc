//! Formatting, wording, and clippy for both sides.

use anyhow::{Context as _, Result};

use crate::{
    ebpf::{self, toolchain::Toolchain},
    fuzz, generate, layers, process, stamp, wording,
    workspace::{self, KERNEL_CRATE},
};

/// Runs `cargo xtask lint`.
pub(crate) fn main() -> Result<()> {
    let has = |tool: &str| -> Result<()> {
        process::output(process::cargo()?.args([tool, "--version"]))
            .with_context(|| format!("cargo {tool} is missing: run `rustup component add rustfmt clippy`"))
            .map(drop)
    };
    has("fmt")?;
    has("clippy")?;

    eprintln!("checking the formatting");
    process::run(process::cargo()?.args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;

    eprintln!("checking the wording");
    wording::check()?;

    eprintln!("checking the dependencies between modules");
    layers::check()?;

    eprintln!("clippy: the user side");
    process::run(
        process::cargo()?
            .args(["clippy", "--locked", "--workspace", "--exclude", KERNEL_CRATE, "--all-targets"])
            .args(["--features", generate::SCHEMA_FEATURE])
            .args(["--", "-D", "warnings"]),
    )?;

    dependencies()?;

    let toolchain = Toolchain::choose()?;
    let target_dir = workspace::target_dir()?.join("bpf-lint");
    for variant in stamp::VARIANTS {
        eprintln!("clippy: the {variant} object, with {}", toolchain.description());
        process::run(toolchain.clippy(&target_dir)?.args(ebpf::features(variant)).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Checks licences, sources and advisories of the dependencies, and that the fuzz targets, which are not in the
/// workspace, still compile.
fn dependencies() -> Result<()> {
    let deny = || -> Result<_> {
        let mut command = process::cargo()?;
        command.args(["deny", "--locked", "--all-features"]);
        Ok(command)
    };
    process::output(deny()?.arg("--version"))
        .context("cargo deny is missing: run `cargo xtask setup` as root, or `cargo install cargo-deny`")?;
    let mut checks = vec!["bans", "licenses", "sources"];
    // The advisory database has another host, which is not reachable from every network.
    if process::output(deny()?.args(["fetch", "db"])).is_ok() {
        checks.push("advisories");
    } else {
        eprintln!("the database of advisories cannot be fetched here: they go unchecked");
    }
    eprintln!("cargo deny: {}", checks.join(", "));
    process::run(deny()?.arg("check").args(checks))?;

    eprintln!("the fuzz targets");
    fuzz::lock_versions()?;
    let mut fuzz = process::cargo()?;
    fuzz.args(["check", "--bins", "--manifest-path", "fuzz/Cargo.toml"]);
    fuzz.arg("--target-dir").arg(workspace::target_dir()?.join("fuzz"));
    fuzz.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "--cfg fuzzing");
    // It need not exist, since nothing is linked. Without this it would be built.
    process::run(fuzz.env("CUSTOM_LIBFUZZER_PATH", "none/libfuzzer.a"))
}
