//! `.deb` and `.rpm`, made by nFPM.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{content::Content, source::Source};
use crate::{arch::Arch, process, setup, workspace};

/// First line of the packages' description.
const SUMMARY: &str = "trace TCP resets with owner and cause";
/// The rest of it.
const DESCRIPTION: &str = "rsttrace shows every TCP reset that this host sends or receives, as it
happens: the peer, the process that owns the socket, the state of the
connection, the cause, and which side has to change something.

The units are neither enabled nor started by the installation.";

/// Licences of the user side and of the kernel side, which is in the program.
pub(super) const LICENCE: &str = "(MIT OR Apache-2.0) AND (MIT OR GPL-2.0-only)";

/// Scripts of each kind of package, in `deploy/packages`: when they run, and their files.
const SCRIPTS: [(&str, &[(&str, &str)]); 2] = [
    ("deb", &[("postinstall", "deb-postinst"), ("preremove", "deb-prerm"), ("postremove", "deb-postrm")]),
    ("rpm", &[("postinstall", "rpm-post"), ("preremove", "rpm-preun"), ("postremove", "rpm-postun")]),
];

/// Diagnoses of lintian that are accepted, in `deploy/packages`, each after its reason.
const OVERRIDES: &str = "lintian-overrides";

/// Makes both packages in `release`.
pub(super) fn make(source: &Source, content: &Content, stage: &Path, release: &Path, arch: Arch) -> Result<()> {
    make_version(&source.version, source, content, stage, release, arch)
}

/// Makes both packages with another version than the source's, for trying upgrades.
pub(super) fn make_version(
    version: &str,
    source: &Source,
    content: &Content,
    stage: &Path,
    to: &Path,
    arch: Arch,
) -> Result<()> {
    for (kind, scripts) in SCRIPTS {
        let configuration = configuration(version, source, content, arch, kind, scripts)?;
        let file = stage.join(format!("nfpm-{kind}.json"));
        workspace::write(&file, &serde_json::to_vec_pretty(&configuration).context("cannot write JSON")?)?;
        process::output(
            Command::new(setup::nfpm())
                .args(["package", "--packager", kind, "--config"])
                .arg(&file)
                .arg("--target")
                .arg(to)
                .env("SOURCE_DATE_EPOCH", &source.epoch),
        )?;
    }
    Ok(())
}

/// nFPM's configuration of a package. YAML, which it reads, includes JSON.
fn configuration(
    version: &str,
    source: &Source,
    content: &Content,
    arch: Arch,
    kind: &str,
    scripts: &[(&str, &str)],
) -> Result<Value> {
    let time = ["--utc", "--iso-8601=seconds", &format!("--date=@{}", source.epoch)];
    let time = process::text(Command::new("date").args(time))?;
    let deploy = content.deploy.join("packages");
    let file = |path: &Path, destination: &str, kind: &str, mode: u32| {
        json!({"src": path, "dst": destination, "type": kind,
            "file_info": {"mode": mode, "mtime": time, "owner": "root", "group": "root"}})
    };
    let mut contents: Vec<_> = content
        .packaged
        .iter()
        .filter(|packaged| packaged.is_in(kind))
        .map(|packaged| {
            let mode = if packaged.destination.starts_with("/usr/bin/") { 0o755 } else { 0o644 };
            file(&packaged.source, &packaged.destination, packaged.kind.nfpm(kind), mode)
        })
        .collect();
    if kind == "deb" {
        contents.push(file(&deploy.join(OVERRIDES), "/usr/share/lintian/overrides/rsttrace", "", 0o644));
    }
    let scripts: serde_json::Map<_, _> =
        scripts.iter().map(|(when, name)| ((*when).to_owned(), json!(deploy.join(name)))).collect();
    // A package of Debian without a revision has one changelog.
    let release = if kind == "deb" { "" } else { "1" };
    Ok(json!({
        "name": "rsttrace", "platform": "linux", "arch": arch.debian(), "version": version, "version_schema": "none",
        "release": release, "section": "net", "priority": "optional", "maintainer": source.maintainer, "vendor": "rsttrace",
        "description": format!("{SUMMARY}\n{DESCRIPTION}"), "license": LICENCE, "mtime": time, "contents": contents, "scripts": scripts,
        // xz: dpkg of Debian 11 and rpm of RHEL 8 read it.
        "deb": {"compression": "xz"},
        "rpm": {"compression": "xz", "group": "System/Monitoring", "buildhost": "rsttrace", "summary": SUMMARY},
    }))
}
