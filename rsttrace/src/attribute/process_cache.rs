//! Cache of process details, and the thread that reads them.
//!
//! Details are kept beyond the exit of the process, so that a process whose connections are reset because it died still
//! has its name. Reading a command line can block for as long as the process hangs, so it is read in a thread of its
//! own, and a record waits for that thread for a bounded time.

use std::{
    fmt::Display,
    fs, io,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lru::LruCache;
use rustix::process::setpriority_process;

use super::{liveness::monotonic_ns, procfs::CgroupMembership};
use crate::{model::internals::KernelTask, util::process_key::ProcessKey};

/// Processes in the cache.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Bytes of all details in the cache. Half of it is for processes that were running at the start.
const BYTES_MAX: usize = 4 << 20;

/// Age from which on details are read again for a new event, nanoseconds: the process may have called exec, or been
/// moved to another cgroup.
const FRESH_NS: u64 = 1_000_000_000;

/// Longest time that a record waits for `/proc`. Without a process that hangs, a read takes some 70 µs.
const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// Most threads that may hang in a read at once. While so many do, no command lines are read.
const HUNG_READERS_MAX: usize = 4;

/// Stack of a reader thread, bytes.
const STACK_BYTES: usize = 256 << 10;

/// Details of one process, each `None` if it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessDetails {
    /// Path of the executable.
    pub executable: Option<Arc<str>>,
    /// Arguments joined by spaces, cut at 4,096 bytes.
    pub command_line: Option<Arc<str>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Cgroup, unit and container.
    pub membership: Option<CgroupMembership>,
}

impl ProcessDetails {
    /// Reads all details but the command line, the only one that can block. An exiting process loses its executable
    /// first; from then on `previous` is kept, which is more than can still be read.
    fn read(key: ProcessKey, previous: &Self) -> Self {
        let (uid, membership) = (key.uid(), key.membership());
        // Last: while there is an executable, the process was still in its cgroup when that was read (`do_exit` runs
        // `exit_mm` before `cgroup_exit`, which moves it to the root).
        let executable = key.executable();
        if executable.is_none() && previous.executable.is_some() {
            return previous.clone();
        }
        let membership = membership.filter(|_| executable.is_some() || !key.is_exiting());
        Self {
            executable,
            command_line: previous.command_line.clone(),
            uid: uid.or(previous.uid),
            membership: membership.or_else(|| previous.membership.clone()),
        }
    }

    /// Reads the command line; keeps the known one if there is none. May block without end.
    fn with_command_line(mut self, key: ProcessKey) -> Self {
        self.command_line = key.command_line().or(self.command_line);
        self
    }

    /// Size for [`BYTES_MAX`].
    fn bytes(&self) -> usize {
        let path = self.membership.as_ref().and_then(|membership| membership.path.as_deref());
        let texts = [self.executable.as_deref(), self.command_line.as_deref(), path];
        size_of::<Self>() + texts.into_iter().flatten().map(str::len).sum::<usize>()
    }
}

/// Cached details of one process.
struct Entry {
    details: Arc<ProcessDetails>,
    freshness: Freshness,
}

impl Entry {
    /// Returns whether the details serve an event at `at_ns`, nanoseconds of `CLOCK_MONOTONIC`, without another read.
    fn is_fresh(&self, at_ns: u64) -> bool {
        match self.freshness {
            Freshness::Prefetched => false,
            Freshness::Pending | Freshness::Exited => true,
            Freshness::Read { at_ns: read_ns } => at_ns.saturating_sub(read_ns) < FRESH_NS,
        }
    }
}

/// Age of cached details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    /// Read without a request, at the start: stale once an event asks, and used only if the process has exited by then.
    Prefetched,
    /// All but the command line, which a thread is reading.
    Pending,
    /// Read at this time, nanoseconds of `CLOCK_MONOTONIC`; fresh for [`FRESH_NS`].
    Read { at_ns: u64 },
    /// The process has exited, so the details are final.
    Exited,
}

/// Entries, the least recently used removed first, bounded by [`CAPACITY`] and [`BYTES_MAX`].
struct Lru {
    entries: LruCache<ProcessKey, Entry>,
    bytes: usize,
}

