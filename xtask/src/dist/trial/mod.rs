//! Trials of the packages, as root: what a user does with them, in roots made for it. Those of another architecture than this
//! machine's are installed to purged as well, beside the programs of this one.

mod bare;
mod deb;
mod links;
mod name_server;
mod rpm;
mod scenarios;
mod units;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{content, package, source::Source};
use crate::{
    arch::Arch,
    debian,
    process::{self, is_root},
    setup, workspace,
};

/// Version of the packages that are installed before the real ones, for the upgrade.
const OLDER: &str = "0.0.1";
/// Directory of these packages, beside those of the release.
const OLDER_PACKAGES: &str = "trial/older";

/// Calls of systemctl in a root, one per line.
const CALLS: &str = "/systemctl.calls";
/// What scripts of packages ask of systemd: to know the units, to restart those that run, to stop and disable them.
const RELOAD: &str = "daemon-reload";
const RESTART: &str = "try-restart rsttrace.service rsttrace-record.service";
const STOP: &str = "disable --now rsttrace.service rsttrace-record.service";

/// Suites of Debian with another version of the C library than the one that is linked in, and with that one.
const SUITES: [&str; 3] = ["bullseye", "bookworm", NEWEST_SUITE];
const NEWEST_SUITE: &str = "trixie";

/// Runs all trials; `work` holds the staged files of the release.
pub(super) fn run(source: &Source, work: &Path, architectures: &[Arch]) -> Result<()> {
    let Some(arch) = architectures.iter().copied().find(|arch| arch.is_native()) else {
        bail!("only packages of this machine's architecture can be tried");
    };
    if !is_root() {
        bail!("the trials install packages in roots of their own and trace: run this as root");
    }
    let program = work.join(arch.name()).join(format!("rsttrace-{}/rsttrace", source.version));
    let directory = work.join("trial");
    let older = work.join(OLDER_PACKAGES);
    workspace::start_anew(&older)?;
    for &arch in architectures {
        let stage = work.join(arch.name());
        let content = content::staged(source, &work.join("source"), &stage)?;
        package::make_version(OLDER, source, &content, &stage, &older, arch)?;
    }
    step("lintian", || deb::lint(work))?;
    step("rpm, in a root with busybox", || rpm::life(&Root::busybox(&directory)?, source, work, arch))?;
    for suite in SUITES {
        step(&format!("Debian {suite}"), || {
            let root = Root::debian(&directory, suite, arch)?;
            deb::life(&root, source, work, arch)?;
            bare::ignores_name_service_modules(&root)
        })?;
        step(&format!("the units, Debian {suite}"), || {
            units::life(&Root::debian(&directory, suite, arch)?, work, arch)
        })?;
    }
    for &foreign in architectures.iter().filter(|arch| !arch.is_native()) {
        setup::for_foreign_units()?;
        step(&format!("the packages for {}", foreign.name()), || {
            rpm::life(&Root::busybox(&directory)?, source, work, foreign)?;
            deb::life(&Root::debian(&directory, NEWEST_SUITE, arch)?, source, work, foreign)
        })?;
    }
    step("a root that has nothing else", || bare::run(&Root::bare(&directory, &program)?))?;
    step("scenarios in that root", || scenarios::run(&Root::bare(&directory, &program)?))
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("dist: trying {name}");
    work().with_context(|| format!("the trial of {name} failed"))
}

/// Root directory of a trial.
#[derive(Clone)]
struct Root(PathBuf);

impl Root {
    /// Debian's smallest system with dpkg and apt, unpacked anew from an archive that is made once.
    fn debian(directory: &Path, suite: &str, arch: Arch) -> Result<Self> {
        let archive = directory.join(format!("{suite}.tar"));
        if !archive.exists() {
            fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
            let unfinished = directory.join(format!("{suite}.new.tar"));
            process::output(
                Command::new("mmdebstrap")
                    .args(["--variant=minbase", "--include=libnss-myhostname,libnss-systemd", suite])
                    .arg(&unfinished)
                    .arg(debian::source(suite, arch)?),
            )?;
            fs::rename(&unfinished, &archive).with_context(|| format!("cannot rename {}", unfinished.display()))?;
        }
        let root = directory.join(suite);
        workspace::start_anew(&root)?;
        process::output(
            Command::new("tar").arg("--extract").arg("--directory").arg(&root).arg("--file").arg(&archive),
        )?;
        Ok(Self(root))
    }

