//! `.deb`: lintian, and its life in a root of Debian from installation to purge.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    super::{content::DOCUMENTS, files, source::Source},
    OLDER_PACKAGES, RELOAD, RESTART, Root, STOP, links,
};
use crate::{arch::Arch, process};

/// File that the administrator changes.
const CONFIGURATION: &str = "/etc/rsttrace.toml";
/// Files of a package that is installed.
const INSTALLED: [&str; 6] = [
    "/usr/bin/rsttrace",
    "/usr/lib/systemd/system/rsttrace.service",
    "/usr/lib/systemd/system/rsttrace-record.service",
    "/usr/share/bash-completion/completions/rsttrace",
    "/usr/share/doc/rsttrace/copyright",
    "/etc/logrotate.d/rsttrace",
];

/// Runs lintian on each `.deb`; an error or a warning that is not accepted in `deploy/packages` is a failure.
pub(super) fn lint(work: &Path) -> Result<()> {
    for file in files(&work.join("release"))? {
        if file.extension().is_some_and(|extension| extension == "deb") {
            process::run(Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(&file))?;
        }
    }
    Ok(())
}

/// Installs an older version, changes its configuration, upgrades, removes and purges.
pub(super) fn life(root: &Root, source: &Source, work: &Path, arch: Arch) -> Result<()> {
    let find = |directory: &Path| find_package(directory, arch.debian(), "deb");
    let (older, current) =
        (root.bring(&find(&work.join(OLDER_PACKAGES))?)?, root.bring(&find(&work.join("release"))?)?);

    let package = format!("rsttrace:{}", arch.debian());
    if !arch.is_native() {
        root.run("dpkg", &["--add-architecture", arch.debian()])?;
    }

    root.pretend_systemd()?;
    root.run("dpkg", &["--install", &older])?;
    root.expect_calls("the installation", &[RELOAD])?;
    INSTALLED.iter().try_for_each(|path| root.expect(path, true))?;
    root.expect_disabled()?;
    let changed = "# changed by the administrator\noutput = \"none\"\n";
    root.write(CONFIGURATION, changed)?;
    root.write("/var/log/rsttrace/resets.json", "{}\n")?;

    root.run("dpkg", &["--install", "--force-confold", &current])?;
    root.expect_calls("the upgrade", &[RELOAD, RESTART])?;
    let version = root.run("dpkg-query", &["-W", "-f=${Version} ${db:Status-Status}", &package])?;
    if version != format!("{} installed", source.version) {
        bail!("after the upgrade the package is `{version}`");
    }
    let kept = fs::read_to_string(root.path(CONFIGURATION)).context("the configuration is gone")?;
    if kept != changed {
        bail!("the upgrade has changed {CONFIGURATION}");
    }
    root.expect_disabled()?;
    let said = root.run_installed(arch, &["--version"])?;
    if !said.contains(source.short_commit()) || !said.ends_with("static") {
        bail!("the installed program says: {said}");
    }
    root.run_installed(arch, &["check-config", CONFIGURATION.trim_start_matches('/')])?;
    root.run_installed(arch, &["explain", "linger-zero"])?;
    links::lead_to_files(&root.path(DOCUMENTS))?;

    root.run("dpkg", &["--remove", &package])?;
    root.expect_calls("the removal", &[STOP, RELOAD])?;
    root.expect("/usr/bin/rsttrace", false)?;
    root.expect(CONFIGURATION, true)?;
    root.expect("/var/log/rsttrace/resets.json", true)?;
    root.run("dpkg", &["--purge", &package])?;
    [CONFIGURATION, "/etc/logrotate.d/rsttrace", "/var/log/rsttrace", "/usr/share/doc/rsttrace"]
        .iter()
        .try_for_each(|path| root.expect(path, false))?;
    // For the trials that follow.
    root.run("dpkg", &["--install", &current])?;
    Ok(())
}

/// The package of an architecture in a directory.
pub(super) fn find_package(directory: &Path, arch: &str, extension: &str) -> Result<PathBuf> {
    let all = files(directory)?;
    let fits = |file: &&PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(&format!("{arch}.{extension}"))
    };
    all.iter().find(fits).cloned().with_context(|| format!("{} has no .{extension} for {arch}", directory.display()))
}
