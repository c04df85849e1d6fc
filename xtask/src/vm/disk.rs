//! Disks of virtual machines: trees of files made into file systems, without root.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{process, setup, workspace};

/// Directories that no test needs, about half of the packages' content.
const EXCLUDED: [&str; 5] =
    ["/usr/share/doc", "/usr/share/info", "/usr/share/lintian", "/usr/share/locale", "/usr/share/man"];
/// Files that the packages' own scripts have created.
const MADE_AT_INSTALLATION: [&str; 5] =
    ["/etc/group", "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/passwd", "/usr/sbin/policy-rc.d"];
/// The test program that no package installs, with its directories.
const PROGRAMS: [&str; 3] = ["/usr/local/lib", "/usr/local/lib/rsttrace-tests", setup::DOCKER_PROXY];
/// Space for files that tests write, in bytes.
const ROOM: u64 = 256 << 20;

/// Root file system of every guest: this machine's installed Debian packages that the tests use, at the same paths.
///
/// It is rebuilt only when a package has changed.
pub(super) fn root(directory: &Path) -> Result<PathBuf> {
    let packages = packages()?;
    let mut query = Command::new("dpkg-query");
    let versions = process::text(query.args(["-W", "-f=${Package} ${Version}\n"]).args(&packages))?;
    let (image, stamp) = (directory.join("root.img"), directory.join("root.packages"));
    if image.exists() && fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == versions) {
        return Ok(image);
    }
    eprintln!("making the guests' root of {} packages", packages.len());
    let tree = directory.join("root");
    workspace::start_anew(&tree)?;
    copy(&files(&packages)?, directory, &tree)?;
    make(&tree, &image)?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    workspace::write(&stamp, versions.as_bytes())?;
    Ok(image)
}

/// Makes a file system of a tree of files.
pub(super) fn make(tree: &Path, image: &Path) -> Result<()> {
    let mke2fs = process::find("mke2fs", &["/usr/sbin".into(), "/sbin".into()]);
    let mke2fs = mke2fs.context("mke2fs is missing: run `cargo xtask setup --vm` as root")?;
    let used = process::text(Command::new("du").args(["--summarize", "--block-size=1"]).arg(tree))?;
    let used: u64 = used.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).context("du prints no size")?;
    let kibibytes = (used + used / 8 + ROOM) >> 10;
    fs::File::create(image).with_context(|| format!("cannot create {}", image.display()))?;
    process::run(
        Command::new(mke2fs)
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-d"])
            .args([tree, image])
            .arg(format!("{kibibytes}k")),
    )
}

/// Packages that the tests use, those that every Debian has, and their dependencies.
fn packages() -> Result<Vec<String>> {
    let required = process::text(Command::new("dpkg-query").args(["-W", "-f=${Priority} ${Package}\n"]))?;
    let required = required.lines().filter_map(|line| line.strip_prefix("required "));
    let mut apt = Command::new("apt-cache");
    apt.args(["depends", "--recurse", "--installed", "--important"])
        .args(required)
        .args(setup::IN_GUESTS)
        .args(setup::TEST_PACKAGES);
    let depends = process::text(&mut apt)?;
    // Dependencies of a package are indented below it; those that no package provides are in angle brackets.
    let named: BTreeSet<&str> =
        depends.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric())).collect();
    let installed = process::text(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status} ${Package}\n"]))?;
    let installed = installed.lines().filter_map(|line| line.strip_prefix("installed "));
    Ok(installed.filter(|name| named.contains(name)).map(str::to_owned).collect())
}

/// Every file and directory of the packages, by their real paths.
fn files(packages: &[String]) -> Result<BTreeSet<PathBuf>> {
    let listed = process::text(Command::new("dpkg-query").arg("-L").args(packages))?;
    let mut files = BTreeSet::new();
    for path in listed.lines().chain(MADE_AT_INSTALLATION).chain(PROGRAMS).map(Path::new) {
        if !EXCLUDED.iter().any(|left_out| path.starts_with(left_out)) {
            files.extend(real(path));
        }
    }
    // Python's compiled modules: reading the sources takes an emulated machine seconds.
    let compiled: Vec<_> = files.iter().map(|path| path.join("__pycache__")).filter(|path| path.is_dir()).collect();
    for directory in compiled {
        files.extend(entries(&directory)?);
        files.insert(directory);
    }
    // `/bin` and similar links, and Debian's alternatives.
    let links = |directory: &Path| -> Result<Vec<PathBuf>> {
        Ok(entries(directory)?.into_iter().filter(|path| path.is_symlink()).collect())
    };
    files.extend(links(Path::new("/"))?.into_iter().filter(|path| path.is_dir()));
    for directory in ["/usr/bin", "/usr/sbin"] {
        let chosen = |link: &PathBuf| fs::read_link(link).is_ok_and(|to| to.starts_with("/etc/alternatives"));
        files.extend(links(Path::new(directory))?.into_iter().filter(chosen));
    }
    files.extend(links(Path::new("/etc/alternatives"))?);
    Ok(files)
}

/// Path with links followed, except for the file itself; `None` if there is no such file or it is not in these
/// packages.
fn real(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?.canonicalize().ok()?;
    let path = parent.join(path.file_name()?);
    let readable = path.is_symlink() || path.is_dir() || fs::File::open(&path).is_ok();
    readable.then_some(path)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.with_context(|| format!("cannot read {}", directory.display()))
}

/// Copies files of this machine, with owners and modes, into a tree; `directory` is for the list of them.
fn copy(files: &BTreeSet<PathBuf>, directory: &Path, tree: &Path) -> Result<()> {
    let list = directory.join("root.files");
    let relative = files.iter().filter_map(|path| path.strip_prefix("/").ok());
    let lines: Vec<u8> = relative.flat_map(|path| [path.as_os_str().as_bytes(), b"\n"].concat()).collect();
    workspace::write(&list, &lines)?;
    let tar = |mode: &str| {
        let mut tar = Command::new("tar");
        tar.arg(mode).arg("--file=-");
        tar
    };
    let mut from = tar("--create");
    from.args(["--directory=/", "--no-recursion", "--verbatim-files-from", "--files-from"]).arg(&list);
    let mut reader = from.stdout(Stdio::piped()).spawn().context("cannot start tar")?;
    let pipe = reader.stdout.take().context("tar has no output")?;
    process::run(tar("--extract").args(["--preserve-permissions", "--directory"]).arg(tree).stdin(pipe))?;
    let status = reader.wait().context("cannot wait for tar")?;
    if status.success() { Ok(()) } else { bail!("tar cannot read the files of the packages: {status}") }
}
