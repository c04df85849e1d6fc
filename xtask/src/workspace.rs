//! Paths in the checkout.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The one crate that only builds for the BPF target.
pub(crate) const KERNEL_CRATE: &str = "rsttrace-ebpf";

/// The test target that needs root.
pub(crate) const INTEGRATION: &str = "integration";

/// Root of the checkout.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("this is not started by cargo: use `cargo xtask`")?;
    let root = Path::new(&manifest).parent().context("xtask has to lie inside the checkout")?;
    Ok(root.to_path_buf())
}

/// Directory of the builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let root = root()?;
    Ok(env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir)))
}

/// Reads a file; the error names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file and the directories above it; the error names it.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Creates an empty directory; what it contained is removed.
pub(crate) fn start_anew(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}
