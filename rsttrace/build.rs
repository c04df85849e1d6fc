//! Stops the build when the committed kernel objects are not those of the sources beside them.

#[path = "../xtask/src/stamp.rs"]
mod stamp;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

const REMEDY: &str = "run `cargo xtask ebpf`";

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = package.join("..");
    println!("cargo::rerun-if-env-changed=RSTTRACE_SKIP_STAMP");
    println!("cargo::rerun-if-changed=bpf");
    // A published crate brings its objects, but not the sources that they were built from.
    let has_sources = root.join("rsttrace-ebpf").is_dir();
    if has_sources {
        for input in stamp::INPUTS.into_iter().chain(["Cargo.lock", "Cargo.toml"]) {
            println!("cargo::rerun-if-changed=../{input}");
        }
    }
    if let Err(problem) = check(&package.join("bpf"), has_sources.then_some(root.as_path())) {
        let kind =
            if env::var_os("RSTTRACE_SKIP_STAMP").is_some_and(|value| value == "1") { "warning" } else { "error" };
        println!("cargo::{kind}={problem}");
    }
}

/// Compares the objects, and the sources where there are any, with the stamp.
fn check(objects: &Path, root: Option<&Path>) -> Result<(), String> {
    let text = fs::read_to_string(objects.join("STAMP"))
        .map_err(|error| format!("cannot read rsttrace/bpf/STAMP ({error}): {REMEDY}"))?;
    let stamp = stamp::parse(&text);
    if let Some(root) = root {
        let sources = stamp::sources(root).map_err(|error| format!("cannot read the eBPF sources: {error}"))?;
        if stamp.get("sources") != Some(&sources) {
            return Err(format!("the eBPF sources differ from the committed kernel objects: {REMEDY}"));
        }
    }
    for variant in stamp::VARIANTS {
        let name = stamp::object_name(variant);
        let object = fs::read(objects.join(&name))
            .map_err(|error| format!("cannot read rsttrace/bpf/{name} ({error}): {REMEDY}"))?;
        if stamp.get(variant) != Some(&stamp::digest(&object)) {
            return Err(format!("rsttrace/bpf/{name} is not the kernel object that its stamp names: {REMEDY}"));
        }
    }
    Ok(())
}
