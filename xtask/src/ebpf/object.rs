//! One kernel object: built, stripped to what a loader reads, without paths of this machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::{
    features,
    toolchain::{LLVM_DIR, TARGET, Toolchain},
};
use crate::{process, workspace};

/// Builds a variant in `target_dir` and returns the bytes to commit.
pub(super) fn build(toolchain: &Toolchain, variant: &str, target_dir: &Path) -> Result<Vec<u8>> {
    // The directories of the packages' sources exist only after they have been fetched.
    process::run(toolchain.command("cargo")?.args(["fetch", "--locked", "--quiet", "--target", TARGET]))?;
    let remapped = toolchain.remapped()?;
    process::run(
        toolchain
            .cargo("build", target_dir)?
            .args(features(variant))
            .env("CARGO_ENCODED_RUSTFLAGS", flags(&remapped).join("\u{1f}")),
    )?;

    let built = target_dir.join(TARGET).join("bpf").join(workspace::KERNEL_CRATE);
    let stripped = built.with_extension("stripped");
    process::run(Command::new(objcopy()?).arg("--strip-debug").arg(&built).arg(&stripped))?;
    let bytes = workspace::read(&stripped)?;
    verify(variant, &bytes, remapped.into_iter().map(|(folder, _)| folder))?;
    Ok(bytes)
}

/// The part of an object that is executed: all of it but its type information, which only the verifier's messages use.
pub(super) fn without_types(object: &[u8], directory: &Path) -> Result<Vec<u8>> {
    let file = directory.join("object");
    workspace::write(&file, object)?;
    let sections = [".BTF", ".BTF.ext", ".rel.BTF", ".rel.BTF.ext"];
    process::run(Command::new(objcopy()?).args(sections.map(|name| format!("--remove-section={name}"))).arg(&file))?;
    workspace::read(&file)
}

/// BTF is made from debug information, so both are enabled and the latter is stripped; no directory is in it by its
/// name.
fn flags(remapped: &[(PathBuf, &str)]) -> Vec<String> {
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // By default the linker makes LLVM call a memset that loops over single bytes, for 16 bytes as for 1,000.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
    ];
    flags.extend(remapped.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())));
    flags
}

fn objcopy() -> Result<PathBuf> {
    match process::find("llvm-objcopy", &[PathBuf::from(LLVM_DIR)]) {
        Some(objcopy) => Ok(objcopy),
        None => {
            bail!("no llvm-objcopy here: run `cargo xtask setup` on Debian, or else install LLVM's binary utilities")
        }
    }
}

/// Checks that an object has its type information, no debug information, and no path of this machine.
fn verify(variant: &str, object: &[u8], folders: impl Iterator<Item = PathBuf>) -> Result<()> {
    // Without the byte before the name: a string table may share it with the end of `.rel.BTF`.
    for section in [".BTF", ".BTF.ext"] {
        if !contains(object, format!("{section}\0").as_bytes()) {
            bail!("the {variant} object has no section {section}: this bpf-linker does not write it");
        }
    }
    if contains(object, b".debug_") {
        bail!("the {variant} object still has debug information: this llvm-objcopy does not strip it");
    }
    for folder in folders.chain(env::home_dir()) {
        if folder.components().count() > 1 && names(object, &folder) {
            bail!("the {variant} object names {}: a --remap-path-prefix is missing for it", folder.display());
        }
    }
    Ok(())
}

/// Whether the object contains the path of something in `folder`. A short one such as `/src` also occurs inside other
/// paths, so it counts only where a path begins.
fn names(object: &[u8], folder: &Path) -> bool {
    let needle = format!("{}/", folder.display()).into_bytes();
    let begins_path = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| object.get(at)).copied().unwrap_or(0);
        !(before.is_ascii_alphanumeric() || b"-_.".contains(&before))
    };
    let is_short = folder.components().count() == 2;
    let mut places = object.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
    places.any(|(at, _)| !is_short || begins_path(at))
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_folder_of_this_machine() {
        assert!(names(b"..\0/home/me/rsttrace/src/main.rs", Path::new("/home/me")));
        assert!(names(b"text/home/me/rsttrace", Path::new("/home/me")));
        assert!(!names(b"\0/home/men/rsttrace", Path::new("/home/me")));
    }

    #[test]
    fn a_short_folder_counts_where_a_path_begins() {
        assert!(names(b"\0/src/main.rs", Path::new("/src")));
        assert!(!names(b"\0/registry/aya-ebpf-0.2.1/src/lib.rs", Path::new("/src")));
    }
}
