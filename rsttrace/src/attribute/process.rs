//! Processes that have been looked at, and the thread that looks.
//!
//! What `/proc` said is remembered beyond the end of the process, so that one whose connections are reset because it
//! died still has its name. Reading a command line can block for as long as the process hangs, so another thread reads,
//! and a record waits for it only so long.

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

use super::{
    lives::monotonic_ns,
    proc::{Identity, Membership},
};
use crate::facts::KernelTask;

/// Processes remembered at once.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Bytes of text remembered at once: half of it is for the processes that were there at the start.
const REMEMBERED_BYTES: usize = 4 << 20;

/// After so many nanoseconds a process that comes up again is looked at anew: it may have called exec, or been moved.
const FRESH_NS: u64 = 1_000_000_000;

/// How long a record waits for `/proc`. Without a process that hangs the answer takes some 70 µs.
const PATIENCE: Duration = Duration::from_millis(200);

/// Threads that may be stuck in a process that hangs; with so many, nobody is asked for command lines any more.
const STUCK_MAX: usize = 4;

/// Stack of a reading thread, in bytes.
const STACK: usize = 256 << 10;

/// Details of one process, each `None` where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Path of the program.
    pub executable: Option<Arc<str>>,
    /// Arguments joined by spaces, cut at 4,096 bytes.
    pub command_line: Option<Arc<str>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Where it belongs.
    pub membership: Option<Membership>,
}

impl Details {
    /// Reads everything but the command line, which alone can block. Of a process that is on its way out the program has
    /// gone first; what was known before is better than what is left.
    fn read(who: Identity, before: &Self) -> Self {
        let executable = who.executable();
        if executable.is_none() && before.executable.is_some() {
            return before.clone();
        }
        Self {
            executable,
            command_line: before.command_line.clone(),
            uid: who.uid().or(before.uid),
            membership: who.membership().or_else(|| before.membership.clone()),
        }
    }

    /// Adds the command line, or keeps the one that is known.
    fn with_command_line(mut self, who: Identity) -> Self {
        self.command_line = who.command_line().or(self.command_line);
        self
    }

    fn bytes(&self) -> usize {
        let path = self.membership.as_ref().and_then(|membership| membership.path.as_deref());
        let texts = [self.executable.as_deref(), self.command_line.as_deref(), path];
        size_of::<Self>() + texts.into_iter().flatten().map(str::len).sum::<usize>()
    }
}

/// One process that has been looked at.
struct Known {
    details: Arc<Details>,
    state: State,
}

impl Known {
    /// Whether it is good for an event of this moment.
    fn is_good(&self, at_ns: u64) -> bool {
        match self.state {
            State::Met => false,
            State::Pending | State::Gone => true,
            State::Read { at_ns: read_ns } => at_ns.saturating_sub(read_ns) < FRESH_NS,
        }
    }
}

/// How long what is known of a process is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Only until somebody asks: it was there at the start, and is better than nothing.
    Met,
    /// A thread is reading its command line.
    Pending,
    /// For a while, from this moment of the events' clock on.
    Read { at_ns: u64 },
    /// The process has gone; nothing will change.
    Gone,
}

/// What is remembered, the least recently used forgotten first.
struct Memory {
    known: LruCache<Identity, Known>,
    bytes: usize,
}

impl Memory {
    fn put(&mut self, who: Identity, details: Details, state: State) {
        self.bytes += details.bytes();
        let known = Known { details: Arc::new(details), state };
        if let Some((_, old)) = self.known.push(who, known) {
            self.bytes -= old.details.bytes();
        }
        while self.bytes > REMEMBERED_BYTES
            && let Some((_, old)) = self.known.pop_lru()
        {
            self.bytes -= old.details.bytes();
        }
    }

    fn details(&mut self, who: Identity) -> Arc<Details> {
        self.known.get(&who).map(|known| Arc::clone(&known.details)).unwrap_or_default()
    }
}

/// The memory that the threads share.
#[derive(Clone)]
struct Shared(Arc<Mutex<Memory>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Every change is complete before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a process that somebody asks for. What can be read at once is remembered first.
    fn look(&self, who: Identity) {
        let details = self.read(who);
        self.keep(who, details.clone(), State::Pending);
        let details = details.map(|details| details.with_command_line(who));
        self.keep(who, details, State::Read { at_ns: monotonic_ns() });
    }

    /// Looks at a process that nobody has asked for.
    fn meet(&self, who: Identity) {
        let details = self.read(who).map(|details| details.with_command_line(who));
        self.keep(who, details, State::Met);
    }

    /// What can be read at once; `None` when the process has gone.
    fn read(&self, who: Identity) -> Option<Details> {
        let before = self.lock().details(who);
        who.lives().then(|| Details::read(who, &before))
    }

    /// Remembers what was read, unless the process has gone and the PID may have been given away meanwhile.
    fn keep(&self, who: Identity, details: Option<Details>, state: State) {
        let details = details.filter(|_| who.lives());
        let state = if details.is_some() { state } else { State::Gone };
        let mut memory = self.lock();
        let details = details.unwrap_or_else(|| Details::clone(&memory.details(who)));
        memory.put(who, details, state);
    }
}

