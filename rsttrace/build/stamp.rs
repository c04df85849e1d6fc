//! Stamp of the sources that the committed kernel objects were built from.
//!
//! `cargo xtask ebpf`, which includes this file, writes the stamp; `build.rs` compares it, so both count the same files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Kernel objects, by their names in `rsttrace/bpf` and in the stamp.
pub(crate) const VARIANTS: [&str; 3] = ["perf", "ring", "debug"];

/// Sources of the objects: files, and directories of Rust sources.
pub(crate) const INPUTS: [&str; 4] =
    ["rsttrace-common/Cargo.toml", "rsttrace-common/src", "rsttrace-ebpf/Cargo.toml", "rsttrace-ebpf/src"];

/// Packages, by the beginning of their names, whose versions in Cargo.lock affect the objects.
const PACKAGES: [&str; 4] = ["aya-ebpf", "aya-log-common", "aya-log-ebpf", "aya-log-parser"];

/// Keys and values of a stamp file, one pair per line.
pub(crate) type Stamp = BTreeMap<String, String>;

/// Reads a stamp.
pub(crate) fn parse(text: &str) -> Stamp {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Name of a variant's object file.
pub(crate) fn object_name(variant: &str) -> String {
    format!("{variant}.bpf.o")
}

/// SHA-256 of some bytes, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes).into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// SHA-256 of everything in the checkout at `root` that determines the content of the kernel objects.
pub(crate) fn sources(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        collect(&root.join(input), &mut files)?;
    }
    files.sort();

    let mut entries = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        entries.push(format!("{name} {}", digest(&fs::read(&file)?)));
    }
    entries.extend(packages(&fs::read_to_string(root.join("Cargo.lock"))?));
    entries.extend(profile(&fs::read_to_string(root.join("Cargo.toml"))?).map(str::to_owned));
    Ok(digest(entries.join("\n").as_bytes()))
}

/// Adds `path` itself, or every Rust source below it.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "rs") {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

/// `name version` of each of `PACKAGES` in a lock file, in its (sorted) order.
fn packages(lock: &str) -> Vec<String> {
    let quoted = |line: &str, key: &str| {
        line.strip_prefix(key)?.trim().strip_prefix('=')?.trim().strip_prefix('"')?.strip_suffix('"').map(str::to_owned)
    };
    let mut found = Vec::new();
    let mut name = String::new();
    for line in lock.lines() {
        if let Some(text) = quoted(line, "name") {
            name = text;
        } else if let Some(version) = quoted(line, "version")
            && PACKAGES.iter().any(|package| name.starts_with(package))
        {
            found.push(format!("{name} {version}"));
        }
    }
    found
}

/// Settings of `[profile.bpf]`, without comments.
fn profile(manifest: &str) -> impl Iterator<Item = &str> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[profile.bpf]").skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty() && !line.starts_with('#'))
}
