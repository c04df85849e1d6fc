//! Packages of a release: static programs, archives, `.deb`, `.rpm`, components and checksums.
//!
//! Everything is made of the commit that is checked out, never of changed files, so that the commit's identifier in
//! `--version` says what a program is made of.

mod archive;
mod check;
mod content;
mod documents;
mod notices;
mod package;
mod program;
mod runtime;
mod sbom;
mod source;
mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use self::source::Source;
use crate::{arch::Arch, setup, stamp, workspace};

/// Build the packages of a release from the commit that is checked out: target/dist
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build for this architecture only (repeatable); otherwise for all of them
    #[arg(long, value_enum, value_name = "ARCH")]
    arch: Vec<Arch>,
    /// Build everything twice, in different directories, and compare the files byte for byte; build the crates from what a
    /// registry would have of them
    #[arg(long)]
    check: bool,
    /// Try the packages: lintian, installation to purge in roots of Debian and of rpm, and this machine's static program in a root
    /// that has nothing else (as root)
    #[arg(long)]
    test: bool,
}

/// Runs `cargo xtask dist`.
pub(crate) fn main(args: &Args) -> Result<()> {
    setup::for_dist()?;
    let architectures = if args.arch.is_empty() { Arch::ALL.to_vec() } else { args.arch.clone() };
    let source = Source::head()?;
    let directory = workspace::target_dir()?.join("dist");
    let release = directory.join("release");
    build(&source, &directory, &release, &architectures)?;
    if args.test {
        trial::run(&source, &directory, &architectures)?;
    }
    if args.check {
        check::publishable(&directory)?;
        check::reproducible(&source, &directory, &release, &architectures)?;
    }
    list(&release)
}

/// Builds the release of a commit: `work` holds sources and builds, `release` the files to publish and nothing else.
fn build(source: &Source, work: &Path, release: &Path, architectures: &[Arch]) -> Result<()> {
    let sources = work.join("source");
    source.export(&sources)?;
    workspace::start_anew(release)?;
    for &arch in architectures {
        eprintln!("dist: {} {} for {}", source.version, source.commit, arch.name());
        let program = program::build(source, &sources, &work.join("build"), arch)?;
        let stage = work.join(arch.name());
        let content = content::stage(source, &sources, &program, &stage, arch)?;
        archive::make(source, &content, &stage, release, arch)?;
        package::make(source, &content, &stage, release, arch)?;
    }
    checksums(release)
}

/// Writes `SHA256SUMS` of the files of a release, as `sha256sum --check` reads it.
fn checksums(release: &Path) -> Result<()> {
    let mut lines = String::new();
    for file in files(release)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        lines.extend([&stamp::digest(&workspace::read(&file)?), "  ", &*name, "\n"]);
    }
    workspace::write(&release.join("SHA256SUMS"), lines.as_bytes())
}

/// Files of a directory, by name.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files: Vec<_> = entries.with_context(|| format!("cannot read {}", directory.display()))?;
    files.sort();
    Ok(files)
}

/// Prints the files of a release with their sizes.
fn list(release: &Path) -> Result<()> {
    for file in files(release)? {
        let bytes = fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
        eprintln!("{:>7} KiB  {}", bytes.div_ceil(1024), file.display());
    }
    Ok(())
}
