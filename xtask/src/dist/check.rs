//! Checks of a release: a second build in other directories has to have the bytes of the first, and the crates have to be
//! complete by themselves.

use std::path::Path;

use anyhow::{Result, bail};

use super::source::Source;
use crate::{arch::Arch, process, workspace};

/// Packages the crates as for the registry, and builds them from these packages alone.
pub(super) fn publishable(directory: &Path) -> Result<()> {
    let mut cargo = process::cargo()?;
    // The export is no checkout of git.
    cargo.current_dir(directory.join("source")).args([
        "publish",
        "--dry-run",
        "--workspace",
        "--locked",
        "--allow-dirty",
    ]);
    process::run(cargo.arg("--target-dir").arg(directory.join("publish")))
}

/// Builds the release again, below a directory of another length, and compares.
pub(super) fn reproducible(source: &Source, directory: &Path, release: &Path, architectures: &[Arch]) -> Result<()> {
    let other = directory.join("check/in-another-directory");
    workspace::start_anew(&other)?;
    super::build(source, &other, &other.join("release"), architectures)?;
    let mut different = Vec::new();
    let files = super::files(release)?;
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        if workspace::read(file)? != workspace::read(&other.join("release").join(name))? {
            different.push(name.to_string_lossy().into_owned());
        }
    }
    if different.is_empty() {
        eprintln!("dist: {} files, built twice in different directories, are equal byte for byte", files.len());
        return Ok(());
    }
    bail!(
        "these files are not reproducible: {}; compare {} and {}",
        different.join(", "),
        release.display(),
        other.display()
    )
}
