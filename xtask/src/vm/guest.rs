//! What is in a virtual machine: a shell, the program, its tests, and a script that plays them.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};

use super::kernel::Image;
use crate::{process, test::INTEGRATION, workspace};

/// Built for it explicitly, so that the flags do not reach build scripts, and a build for this machine stays.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The guest has no C library.
const FLAGS: &str = "-C target-feature=+crt-static";
/// The first and only process that the guest's kernel starts.
const INIT: &str = include_str!("guest.sh");
/// Directories, each of them before what is in it.
const DIRECTORIES: [&str; 6] = ["bin", "dev", "modules", "proc", "sys", "tmp"];

/// The programs that the guest runs.
pub(super) struct Programs {
    rsttrace: PathBuf,
    integration: PathBuf,
    busybox: PathBuf,
}

impl Programs {
    /// Builds them, static.
    pub(super) fn build() -> Result<Self> {
        let mut command = process::cargo()?;
        command
            .args(["test", "--locked", "--no-run", "--release", "--target", TARGET])
            .args(["--package", "rsttrace", "--test", INTEGRATION])
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", FLAGS);
        let mut built = process::build(&mut command)?;
        let runner = built.iter().position(|built| built.is_test && built.name == INTEGRATION);
        let runner = runner.ok_or_else(|| anyhow!("cargo has built no test named {INTEGRATION}"))?;
        let integration = built.swap_remove(runner).path;
        let busybox = process::find("busybox", &["/bin".into(), "/usr/bin".into()])
            .context("busybox is missing: run `cargo xtask setup --vm` as root")?;
        Ok(Self { rsttrace: process::rsttrace(built)?, integration, busybox })
    }
}

/// Makes, in `directory`, the file system that a kernel starts with; the tests are given `arguments`.
pub(super) fn initramfs(directory: &Path, programs: &Programs, image: &Image, arguments: &[String]) -> Result<PathBuf> {
    let tree = directory.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    for name in DIRECTORIES {
        let path = tree.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let mut names: Vec<_> = DIRECTORIES.map(str::to_owned).into();
    let modules = image.modules().map(|(name, path)| (format!("modules/{name}"), path));
    let binaries = [
        ("bin/busybox", &programs.busybox),
        ("bin/rsttrace", &programs.rsttrace),
        ("bin/integration", &programs.integration),
    ];
    for (name, from) in binaries.map(|(name, path)| (name.to_owned(), path.clone())).into_iter().chain(modules) {
        fs::copy(&from, tree.join(&name)).with_context(|| format!("cannot copy {}", from.display()))?;
        names.push(name);
    }
    for (name, content) in [("arguments", lines(arguments)), ("init", INIT.to_owned())] {
        workspace::write(&tree.join(name), content.as_bytes())?;
        names.push(name.to_owned());
    }
    let init = tree.join("init");
    fs::set_permissions(&init, Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", init.display()))?;
    pack(directory, &tree, &names)
}

/// A compressed archive of a tree, all of it owned by root.
fn pack(directory: &Path, tree: &Path, names: &[String]) -> Result<PathBuf> {
    let list = directory.join("names");
    workspace::write(&list, lines(names).as_bytes())?;
    let archive = directory.join("initramfs");
    let input = File::open(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let output = File::create(&archive).with_context(|| format!("cannot create {}", archive.display()))?;
    process::run(
        Command::new("cpio")
            .args(["--create", "--format=newc", "--owner=+0:+0", "--quiet", "--directory"])
            .arg(tree)
            .stdin(input)
            .stdout(output),
    )?;
    process::run(Command::new("gzip").args(["--fast", "--force"]).arg(&archive))?;
    Ok(archive.with_extension("gz"))
}

/// Each on a line of its own.
fn lines(texts: &[String]) -> String {
    texts.iter().flat_map(|text| [text, "\n"]).collect()
}
