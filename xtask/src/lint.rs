//! Formatting, and clippy for both worlds.

use anyhow::{Context as _, Result};

use crate::{
    ebpf::{self, toolchain::Toolchain},
    process, stamp,
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

    eprintln!("clippy: the user side");
    process::run(
        process::cargo()?
            .args(["clippy", "--locked", "--workspace", "--exclude", KERNEL_CRATE, "--all-targets"])
            .args(["--", "-D", "warnings"]),
    )?;

    // It is a program of its own, and takes long to build.
    if process::output(process::cargo()?.args(["deny", "--version"])).is_ok() {
        eprintln!("cargo deny: licences, advisories and sources");
        process::run(process::cargo()?.args(["deny", "--locked", "--all-features", "check"]))?;
    } else {
        eprintln!(
            "cargo deny is not installed (`cargo install cargo-deny`): licences, advisories and sources go unchecked"
        );
    }

    let toolchain = Toolchain::choose()?;
    let target_dir = workspace::target_dir()?.join("bpf-lint");
    for variant in stamp::VARIANTS {
        eprintln!("clippy: the {variant} object, with {}", toolchain.description());
        process::run(toolchain.clippy(&target_dir)?.args(ebpf::features(variant)).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}
