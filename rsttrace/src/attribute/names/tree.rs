//! Bounded reading of directories and files that container engines leave behind.
//!
//! Below the directory that a source begins with, no symbolic link is followed, nothing but a regular file is opened,
//! and sizes and numbers are bounded, so that nothing in there can lead elsewhere, block, or use up memory.

use std::{
    cell::Cell,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use foldhash::HashMap;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};

/// Most entries of one directory that are looked at.
pub(super) const ENTRIES_MAX: usize = 4096;

/// Largest file that is read, bytes, but for those of a whole host ([`HOST_FILE_MAX`]).
pub(super) const FILE_MAX: usize = 1 << 20;

/// Largest file with the containers or addresses of a whole host, bytes.
pub(super) const HOST_FILE_MAX: usize = 8 << 20;

/// Most bytes that one refresh reads. A file that has not changed is not read again.
const REFRESH_MAX: usize = 64 << 20;

/// Age below which a file may change without another modification time: clocks of file systems have a resolution of a
/// clock tick, or two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// State of one refresh: how much more is read, and what could not be.
pub(super) struct Budget {
    bytes: Cell<usize>,
    denied: Cell<Option<String>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: Cell::new(REFRESH_MAX), denied: Cell::new(None) }
    }
}

impl Budget {
    /// Path and error of a directory that exists and that this user may not read; `None` if there is none.
    pub(super) fn take_denied(&self) -> Option<String> {
        self.denied.take()
    }

    /// Takes these bytes; `false` if so many are not left.
    fn take(&self, bytes: usize) -> bool {
        let left = self.bytes.get().checked_sub(bytes);
        self.bytes.set(left.unwrap_or(0));
        left.is_some()
    }
}

/// Inode, size and modification time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, u64),
}

impl Version {
    fn of(stat: &Stat) -> Self {
        // No file has a negative size.
        let size = stat.st_size.try_into().unwrap_or(0);
        Self { inode: stat.st_ino, size, modified: (stat.st_mtime, stat.st_mtime_nsec) }
    }

    /// Whether a change from now on gives the file another version.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A file from the future never is.
        u64::try_from(self.modified.0).is_ok_and(|seconds| now.saturating_sub(Duration::from_secs(seconds)) > SETTLED)
    }
}