impl Lru {
    fn insert(&mut self, key: ProcessKey, details: ProcessDetails, freshness: Freshness) {
        self.bytes += details.bytes();
        let entry = Entry { details: Arc::new(details), freshness };
        if let Some((_, old)) = self.entries.push(key, entry) {
            self.bytes -= old.details.bytes();
        }
        while self.bytes > BYTES_MAX
            && let Some((_, old)) = self.entries.pop_lru()
        {
            self.bytes -= old.details.bytes();
        }
    }

    /// Details of a process; empty if it is not in the cache.
    fn details(&mut self, key: ProcessKey) -> Arc<ProcessDetails> {
        self.entries.get(&key).map(|entry| Arc::clone(&entry.details)).unwrap_or_default()
    }
}

/// Entries shared with the reader threads.
#[derive(Clone)]
struct SharedLru(Arc<Mutex<Lru>>);

impl SharedLru {
    fn lock(&self) -> MutexGuard<'_, Lru> {
        // A poisoned lock is taken anyway: no operation that could panic leaves the entries inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a process that an event asks for. The details that cannot block are stored before the command line is
    /// read.
    fn refresh(&self, key: ProcessKey) {
        let details = self.read(key);
        self.store(key, details.clone(), Freshness::Pending);
        let details = details.map(|details| details.with_command_line(key));
        self.store(key, details, Freshness::Read { at_ns: monotonic_ns() });
    }

    /// Reads a process that no event has asked for.
    fn prefetch(&self, key: ProcessKey) {
        let details = self.read(key).map(|details| details.with_command_line(key));
        self.store(key, details, Freshness::Prefetched);
    }

    /// Reads the details that cannot block; `None` if the process has exited.
    fn read(&self, key: ProcessKey) -> Option<ProcessDetails> {
        let previous = self.lock().details(key);
        key.is_running().then(|| ProcessDetails::read(key, &previous))
    }

    /// Stores details that were read. If the process has exited meanwhile, they may be those of another process that
    /// got its PID, so the previous ones are kept.
    fn store(&self, key: ProcessKey, details: Option<ProcessDetails>, freshness: Freshness) {
        let details = details.filter(|_| key.is_running());
        let freshness = if details.is_some() { freshness } else { Freshness::Exited };
        let mut lru = self.lock();
        let details = details.unwrap_or_else(|| ProcessDetails::clone(&lru.details(key)));
        lru.insert(key, details, freshness);
    }
}

/// Thread that reads the processes that it is asked for, one after the other.
struct ReaderThread {
    requests: Sender<ProcessKey>,
    /// One message for each request that is done.
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl ReaderThread {
    /// Starts the thread. It ends when `requests` is dropped.
    fn start(shared: SharedLru, refresh: fn(&SharedLru, ProcessKey)) -> io::Result<Self> {
        let (requests, keys) = mpsc::channel();
        let (report, done) = mpsc::channel();
        let work = move || {
            for key in keys {
                refresh(&shared, key);
                // The receiver is gone if the request has timed out.
                let _ignored = report.send(());
            }
        };
        let thread = thread::Builder::new().name("rsttrace-proc".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { requests, done, thread })
    }
}

/// Cache of process details. Reads `/proc` when it has none, or none that are fresh.
pub struct ProcessCache {
    shared: SharedLru,
    /// The thread that takes requests; `None` before the first request, or after a thread has hung.
    reader: Option<ReaderThread>,
    /// Threads that hang in a read.
    hung: Vec<JoinHandle<()>>,
    /// Work of a reader thread for one request: [`SharedLru::refresh`], but in tests.
    refresh: fn(&SharedLru, ProcessKey),
    reader_error: ReaderError,
}

/// Reason why no thread reads command lines.
#[derive(Default)]
enum ReaderError {
    #[default]
    None,
    Unreported(String),
    Reported,
}

impl ReaderError {
    /// Sets the reason, unless there was one before.
    fn set(&mut self, why: impl Display) {
        if matches!(self, Self::None) {
            *self = Self::Unreported(why.to_string());
        }
    }
}

impl Default for ProcessCache {
    fn default() -> Self {
        let lru = Lru { entries: LruCache::new(CAPACITY), bytes: 0 };
        Self {
            shared: SharedLru(Arc::new(Mutex::new(lru))),
            reader: None,
            hung: Vec::new(),
            refresh: SharedLru::refresh,
            reader_error: ReaderError::None,
        }
    }
}

impl ProcessCache {
    /// Details of a process for an event at `at_ns`, nanoseconds of `CLOCK_MONOTONIC`. Empty if the process exited
    /// before it was read, or its PID has been reused. Blocks for up to `READ_TIMEOUT`, 200 ms.
    pub fn details(&mut self, task: &KernelTask, at_ns: u64) -> Arc<ProcessDetails> {
        let key = ProcessKey::new(task.tgid, task.start_boottime_ns);
        if let Some(entry) = self.shared.lock().entries.get(&key)
            && entry.is_fresh(at_ns)
        {
            return Arc::clone(&entry.details);
        }
        if !self.request(key) {
            let details = self.shared.read(key);
            self.shared.store(key, details, Freshness::Read { at_ns: monotonic_ns() });
        }
        self.shared.lock().details(key)
    }