/// A thread that looks at the processes that it is told, one after the other.
struct Reader {
    requests: Sender<Identity>,
    answers: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(shared: Shared, look: fn(&Shared, Identity)) -> io::Result<Self> {
        let (requests, orders) = mpsc::channel();
        let (done, answers) = mpsc::channel();
        let work = move || {
            for who in orders {
                look(&shared, who);
                // Whoever asked may have lost patience.
                let _ = done.send(());
            }
        };
        let thread = thread::Builder::new().name("rsttrace-proc".to_owned()).stack_size(STACK).spawn(work)?;
        Ok(Self { requests, answers, thread })
    }
}

/// The processes that have been looked at.
pub struct Processes {
    shared: Shared,
    reader: Option<Reader>,
    /// Threads that nobody waits for any more.
    stuck: Vec<JoinHandle<()>>,
    /// What those threads do.
    look: fn(&Shared, Identity),
    trouble: Trouble,
}

/// Why no thread reads command lines, and whether that has been told.
#[derive(Default)]
enum Trouble {
    #[default]
    None,
    Untold(String),
    Told,
}

impl Trouble {
    fn arise(&mut self, why: impl Display) {
        if matches!(self, Self::None) {
            *self = Self::Untold(why.to_string());
        }
    }
}

impl Default for Processes {
    fn default() -> Self {
        let memory = Memory { known: LruCache::new(REMEMBERED), bytes: 0 };
        Self {
            shared: Shared(Arc::new(Mutex::new(memory))),
            reader: None,
            stuck: Vec::new(),
            look: Shared::look,
            trouble: Trouble::None,
        }
    }
}

impl Processes {
    /// Details of the process for an event of this moment; empty ones when it had gone before anybody looked, or when its
    /// PID has gone to another.
    pub fn details(&mut self, task: &KernelTask, at_ns: u64) -> Arc<Details> {
        let who = Identity::of(task);
        if let Some(known) = self.shared.lock().known.get(&who)
            && known.is_good(at_ns)
        {
            return Arc::clone(&known.details);
        }
        if !self.ask(who) {
            let details = self.shared.read(who);
            self.shared.keep(who, details, State::Read { at_ns: monotonic_ns() });
        }
        self.shared.lock().details(who)
    }

    /// Has the thread look, and waits for it. Whether there is a thread that could.
    fn ask(&mut self, who: Identity) -> bool {
        self.stuck.retain(|thread| !thread.is_finished());
        if self.reader.is_none() && self.stuck.len() < STUCK_MAX {
            match Reader::start(self.shared.clone(), self.look) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => self.trouble.arise(format_args!("no thread can be started: {error}")),
            }
        }
        let Some(reader) = self.reader.take() else { return false };
        let answer = reader.requests.send(who).map(|()| reader.answers.recv_timeout(PATIENCE));
        match answer {
            Ok(Ok(())) => self.reader = Some(reader),
            // It remembers what it reads when it gets on, and ends then: nobody can give it orders any more.
            Ok(Err(RecvTimeoutError::Timeout)) => self.stuck.push(reader.thread),
            Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => {
                self.trouble.arise("the thread that reads them has died");
                return false;
            }
        }
        true
    }

    /// Why command lines are not read, the first time that this is asked after it has begun.
    pub fn trouble(&mut self) -> Option<String> {
        match std::mem::replace(&mut self.trouble, Trouble::Told) {
            Trouble::Untold(why) => Some(why),
            before => {
                self.trouble = before;
                None
            }
        }
    }

    /// Looks at every process that there is, in a thread of lowest priority, so that one that dies with its connections
    /// has its name. Half of the memory is kept for those to come.
    pub fn look_around(&self) {
        let shared = self.shared.clone();
        let work = move || {
            lower_priority();
            let Ok(directory) = fs::read_dir("/proc") else { return };
            let pids = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            for who in pids.filter_map(Identity::of_program) {
                let memory = shared.lock();
                if memory.known.len() >= REMEMBERED.get() / 2 || memory.bytes >= REMEMBERED_BYTES / 2 {
                    return;
                }
                let is_known = memory.known.contains(&who);
                drop(memory);
                if !is_known {
                    shared.meet(who);
                }
            }
        };
        // Without it, a process is looked at when its first reset comes.
        drop(thread::Builder::new().name("rsttrace-look".to_owned()).stack_size(STACK).spawn(work));
    }
}

