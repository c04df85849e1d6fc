//! Putting the programs into the kernel, with what the running kernel needs to be told.
//!
//! Degrade, do not die: a probe that the kernel refuses is a value with a reason ([`Degraded`]), shown at start, by
//! `doctor` and in the summary. Only without the two reset tracepoints there is nothing to do.

mod attach;
pub mod btf;
mod choose;
mod filter;
mod flood;
mod kernel;
mod left_out;
mod limits;
mod names;
pub mod preflight;
pub mod probes;
mod search;
mod sizes;
mod types;

pub use self::{
    choose::{Choice, choose},
    kernel::Kernel,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapData, PerCpuArray},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rsttrace_common::event::{LOST_OTHERS, LOST_RESETS, LOST_UNSETTLED, LOST_UNSETTLED_IN_TASK};

use crate::{
    cli::{Filters, More},
    exit::{Failure, sentence},
    load::{
        attach::Attacher,
        flood::Counters,
        left_out::LeftOut,
        probes::{Attach, PROBES, Way},
        search::Search,
        sizes::Sizes,
    },
    util::degraded::Degraded,
};

static PERF_OBJECT: &[u8] = include_bytes_aligned!("../../bpf/perf.bpf.o");
static RING_OBJECT: &[u8] = include_bytes_aligned!("../../bpf/ring.bpf.o");
static DEBUG_OBJECT: &[u8] = include_bytes_aligned!("../../bpf/debug.bpf.o");

/// Which of the objects: they are built from the same sources and differ in how events come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Perf ring buffer: every kernel.
    Perf,
    /// BPF ring buffer: 5.8 and later.
    Ring,
    /// As `Ring`, and the programs log what they do.
    Debug,
}

impl Object {
    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Perf => PERF_OBJECT,
            Self::Ring => RING_OBJECT,
            Self::Debug => DEBUG_OBJECT,
        }
    }
}

/// A probe that the kernel has taken.
#[derive(Clone, Copy, Debug)]
pub struct Attached {
    /// Its hook.
    pub hook: &'static str,
    /// How.
    pub way: Way,
}

/// The programs in the kernel. Dropping it takes them out.
pub struct Loaded {
    /// `None` once detached.
    ebpf: Option<Ebpf>,
    filter: filter::Slot,
    lost: PerCpuArray<MapData, u64>,
    search: Search,
    counters: Counters,
    noise_limit: u32,
    left_out: LeftOut,
    /// What is attached.
    pub attached: Vec<Attached>,
    /// What is not, or less than it could be.
    pub degraded: Vec<Degraded>,
}

/// How to load.
pub struct Options<'a> {
    /// Which object.
    pub object: Object,
    /// Size of the BPF ring buffer, or of each CPU's perf ring buffer, in bytes, if not the usual one.
    pub buffer_bytes: Option<u32>,
    /// Connections to remember, if not as many as usual.
    pub remember: Option<u32>,
    /// What the kernel side may drop.
    pub filters: &'a Filters,
    /// The only wanted network namespace.
    pub netns: Option<u32>,
}

impl Loaded {
    /// Puts the object into the kernel; nothing is attached yet.
    pub fn load(kernel: &Kernel, options: &Options<'_>) -> Result<Self> {
        let mut loader = without_files(EbpfLoader::new)?;
        // Where that has not helped: away with the types before there are maps, since 64 MB are enough for both only one after
        // the other.
        loader.btf(None);
        give_memory_back();
        for field in &kernel.offsets {
            loader.override_global(field.global, &field.offset, true);
        }
        let accept_arguments = kernel.accept_arguments;
        loader.override_global("ACCEPT_ARGS", &accept_arguments, true);
        let programs_behind = left_out::depth(kernel);
        loader.override_global("BACKUPS", &programs_behind, true);
        let typed_tasks = u32::from(kernel.has_typed_tasks);
        loader.override_global("TYPED_TASKS", &typed_tasks, true);
        let sizes = Sizes::of(options)?;
        sizes.apply(&mut loader);
        let mut ebpf = loader.load(options.object.bytes()).context("the kernel refuses the maps of the programs")?;
        let filter = filter::write(&mut ebpf, options.filters, options.netns)?;
        let lost = PerCpuArray::try_from(take_map(&mut ebpf, "LOST")?)?;
        let search = Search::of(&mut ebpf)?;
        let counters = Counters::of(&mut ebpf)?;
        let left_out = LeftOut::of(&mut ebpf)?;
        Ok(Self {
            ebpf: Some(ebpf),
            filter,
            lost,
            search,
            counters,
            noise_limit: sizes.noise_limit,
            left_out,
            attached: Vec::new(),
            degraded: Vec::new(),
        })
    }