    /// Has a thread refresh the process, and waits for up to [`READ_TIMEOUT`]. Returns `false` if no thread can.
    fn request(&mut self, key: ProcessKey) -> bool {
        self.hung.retain(|thread| !thread.is_finished());
        if self.reader.is_none() && self.hung.len() < HUNG_READERS_MAX {
            match ReaderThread::start(self.shared.clone(), self.refresh) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => self.reader_error.set(format_args!("no thread can be started: {error}")),
            }
        }
        let Some(reader) = self.reader.take() else { return false };
        let answer = reader.requests.send(key).map(|()| reader.done.recv_timeout(READ_TIMEOUT));
        match answer {
            Ok(Ok(())) => self.reader = Some(reader),
            // Its sender is dropped here: when the read returns, the thread stores the details and ends.
            Ok(Err(RecvTimeoutError::Timeout)) => self.hung.push(reader.thread),
            Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => {
                self.reader_error.set("the thread that reads them has died");
                return false;
            }
        }
        true
    }

    /// Takes the reason why command lines are not read; `None` if there is none, or if it was taken before.
    pub fn take_reader_error(&mut self) -> Option<String> {
        match std::mem::replace(&mut self.reader_error, ReaderError::Reported) {
            ReaderError::Unreported(why) => Some(why),
            other => {
                self.reader_error = other;
                None
            }
        }
    }

    /// Reads every running process, in a thread of lowest priority, so that a process that dies with its connections
    /// has its name. Uses at most half of the cache; the rest is for processes that start later. Returns at once.
    pub fn prefetch_all(&self) {
        let shared = self.shared.clone();
        let work = move || {
            lower_priority();
            let Ok(directory) = fs::read_dir("/proc") else { return };
            let pids = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            for key in pids.filter_map(ProcessKey::of_running) {
                let lru = shared.lock();
                if lru.entries.len() >= CAPACITY.get() / 2 || lru.bytes >= BYTES_MAX / 2 {
                    return;
                }
                let is_known = lru.entries.contains(&key);
                drop(lru);
                if !is_known {
                    shared.prefetch(key);
                }
            }
        };
        // Without this thread, a process is read when its first reset comes.
        let _ignored = thread::Builder::new().name("rsttrace-look".to_owned()).stack_size(STACK_BYTES).spawn(work);
    }
}

