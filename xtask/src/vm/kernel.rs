//! The kernels of the matrix: Debian's own, of the flavour that is made for virtual machines.
//!
//! What is needed of their packages stays in the user's cache.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{apt::Apt, modules};
use crate::process;

/// A kernel of the matrix.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Kernel {
    /// Debian 11: no reasons, and no resets without a socket
    #[value(name = "5.10")]
    Bullseye,
    /// Debian 12: the same
    #[value(name = "6.1")]
    Bookworm,
    /// Debian 13: reasons
    #[value(name = "6.12")]
    Trixie,
    /// Debian unstable: whatever it has today
    #[value(name = "newest")]
    Sid,
}

impl Kernel {
    /// What it is called on the command line and in the cache.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bullseye => "5.10",
            Self::Bookworm => "6.1",
            Self::Trixie => "6.12",
            Self::Sid => "newest",
        }
    }

    const fn suite(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The kernel from the cache, downloaded first if it is not there or is to be new.
    pub(super) fn image(self, refresh: bool) -> Result<Image> {
        let kernels = cache_dir()?.join("kernels");
        let image = Image(kernels.join(self.name()));
        if refresh || !image.modules().exists() {
            let unfinished = kernels.join(format!("{}.new", self.name()));
            start_anew(&unfinished)?;
            self.download(&unfinished).with_context(|| format!("cannot get kernel {}", self.name()))?;
            // Whole or not at all: an interrupted download is never taken for a kernel.
            remove(&image.0)?;
            fs::rename(&unfinished, &image.0).with_context(|| format!("cannot rename {}", unfinished.display()))?;
        }
        Ok(image)
    }

    /// Puts the kernel and its modules into an empty directory.
    fn download(self, directory: &Path) -> Result<()> {
        let work = directory.join("work");
        let content = Apt::new(&work, self.suite())?.kernel()?;
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
        // What it warns of is that some packages do not list what is built in.
        process::output(Command::new(depmod).arg("--basedir").arg(directory).arg(release))?;
        remove(&work)
    }
}

/// A kernel in the cache.
pub(super) struct Image(PathBuf);

impl Image {
    pub(super) fn vmlinuz(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// The directory of its modules, in which there is one directory of the name of its release.
    pub(super) fn modules(&self) -> PathBuf {
        self.0.join("lib/modules")
    }

    /// The modules that it needs to read its disks, each after those that it needs.
    pub(super) fn disk_modules(&self) -> Result<Vec<PathBuf>> {
        modules::of_disks(&self.modules().join(self.release()?))
    }

    /// What it calls itself, `6.1.0-50-cloud-amd64`.
    fn release(&self) -> Result<OsString> {
        let directory = self.modules();
        let mut entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let entry = entries.next().with_context(|| format!("{} is empty", directory.display()))?;
        Ok(entry?.file_name())
    }
}

/// The directory for what can be downloaded again.
fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(cache
        .context("kernels are kept in the user's cache: set XDG_CACHE_HOME or HOME to a directory")?
        .join("rsttrace"))
}

/// Every file below a directory whose name is wanted.
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

/// An empty directory.
fn start_anew(directory: &Path) -> Result<()> {
    remove(directory)?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}