    /// Attaches every probe of the table that is wanted. Fails only where a required one is refused.
    pub fn attach(&mut self, kernel: &Kernel, more: &More) -> Result<(), Failure> {
        let ebpf = self.ebpf.as_mut().context("the programs are gone").map_err(Failure::Host)?;
        let mut attacher = Attacher::new(ebpf, kernel, more);
        attacher.load_ahead();
        for probe in PROBES {
            if !probe.is_wanted(kernel, more) {
                continue;
            }
            match attacher.attach(probe) {
                Ok(way) => {
                    self.attached.push(Attached { hook: probe.hook, way });
                    if let Some(loss) = way.degraded {
                        self.degraded.push(Degraded {
                            what: probe.hook.to_owned(),
                            why: "this kernel is older".to_owned(),
                            loss: loss.to_owned(),
                        });
                    }
                }
                Err(error) if probe.is_required() => {
                    return Err(Failure::Host(error.context(format!("{} cannot be traced", probe.hook))));
                }
                Err(error) => self.degraded.push(Degraded {
                    what: probe.hook.to_owned(),
                    why: sentence(&error),
                    loss: probe.loss.to_owned(),
                }),
            }
        }
        if let Err(error) = self.left_out.attach(&mut attacher, kernel, &self.attached) {
            self.degraded.push(Degraded {
                what: "resets in the middle of others".to_owned(),
                why: sentence(&error),
                loss: "a reset that interrupts another is counted as lost".to_owned(),
            });
        }
        Ok(())
    }

    /// How a hook is attached; `None` when it is not.
    pub fn way(&self, hook: &str) -> Option<Way> {
        self.attached.iter().find(|attached| attached.hook == hook).map(|attached| attached.way)
    }

    /// The map that events come out of; once.
    pub fn take_events(&mut self) -> Result<Map> {
        take_map(self.ebpf.as_mut().context("the programs are gone")?, "EVENTS")
    }

    /// Starts to print what the programs of the debug object log.
    pub fn kernel_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        Ok(aya_log::EbpfLogger::init(self.ebpf.as_mut().context("the programs are gone")?)?)
    }

    /// Events that found no room in the buffer, since the start.
    pub fn lost(&self) -> Result<u64> {
        self.lost_in(0..LOST_RESETS)
    }

    /// Resets sent since the start that were told as received, because the event that settles it found no room.
    pub fn unsettled(&self) -> Result<u64> {
        self.lost_in([LOST_UNSETTLED, LOST_UNSETTLED_IN_TASK])
    }

    /// The sum of these slots over all CPUs. Wrapping: a CPU takes back what it has counted a moment before.
    fn lost_in(&self, slots: impl IntoIterator<Item = u32>) -> Result<u64> {
        let mut lost = 0_u64;
        for slot in slots {
            lost = self.lost.get(&slot, 0)?.iter().fold(lost, |sum, count| sum.wrapping_add(*count));
        }
        Ok(lost)
    }

    /// Ignored and forwarded resets that found no room in the buffer, since the start.
    pub fn lost_asides(&self) -> Result<u64> {
        self.lost_in([LOST_OTHERS])
    }

    /// Events for which the kernel did not run a program because the same one was in the middle of another event on
    /// that CPU (5.19 and later), since the start.
    pub fn missed(&self) -> u64 {
        self.left_out.count()
    }

    /// Whether taking the programs out of the kernel takes more than closing descriptors.
    pub fn detaches_through_netlink(&self) -> bool {
        self.attached.iter().any(|attached| attached.way.attach == Attach::Classifier) && !attach::has_tcx()
    }

    /// Takes every program out of the kernel; what is in the buffer stays readable.
    pub fn detach(&mut self) {
        self.ebpf = None;
    }
}

/// Does something while no file can be opened.
///
/// aya's loader reads all types of the kernel when it is made, for relocations that our programs do not have: a quarter of
/// the time that a start takes, and 25 MB. It goes on without them where it cannot read them, and that cannot be said in
/// another way.
fn without_files<T>(work: impl FnOnce() -> T) -> Result<T> {
    let Ok((usual, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(work()) };
    // Files that are open stay so, and there is no other thread yet that would open any. Where the limit cannot be set, it
    // takes longer.
    let is_set = setrlimit(Resource::RLIMIT_NOFILE, 0, most).is_ok();
    let done = work();
    if is_set {
        setrlimit(Resource::RLIMIT_NOFILE, usual, most).context("the limit of open files cannot be set back")?;
    }
    Ok(done)
}

/// What reading the kernel's types took is more than all that comes after it.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn map_of<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).ok_or_else(|| anyhow!("the object has no map {name}"))
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
}
