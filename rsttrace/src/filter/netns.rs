//! `--netns`: the only network namespace that is wanted, by inode number or by path.
//!
//! A number is no identity: the kernel gives that of a namespace that has gone to the next one that is made, usually at
//! once. A path is one, as long as it is looked at again while the run goes on.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{FilterError, NotNetns};
use crate::util::process_key::start_ticks;

/// Lowest inode number of a namespace: those of the first namespaces of each kind (`include/linux/proc_ns.h`); the others
/// come from 0xF0000000 on (`PROC_DYNAMIC_FIRST`).
pub(super) const FIRST: u32 = 0xEFFF_FFF8;

/// Directory of the namespaces that `ip netns` names.
const NAMED: &str = "/run/netns";

/// A number that no namespace has, for the kernel side, to which 0 is every namespace.
const NOWHERE: u32 = 1;

/// How often a path is looked at when there are no events.
const INTERVAL: Duration = Duration::from_secs(2);

/// Spans of time that are remembered. Records wait for less than a second before they are matched.
const SPANS: usize = 8;

/// The wanted network namespace.
#[derive(Debug)]
pub struct NetnsFilter(Named);

#[derive(Debug)]
enum Named {
    Number(u32),
    Path(Followed),
}

impl NetnsFilter {
    /// Looks at what the value of `--netns` names. Fails when that cannot be, or is not, a network namespace. A number need
    /// not be one that exists now.
    pub fn find(text: &str) -> Result<Self, FilterError> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return number(text).map(|number| Self(Named::Number(number)));
        }
        if !text.contains('/') && !text.is_empty() {
            let path = Path::new(NAMED).join(text);
            if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                return Err(FilterError::NetnsName { name: text.to_owned(), known: names_in(Path::new(NAMED)) });
            }
            return Followed::start(&path).map(|followed| Self(Named::Path(followed)));
        }
        Followed::start(Path::new(text)).map(|followed| Self(Named::Path(followed)))
    }

    /// The namespace that it names now, by its number: of a recording, whose records have numbers alone.
    #[must_use]
    pub fn fixed(self) -> Self {
        Self(Named::Number(self.number()))
    }

    /// Opens the namespace, to enter it. Looks at every process of the host for a number. Fails when it is not there any
    /// more, or, for a number, not yet.
    pub fn open(&self) -> Result<File, FilterError> {
        let (path, inode) = match &self.0 {
            Named::Number(number) => (path_of(*number).ok_or(FilterError::NetnsAbsent(*number))?, *number),
            Named::Path(followed) => (followed.path.clone(), self.number()),
        };
        let file = File::open(&path).map_err(cannot("open", &path))?;
        let found = file.metadata().map_err(cannot("inspect", &path))?.ino();
        if found == u64::from(inode) { Ok(file) } else { Err(FilterError::NetnsGone(path)) }
    }

    /// Inode number that the kernel side filters by now, never 0.
    pub fn number(&self) -> u32 {
        match &self.0 {
            Named::Number(number) => *number,
            Named::Path(followed) => followed.target.as_ref().map_or(NOWHERE, |target| target.inode),
        }
    }

    /// Whether an event of this moment (`CLOCK_MONOTONIC`, nanoseconds) in the namespace of this number is wanted. Events
    /// that are later than the last look are not.
    pub fn matches(&self, inode: u32, ktime_ns: u64) -> bool {
        match &self.0 {
            Named::Number(number) => *number == inode,
            Named::Path(followed) => followed
                .spans
                .iter()
                .any(|span| span.inode == inode && (span.from_ns..=span.until_ns).contains(&ktime_ns)),
        }
    }

    /// A note for the start: no process is in a namespace of this number now. Looks at every process of the host.
    pub fn absence(&self) -> Option<String> {
        match self.0 {
            Named::Number(number) if path_of(number).is_none() => {
                Some(format!("no network namespace {number} is visible from here now; waiting for it"))
            }
            _ => None,
        }
    }

    /// When a path has to be looked at next; `None` for a number.
    pub const fn next_look(&self) -> Option<Instant> {
        match &self.0 {
            Named::Number(_) => None,
            Named::Path(followed) => Some(followed.next_look),
        }
    }

    /// Looks at a path again. `now_ns` is the moment before (`CLOCK_MONOTONIC`), and every event up to it may be matched
    /// afterwards. What has changed is returned in words.
    pub fn look(&mut self, now_ns: u64) -> Option<String> {
        match &mut self.0 {
            Named::Number(_) => None,
            Named::Path(followed) => followed.look(now_ns),
        }
    }
}

