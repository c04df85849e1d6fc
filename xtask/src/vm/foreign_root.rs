//! Root file system of guests of another architecture: Debian's packages, unpacked and not installed, because this machine does
//! not run their scripts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::disk;
use crate::{arch::Arch, debian, process, workspace};

/// Suite of the packages: that of the C library that this architecture's programs are linked with.
const SUITE: &str = "bookworm";
/// Packages of the scripts in the guest, and those that scenarios use other than real programs.
const PACKAGES: [&str; 19] = [
    "base-files",
    "bash",
    "busybox-static",
    "conntrack",
    "coreutils",
    "curl",
    "dash",
    "grep",
    "iproute2",
    "kmod",
    "libc-bin",
    "mount",
    "netbase",
    "nftables",
    "procps",
    "python3",
    "sed",
    "tzdata",
    "util-linux",
];
/// Files that the packages' scripts would make, taken from this machine.
const MADE_AT_INSTALLATION: [&str; 3] = ["/etc/group", "/etc/nsswitch.conf", "/etc/passwd"];

/// Makes the root in `directory`, unless it is there; returns it with a shell for the initramfs.
pub(super) fn make(directory: &Path, arch: Arch) -> Result<(PathBuf, PathBuf)> {
    let (image, busybox, stamp) =
        (directory.join("root.img"), directory.join("busybox"), directory.join("root.packages"));
    let wanted = format!("{SUITE} {}", PACKAGES.join(" "));
    if image.exists() && busybox.exists() && fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == wanted) {
        return Ok((image, busybox));
    }
    eprintln!("making the root of {} guests", arch.name());
    let tree = directory.join("root");
    workspace::start_anew(&tree)?;
    process::output(
        Command::new("mmdebstrap")
            .args(["--variant=extract", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"])
            .arg(format!("--architectures={}", arch.debian()))
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg(SUITE)
            .arg(&tree)
            .arg(debian::source(SUITE, arch)?),
    )?;
    for file in MADE_AT_INSTALLATION {
        workspace::write(&tree.join(file.trim_start_matches('/')), &workspace::read(Path::new(file))?)?;
    }
    let shell = ["usr/bin/busybox", "bin/busybox"].map(|path| tree.join(path)).into_iter().find(|path| path.is_file());
    let Some(shell) = shell else { bail!("{} has no busybox", tree.display()) };
    fs::copy(shell, &busybox).context("cannot copy busybox")?;
    disk::make(&tree, &image)?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    workspace::write(&stamp, wanted.as_bytes())?;
    Ok((image, busybox))
}
