//! Files of the packages and of the archive, prepared in a directory.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{notices, sbom, source::Source};
use crate::{arch::Arch, process, workspace};

/// Where an installation by hand puts the program, and where the packages do.
const PROGRAM_PATHS: [&str; 2] = ["/usr/local/bin/rsttrace", "/usr/bin/rsttrace"];

/// File of the packages.
pub(super) struct Packaged {
    /// Prepared file.
    pub(super) source: PathBuf,
    /// Path on the host.
    pub(super) destination: String,
    pub(super) kind: Kind,
    /// The one kind of package (`deb`, `rpm`) that has it; `None` for both.
    only: Option<&'static str>,
}

impl Packaged {
    /// Whether a kind of package has this file.
    pub(super) fn is_in(&self, package: &str) -> bool {
        self.only.is_none_or(|only| only == package)
    }
}

/// What a package manager does with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Replaces it.
    Plain,
    /// Keeps the administrator's changes.
    Configuration,
    /// Knows it as the licence.
    Licence,
}

impl Kind {
    /// Name in nFPM's configuration, which leaves licences out of a `.deb`.
    pub(super) fn nfpm(self, package: &str) -> &'static str {
        match self {
            Self::Configuration => "config|noreplace",
            Self::Licence if package == "rpm" => "license",
            Self::Plain | Self::Licence => "",
        }
    }
}

/// Prepared files.
pub(super) struct Content {
    /// Directory that the archive is made of.
    pub(super) archive: PathBuf,
    /// Directory `deploy` of the sources.
    pub(super) deploy: PathBuf,
    /// Files of the packages.
    pub(super) packaged: Vec<Packaged>,
}

/// Prepares all files in `stage`.
pub(super) fn stage(source: &Source, sources: &Path, program: &Path, stage: &Path, arch: Arch) -> Result<Content> {
    workspace::start_anew(stage)?;
    archive_files(source, sources, program, &archive(source, stage), arch)?;
    staged(source, sources, stage)
}

fn archive(source: &Source, stage: &Path) -> PathBuf {
    stage.join(format!("rsttrace-{}", source.version))
}

/// Prepares the files of packages from those of the archive.
pub(super) fn staged(source: &Source, sources: &Path, stage: &Path) -> Result<Content> {
    let archive = archive(source, stage);
    let mut content = Content { archive, deploy: sources.join("deploy"), packaged: Vec::new() };
    content.add_commands(stage)?;
    content.add_services(stage)?;
    content.add_documents(source, stage)?;
    Ok(content)
}

/// Puts the files of the archive in their places.
fn archive_files(source: &Source, sources: &Path, program: &Path, to: &Path, arch: Arch) -> Result<()> {
    copy(program, &to.join("rsttrace"), 0o755)?;
    for name in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-GPL2", "LICENSE-MIT"] {
        copy(&sources.join(name), &to.join(name), 0o644)?;
    }
    copy(&sources.join("docs/install.md"), &to.join("INSTALL.md"), 0o644)?;
    copy(&sources.join("deploy/rsttrace.toml"), &to.join("rsttrace.toml"), 0o644)?;
    copy(&sources.join("deploy/logrotate/rsttrace"), &to.join("logrotate/rsttrace"), 0o644)?;
    for (from, name) in [("deploy/systemd", "systemd"), ("docs/man", "man"), ("completions", "completions")] {
        for file in super::files(&sources.join(from))? {
            let to = to.join(name).join(file.file_name().unwrap_or_default());
            copy(&file, &to, 0o644)?;
        }
    }
    workspace::write(&to.join("THIRD-PARTY-LICENSES"), notices::of_dependencies(sources, arch)?.as_bytes())?;
    workspace::write(&to.join("rsttrace.cdx.json"), &sbom::components(source, sources, arch)?)
}