/// A path that names a network namespace, or has done so.
#[derive(Debug)]
struct Followed {
    path: PathBuf,
    /// Device number of the kernel's file system of namespaces (nsfs).
    device: u64,
    /// What the path names; `None` while it names no namespace.
    target: Option<Target>,
    /// The process that the path named last.
    process: Option<NetnsProcess>,
    /// When the path named which namespace, the latest span last.
    spans: VecDeque<Span>,
    next_look: Instant,
    /// The last look has failed.
    is_out_of_sight: bool,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    inode: u32,
    /// Of `/proc/PID/ns/net`, or of a symbolic link to it.
    process: Option<NetnsProcess>,
}

/// A process for good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NetnsProcess {
    /// `/proc/PID`.
    directory: PathBuf,
    /// Start, in clock ticks since boot.
    started: u64,
}

/// A path was seen to name this namespace at both ends of this span (`CLOCK_MONOTONIC`, nanoseconds).
#[derive(Debug)]
struct Span {
    inode: u32,
    from_ns: u64,
    until_ns: u64,
}

impl Followed {
    fn start(path: &Path) -> Result<Self, FilterError> {
        let metadata = fs::metadata(path).map_err(cannot("find", path))?;
        check(path, &metadata)?;
        let device = metadata.dev();
        let target = look_up(path, device)
            .map_err(cannot("inspect", path))?
            .ok_or_else(|| FilterError::NetnsGone(path.into()))?;
        Ok(Self {
            path: path.to_owned(),
            device,
            process: target.process.clone(),
            spans: VecDeque::from([Span { inode: target.inode, from_ns: 0, until_ns: 0 }]),
            target: Some(target),
            next_look: Instant::now() + INTERVAL,
            is_out_of_sight: false,
        })
    }

    fn look(&mut self, now_ns: u64) -> Option<String> {
        self.next_look = Instant::now() + INTERVAL;
        let found = look_up(&self.path, self.device);
        self.take(found, now_ns)
    }

    /// Takes in what a look at this moment has found.
    fn take(&mut self, found: io::Result<Option<Target>>, now_ns: u64) -> Option<String> {
        let found = match found {
            Ok(found) => found.filter(|target| !self.is_of_another_process(target)),
            Err(error) => return self.lose_sight(&error, now_ns),
        };
        self.is_out_of_sight = false;
        if found == self.target {
            self.extend(now_ns);
            return None;
        }
        self.target = found;
        let path = self.path.display();
        let Some(target) = &self.target else {
            return Some(format!(
                "the network namespace of --netns {path} is gone: no resets are shown until {path} names a network \
                 namespace again"
            ));
        };
        let said =
            format!("--netns {path} now names network namespace {}, which is watched from here on", target.inode);
        self.process.clone_from(&target.process);
        if self.spans.len() >= SPANS {
            self.spans.pop_front();
        }
        self.spans.push_back(Span { inode: target.inode, from_ns: now_ns, until_ns: now_ns });
        Some(said)
    }

    /// Whether the process of the path has ended and another has its PID.
    fn is_of_another_process(&self, target: &Target) -> bool {
        matches!((&self.process, &target.process), (Some(one), Some(other))
            if one.directory == other.directory && one.started != other.started)
    }

    /// The path still names the namespace.
    fn extend(&mut self, now_ns: u64) {
        if self.target.is_some()
            && let Some(span) = self.spans.back_mut()
        {
            span.until_ns = now_ns;
        }
    }

    /// A look has failed, and the namespace is not known to be another. That is told once.
    fn lose_sight(&mut self, error: &io::Error, now_ns: u64) -> Option<String> {
        self.extend(now_ns);
        let inode = self.target.as_ref()?.inode;
        let is_known = std::mem::replace(&mut self.is_out_of_sight, true);
        let path = self.path.display();
        (!is_known).then(|| {
            format!(
                "--netns {path} can no longer be inspected ({error}): network namespace {inode} is watched by its number, \
                 which the kernel may reuse"
            )
        })
    }
}

/// What a path names now; `None` when that is nothing in the file system of namespaces. Two or three system calls, all of
/// which the sandbox lets through; it does not let the kind of the namespace be asked for, but the numbers of all kinds
/// differ.
fn look_up(path: &Path, device: u64) -> io::Result<Option<Target>> {
    let process = match process_directory(path).map(|directory| (start_ticks(&directory), directory)) {
        Some((Ok(started), directory)) => Some(NetnsProcess { directory, started }),
        Some((Err(error), _)) if is_out_of_sight(&error) => return Err(error),
        _ => None,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.dev() == device => {
            Ok(u32::try_from(metadata.ino()).ok().map(|inode| Target { inode, process }))
        }
        Err(error) if is_out_of_sight(&error) => Err(error),
        _ => Ok(None),
    }
}

