//! Stops the build when the committed kernel objects are not those of the sources beside them, computes the hashes by which
//! the page of a report allows its own style and script, and collects what `--version` says.

#[path = "build/identity.rs"]
mod identity;
#[path = "build/stamp.rs"]
mod stamp;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Style sheets and script of the page of a report, in the order in which the page has them, and the variables of their hashes.
const PAGE: [(&str, &[&str]); 2] =
    [("RSTTRACE_REPORT_STYLE", &["colors.css", "plot.css", "page.css"]), ("RSTTRACE_REPORT_SCRIPT", &["page.js"])];

const REMEDY: &str = "run `cargo xtask ebpf`";

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = package.join("..");
    println!("cargo::rerun-if-env-changed=RSTTRACE_SKIP_STAMP");
    println!("cargo::rerun-if-changed=bpf");
    for (variable, files) in PAGE {
        match page_hash(&package.join("src/report"), files) {
            Ok(hash) => println!("cargo::rustc-env={variable}={hash}"),
            Err(problem) => println!("cargo::error={problem}"),
        }
    }
    // A published crate brings its objects, but not the sources that they were built from.
    let has_sources = root.join("rsttrace-ebpf").is_dir();
    if has_sources {
        for input in stamp::INPUTS.into_iter().chain(["Cargo.lock", "Cargo.toml"]) {
            println!("cargo::rerun-if-changed=../{input}");
        }
    }
    identity::announce(&package, has_sources.then_some(root.as_path()));
    if let Err(problem) = check(&package.join("bpf"), has_sources.then_some(root.as_path())) {
        let kind =
            if env::var_os("RSTTRACE_SKIP_STAMP").is_some_and(|value| value == "1") { "warning" } else { "error" };
        println!("cargo::{kind}={problem}");
    }
}

/// Source expression of a security policy (CSP) for the content of these files, one behind the other.
fn page_hash(directory: &Path, files: &[&str]) -> Result<String, String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut hash = Sha256::new();
    for file in files {
        let path = directory.join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        hash.update(fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    let mut text = "sha256-".to_owned();
    for group in hash.finalize().chunks(3) {
        let bits = group.iter().chain([0; 2].iter()).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for place in 0..4 {
            // Three bytes are four digits; digits of missing bytes are padding.
            let digit = DIGITS[bits >> (18 - 6 * place) & 63];
            text.push(if place <= group.len() { digit.into() } else { '=' });
        }
    }
    Ok(text)
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
