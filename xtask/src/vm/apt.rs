//! Debian's packages of any suite, from the mirror that this machine uses and verified with Debian's keys.
//!
//! apt runs with a configuration of its own, without root, and changes nothing on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{arch::Arch, debian, process, workspace};

/// Prefixes of the packages with a kernel or its modules; a version follows.
const PARTS: [&str; 3] = ["linux-binary-", "linux-image-", "linux-modules-"];

/// apt for one suite and architecture, independent of what this machine has installed.
pub(super) struct Apt {
    directory: PathBuf,
    arch: Arch,
}

impl Apt {
    /// Fetches the index of the suite; `directory` holds all files.
    pub(super) fn new(directory: &Path, suite: &str, arch: Arch) -> Result<Self> {
        let apt = Self { directory: directory.to_path_buf(), arch };
        workspace::write(&apt.sources(), format!("{}\n", debian::source(suite, arch)?).as_bytes())?;
        create(&apt.lists().join("partial"))?;
        process::output(apt.command("apt-get").args(["update", "--error-on=any"]))?;
        Ok(apt)
    }

    /// Downloads the kernel that a package depends on and returns the directory in which its packages are unpacked.
    pub(super) fn kernel(&self, package: &str) -> Result<PathBuf> {
        let packages = self.kernel_packages(package)?;
        if packages.is_empty() {
            bail!("no kernel behind {package}: the packages are called otherwise now");
        }
        eprintln!("downloading {}", packages.join(" "));
        let downloaded = self.directory.join("packages");
        create(&downloaded)?;
        process::output(self.command("apt-get").arg("download").args(&packages).current_dir(&downloaded))?;
        let content = self.directory.join("content");
        for package in fs::read_dir(&downloaded).with_context(|| format!("cannot read {}", downloaded.display()))? {
            process::output(Command::new("dpkg-deb").arg("--extract").arg(package?.path()).arg(&content))?;
        }
        Ok(content)
    }

    /// Packages of the kernel that a package depends on.
    fn kernel_packages(&self, package: &str) -> Result<Vec<String>> {
        let depends = process::text(self.command("apt-cache").args(["depends", "--recurse", "--important", package]))?;
        let versioned = |name: &&str| {
            let rest = PARTS.iter().find_map(|part| name.strip_prefix(part));
            rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        };
        let mut packages: Vec<_> = depends.lines().filter(versioned).map(str::to_owned).collect();
        packages.sort();
        packages.dedup();
        Ok(packages)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (key, value) in [
            ("Dir::Etc::SourceList", self.sources().as_path()),
            ("Dir::Etc::SourceParts", Path::new("-")),
            ("Dir::State::Lists", &self.lists()),
            ("Dir::State::Status", Path::new("/dev/null")),
            ("Dir::Cache::PkgCache", Path::new("")),
            ("Dir::Cache::SrcPkgCache", Path::new("")),
            ("Acquire::Languages", Path::new("none")),
            ("APT::Architecture", Path::new(self.arch.debian())),
            ("APT::Architectures", Path::new(self.arch.debian())),
            // apt's own user has no access to another user's cache.
            ("APT::Sandbox::User", Path::new("root")),
        ] {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        }
        command
    }

    fn sources(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    fn lists(&self) -> PathBuf {
        self.directory.join("lists")
    }
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}
