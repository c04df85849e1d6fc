//! Rust toolchain for the kernel side: Debian's, which includes a `core` for BPF, or rustup's nightly, which builds
//! one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

/// Target of the kernel objects: little-endian BPF, which serves `x86_64` and `aarch64`.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Directory of the LLVM that Debian's rustc is built with.
pub(crate) const LLVM_DIR: &str = "/usr/lib/llvm-22/bin";

const REMEDY: &str = "run `cargo xtask setup` on Debian, or else \
                      `rustup toolchain install nightly --component rust-src,clippy` and `cargo install bpf-linker`";

enum Kind {
    Debian,
    Nightly,
}

/// Toolchain that builds for the kernel, with its linker.
pub(crate) struct Toolchain {
    kind: Kind,
    bin: PathBuf,
    sysroot: PathBuf,
    linker: PathBuf,
    /// Output of `rustc -V`.
    pub(crate) rustc_version: String,
    /// Output of `bpf-linker -V`.
    pub(crate) linker_version: String,
}

impl Toolchain {
    /// Finds a toolchain, Debian's first, because the committed objects are built with it.
    pub(crate) fn choose() -> Result<Self> {
        let (kind, bin, sysroot) = if has_debian() {
            (Kind::Debian, PathBuf::from("/usr/bin"), PathBuf::from("/usr"))
        } else if let Some(sysroot) = nightly() {
            (Kind::Nightly, sysroot.join("bin"), sysroot)
        } else {
            bail!("no Rust for {TARGET} here: {REMEDY}");
        };
        let Some(linker) = linker() else { bail!("no bpf-linker here: {REMEDY}") };
        let rustc_version = process::text(Command::new(bin.join("rustc")).arg("-V"))?;
        let linker_version = process::text(Command::new(&linker).arg("-V"))?;
        Ok(Self { kind, bin, sysroot, linker, rustc_version, linker_version })
    }

    /// Description in one line.
    pub(crate) fn description(&self) -> String {
        let whose = match self.kind {
            Kind::Debian => "Debian's",
            Kind::Nightly => "rustup's nightly",
        };
        format!("{whose} {}, and {}", self.rustc_version, self.linker_version)
    }

    /// Command line of this toolchain's cargo for the kernel crate: `cargo <subcommand> …`, up to the features.
    pub(crate) fn cargo(&self, subcommand: &str, target_dir: &Path) -> Result<Command> {
        let mut command = self.command("cargo")?;
        command.arg(subcommand);
        self.add_arguments(&mut command, target_dir);
        Ok(command)
    }

    /// Command line of clippy, which is named by its path, because `cargo clippy` would look in cargo's own directory
    /// first.
    pub(crate) fn clippy(&self, target_dir: &Path) -> Result<Command> {
        let program = self.bin.join("cargo-clippy");
        if !program.is_file() {
            bail!("{} is missing: {REMEDY}", program.display());
        }
        let mut command = self.command("cargo-clippy")?;
        command.arg("clippy").env("CARGO", self.bin.join("cargo"));
        self.add_arguments(&mut command, target_dir);
        Ok(command)
    }

    /// Directories whose names would otherwise be in the objects, and their replacements.
    pub(crate) fn remapped(&self) -> Result<Vec<(PathBuf, &'static str)>> {
        let mut folders = vec![(workspace::root()?, "/rsttrace")];
        let registry = cargo_home()?.join("registry/src");
        for entry in fs::read_dir(&registry).with_context(|| format!("cannot read {}", registry.display()))? {
            folders.push((entry?.path(), "/registry"));
        }
        if let Kind::Nightly = self.kind {
            folders.push((self.sysroot.join("lib/rustlib/src/rust"), "/rust"));
        }
        Ok(folders)
    }

    fn add_arguments(&self, command: &mut Command, target_dir: &Path) {
        command.args(["--locked", "--package", workspace::KERNEL_CRATE, "--profile", "bpf", "--target", TARGET]);
        command.arg("--target-dir").arg(target_dir);
        if let Kind::Nightly = self.kind {
            command.args(["-Z", "build-std=core"]);
        }
    }

    /// Command of a program of this toolchain, in an environment without the variables of the cargo that runs xtask.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(workspace::root()?);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_of_other_toolchain) {
                command.env_remove(name);
            }
        }
        command.env("RUSTC", self.bin.join("rustc"));
        if let Kind::Debian = self.kind {
            // aya-ebpf needs features that are not stable yet. The value is part of cargo's hash of a build.
            command.env("RUSTC_BOOTSTRAP", "aya_ebpf");
        }
        let mut path = vec![self.bin.clone(), PathBuf::from(LLVM_DIR)];
        path.extend(self.linker.parent().map(Path::to_path_buf));
        command.env("PATH", process::path_with(path)?);
        Ok(command)
    }
}

/// Directory of cargo's registry and installed programs.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    home.context("this user has no home directory: set CARGO_HOME")
}

/// Path of the bpf-linker to use.
pub(crate) fn linker() -> Option<PathBuf> {
    let installed = cargo_home().ok().map(|home| home.join("bin"));
    process::find("bpf-linker", installed.as_slice())
}

/// Whether Debian's rustc is installed with its `core` for BPF.
fn has_debian() -> bool {
    let rustc = Path::new("/usr/bin/rustc");
    if !rustc.is_file() || !Path::new("/usr/bin/cargo").is_file() {
        return false;
    }
    let dir = process::text(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]));
    let Some(files) = dir.ok().and_then(|dir| fs::read_dir(dir).ok()) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

/// Root of rustup's nightly, if it has the sources of `core`.
fn nightly() -> Option<PathBuf> {
    let rustc = ["run", "nightly", "rustc", "--print", "sysroot"];
    let sysroot = PathBuf::from(process::text(Command::new("rustup").args(rustc)).ok()?);
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir().then_some(sysroot)
}

/// Whether a variable configures or describes the cargo that runs xtask.
fn is_of_other_toolchain(name: &str) -> bool {
    const KEPT: [&str; 7] = ["HOME", "HTTP_", "INCREMENTAL", "NET_", "REGISTR", "SOURCE_", "TERM_"];
    match name.strip_prefix("CARGO_") {
        Some(rest) => !KEPT.iter().any(|kept| rest.starts_with(kept)),
        None => {
            name == "CARGO"
                || name == "LD_LIBRARY_PATH"
                || name == "RUSTUP_TOOLCHAIN"
                || name.starts_with("RUSTC")
                || name.starts_with("RUSTFLAGS")
        }
    }
}