/// Whether this error says nothing of whether there is such a file.
fn is_out_of_sight(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// `/proc/PID` of `/proc/PID/ns/net`, or of a symbolic link to that.
fn process_directory(path: &Path) -> Option<PathBuf> {
    let is_of_process = |path: &Path| path.ends_with("ns/net");
    let linked = || Some(path.parent()?.join(fs::read_link(path).ok()?));
    let path = if is_of_process(path) { path.to_owned() } else { linked().filter(|path| is_of_process(path))? };
    path.ancestors().nth(2).map(Path::to_owned)
}

/// The error of an operation on a path that failed.
fn cannot(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilterError {
    move |error| FilterError::NetnsPath { path: path.into(), operation, error }
}

/// Fails for a path that names no network namespace.
fn check(path: &Path, metadata: &fs::Metadata) -> Result<(), FilterError> {
    let refuse = |kind| Err(FilterError::NotNetns { path: path.into(), kind });
    if !metadata.is_file() {
        return refuse(NotNetns::NoFile);
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot("open", path))?;
    // SAFETY: a command without an argument, for an open descriptor.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    match kind {
        libc::CLONE_NEWNET => Ok(()),
        1.. => refuse(NotNetns::OtherNamespace),
        _ if metadata.len() == 0 => refuse(NotNetns::EmptyFile),
        _ => refuse(NotNetns::File),
    }
}

/// A number that can be that of a network namespace.
fn number(text: &str) -> Result<u32, FilterError> {
    let number = text.parse().ok().filter(|number| (FIRST..=u32::MAX).contains(number));
    number.ok_or_else(|| FilterError::NetnsNumber(text.to_owned()))
}

/// Names of `ip netns`, sorted; none where the directory cannot be read.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Path of the namespace of this number: where it is mounted, or of a process or thread in it; `None` where there is none
/// that can be seen from here.
fn path_of(number: u32) -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    if let Some(mount) = mount_of(number, &String::from_utf8_lossy(&mounts)) {
        return Some(mount);
    }
    let path_in = |task: &PathBuf| {
        let path = task.join("ns/net");
        fs::metadata(&path).is_ok_and(|found| found.ino() == u64::from(number)).then_some(path)
    };
    let numbered = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
    };
    let processes = numbered(Path::new("/proc"));
    // Threads seldom are in another one than their process.
    let mut in_processes = processes.iter().filter_map(path_in);
    let in_threads = || processes.iter().find_map(|process| numbered(&process.join("task")).iter().find_map(path_in));
    in_processes.next().or_else(in_threads)
}

