//! Debian's archive, as this machine reaches it: from its own mirror, verified with Debian's keys.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{arch::Arch, process};

/// Keyring of the package `debian-archive-keyring`, which every Debian has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Line of a list of sources for a suite and an architecture.
pub(crate) fn source(suite: &str, arch: Arch) -> Result<String> {
    Ok(format!("deb [arch={} signed-by={KEYRING}] {} {suite} main", arch.debian(), mirror()?))
}

/// Address of the Debian mirror that this machine uses.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)"]);
    targets.args(["Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main"]);
    let mirrors = process::text(&mut targets)?;
    let first = mirrors.lines().next().context("apt knows of no Debian mirror here: run `apt-get update`")?;
    Ok(first.to_owned())
}
