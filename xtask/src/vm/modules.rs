//! Kernel modules that are needed before the kernel can load any by itself: those for its disks.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

/// Drivers of the disks in a virtual machine, and the checksums that ext4 asks for by name. A kernel with a built-in driver has no module of that name.
const OF_DISKS: [&str; 4] = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// Modules for the disks below `directory` (`lib/modules/RELEASE`), each after its dependencies.
pub(super) fn of_disks(directory: &Path) -> Result<Vec<PathBuf>> {
    let path = directory.join("modules.dep");
    let text = String::from_utf8(workspace::read(&path)?).with_context(|| format!("{} is no text", path.display()))?;
    let mut modules: Vec<&str> = Vec::new();
    for wanted in OF_DISKS {
        let Some((module, needs)) = text.lines().filter_map(|line| line.split_once(':')).find(|(module, _)| {
            Path::new(module)
                .file_name()
                .and_then(|name| name.to_str()?.split_once(".ko"))
                .is_some_and(|(name, _)| name == wanted)
        }) else {
            continue;
        };
        // The last dependency is loaded first.
        for module in needs.split_whitespace().rev().chain([module]) {
            if !modules.contains(&module) {
                modules.push(module);
            }
        }
    }
    Ok(modules.into_iter().map(|module| directory.join(module)).collect())
}

/// Content of the module; Debian compresses it since 6.6.
pub(super) fn unpacked(module: &Path) -> Result<Vec<u8>> {
    match module.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => workspace::read(module),
        Some("xz") => process::output(Command::new("xz").args(["--decompress", "--stdout"]).arg(module)),
        _ => bail!("{} is packed in a way that xtask does not know", module.display()),
    }
}
