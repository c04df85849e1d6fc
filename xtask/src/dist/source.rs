//! Sources of a release: a commit, exported.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{process, workspace};

/// File in an export that names its commit. It is written last, so that an interrupted export is not taken for a whole one.
const EXPORTED: &str = ".exported";

/// Commit that a release is made of.
pub(super) struct Source {
    /// Full identifier.
    pub(super) commit: String,
    /// Seconds since 1970 of the commit: every time in the packages.
    pub(super) epoch: String,
    /// Name and address of the commit's author, for the packages' field `Maintainer`.
    pub(super) maintainer: String,
    /// Version of the workspace.
    pub(super) version: String,
}

impl Source {
    /// The commit that is checked out.
    pub(super) fn head() -> Result<Self> {
        let [commit, epoch, maintainer] =
            ["%H", "%ct", "%an <%ae>"].map(|format| git(&["log", "-1", &format!("--format={format}")]));
        if !git(&["status", "--porcelain"])?.is_empty() {
            eprintln!("dist: this checkout has changes that are not committed; the packages do not have them");
        }
        Ok(Self { commit: commit?, epoch: epoch?, maintainer: maintainer?, version: version()? })
    }

    /// Beginning of the commit's identifier.
    pub(super) fn short_commit(&self) -> &str {
        self.commit.get(..12).unwrap_or(&self.commit)
    }

    /// Puts the files of the commit into a directory. Their times are those of the export, because cargo compiles a file again
    /// where its time is newer than the last build, and a commit is older than that.
    pub(super) fn export(&self, directory: &Path) -> Result<()> {
        let mark = directory.join(EXPORTED);
        if fs::read_to_string(&mark).is_ok_and(|commit| commit == self.commit) {
            return Ok(());
        }
        workspace::start_anew(directory)?;
        let mut archive = Command::new("git");
        archive.args(["archive", "--format=tar", &self.commit]).current_dir(workspace::root()?);
        let mut reader = archive.stdout(Stdio::piped()).spawn().context("cannot start git")?;
        let pipe = reader.stdout.take().context("git has no output")?;
        process::run(Command::new("tar").args(["--extract", "--touch", "--directory"]).arg(directory).stdin(pipe))?;
        let status = reader.wait().context("cannot wait for git")?;
        if !status.success() {
            bail!("git cannot export {}: {status}", self.commit);
        }
        workspace::write(&mark, self.commit.as_bytes())
    }
}

fn git(arguments: &[&str]) -> Result<String> {
    process::text(Command::new("git").args(arguments).current_dir(workspace::root()?))
}

fn version() -> Result<String> {
    let metadata = metadata(&workspace::root()?, None)?;
    let packages = metadata["packages"].as_array().context("cargo's metadata have no packages")?;
    let package = packages.iter().find(|package| package["name"] == "rsttrace");
    Ok(package.and_then(|package| package["version"].as_str()).context("rsttrace has no version")?.to_owned())
}

/// Metadata of the workspace in a directory; with a target, the dependencies of that target are resolved too.
pub(super) fn metadata(directory: &Path, target: Option<&str>) -> Result<Value> {
    let mut cargo = process::cargo()?;
    cargo.current_dir(directory).args(["metadata", "--format-version", "1", "--locked"]);
    match target {
        Some(target) => cargo.args(["--filter-platform", target]),
        None => cargo.arg("--no-deps"),
    };
    serde_json::from_slice(&process::output(&mut cargo)?).context("cargo's metadata are not JSON")
}
