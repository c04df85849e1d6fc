//! Files of the packages and of the archive, prepared in a directory.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{documents, notices, sbom, source::Source};
use crate::{arch::Arch, process, workspace};

/// Where an installation by hand puts the program, and where the packages do.
const PROGRAM_PATHS: [&str; 2] = ["/usr/local/bin/rsttrace", "/usr/bin/rsttrace"];

/// Texts of the licences of rsttrace.
const LICENCES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-GPL2", "LICENSE-MIT"];
/// Page of the changes for users, and its name in the packages, which Debian's tools look for.
const CHANGES: [&str; 2] = ["CHANGELOG.md", "NEWS.gz"];
/// Directory of the documents in the packages.
pub(super) const DOCUMENTS: &str = "/usr/share/doc/rsttrace";
/// Directory of the licences in the `.rpm`.
const RPM_LICENCES: &str = "/usr/share/licenses/rsttrace";
/// Directory of the units in the archive.
const UNITS: &str = "deploy/systemd";

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
    /// Knows it as documentation, which can be left out of an installation.
    Documentation,
}

impl Kind {
    /// Name in nFPM's configuration, which knows licences and documentation in a `.rpm` alone.
    pub(super) fn nfpm(self, package: &str) -> &'static str {
        match self {
            Self::Configuration => "config|noreplace",
            Self::Licence if package == "rpm" => "license",
            Self::Documentation if package == "rpm" => "doc",
            Self::Plain | Self::Licence | Self::Documentation => "",
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
    content.add_licences(stage)?;
    content.add_documents(source, sources, stage)?;
    Ok(content)
}

/// Puts the files of the archive in their places.
fn archive_files(source: &Source, sources: &Path, program: &Path, to: &Path, arch: Arch) -> Result<()> {
    copy(program, &to.join("rsttrace"), 0o755)?;
    for name in LICENCES {
        copy(&sources.join(name), &to.join(name), 0o644)?;
    }
    let shipped = documents::shipped(sources)?;
    for path in &shipped {
        workspace::write(&to.join(path), &documents::content(sources, path, &shipped)?)?;
    }
    for (from, name) in [("docs/man", "man"), ("completions", "completions")] {
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
            self.add(packed, format!("/usr/share/man/man1/{name}.gz"), Kind::Documentation);
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
            self.only(package);
        }
        Ok(())
    }

    /// Adds the units, with the path of the packages' program, and the files in `/etc`.
    fn add_services(&mut self, stage: &Path) -> Result<()> {
        for unit in super::files(&self.archive.join(UNITS))? {
            let name = unit.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&unit).with_context(|| format!("cannot read {}", unit.display()))?;
            let changed = stage.join("packages/systemd").join(&name);
            workspace::write(&changed, text.replace(PROGRAM_PATHS[0], PROGRAM_PATHS[1]).as_bytes())?;
            self.add(changed, format!("/usr/lib/systemd/system/{name}"), Kind::Plain);
        }
        self.add_from_archive("deploy/rsttrace.toml", "/etc/rsttrace.toml", Kind::Configuration);
        self.add_from_archive("deploy/logrotate/rsttrace", "/etc/logrotate.d/rsttrace", Kind::Configuration);
        Ok(())
    }

    /// Adds the licences: in Debian's form, which refers to the texts that Debian has, and in full elsewhere.
    fn add_licences(&mut self, stage: &Path) -> Result<()> {
        let packed = stage.join("packages/licences");
        let copyright = packed.join("copyright");
        workspace::write(&copyright, notices::copyright().as_bytes())?;
        self.add(copyright, format!("{DOCUMENTS}/copyright"), Kind::Plain);
        self.only("deb");
        for name in LICENCES {
            self.add_from_archive(name, &format!("{RPM_LICENCES}/{name}"), Kind::Licence);
            self.only("rpm");
        }
        let of_libraries = packed.join("THIRD-PARTY-LICENSES.gz");
        workspace::write(&of_libraries, &compressed(&self.archive.join("THIRD-PARTY-LICENSES"))?)?;
        for (package, directory, kind) in [("deb", DOCUMENTS, Kind::Plain), ("rpm", RPM_LICENCES, Kind::Licence)] {
            self.add(of_libraries.clone(), format!("{directory}/THIRD-PARTY-LICENSES.gz"), kind);
            self.only(package);
        }
        Ok(())
    }

    /// Adds components, changes, pages and examples. Pages and examples are where they are in the sources, so that links lead to
    /// them.
    fn add_documents(&mut self, source: &Source, sources: &Path, stage: &Path) -> Result<()> {
        let packed = stage.join("packages/doc");
        for [name, to] in [["rsttrace.cdx.json", "rsttrace.cdx.json.gz"], CHANGES] {
            let file = packed.join(to);
            workspace::write(&file, &compressed(&self.archive.join(name))?)?;
            self.add(file, format!("{DOCUMENTS}/{to}"), Kind::Documentation);
        }
        let changes = packed.join("changelog");
        workspace::write(&changes, debian_changelog(source)?.as_bytes())?;
        let file = packed.join("changelog.gz");
        workspace::write(&file, &compressed(&changes)?)?;
        self.add(file, format!("{DOCUMENTS}/changelog.gz"), Kind::Documentation);
        let link = |to: &str| format!("]({to})");
        for path in documents::shipped(sources)?.into_iter().filter(|path| !path.ends_with(CHANGES[0])) {
            let mut file = self.archive.join(&path);
            if path.starts_with(UNITS) {
                file = stage.join("packages/systemd").join(path.file_name().unwrap_or_default());
            } else if documents::is_page(&path) {
                let page =
                    String::from_utf8_lossy(&workspace::read(&file)?).replace(&link(CHANGES[0]), &link(CHANGES[1]));
                file = packed.join(&path);
                workspace::write(&file, page.as_bytes())?;
            }
            self.add(file, format!("{DOCUMENTS}/{}", path.display()), Kind::Documentation);
        }
        Ok(())
    }

    /// Leaves the file that was added last to one kind of package.
    fn only(&mut self, package: &'static str) {
        if let Some(packaged) = self.packaged.last_mut() {
            packaged.only = Some(package);
        }
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
