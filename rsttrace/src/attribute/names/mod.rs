//! Names that people use: of containers, pods, and addresses of peers. They are read from files that container engines,
//! the kubelet and network plugins leave on this host, from `/etc/hosts`, and from the user's file (`--names`). No engine
//! is asked, and nothing is looked up on the network. `docs/design/names.md` has the reasons.
//!
//! A thread reads; records take what it has read last ([`Directory`]), which is at most [`FRESH_NS`] older than the event.

mod bundle;
mod directory;
mod docker;
mod file;
mod findings;
mod hosts;
mod kubelet;
mod nerdctl;
mod networks;
mod reader;
mod storage;
mod tree;

use std::{collections::BTreeSet, net::IpAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use lru::LruCache;

pub use self::file::{NamesError, NamesFile};
use self::{
    directory::{Directory, engine_id},
    findings::is_container_id,
    reader::{Reader, Sources},
};
use crate::{
    attribute::{
        absence::{is_id, missing},
        liveness::monotonic_ns,
    },
    model::{
        FilterOptions, Reset,
        names::{matches_name, names_pod},
    },
    util::degraded::Degraded,
};

/// Age from which on names are read again for a new event, nanoseconds: an address may have another container. On a
/// host with a container engine.
const FRESH_NS: u64 = 1_000_000_000;

/// Age from which on names are read again on a host without a container engine, nanoseconds.
const FRESH_WITHOUT_ENGINE_NS: u64 = 10_000_000_000;

/// Longest time that a record waits for a refresh. Without a file system that hangs, one takes from 50 µs to some
/// milliseconds.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(200);

/// Minimum idle time after a refresh, as a multiple of its duration (19 = at most 5 % of one CPU).
const IDLE_FACTOR: u64 = 19;

/// Unknown containers that are asked for without a pause, and the time after which there is another one, nanoseconds: at
/// most 10 a second in the long run, however many containers there are.
const UNKNOWN_AT_ONCE: u64 = 16;
const UNKNOWN_INTERVAL_NS: u64 = 100_000_000;

/// Containers of which it is remembered that they were asked for: an unknown one is asked for once at once, and then no
/// more often than the names get old.
const ASKED_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Parses any text with every parser of this module.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    reader::fuzz(text);
}

/// Names of containers, pods and addresses, as fresh as records need them.
pub(super) struct Names {
    file: Arc<NamesFile>,
    directory: Arc<Directory>,
    /// Time of the last refresh, nanoseconds of `CLOCK_MONOTONIC`; `None` before the first.
    read_ns: Option<u64>,
    /// Time from which on the next refresh may begin.
    next_ns: u64,
    /// Whether the refresh that is being made was waited for in vain.
    has_hung: bool,
    /// `None` before the first request, and if the thread cannot be started or has died.
    reader: Option<Reader>,
    /// What to read, until the thread takes it.
    sources: Option<Sources>,
    asked: LruCache<Arc<str>, ()>,
    /// Time up to which requests for unknown containers are used up, nanoseconds of `CLOCK_MONOTONIC`: each takes
    /// [`UNKNOWN_INTERVAL_NS`] of the past, of which it may be [`UNKNOWN_AT_ONCE`] intervals.
    unknown_used_ns: u64,
    degraded: Lack,
}

/// Why names are missing, and whether that was reported.
#[derive(Default)]
struct Lack {
    new: Option<Degraded>,
    reported: bool,
}

impl Lack {
    fn note(&mut self, why: String) {
        if !self.reported {
            self.reported = true;
            let loss = "containers and peers that are named only there have no name";
            self.new = Some(Degraded { what: "names".to_owned(), why, loss: loss.to_owned() });
        }
    }
}

impl Names {
    /// The names of this host, and those of the user's file. Reads nothing yet.
    pub(super) fn of_host(file: NamesFile) -> Self {
        Self::below("/".into(), file)
    }

    /// The names of a host whose file system is at `root`.
    fn below(root: PathBuf, file: NamesFile) -> Self {
        let file = Arc::new(file);
        Self {
            directory: Arc::new(Directory::of_file(&file)),
            read_ns: None,
            next_ns: 0,
            has_hung: false,
            reader: None,
            sources: Some(Sources::new(root, Arc::clone(&file))),
            asked: LruCache::new(ASKED_MAX),
            unknown_used_ns: 0,
            degraded: Lack::default(),
            file,
        }
    }

    /// Begins to read in the background. Returns at once.
    pub(super) fn prefetch(&mut self) {
        self.request(None);
    }

    /// Takes the reason why names are missing; `None` if there is none, or if it was taken before.
    pub(super) fn take_degraded(&mut self) -> Option<Degraded> {
        self.degraded.new.take()
    }

