//! Content of a virtual machine: Debian's programs as on this machine, the kernel's modules, rsttrace, and its tests.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};

use super::{disk, foreign_root, kernel::Image, modules};
use crate::{
    arch::Arch,
    process, test_build,
    workspace::{self, INTEGRATION},
};

/// The tested program is built without the C library, like the released one.
const FLAGS: [&str; 2] = ["-C", "target-feature=+crt-static"];
/// Script that the kernel starts, which mounts the disks.
const INIT: &str = include_str!("init.sh");
/// Script that runs in the root file system, and runs the tests.
const PLAY: &str = include_str!("play.sh");

/// Programs that the guest runs.
pub(super) struct Programs {
    rsttrace: PathBuf,
    integration: PathBuf,
    busybox: PathBuf,
    /// File system with Debian's programs.
    root: PathBuf,
}

/// Files that a machine is started with.
pub(super) struct Guest {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// Disks, in order.
    pub(super) disks: [PathBuf; 2],
}

impl Programs {
    /// Builds the programs; `directory` is for the root file system. Without optimisation they are those that this machine tests,
    /// whose C library the guests have; otherwise, and for another architecture, statically linked ones.
    pub(super) fn build(directory: &Path, arch: Arch, is_optimized: bool) -> Result<Self> {
        let mut command = if arch.is_native() && !is_optimized {
            test_build::command(&["--no-run"])?
        } else {
            let mut command = process::cargo()?;
            command.args(["test", "--locked", "--no-run", "--profile", if is_optimized { "guest" } else { "dev" }]);
            command.args(["--package", "rsttrace", "--test", INTEGRATION]);
            arch.configure(&mut command, &FLAGS);
            command
        };
        let mut built = process::build(&mut command)?;
        let runner = built.iter().position(|built| built.is_test && built.name == INTEGRATION);
        let runner = runner.ok_or_else(|| anyhow!("cargo has built no test named {INTEGRATION}"))?;
        let integration = built.swap_remove(runner).path;
        let rsttrace = process::rsttrace(&built)?;
        if !arch.is_native() {
            let (root, busybox) = foreign_root::make(directory, arch)?;
            return Ok(Self { rsttrace, integration, busybox, root });
        }
        let busybox = process::find("busybox", &["/bin".into(), "/usr/bin".into()])
            .context("busybox is missing: run `cargo xtask setup --vm` as root")?;
        Ok(Self { rsttrace, integration, busybox, root: disk::root(directory)? })
    }
}

/// Makes, in `directory`, everything that a kernel starts with. The tests get `arguments`, or this program in their place.
pub(super) fn make(
    directory: &Path,
    programs: &Programs,
    image: Image,
    program: Option<&Path>,
    arguments: &[String],
) -> Result<Guest> {
    let initramfs = initramfs(directory, programs, &image)?;
    let tree = directory.join("programs");
    workspace::start_anew(&tree)?;
    let own = program.map(|program| ("program", program));
    for (name, from) in [("rsttrace", &*programs.rsttrace), ("tests", &*programs.integration)].into_iter().chain(own) {
        fs::copy(from, tree.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    process::run(
        Command::new("cp").args(["--recursive", "--no-target-directory"]).args([image.modules(), tree.join("modules")]),
    )?;
    workspace::write(&tree.join("play"), PLAY.as_bytes())?;
    workspace::write(&tree.join("arguments"), lines(arguments).as_bytes())?;
    let disk = directory.join("programs.img");
    disk::make(&tree, &disk)?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    Ok(Guest { kernel: image.vmlinuz(), initramfs, disks: [programs.root.clone(), disk] })
}

/// A file system in memory that is just enough to mount the disks.
fn initramfs(directory: &Path, programs: &Programs, image: &Image) -> Result<PathBuf> {
    let tree = directory.join("initramfs");
    workspace::start_anew(&tree)?;
    let mut names: Vec<String> = ["busybox", "init", "modules", "dev", "new"].map(str::to_owned).into();
    let mut modules = Vec::new();
    for (number, module) in image.disk_modules()?.into_iter().enumerate() {
        let name = format!("{number}.ko");
        workspace::write(&tree.join(&name), &modules::unpacked(&module)?)?;
        modules.push(name);
    }
    workspace::write(&tree.join("modules"), lines(&modules).as_bytes())?;
    names.extend(modules);
    for name in ["dev", "new"] {
        fs::create_dir(tree.join(name)).with_context(|| format!("cannot create {name} in {}", tree.display()))?;
    }
    fs::copy(&programs.busybox, tree.join("busybox")).context("cannot copy busybox")?;
    workspace::write(&tree.join("init"), INIT.as_bytes())?;
    fs::set_permissions(tree.join("init"), Permissions::from_mode(0o755)).context("cannot make init executable")?;
    pack(directory, &tree, &names)
}

/// Compressed archive of a tree, all of it owned by root.
fn pack(directory: &Path, tree: &Path, names: &[String]) -> Result<PathBuf> {
    let list = directory.join("names");
    workspace::write(&list, lines(names).as_bytes())?;
    let archive = directory.join("initramfs.cpio");
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
    Ok(archive.with_extension("cpio.gz"))
}

/// Each argument on a line of its own.
fn lines(texts: &[String]) -> String {
    texts.iter().flat_map(|text| [text, "\n"]).collect()
}