/// An open directory.
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens the directory that a source begins with; links in its path are the administrator's, and are followed.
    /// `None` if it does not exist or cannot be opened; the latter is noted in `budget`.
    pub(super) fn begin(path: &Path, budget: &Budget) -> Option<Self> {
        match open(CWD, path.as_os_str(), OFlags::DIRECTORY) {
            Ok(folder) => Some(Self(folder)),
            Err(error) => {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    budget.denied.set(Some(format!("{}: {error}", path.display())));
                }
                None
            }
        }
    }

    /// Opens a directory in this one; `None` for a link, and what else is none.
    pub(super) fn enter(&self, name: impl AsRef<OsStr>) -> Option<Self> {
        open(&self.0, name.as_ref(), OFlags::DIRECTORY | OFlags::NOFOLLOW).ok().map(Self)
    }

    /// Names in the directory, [`ENTRIES_MAX`] at most, in any order.
    pub(super) fn names(&self) -> Vec<OsString> {
        let Ok(entries) = Dir::read_from(&self.0) else { return Vec::new() };
        let names =
            entries.map_while(Result::ok).map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
        names.filter(|name| name != "." && name != "..").take(ENTRIES_MAX).collect()
    }

    /// Whether there is anything by this name.
    pub(super) fn has(&self, name: impl AsRef<OsStr>) -> bool {
        rustix::fs::statat(&self.0, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Version of a regular file of at most `limit` bytes; `None` for anything else.
    fn version(&self, name: &OsStr, limit: usize) -> Option<Version> {
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let version = Version::of(&stat);
        let is_small = usize::try_from(version.size).is_ok_and(|size| size <= limit);
        (FileType::from_raw_mode(stat.st_mode).is_file() && is_small).then_some(version)
    }

    /// Reads a regular file of at most `limit` bytes, as text in which invalid UTF-8 is replaced. `None` for anything
    /// else, and where the budget is used up.
    pub(super) fn read(&self, name: impl AsRef<OsStr>, limit: usize, budget: &Budget) -> Option<String> {
        let name = name.as_ref();
        // Looked at before it is opened, since opening a device may do something to it.
        self.version(name, limit)?;
        let file = open(&self.0, name, OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
        // It may have been replaced in between.
        let stat = rustix::fs::fstat(&file).ok()?;
        let size = usize::try_from(Version::of(&stat).size).ok()?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() || size > limit || !budget.take(size) {
            return None;
        }
        let mut bytes = Vec::with_capacity(size);
        File::from(file).take(limit as u64 + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() <= limit).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn open(folder: impl std::os::fd::AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())?)
}

/// What files of one kind say, read again only when they have changed.
pub(super) struct FileCache<T> {
    files: HashMap<OsString, CachedFile<T>>,
    /// Number of the current refresh.
    refresh: u64,
    limit: usize,
}

struct CachedFile<T> {
    /// `None` if the file may have changed since without another version.
    version: Option<Version>,
    said: Option<Arc<T>>,
    /// Refresh that last asked for the file.
    refresh: u64,
}

impl<T> FileCache<T> {
    /// A cache of files of at most `limit` bytes each.
    pub(super) fn new(limit: usize) -> Self {
        Self { files: HashMap::default(), refresh: 0, limit }
    }

    /// Begins a refresh. What the last one did not ask for is forgotten.
    pub(super) fn begin(&mut self) {
        self.files.retain(|_, file| file.refresh == self.refresh);
        self.refresh += 1;
    }

    /// What a file says, by `parse`; `None` if it cannot be read or says nothing. `key` identifies it within the cache.
    pub(super) fn get(
        &mut self,
        folder: &Folder,
        name: impl AsRef<OsStr>,
        key: &OsStr,
        budget: &Budget,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Arc<T>> {
        let name = name.as_ref();
        let version = folder.version(name, self.limit)?;
        if let Some(file) = self.files.get_mut(key)
            && file.version == Some(version)
        {
            file.refresh = self.refresh;
            return file.said.clone();
        }
        let settled = Some(version).filter(Version::is_settled);
        let said = folder.read(name, self.limit, budget).as_deref().and_then(parse).map(Arc::new);
        let file = CachedFile { version: settled, said: said.clone(), refresh: self.refresh };
        self.files.insert(key.to_owned(), file);
        said
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CString,
        fs,
        os::unix::{fs::symlink, net::UnixListener},
        time::Instant,
    };

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::begin(directory.path(), &Budget::default()).expect("it is there");
        (directory, folder)
    }

    #[test]
    fn only_regular_files_within_bounds_are_read() {
        let (directory, folder) = folder();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), b"a\xffb").expect("a file");
        fs::write(at("large"), vec![b'x'; 101]).expect("a file");
        File::create(at("sparse")).and_then(|file| file.set_len(1 << 40)).expect("a file");
        symlink("/etc/passwd", at("link")).expect("a link");
        symlink("/", at("link-to-root")).expect("a link");
        fs::create_dir(at("folder")).expect("a directory");
        let _socket = UnixListener::bind(at("socket")).expect("a socket");
        let fifo = CString::new(at("fifo").as_os_str().as_bytes()).expect("no zero");
        // SAFETY: a text that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);

        let (budget, started) = (Budget::default(), Instant::now());
        assert_eq!(folder.read("file", 100, &budget).as_deref(), Some("a\u{fffd}b"));
        for name in ["large", "sparse", "link", "folder", "socket", "fifo", "none", "link-to-root/etc/passwd"] {
            // A name is one component: a path through a link would be followed by the kernel.
            if !name.contains('/') {
                assert_eq!(folder.read(name, 100, &budget), None, "{name}");
            }
            assert!(folder.enter(name).is_some() == (name == "folder") || name.contains('/'), "{name}");
        }
        assert!(folder.enter("link-to-root").is_none());
        assert!(started.elapsed() < Duration::from_secs(5), "nothing blocks");
        assert!(folder.has("fifo") && folder.has("link") && !folder.has("none"));
        assert_eq!(folder.names().len(), 8);
    }

    #[test]
    fn a_refresh_reads_a_bounded_number_of_bytes() {
        let (directory, folder) = folder();
        fs::write(directory.path().join("file"), [b'x'; 100]).expect("a file");
        let budget = Budget { bytes: Cell::new(250), denied: Cell::new(None) };
        let reads = (0..4).map(|_| folder.read("file", 100, &budget).is_some()).collect::<Vec<_>>();
        assert_eq!(reads, [true, true, false, false]);
    }

    #[test]
    fn a_directory_has_a_bounded_number_of_names() {
        let (directory, folder) = folder();
        for number in 0..ENTRIES_MAX + 10 {
            File::create(directory.path().join(number.to_string())).expect("a file");
        }
        assert_eq!(folder.names().len(), ENTRIES_MAX);
    }

    #[test]
    fn a_file_is_parsed_again_when_it_has_changed() {
        let (directory, folder) = folder();
        let (path, budget) = (directory.path().join("file"), Budget::default());
        let mut cache = FileCache::new(100);
        let mut parses = 0;
        let mut get = |cache: &mut FileCache<String>| {
            cache.begin();
            let said = cache.get(&folder, "file", OsStr::new("key"), &budget, |text| {
                parses += 1;
                Some(text.to_owned())
            });
            (said.map(|said| said.to_string()), parses)
        };
        fs::write(&path, "one").expect("a file");
        assert_eq!(get(&mut cache), (Some("one".to_owned()), 1));
        // Just written: another text may come within one tick of the clock of the file system.
        assert_eq!(get(&mut cache), (Some("one".to_owned()), 2));
        let an_hour_ago = SystemTime::now() - Duration::from_hours(1);
        File::open(&path).and_then(|file| file.set_modified(an_hour_ago)).expect("it is ours");
        assert_eq!(get(&mut cache), (Some("one".to_owned()), 3));
        assert_eq!(get(&mut cache), (Some("one".to_owned()), 3), "nothing has changed");
        fs::write(&path, "two").expect("a file");
        assert_eq!(get(&mut cache), (Some("two".to_owned()), 4));
        fs::remove_file(&path).expect("it is there");
        assert_eq!(get(&mut cache), (None, 4));
        cache.begin();
        cache.begin();
        assert!(cache.files.is_empty(), "what was not asked for is forgotten");
    }

    #[test]
    fn an_unreadable_directory_is_noted() {
        let budget = Budget::default();
        assert!(Folder::begin(Path::new("/no/such/directory"), &budget).is_none());
        assert_eq!(budget.take_denied(), None);
    }
}