    /// busybox and nothing else: the user space of small images, without a C library, like Alpine's.
    fn busybox(directory: &Path) -> Result<Self> {
        let root = Self(directory.join("busybox"));
        workspace::start_anew(&root.0)?;
        let busybox = process::find("busybox", &["/bin".into(), "/usr/bin".into()]).context("busybox is missing")?;
        root.add_program(&busybox, "/bin/busybox")?;
        root.run("/bin/busybox", &["--install", "/bin"])?;
        Ok(root)
    }

    /// The program, the address of a name server, and mount points.
    fn bare(directory: &Path, program: &Path) -> Result<Self> {
        let root = Self(directory.join("bare"));
        workspace::start_anew(&root.0)?;
        root.add_program(program, "/rsttrace")?;
        root.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")?;
        for mount_point in ["/proc", "/sys"] {
            fs::create_dir(root.path(mount_point)).with_context(|| format!("cannot make {mount_point}"))?;
        }
        Ok(root)
    }

    /// Path on this machine of a path in the root.
    fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// Command that runs in the root.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        // This machine's variables name files that the root does not have.
        command.arg(&self.0).arg(program).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Output of a command in the root.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::text(self.command(program).args(arguments))
    }

    /// Output of the installed program, whose working directory is that of the root. The program of another architecture runs in
    /// an emulator, outside of the root: absolute paths are those of this machine there.
    fn run_installed(&self, arch: Arch, arguments: &[&str]) -> Result<String> {
        if arch.is_native() {
            return self.run("rsttrace", arguments);
        }
        let mut emulator = Command::new(format!("qemu-{}", arch.name()));
        process::text(emulator.current_dir(&self.0).arg(self.path("/usr/bin/rsttrace")).args(arguments))
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        workspace::write(&self.path(path), text.as_bytes())
    }

    /// Copies a program of this machine into the root.
    fn add_program(&self, from: &Path, to: &str) -> Result<()> {
        let path = self.path(to);
        workspace::write(&path, &workspace::read(from)?)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).with_context(|| format!("cannot change {to}"))
    }

    /// Copies a file of this machine into the root, and returns its path there.
    fn bring(&self, file: &Path) -> Result<String> {
        let name = format!("/{}", file.file_name().unwrap_or_default().to_string_lossy());
        workspace::write(&self.path(&name), &workspace::read(file)?)?;
        Ok(name)
    }

    /// Fails unless a path exists, or does not.
    fn expect(&self, path: &str, exists: bool) -> Result<()> {
        match (self.path(path).symlink_metadata().is_ok(), exists) {
            (true, false) => bail!("{path} is still there"),
            (false, true) => bail!("{path} is missing"),
            _ => Ok(()),
        }
    }

    /// Puts a program in the place of systemctl that notes how it is called and fails, which is no reason for a package's script to
    /// fail, and has these scripts believe that systemd runs.
    fn pretend_systemd(&self) -> Result<()> {
        fs::create_dir_all(self.path("/run/systemd/system")).context("cannot make a directory")?;
        self.write("/usr/bin/systemctl", &format!("#!/bin/sh\necho \"$@\" >>{CALLS}\nexit 1\n"))?;
        fs::set_permissions(self.path("/usr/bin/systemctl"), fs::Permissions::from_mode(0o755))
            .context("cannot change systemctl")
    }

    /// Fails unless systemctl has been called in these ways and no others since the last check.
    fn expect_calls(&self, step: &str, expected: &[&str]) -> Result<()> {
        let calls = self.path(CALLS);
        let mut noted: Vec<_> = fs::read_to_string(&calls).unwrap_or_default().lines().map(str::to_owned).collect();
        // Old and new package tell systemd of their units.
        noted.dedup();
        let _absent = fs::remove_file(&calls);
        if noted == expected { Ok(()) } else { bail!("{step} has called systemctl with {noted:?}") }
    }

    /// Fails if a unit is enabled: then `/etc` has a link to it.
    fn expect_disabled(&self) -> Result<()> {
        let mut find = Command::new("find");
        let found = process::text(find.arg(self.0.join("etc")).args(["-name", "rsttrace*.service"]))?;
        if found.is_empty() { Ok(()) } else { bail!("a unit is enabled: {found}") }
    }
}