/// Gives the calling thread the lowest priority (nice 19). To Linux, 0 in setpriority(2) is the calling thread alone.
fn lower_priority() {
    // Raising the nice value needs no privilege, and at worst the thread keeps its own.
    let _ignored = setpriority_process(None, 19);
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        process::Stdio,
        time::Instant,
    };

    use super::*;

    fn me() -> KernelTask {
        ProcessKey::of_running(std::process::id()).expect("proc is mounted").task()
    }

    #[test]
    fn finds_this_process_and_none_of_another_start_time() {
        let mut processes = ProcessCache::default();
        let details = processes.details(&me(), monotonic_ns());
        assert_eq!(
            details.executable.as_deref(),
            std::env::current_exe().ok().as_deref().and_then(std::path::Path::to_str)
        );
        assert!(details.command_line.is_some() && details.uid.is_some() && details.membership.is_some());
        let mut other = me();
        other.start_boottime_ns += 20_000_000;
        assert_eq!(*processes.details(&other, monotonic_ns()), ProcessDetails::default());
    }

    /// A `cat` that runs until this is dropped.
    struct Cat(std::process::Child);

    impl Cat {
        fn start() -> Self {
            let mut command = std::process::Command::new("cat");
            let mut cat = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat"));
            // The echo shows that exec is done; spawn returns before that.
            let (Some(input), Some(output)) = (&mut cat.0.stdin, &mut cat.0.stdout) else { panic!("two pipes") };
            input.write_all(b"x").expect("it reads");
            output.read_exact(&mut [0]).expect("it writes");
            cat
        }

        fn key(&self) -> ProcessKey {
            ProcessKey::of_running(self.0.id()).expect("it runs")
        }
    }

    impl Drop for Cat {
        fn drop(&mut self) {
            let _ignored = self.0.kill();
            let _ignored = self.0.wait();
        }
    }

    #[test]
    fn an_exited_process_keeps_its_name() {
        let mut cat = Cat::start();
        let key = cat.key();
        let shared = ProcessCache::default().shared;
        shared.prefetch(key);
        let previous = shared.lock().details(key);
        assert_eq!(previous.command_line.as_deref(), Some("cat"));
        cat.0.kill().expect("it runs");
        // A zombie has no executable and no arguments.
        shared.refresh(key);
        assert_eq!(shared.lock().details(key), previous);
        cat.0.wait().expect("it ends");
        shared.refresh(key);
        assert_eq!(shared.lock().details(key), previous);
        assert!(shared.lock().entries.peek(&key).is_some_and(|entry| entry.freshness == Freshness::Exited));
    }

    #[test]
    fn waits_only_briefly_for_a_process_that_hangs() {
        let hang = |shared: &SharedLru, key| {
            shared.store(key, shared.read(key), Freshness::Pending);
            loop {
                thread::park();
            }
        };
        let mut processes = ProcessCache { refresh: hang, ..ProcessCache::default() };
        let cats: Vec<_> = (0..=HUNG_READERS_MAX).map(|_| Cat::start()).collect();
        for (index, cat) in cats.iter().enumerate() {
            let task = cat.key().task();
            let details = processes.details(&task, monotonic_ns());
            assert!(details.executable.is_some() && details.uid.is_some() && details.membership.is_some());
            assert_eq!(details.command_line, None);
            // Not requested again; once all threads hang, no process is.
            assert_eq!(processes.details(&task, monotonic_ns()), details);
            assert_eq!(processes.hung.len(), (index + 1).min(HUNG_READERS_MAX));
        }
    }

    #[test]
    fn the_death_of_the_reader_is_reported_once() {
        // Not panic!, whose hook may take longer than READ_TIMEOUT to print a backtrace.
        let die = |_: &SharedLru, _| -> () { std::panic::resume_unwind(Box::new("there is no room for its stack")) };
        let mut processes = ProcessCache { refresh: die, ..ProcessCache::default() };
        for is_reported in [true, false] {
            let cat = Cat::start();
            let details = processes.details(&cat.key().task(), monotonic_ns());
            assert!(details.executable.is_some() && details.command_line.is_none());
            assert_eq!(processes.take_reader_error().is_some(), is_reported);
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut lru = Lru { entries: LruCache::new(CAPACITY), bytes: 0 };
        let long: Arc<str> = "x".repeat(4096).into();
        let key = |pid| ProcessKey::new(pid, 0);
        for pid in 0..10_000 {
            let details = ProcessDetails { command_line: Some(Arc::clone(&long)), ..ProcessDetails::default() };
            lru.insert(key(pid), details, Freshness::Prefetched);
        }
        let held: usize = lru.entries.iter().map(|(_, entry)| entry.details.bytes()).sum();
        assert_eq!(lru.bytes, held);
        assert!(held <= BYTES_MAX && lru.entries.len() > 900, "{held}");
        for pid in 0..10_000 {
            lru.insert(key(pid), ProcessDetails::default(), Freshness::Exited);
        }
        assert_eq!(lru.entries.len(), CAPACITY.get());
    }

    #[test]
    fn prefetching_finds_this_process() {
        let processes = ProcessCache::default();
        processes.prefetch_all();
        let key = ProcessKey::of_running(std::process::id()).expect("proc is mounted");
        let deadline = Instant::now() + Duration::from_secs(30);
        while processes.shared.lock().details(key).command_line.is_none() {
            assert!(Instant::now() < deadline, "it was not read");
            thread::yield_now();
        }
    }
}
