//! List of the components of a program, in the form of `CycloneDX`.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    runtime::{self, Library},
    source::Source,
};
use crate::{arch::Arch, process, workspace};

/// Version of the form.
const SPECIFICATION: &str = "1.5";
/// Name of the file that the tool writes beside the manifest of each crate, without its ending.
const FILE: &str = "components";

/// Components of the program for an architecture: the crates in it, without those that only build it, and the libraries of Rust, GCC and C.
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
    components.extend(runtime::libraries(arch)?.iter().map(component));
    serde_json::to_vec_pretty(&list).context("cannot write the components")
}

/// Entry of a library that is linked in beside the crates.
fn component(library: &Library) -> Value {
    json!({
        "type": "library",
        "bom-ref": library.purl,
        "name": library.name,
        "version": library.version,
        "description": library.description,
        "scope": "required",
        "licenses": [{"expression": library.licence}],
        "purl": library.purl,
    })
}
