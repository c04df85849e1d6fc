//! List of the components of a program, in the form of `CycloneDX`.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::source::Source;
use crate::{arch::Arch, process, setup, workspace};

/// Version of the form.
const SPECIFICATION: &str = "1.5";
/// Name of the file that the tool writes beside the manifest of each crate, without its ending.
const FILE: &str = "components";

/// Components of the program for an architecture: the crates in it, without those that only build it, and the C library.
pub(super) fn components(source: &Source, sources: &Path, arch: Arch) -> Result<Vec<u8>> {
    let mut cargo = process::cargo()?;
    cargo.current_dir(sources).args(["cyclonedx", "--manifest-path", "rsttrace/Cargo.toml", "--format", "json"]);
    cargo.args(["--spec-version", SPECIFICATION, "--no-build-deps", "--target", arch.target()]);
    cargo.args(["--override-filename", FILE]).env("SOURCE_DATE_EPOCH", &source.epoch);
    process::output(&mut cargo)?;
    let written = workspace::read(&sources.join("rsttrace").join(format!("{FILE}.json")))?;
    // Crates of the workspace are identified by their directories on this machine.
    let directory = format!("path+file://{}/", sources.display());
    let text = String::from_utf8_lossy(&written).replace(&directory, "path+file:///rsttrace/");
    let mut list: Value = serde_json::from_str(&text).context("cargo-cyclonedx has not written JSON")?;
    let components = list["components"].as_array_mut().context("cargo-cyclonedx has found no components")?;
    components.push(c_library(arch)?);
    serde_json::to_vec_pretty(&list).context("cannot write the components")
}

/// The C library, which is linked in from Debian's package.
fn c_library(arch: Arch) -> Result<Value> {
    let package = if arch.is_native() { setup::C_LIBRARY } else { setup::CROSS_C_LIBRARY };
    let version = process::text(Command::new("dpkg-query").args(["-W", "-f=${Version}", package]))?;
    Ok(json!({
        "type": "library",
        "bom-ref": format!("{package}@{version}"),
        "name": "glibc",
        "version": version,
        "description": format!("The GNU C library, from Debian's package {package}, linked statically"),
        "scope": "required",
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
        "purl": format!("pkg:deb/debian/{package}@{version}"),
    }))
}