/// Gives every other thread of the host the right of way over this one.
fn lower_priority() {
    // SAFETY: takes three numbers; 0 is the calling thread, to which alone Linux applies it.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
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
        Identity::of_program(std::process::id()).expect("proc is mounted").task()
    }

    #[test]
    fn this_process_is_found_and_another_start_time_is_not() {
        let mut processes = Processes::default();
        let details = processes.details(&me(), monotonic_ns());
        assert_eq!(
            details.executable.as_deref(),
            std::env::current_exe().ok().as_deref().and_then(std::path::Path::to_str)
        );
        assert!(details.command_line.is_some() && details.uid.is_some() && details.membership.is_some());
        let mut other = me();
        other.start_boottime_ns += 20_000_000;
        assert_eq!(*processes.details(&other, monotonic_ns()), Details::default());
    }

    /// A process that runs for as long as this lives.
    struct Cat(std::process::Child);

    impl Cat {
        fn start() -> Self {
            let mut command = std::process::Command::new("cat");
            let mut cat = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat"));
            // What comes back shows that the program runs, which starting it does not.
            let (Some(input), Some(output)) = (&mut cat.0.stdin, &mut cat.0.stdout) else { panic!("two pipes") };
            input.write_all(b"x").expect("it reads");
            output.read_exact(&mut [0]).expect("it writes");
            cat
        }

        fn identity(&self) -> Identity {
            Identity::of_program(self.0.id()).expect("it runs")
        }
    }

    impl Drop for Cat {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn a_process_that_has_gone_keeps_its_name() {
        let mut cat = Cat::start();
        let who = cat.identity();
        let shared = Processes::default().shared;
        shared.meet(who);
        let before = shared.lock().details(who);
        assert_eq!(before.command_line.as_deref(), Some("cat"));
        cat.0.kill().expect("it runs");
        // A zombie has no program and no arguments.
        shared.look(who);
        assert_eq!(shared.lock().details(who), before);
        cat.0.wait().expect("it ends");
        shared.look(who);
        assert_eq!(shared.lock().details(who), before);
        assert!(shared.lock().known.peek(&who).is_some_and(|known| known.state == State::Gone));
    }

    #[test]
    fn nobody_waits_long_for_a_process_that_hangs() {
        let hang = |shared: &Shared, who| {
            shared.keep(who, shared.read(who), State::Pending);
            loop {
                thread::park();
            }
        };
        let mut processes = Processes { look: hang, ..Processes::default() };
        let cats: Vec<_> = (0..=STUCK_MAX).map(|_| Cat::start()).collect();
        for (index, cat) in cats.iter().enumerate() {
            let task = cat.identity().task();
            let details = processes.details(&task, monotonic_ns());
            assert!(details.executable.is_some() && details.uid.is_some() && details.membership.is_some());
            assert_eq!(details.command_line, None);
            // Not asked again, and with all threads stuck, nobody is.
            assert_eq!(processes.details(&task, monotonic_ns()), details);
            assert_eq!(processes.stuck.len(), (index + 1).min(STUCK_MAX));
        }
    }

    #[test]
    fn a_reader_that_dies_is_told_once_and_done_without() {
        // As a panic, without the message, whose backtrace may take longer than the wait for the thread.
        let die = |_: &Shared, _| -> () { std::panic::resume_unwind(Box::new("there is no room for its stack")) };
        let mut processes = Processes { look: die, ..Processes::default() };
        for told in [true, false] {
            let cat = Cat::start();
            let details = processes.details(&cat.identity().task(), monotonic_ns());
            assert!(details.executable.is_some() && details.command_line.is_none());
            assert_eq!(processes.trouble().is_some(), told);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory { known: LruCache::new(REMEMBERED), bytes: 0 };
        let long: Arc<str> = "x".repeat(4096).into();
        let who = |pid| Identity::of(&KernelTask { tgid: pid, start_boottime_ns: 0, uid: None, comm: "x".into() });
        for pid in 0..10_000 {
            let details = Details { command_line: Some(Arc::clone(&long)), ..Details::default() };
            memory.put(who(pid), details, State::Met);
        }
        let held: usize = memory.known.iter().map(|(_, known)| known.details.bytes()).sum();
        assert_eq!(memory.bytes, held);
        assert!(held <= REMEMBERED_BYTES && memory.known.len() > 900, "{held}");
        for pid in 0..10_000 {
            memory.put(who(pid), Details::default(), State::Gone);
        }
        assert_eq!(memory.known.len(), REMEMBERED.get());
    }

    #[test]
    fn looking_around_finds_this_process() {
        let processes = Processes::default();
        processes.look_around();
        let who = Identity::of(&me());
        let deadline = Instant::now() + Duration::from_secs(30);
        while processes.shared.lock().details(who).command_line.is_none() {
            assert!(Instant::now() < deadline, "it was not looked at");
            thread::yield_now();
        }
    }
}
