//! The thread that reads names, so that a file system that hangs delays no record for long.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread,
    time::Duration,
};

use lru::LruCache;

use super::{
    bundle,
    directory::Directory,
    docker::Docker,
    file::NamesFile,
    findings::{ContainerFacts, Findings},
    hosts::Hosts,
    kubelet,
    nerdctl::Nerdctl,
    networks::Networks,
    storage::Storage,
    tree::Budget,
};
use crate::attribute::liveness::monotonic_ns;

/// Stack of the thread, bytes.
const STACK_BYTES: usize = 512 << 10;

/// Bundles whose names are kept, see [`bundle`].
const BUNDLES_MAX: std::num::NonZeroUsize = std::num::NonZeroUsize::new(1024).unwrap();

/// A request to read all sources, and the bundle of this container.
pub(super) type RefreshRequest = Option<Arc<str>>;

/// Result of a refresh.
pub(super) struct Refreshed {
    pub(super) directory: Arc<Directory>,
    /// Times at which it began and ended, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
}

/// All places in which names are.
pub(super) struct Sources {
    /// Directory that paths are relative to: `/`, but in tests.
    root: PathBuf,
    docker: Docker,
    storage: Storage,
    nerdctl: Nerdctl,
    networks: Networks,
    hosts: Hosts,
    bundles: LruCache<Arc<str>, ContainerFacts>,
    file: Arc<NamesFile>,
    directory: Arc<Directory>,
}

impl Sources {
    pub(super) fn new(root: PathBuf, file: Arc<NamesFile>) -> Self {
        let directory = Arc::new(Directory::of_file(&file));
        Self {
            root,
            docker: Docker::default(),
            storage: Storage::default(),
            nerdctl: Nerdctl::default(),
            networks: Networks::default(),
            hosts: Hosts::default(),
            bundles: LruCache::new(BUNDLES_MAX),
            file,
            directory,
        }
    }

    /// Reads what has changed. `wanted` is a container that a record has and that is not known.
    pub(super) fn refresh(&mut self, wanted: RefreshRequest) -> Refreshed {
        let began_ns = monotonic_ns();
        let (budget, mut findings) = (Budget::default(), Findings::default());
        self.docker.read(&self.root, &budget, &mut findings);
        self.storage.read(&self.root, &budget, &mut findings);
        self.nerdctl.read(&self.root, &budget, &mut findings);
        if let Some(id) = wanted
            && let Some(facts) = bundle::read(&self.root, &id, &budget)
        {
            self.bundles.push(id, facts);
        }
        for (id, facts) in &self.bundles {
            findings.container(id, facts.clone());
        }
        kubelet::read(&self.root, &budget, &mut findings);
        self.networks.read(&self.root, &budget, &mut findings);
        self.hosts.read(&self.root, &budget, &mut findings);
        let directory = self.directory.refreshed(findings, &self.file, began_ns, budget.take_denied());
        self.directory = Arc::new(directory);
        Refreshed { directory: Arc::clone(&self.directory), began_ns, ended_ns: monotonic_ns() }
    }
}

/// The thread, seen from the one that has the records.
pub(super) struct Reader {
    requests: Sender<RefreshRequest>,
    results: Receiver<Refreshed>,
    /// Whether a request has no result yet.
    is_busy: bool,
}

impl Reader {
    /// Starts the thread, which ends when this is dropped. Fails when the host allows no more threads.
    pub(super) fn start(mut refresh: impl FnMut(RefreshRequest) -> Refreshed + Send + 'static) -> io::Result<Self> {
        let (requests, wanted) = mpsc::channel();
        let (report, results) = mpsc::channel();
        let work = move || {
            for wanted in wanted {
                if report.send(refresh(wanted)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("rsttrace-names".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { requests, results, is_busy: false })
    }

    /// Whether a request has no result yet.
    pub(super) const fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Asks for a refresh, unless one is being made.
    pub(super) fn request(&mut self, wanted: RefreshRequest) {
        if !self.is_busy {
            // A thread that has died shows when its result is asked for.
            self.is_busy = self.requests.send(wanted).is_ok();
        }
    }

    /// Takes the result of the request, and waits for it for up to `timeout`. `None` if there is none in that time, or
    /// if nothing was asked for. Fails when the thread has died.
    pub(super) fn result(&mut self, timeout: Duration) -> Result<Option<Refreshed>, ()> {
        if !self.is_busy {
            return Ok(None);
        }
        let result = if timeout.is_zero() {
            self.results.try_recv().map_err(|error| error == TryRecvError::Disconnected)
        } else {
            self.results.recv_timeout(timeout).map_err(|error| error == mpsc::RecvTimeoutError::Disconnected)
        };
        match result {
            Ok(refreshed) => {
                self.is_busy = false;
                Ok(Some(refreshed))
            }
            Err(false) => Ok(None),
            Err(true) => Err(()),
        }
    }
}

/// Parses any bytes with the parser of every source.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    super::docker::fuzz(text);
    super::storage::fuzz(text);
    bundle::fuzz(text);
    super::networks::fuzz(text);
    kubelet::fuzz(text);
    drop((super::hosts::parse(text), NamesFile::parse(text)));
}