impl Content {
    /// Adds the program, its manual pages and completions.
    fn add_commands(&mut self, stage: &Path) -> Result<()> {
        self.add_from_archive("rsttrace", PROGRAM_PATHS[1], Kind::Plain);
        for page in super::files(&self.archive.join("man"))? {
            let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let packed = stage.join("packages/man").join(format!("{name}.gz"));
            workspace::write(&packed, &compressed(&page)?)?;
            self.add(packed, format!("/usr/share/man/man1/{name}.gz"), Kind::Plain);
        }
        for (name, destination) in [
            ("completions/rsttrace.bash", "/usr/share/bash-completion/completions/rsttrace"),
            ("completions/rsttrace.fish", "/usr/share/fish/vendor_completions.d/rsttrace.fish"),
        ] {
            self.add_from_archive(name, destination, Kind::Plain);
        }
        for (package, directory) in [("deb", "vendor-completions"), ("rpm", "site-functions")] {
            self.add_from_archive(
                "completions/_rsttrace",
                &format!("/usr/share/zsh/{directory}/_rsttrace"),
                Kind::Plain,
            );
            if let Some(completions) = self.packaged.last_mut() {
                completions.only = Some(package);
            }
        }
        Ok(())
    }

    /// Adds the units, with the path of the packages' program, and the files in `/etc`.
    fn add_services(&mut self, stage: &Path) -> Result<()> {
        for unit in super::files(&self.archive.join("systemd"))? {
            let name = unit.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&unit).with_context(|| format!("cannot read {}", unit.display()))?;
            let changed = stage.join("packages/systemd").join(&name);
            workspace::write(&changed, text.replace(PROGRAM_PATHS[0], PROGRAM_PATHS[1]).as_bytes())?;
            self.add(changed, format!("/usr/lib/systemd/system/{name}"), Kind::Plain);
        }
        self.add_from_archive("rsttrace.toml", "/etc/rsttrace.toml", Kind::Configuration);
        self.add_from_archive("logrotate/rsttrace", "/etc/logrotate.d/rsttrace", Kind::Configuration);
        Ok(())
    }

    /// Adds licences, components and changes.
    fn add_documents(&mut self, source: &Source, stage: &Path) -> Result<()> {
        let documents = "/usr/share/doc/rsttrace";
        let packed = stage.join("packages/doc");
        let copyright = packed.join("copyright");
        workspace::write(&copyright, notices::copyright().as_bytes())?;
        self.add(copyright, format!("{documents}/copyright"), Kind::Licence);
        for name in ["THIRD-PARTY-LICENSES", "rsttrace.cdx.json", "CHANGELOG.md"] {
            let file = packed.join(format!("{name}.gz"));
            workspace::write(&file, &compressed(&self.archive.join(name))?)?;
            // The name that Debian's tools look for.
            let name = if name == "CHANGELOG.md" { "NEWS" } else { name };
            self.add(file, format!("{documents}/{name}.gz"), Kind::Plain);
        }
        let changes = packed.join("changelog");
        workspace::write(&changes, debian_changelog(source)?.as_bytes())?;
        let file = packed.join("changelog.gz");
        workspace::write(&file, &compressed(&changes)?)?;
        self.add(file, format!("{documents}/changelog.gz"), Kind::Plain);
        Ok(())
    }

    fn add(&mut self, source: PathBuf, destination: String, kind: Kind) {
        self.packaged.push(Packaged { source, destination, kind, only: None });
    }

    fn add_from_archive(&mut self, name: &str, destination: &str, kind: Kind) {
        self.add(self.archive.join(name), destination.to_owned(), kind);
    }
}

/// Changelog in Debian's form, which lintian and apt read: it refers to the changes for users.
fn debian_changelog(source: &Source) -> Result<String> {
    let date =
        process::text(Command::new("date").args(["--utc", "--rfc-email"]).arg(format!("--date=@{}", source.epoch)))?;
    Ok(format!(
        "rsttrace ({}) unstable; urgency=medium\n\n  * Commit {}. Changes: NEWS.gz.\n\n -- {}  {date}\n",
        source.version, source.commit, source.maintainer
    ))
}

/// Content of a file, compressed, without its name and time.
fn compressed(file: &Path) -> Result<Vec<u8>> {
    process::output(Command::new("gzip").args(["--best", "--no-name", "--stdout"]).arg(file))
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    workspace::write(to, &workspace::read(from)?)?;
    fs::set_permissions(to, Permissions::from_mode(mode)).with_context(|| format!("cannot change {}", to.display()))
}
