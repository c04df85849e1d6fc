//! The kernels of the matrix: Debian's own, in the variant for virtual machines.
//!
//! The needed part of their packages stays in the user's cache.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{apt::Apt, modules};
use crate::{arch::Arch, process, workspace};

/// Kernel of the matrix.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Kernel {
    /// Debian 11: no reasons, and no resets without a socket
    #[value(name = "5.10")]
    Bullseye,
    /// Debian 12: no reasons, and no resets without a socket
    #[value(name = "6.1")]
    Bookworm,
    /// Debian 13: reasons
    #[value(name = "6.12")]
    Trixie,
    /// Debian 13, with pages of 16 KiB: aarch64 alone
    #[value(name = "6.12-16k")]
    LargePages,
    /// Debian unstable: whatever it has today
    #[value(name = "newest")]
    Sid,
}

impl Kernel {
    /// Kernels that are tested on an architecture, unless others are named.
    pub(super) const fn of(arch: Arch) -> &'static [Self] {
        match arch {
            Arch::X86_64 => &[Self::Bullseye, Self::Bookworm, Self::Trixie, Self::Sid],
            Arch::Aarch64 => &[Self::Bookworm, Self::Trixie, Self::LargePages],
        }
    }

    /// Package that depends on it.
    fn package(self, arch: Arch) -> Result<String> {
        match (self, arch) {
            (Self::LargePages, Arch::Aarch64) => Ok("linux-image-arm64-16k".to_owned()),
            (Self::LargePages, Arch::X86_64) => bail!("only aarch64 has pages of 16 KiB: add --arch aarch64"),
            _ => Ok(format!("linux-image-cloud-{}", arch.debian())),
        }
    }

    /// Name on the command line and in the cache.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bullseye => "5.10",
            Self::Bookworm => "6.1",
            Self::Trixie => "6.12",
            Self::LargePages => "6.12-16k",
            Self::Sid => "newest",
        }
    }

    const fn suite(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie | Self::LargePages => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The kernel from the cache, downloaded if it is not there or is to be refreshed.
    pub(super) fn image(self, arch: Arch, refresh: bool) -> Result<Image> {
        let mut kernels = cache_dir()?.join("kernels");
        if arch != Arch::X86_64 {
            kernels.push(arch.name());
        }
        let image = Image(kernels.join(self.name()));
        if refresh || !image.modules().exists() {
            let unfinished = kernels.join(format!("{}.new", self.name()));
            workspace::start_anew(&unfinished)?;
            self.download(arch, &unfinished).with_context(|| format!("cannot get kernel {}", self.name()))?;
            // Renamed as a whole: an interrupted download is never taken for a kernel.
            remove(&image.0)?;
            fs::rename(&unfinished, &image.0).with_context(|| format!("cannot rename {}", unfinished.display()))?;
        }
        Ok(image)
    }

    /// Puts the kernel and its modules into an empty directory.
    fn download(self, arch: Arch, directory: &Path) -> Result<()> {
        let work = directory.join("work");
        let content = Apt::new(&work, self.suite(), arch)?.kernel(&self.package(arch)?)?;
        let vmlinuz = find(&content, &|name| name == "vmlinuz" || name.starts_with("vmlinuz-"))?;
        let [vmlinuz] = vmlinuz.as_slice() else {
            bail!("{} kernels in {}, not one: their packages are arranged otherwise now", vmlinuz.len(), self.suite());
        };
        let image = Image(directory.to_path_buf());
        fs::copy(vmlinuz, image.vmlinuz()).with_context(|| format!("cannot copy {}", vmlinuz.display()))?;
        let modules = ["usr/lib/modules", "lib/modules"].map(|path| content.join(path));
        let modules = modules.iter().find(|path| path.is_dir()).context("a kernel without modules")?;
        fs::create_dir_all(directory.join("lib"))?;
        fs::rename(modules, image.modules()).with_context(|| format!("cannot move {}", modules.display()))?;
        let release = image.release()?;
        let depmod = process::find("depmod", &["/usr/sbin".into(), "/sbin".into()]);
        let depmod = depmod.context("depmod is missing: run `cargo xtask setup --vm` as root")?;
        // Its warning is that some packages do not list what is built in.
        process::output(Command::new(depmod).arg("--basedir").arg(directory).arg(release))?;
        remove(&work)
    }
}

/// Kernel in the cache.
pub(super) struct Image(PathBuf);

impl Image {
    pub(super) fn vmlinuz(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// Directory of its modules, with one directory of the name of its release.
    pub(super) fn modules(&self) -> PathBuf {
        self.0.join("lib/modules")
    }

    /// Modules for reading its disks, each after its dependencies.
    pub(super) fn disk_modules(&self) -> Result<Vec<PathBuf>> {
        modules::of_disks(&self.modules().join(self.release()?))
    }

    /// Release, such as `6.1.0-50-cloud-amd64`.
    fn release(&self) -> Result<OsString> {
        let directory = self.modules();
        let mut entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let entry = entries.next().with_context(|| format!("{} is empty", directory.display()))?;
        Ok(entry?.file_name())
    }
}

/// Directory for files that can be downloaded again.
fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(cache
        .context("kernels are kept in the user's cache: set XDG_CACHE_HOME or HOME to a directory")?
        .join("rsttrace"))
}

/// Every file below a directory whose name matches.
fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(find(&entry.path(), wanted)?);
        } else if entry.file_name().to_str().is_some_and(wanted) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}
