//! Archive of a release, for hosts without a package manager that knows `.deb` or `.rpm`.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{content::Content, source::Source};
use crate::{arch::Arch, process};

/// Makes `rsttrace-VERSION-ARCH-linux.tar.zst`, and copies the list of components beside it.
pub(super) fn make(source: &Source, content: &Content, stage: &Path, release: &Path, arch: Arch) -> Result<()> {
    let name = format!("rsttrace-{}-{}-linux", source.version, arch.name());
    let archive = stage.join(format!("{name}.tar"));
    process::run(
        Command::new("tar")
            .args([
                "--create",
                "--format=gnu",
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mode=u=rwX,go=rX",
            ])
            .arg(format!("--mtime=@{}", source.epoch))
            .arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(stage)
            .args(content.archive.file_name()),
    )?;
    // One thread, because the number of threads changes the bytes.
    process::run(
        Command::new("zstd")
            .args(["-19", "--single-thread", "--quiet", "--force", "-o"])
            .arg(release.join(format!("{name}.tar.zst")))
            .arg(&archive),
    )?;
    std::fs::copy(content.archive.join("rsttrace.cdx.json"), release.join(format!("{name}.cdx.json")))?;
    Ok(())
}