/// Where the namespace of this number is mounted. Field 4 of a line of `mountinfo` is what is mounted, `net:[NUMBER]` for a
/// network namespace, and field 5 where, with escapes for blanks.
fn mount_of(number: u32, mountinfo: &str) -> Option<PathBuf> {
    let root = format!("net:[{number}]");
    let mut fields = mountinfo.lines().map(|line| line.split(' ').skip(3));
    fields.find_map(|mut fields| fields.next().filter(|&mounted| mounted == root).and(fields.next()).map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn own() -> u32 {
        fs::metadata("/proc/self/ns/net").expect("a namespace").ino().try_into().expect("32 bits")
    }

    fn refusal(text: &str) -> String {
        NetnsFilter::find(text).expect_err(text).to_string()
    }

    #[test]
    fn files_of_other_kinds_are_refused() {
        let empty = tempfile::NamedTempFile::new().expect("a file");
        let empty = empty.path().to_str().expect("UTF-8");
        for (text, said) in [
            ("/etc/passwd", "is a file, not a network namespace"),
            ("/proc/self/ns/mnt", "of another kind"),
            ("/proc/self/ns/pid", "of another kind"),
            ("/dev/null", "is not a network namespace"),
            ("/tmp", "is not a network namespace"),
            ("/no/such/namespace", "cannot find"),
            ("", "cannot find"),
            ("-1", "there is no network namespace '-1'"),
            (empty, "is an empty file"),
            ("0", "cannot be the inode number"),
            ("4026531831", "cannot be the inode number"),
            ("4294967296", "cannot be the inode number"),
            ("99999999999999999999999", "cannot be the inode number"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(said) && !refusal.contains('\n'), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_number_is_watched_whether_it_exists_or_not() {
        let own = own();
        let netns = NetnsFilter::find(&own.to_string()).expect("it can be one");
        assert_eq!((netns.number(), netns.absence(), netns.next_look()), (own, None, None));
        assert!(netns.open().is_ok_and(|file| file.metadata().is_ok_and(|found| found.ino() == u64::from(own))));
        assert!(netns.matches(own, 7) && !netns.matches(own + 1, 7));
        let netns = NetnsFilter::find("4294967295").expect("it can be one");
        assert!(netns.absence().is_some_and(|note| note.contains("namespace 4294967295")));
        assert!(matches!(netns.open(), Err(FilterError::NetnsAbsent(4_294_967_295))));
    }

    #[test]
    fn mounts_show_namespaces() {
        let mountinfo = "24 1 0:22 / /proc rw - proc proc rw\n\
                         81 27 0:4 net:[4026532300] /run/netns/blue rw shared:40 - nsfs nsfs rw\n";
        assert_eq!(mount_of(4_026_532_300, mountinfo), Some("/run/netns/blue".into()));
        assert_eq!(mount_of(402_653_230, mountinfo), None);
    }

    fn followed() -> Followed {
        Followed::start(Path::new("/proc/self/ns/net")).expect("a namespace")
    }

    #[test]
    fn a_path_matches_up_to_the_last_look() {
        let mut netns = NetnsFilter(Named::Path(followed()));
        let own = own();
        assert_eq!((netns.number(), netns.absence()), (own, None));
        assert!(!netns.matches(own, 5));
        assert_eq!(netns.look(10), None);
        assert!(
            netns.matches(own, 5) && netns.matches(own, 10) && !netns.matches(own, 11) && !netns.matches(own + 1, 5)
        );
    }

    #[test]
    fn resets_after_the_end_of_a_namespace_do_not_match() {
        let mut followed = followed();
        let target = followed.target.clone().expect("it is there");
        let own = target.inode;
        followed.look(10);
        let said = followed.take(Ok(None), 20).expect("that is told");
        assert!(said.contains("is gone"), "{said}");
        assert_eq!(followed.take(Ok(None), 30), None);
        // Another one with the same number, which the path does not name.
        let mut netns = NetnsFilter(Named::Path(followed));
        assert_eq!(netns.number(), NOWHERE);
        assert!(netns.matches(own, 9) && !netns.matches(own, 15) && !netns.matches(own, 25));
        // The path names it again, and then another one.
        let Named::Path(followed) = &mut netns.0 else { panic!("it is a path") };
        assert!(followed.take(Ok(Some(target)), 40).is_some_and(|said| said.contains(&own.to_string())));
        let other = Target { inode: own + 1, process: None };
        assert!(followed.take(Ok(Some(other)), 50).is_some());
        followed.take(Ok(Some(Target { inode: own + 1, process: None })), 60);
        assert_eq!(netns.number(), own + 1);
        assert!(netns.matches(own, 40) && !netns.matches(own, 35) && !netns.matches(own, 45));
        assert!(netns.matches(own + 1, 55) && !netns.matches(own + 1, 45));
    }

    #[test]
    fn a_reused_pid_does_not_match() {
        let mut followed = followed();
        let target = followed.target.clone().expect("it is there");
        let process = target.process.clone().expect("it is of a process");
        let other =
            Target { inode: target.inode, process: Some(NetnsProcess { started: process.started + 1, ..process }) };
        assert!(followed.take(Ok(Some(other.clone())), 10).is_some_and(|said| said.contains("is gone")));
        assert_eq!((followed.take(Ok(Some(other)), 20), &followed.target), (None, &None));
        assert!(followed.take(Ok(Some(target)), 30).is_some());
    }

    #[test]
    fn an_unreadable_path_is_reported_once() {
        let mut followed = followed();
        let denied = || Err(io::Error::from_raw_os_error(libc::EACCES));
        assert!(followed.take(denied(), 10).is_some_and(|said| said.contains("by its number")));
        assert_eq!(followed.take(denied(), 20), None);
        assert!(NetnsFilter(Named::Path(followed)).matches(own(), 20));
    }

    #[test]
    fn paths_of_processes_are_recognised() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("blue");
        symlink("/proc/self/ns/net", &link).expect("a link");
        for path in [link.as_path(), Path::new("/proc/self/ns/net")] {
            assert_eq!(process_directory(path), Some("/proc/self".into()));
            assert!(look_up(path, fs::metadata(path).expect("it is there").dev()).expect("seen").is_some());
        }
        let file = directory.path().join("green");
        File::create(&file).expect("a file");
        assert_eq!(process_directory(&file), None);
        assert_eq!(look_up(&file, fs::metadata("/proc/self/ns/net").expect("it is there").dev()).expect("seen"), None);
    }
}
