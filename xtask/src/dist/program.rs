//! The static program of a release.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::source::Source;
use crate::{
    arch::Arch,
    ebpf::toolchain::cargo_home,
    process::{self, Executable},
};

/// Profile of `Cargo.toml`.
const PROFILE: &str = "dist";

/// Builds rsttrace from exported sources. Nothing of this machine's directories is in it.
pub(super) fn build(source: &Source, sources: &Path, target_dir: &Path, arch: Arch) -> Result<PathBuf> {
    process::run(process::cargo()?.current_dir(sources).args(["fetch", "--locked", "--target", arch.target()]))?;
    let renamed = renamed(sources, target_dir)?;
    let flags: Vec<_> = renamed.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")).collect();
    let c_flags: Vec<_> = renamed.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
    let rustc_flags: Vec<_> =
        ["-C", "target-feature=+crt-static"].into_iter().chain(flags.iter().map(String::as_str)).collect();

    let mut cargo = process::cargo()?;
    cargo.current_dir(sources).args(["build", "--locked", "--package", "rsttrace", "--bin", "rsttrace"]);
    cargo.args(["--profile", PROFILE, "--target-dir"]).arg(target_dir);
    arch.configure(&mut cargo, &rustc_flags);
    cargo.env(format!("CFLAGS_{}", arch.target().replace('-', "_")), c_flags.join(" "));
    cargo.env("SOURCE_DATE_EPOCH", &source.epoch).env("RSTTRACE_COMMIT", source.short_commit());
    let built: Vec<Executable> = process::build(&mut cargo)?;
    process::rsttrace(&built)
}

/// Directories whose names would otherwise be in the program, and their replacements; of two that contain each other the inner
/// one is last, because the last one that fits is taken.
fn renamed(sources: &Path, target_dir: &Path) -> Result<Vec<(String, &'static str)>> {
    let home = cargo_home()?;
    let registry = home.join("registry/src");
    let mut renamed = vec![(sources.display().to_string(), "/rsttrace"), (target_dir.display().to_string(), "/build")];
    for entry in fs::read_dir(&registry).with_context(|| format!("cannot read {}", registry.display()))? {
        renamed.push((entry?.path().display().to_string(), "/registry"));
    }
    Ok(renamed)
}
