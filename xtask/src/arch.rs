//! Processor architectures that rsttrace is shipped for, by their names in each tool.

use std::{env, process::Command};

/// Architecture of a program or of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// Intel and AMD, 64 bits
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// ARM, 64 bits, little-endian
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    /// Every architecture, the one of the tests first.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// Name in Rust, in the kernel and in rpm.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Name in Debian and in Go.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Target of rustc.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Beginning of the names of GNU's programs for it.
    pub(crate) const fn gnu(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Aarch64 => "aarch64-linux-gnu",
        }
    }

    /// Whether this machine runs its programs.
    pub(crate) fn is_native(self) -> bool {
        env::consts::ARCH == self.name()
    }

    /// Makes a cargo command build for it, with the compiler and linker of Debian's package where it is another one than this
    /// machine's. The flags of rustc are these and no others; with a target they do not reach build scripts.
    pub(crate) fn configure(self, cargo: &mut Command, rustc_flags: &[&str]) {
        cargo.args(["--target", self.target()]);
        cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", rustc_flags.join("\u{1f}"));
        if !self.is_native() {
            let (upper, lower) = (self.target().replace('-', "_").to_uppercase(), self.target().replace('-', "_"));
            let compiler = format!("{}-gcc", self.gnu());
            cargo.env(format!("CARGO_TARGET_{upper}_LINKER"), &compiler);
            cargo.env(format!("CC_{lower}"), &compiler);
            cargo.env(format!("AR_{lower}"), format!("{}-ar", self.gnu()));
        }
    }
}