    /// Notes on names in filters that nothing has, see [`super::Attribution::absent_names`]. There are none where a name may
    /// come later of what is there now: a container whose name is not known yet, a directory that may not be read.
    pub(super) fn absences(&mut self, filters: &FilterOptions, running: &BTreeSet<Arc<str>>) -> Vec<String> {
        let FilterOptions { host, pod, container, .. } = filters;
        if host.is_empty() && pod.is_empty() && container.is_empty() {
            return Vec::new();
        }
        if self.read_ns.is_none() {
            self.take_result(REFRESH_TIMEOUT);
        }
        let directory = &self.directory;
        if self.read_ns.is_none() || directory.denied.is_some() {
            return Vec::new();
        }
        let is_complete = directory.has_names_of(running);
        let mut notes = Vec::new();
        if is_complete {
            let is_known = |wanted: &String| {
                let mut names = directory.address_names().chain(self.file.network_names());
                names.any(|name| matches_name(wanted, name))
            };
            notes.extend(missing("address named", host.iter().filter(|wanted| !is_known(wanted))));
            let is_known = |wanted: &String| {
                is_id(wanted)
                    || running.iter().any(|id| id.starts_with(wanted.as_str()))
                    || directory.container_names().any(|name| **name == **wanted)
            };
            notes.extend(missing("container named", container.iter().filter(|wanted| !is_known(wanted))));
        }
        if is_complete || directory.has_pods() {
            let is_known = |wanted: &String| directory.pods().any(|pod| names_pod(wanted, pod));
            notes.extend(missing("pod", pod.iter().filter(|wanted| !is_known(wanted))));
        }
        notes
    }

    /// Names the container, the pod and the peer of a record. Waits for up to [`REFRESH_TIMEOUT`] where the names that
    /// are known are too old for the event, or its container is not among them.
    pub(super) fn complete(&mut self, reset: &mut Reset) {
        let unknown = reset
            .container
            .as_ref()
            .map(|container| engine_id(&container.id))
            .filter(|id| !self.directory.knows(id) && is_container_id(id) && !self.asked.contains(*id));
        let fresh_ns = if self.directory.has_engine { FRESH_NS } else { FRESH_WITHOUT_ENGINE_NS };
        let is_old = self.read_ns.is_none_or(|read_ns| reset.internals.ktime_ns.saturating_sub(read_ns) >= fresh_ns);
        if is_old || unknown.is_some() {
            let unknown = unknown.map(Arc::from);
            self.refresh(unknown);
        }
        if let Some(container) = &mut reset.container {
            reset.pod = self.directory.name_container(container);
        }
        reset.peer.name = self.of_address(reset.peer.address);
    }

    /// Name of an address, as far as names have been read.
    pub(super) fn of_address(&self, address: IpAddr) -> Option<Arc<str>> {
        self.directory.address(address).or_else(|| self.file.network(address)).cloned()
    }

    /// Has the thread read, and waits for it, if that is due.
    fn refresh(&mut self, unknown: Option<Arc<str>>) {
        if self.reader.as_ref().is_some_and(Reader::is_busy) {
            // The first result is waited for. A file system that has hung is not waited for again.
            let is_first = self.read_ns.is_none() && !self.has_hung;
            self.take_result(if is_first { REFRESH_TIMEOUT } else { Duration::ZERO });
            let is_wanted = unknown.as_ref().is_some_and(|id| !self.directory.knows(id));
            if self.reader.as_ref().is_some_and(Reader::is_busy) || is_first && !is_wanted {
                return;
            }
        }
        let now_ns = monotonic_ns();
        if !(now_ns >= self.next_ns || unknown.is_some() && self.may_ask(now_ns)) {
            return;
        }
        if let Some(id) = &unknown {
            self.asked.push(Arc::clone(id), ());
        }
        self.request(unknown);
        self.take_result(REFRESH_TIMEOUT);
    }

    /// Whether an unknown container may be asked for before the next refresh is due; counts it if so.
    fn may_ask(&mut self, now_ns: u64) -> bool {
        let earliest_ns = now_ns.saturating_sub(UNKNOWN_AT_ONCE * UNKNOWN_INTERVAL_NS);
        let used_ns = self.unknown_used_ns.max(earliest_ns) + UNKNOWN_INTERVAL_NS;
        let may = used_ns <= now_ns;
        if may {
            self.unknown_used_ns = used_ns;
        }
        may
    }

    fn request(&mut self, unknown: Option<Arc<str>>) {
        if let Some(mut sources) = self.sources.take() {
            match Reader::start(move |wanted| sources.refresh(wanted)) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => self.degraded.note(format!("no thread can be started: {error}")),
            }
        }
        if let Some(reader) = &mut self.reader {
            reader.request(unknown);
        }
    }

    fn take_result(&mut self, timeout: Duration) {
        let Some(reader) = &mut self.reader else { return };
        match reader.result(timeout) {
            Ok(Some(refreshed)) => {
                if let Some(why) = &refreshed.directory.denied {
                    self.degraded.note(why.clone());
                }
                let took_ns = refreshed.ended_ns.saturating_sub(refreshed.began_ns);
                self.next_ns = refreshed.ended_ns.saturating_add(took_ns.saturating_mul(IDLE_FACTOR));
                self.has_hung = false;
                self.read_ns = Some(refreshed.began_ns);
                self.directory = refreshed.directory;
            }
            Ok(None) => self.has_hung = true,
            Err(()) => {
                self.degraded.note("the thread that reads them has died".to_owned());
                self.reader = None;
            }
        }
    }
}

#[cfg(test)]
mod names_tests;
