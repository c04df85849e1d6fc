//! `.rpm`: its life in a root that has busybox and a database of packages, from installation to removal.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{
    super::{content::DOCUMENTS, package, source::Source},
    OLDER_PACKAGES, RELOAD, RESTART, Root, STOP, deb, links,
};
use crate::{arch::Arch, process};

const CONFIGURATION: &str = "/etc/rsttrace.toml";

/// Installs an older version, changes its configuration, upgrades and removes.
pub(super) fn life(root: &Root, source: &Source, work: &Path, arch: Arch) -> Result<()> {
    let find = |directory: &Path| deb::find_package(directory, arch.name(), "rpm");
    let (older, current) = (find(&work.join(OLDER_PACKAGES))?, find(&work.join("release"))?);
    let rpm = |arguments: &[&str], package: Option<&Path>| {
        let mut command = Command::new("rpm");
        // Debian's rpm asks before it works in a system of dpkg.
        command.arg("--root").arg(&root.0).arg("--force-debian").args(arguments);
        // Only an installation takes this.
        let is_foreign = package.is_some() && !arch.is_native();
        command.args(is_foreign.then_some("--ignorearch")).args(package);
        process::text(&mut command)
    };
    process::output(Command::new("rpmkeys").args(["--checksig", "--nosignature"]).arg(&current))?;
    process::output(Command::new("rpmdb").arg("--root").arg(&root.0).arg("--initdb"))?;

    root.pretend_systemd()?;
    rpm(&["--install"], Some(&older))?;
    root.expect_calls("the installation", &[RELOAD])?;
    for path in
        ["/usr/bin/rsttrace", "/usr/lib/systemd/system/rsttrace.service", "/usr/share/zsh/site-functions/_rsttrace"]
    {
        root.expect(path, true)?;
    }
    root.expect_disabled()?;
    let changed = "# changed by the administrator\n";
    root.write(CONFIGURATION, changed)?;

    rpm(&["--upgrade"], Some(&current))?;
    root.expect_calls("the upgrade", &[RELOAD, RESTART])?;
    let version = rpm(&["--query", "--queryformat", "%{VERSION} %{ARCH} %{LICENSE}", "rsttrace"], None)?;
    if version != format!("{} {} {}", source.version, arch.name(), package::LICENCE) {
        bail!("after the upgrade the package is `{version}`");
    }
    if fs::read_to_string(root.path(CONFIGURATION)).context("the configuration is gone")? != changed {
        bail!("the upgrade has changed {CONFIGURATION}");
    }
    root.expect_disabled()?;
    rpm(&["--verify", "--nomtime", "--noconfig", "rsttrace"], None)?;
    root.run_installed(arch, &["--version"])?;
    links::lead_to_files(&root.path(DOCUMENTS))?;
    for (flag, file) in [
        ("--licensefiles", "/usr/share/licenses/rsttrace/LICENSE-APACHE"),
        ("--licensefiles", "/usr/share/licenses/rsttrace/LICENSE-GPL2"),
        ("--licensefiles", "/usr/share/licenses/rsttrace/THIRD-PARTY-LICENSES.gz"),
        ("--docfiles", "/usr/share/doc/rsttrace/docs/install.md"),
        ("--docfiles", "/usr/share/man/man1/rsttrace.1.gz"),
    ] {
        let files = rpm(&["--query", flag, "rsttrace"], None)?;
        if !files.lines().any(|line| line == file) {
            bail!("{file} is not among those of {flag}: {files}");
        }
    }

    rpm(&["--erase", "rsttrace"], None)?;
    root.expect_calls("the removal", &[STOP, RELOAD])?;
    root.expect("/usr/bin/rsttrace", false)?;
    root.expect(&format!("{CONFIGURATION}.rpmsave"), true)
}
