//! Loading the programs into the kernel, configured for it, and attaching them.
//!
//! Degrade, do not die: a probe that the kernel refuses is a value with a reason ([`Degraded`]), shown at start, by
//! `doctor` and in the summary. Only without the two reset tracepoints nothing can be traced.

mod attach;
mod aya_compat;
pub mod btf;
mod interfaces;
mod load_error;
mod maps;
mod object;
mod options;
pub mod preflight;
pub mod probes;
mod recursion;
mod resource_limits;

pub use self::{
    btf::KernelInfo,
    interfaces::{Interfaces, InterfacesError},
    load_error::LoadError,
    object::{Object, load_for_transport},
    options::{ExtraEvents, TransportChoice},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuArray},
};
use rsttrace_common::event::{LOST_OTHERS, LOST_RESETS, LOST_UNSETTLED, LOST_UNSETTLED_IN_TASK};

use crate::{
    load::{
        attach::Attacher,
        maps::{
            filter_maps::{self, FilterMap},
            flood_maps::FloodMaps,
            holder_lookup_maps::HolderLookupMaps,
            map_sizes::MapSizes,
            take_map,
        },
        probes::{Attach, AttachOption, PROBES},
        recursion::RecursionMisses,
    },
    model::FilterOptions,
    util::{degraded::Degraded, messages::sentence},
};

/// Configuration of the kernel side.
pub struct LoadOptions<'a> {
    /// Bytes of the BPF ring buffer, or of each CPU's perf ring buffer; `None` for the default.
    pub buffer_bytes: Option<u32>,
    /// Connections whose history is kept; `None` for the default.
    pub remember: Option<u32>,
    /// Filters of the command line, of which the kernel side applies those that it can decide.
    pub filters: &'a FilterOptions,
    /// Inode number of the only wanted network namespace; `None` for all.
    pub netns: Option<u32>,
}

/// A probe that is attached.
#[derive(Clone, Copy, Debug)]
pub struct Attached {
    /// Name of its hook.
    pub hook: &'static str,
    /// The option that the kernel accepted.
    pub option: AttachOption,
}

/// The programs in the kernel. Dropping it detaches and unloads them.
pub struct Loaded {
    /// `None` once detached.
    ebpf: Option<Ebpf>,
    filter: FilterMap,
    lost: PerCpuArray<MapData, u64>,
    holder_lookup: HolderLookupMaps,
    flood: FloodMaps,
    flood_budget: u32,
    recursion: RecursionMisses,
    /// Interfaces that forwarded resets arrive on.
    pub interfaces: Interfaces,
    /// Probes that are attached.
    pub attached: Vec<Attached>,
    /// Probes that are not attached, or not by their best option, and other parts of this run that work less well.
    pub degraded: Vec<Degraded>,
}

impl Loaded {
    /// Creates the maps of the object and parses its programs; nothing is attached yet. Fails when the kernel refuses a map,
    /// or when there are more filters than the maps hold.
    pub fn load(kernel: &KernelInfo, object: Object, options: &LoadOptions<'_>) -> Result<Self, LoadError> {
        Self::create(kernel, object, options).map_err(LoadError::Maps)
    }

    fn create(kernel: &KernelInfo, object: Object, options: &LoadOptions<'_>) -> Result<Self> {
        let mut loader = aya_compat::loader()?;
        for field in &kernel.offsets {
            loader.override_global(field.global, &field.offset, true);
        }
        let accept_arguments = kernel.accept_arguments;
        loader.override_global("ACCEPT_ARGS", &accept_arguments, true);
        let backups = recursion::backup_count(kernel);
        loader.override_global("BACKUPS", &backups, true);
        let typed_tasks = u32::from(kernel.has_typed_tasks);
        loader.override_global("TYPED_TASKS", &typed_tasks, true);
        let sizes = MapSizes::new(object, options)?;
        sizes.apply(&mut loader);
        let mut ebpf = loader.load(object.bytes()).context("the kernel refuses the maps of the programs")?;
        let filter = filter_maps::write(&mut ebpf, options.filters, options.netns)?;
        let lost = PerCpuArray::try_from(take_map(&mut ebpf, "LOST")?)?;
        let holder_lookup = HolderLookupMaps::take(&mut ebpf)?;
        let flood = FloodMaps::take(&mut ebpf)?;
        let recursion = RecursionMisses::new(&mut ebpf)?;
        Ok(Self {
            ebpf: Some(ebpf),
            filter,
            lost,
            holder_lookup,
            flood,
            flood_budget: sizes.flood_budget,
            recursion,
            interfaces: Interfaces::default(),
            attached: Vec::new(),
            degraded: Vec::new(),
        })
    }

    /// Attaches every probe whose condition holds, that of `--forwarded` to these interfaces. Blocks while the kernel verifies the programs. Fails when a required one is
    /// refused, or after [`Self::detach`]; the others go to `degraded`.
    pub fn attach(&mut self, kernel: &KernelInfo, more: &ExtraEvents, interfaces: Interfaces) -> Result<(), LoadError> {
        let ebpf = self.ebpf.as_mut().ok_or(LoadError::Detached)?;
        self.interfaces = interfaces;
        let mut attacher = Attacher::new(ebpf, kernel, more, &self.interfaces);
        attacher.load_ahead();
        for probe in PROBES {
            if !probe.is_wanted(kernel, more) {
                continue;
            }
            match attacher.attach(probe) {
                Ok(option) => {
                    self.attached.push(Attached { hook: probe.hook, option });
                    if let Some(loss) = option.degraded {
                        self.degraded.push(Degraded {
                            what: probe.hook.to_owned(),
                            why: "this kernel is older".to_owned(),
                            loss: loss.to_owned(),
                        });
                    }
                }
                Err(error) if probe.is_required() => {
                    return Err(LoadError::Probe { hook: probe.hook, error });
                }
                Err(error) => self.degraded.push(Degraded {
                    what: probe.hook.to_owned(),
                    why: sentence(&error),
                    loss: probe.loss.to_owned(),
                }),
            }
        }
        if let Err(error) = self.recursion.attach(&mut attacher, kernel, &self.attached) {
            self.degraded.push(Degraded {
                what: "resets in the middle of others".to_owned(),
                why: sentence(&error),
                loss: "a reset that interrupts another is counted as lost".to_owned(),
            });
        }
        self.interfaces.close();
        Ok(())
    }

    /// The option that serves a hook; `None` when its probe is not attached.
    pub fn attach_option(&self, hook: &str) -> Option<AttachOption> {
        self.attached.iter().find(|attached| attached.hook == hook).map(|attached| attached.option)
    }

    /// Takes the map `EVENTS`, the buffer. Fails at the second call, and once the programs are detached.
    pub fn take_events(&mut self) -> Result<Map, LoadError> {
        take_map(self.ebpf.as_mut().ok_or(LoadError::Detached)?, "EVENTS").map_err(LoadError::Maps)
    }

    /// Opens the log of the debug object's programs; its messages go to the logger of the crate `log`. Fails for the other
    /// objects.
    pub fn kernel_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        Ok(aya_log::EbpfLogger::init(self.ebpf.as_mut().ok_or(LoadError::Detached)?)?)
    }

    /// Resets sent and received that found the buffer full, since the start. Fails when the map cannot be read.
    pub fn lost_resets(&self) -> Result<u64> {
        self.lost_in(0..LOST_RESETS)
    }

    /// Resets sent that were reported as received, since the start: the event that reclassifies them found the buffer full.
    /// Fails when the map cannot be read.
    pub fn misclassified(&self) -> Result<u64> {
        self.lost_in([LOST_UNSETTLED, LOST_UNSETTLED_IN_TASK])
    }

    /// Sum of these slots of `LOST` over all CPUs. Wrapping, like the counters themselves, which the kernel side also decrements:
    /// a received reset that was lost, and turns out to be a sent one, is taken back.
    fn lost_in(&self, slots: impl IntoIterator<Item = u32>) -> Result<u64> {
        let mut lost = 0_u64;
        for slot in slots {
            lost = self.lost.get(&slot, 0)?.iter().fold(lost, |sum, count| sum.wrapping_add(*count));
        }
        Ok(lost)
    }

    /// Ignored and forwarded resets that found the buffer full, since the start. Fails when the map cannot be read.
    pub fn lost_unapplied(&self) -> Result<u64> {
        self.lost_in([LOST_OTHERS])
    }

    /// Resets sent and received, since the start, for which the kernel skipped every program because it was already running on
    /// that CPU; 0 before 5.19. An upper bound for the wanted ones: no filter applies to what no program has seen.
    pub fn recursion_misses(&self) -> u64 {
        self.recursion.count()
    }

    /// Whether detaching needs netlink (`CAP_NET_ADMIN`), and not only that descriptors are closed: for a classifier before
    /// 6.6.
    pub fn detaches_through_netlink(&self) -> bool {
        self.attached.iter().any(|attached| attached.option.attach == Attach::Classifier) && !attach::has_tcx()
    }

    /// Detaches and unloads every program. What is in the buffer and in the other maps stays readable.
    pub fn detach(&mut self) {
        let Some(mut ebpf) = self.ebpf.take() else { return };
        for name in detach_order(&self.attached) {
            attach::unload(&mut ebpf, name);
        }
    }
}

/// Programs of these probes in the order in which they are detached, the opposite of that in which they were attached: a reset
/// that is reported while histories are no longer kept would get that of an earlier socket with its address.
fn detach_order(attached: &[Attached]) -> impl Iterator<Item = &'static str> {
    attached.iter().rev().flat_map(|Attached { option, .. }| {
        // The primary first: a backup handles what no program before it has.
        [option.program].into_iter().chain(recursion::all_backups_of(option.program))
    })
}

/// Returns freed heap memory to the kernel (`malloc_trim`); does nothing without glibc. Reading BTF takes more memory than
/// everything after it.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{probes::PROBES, *};

    #[test]
    fn reports_are_detached_before_what_they_read() {
        let attached =
            |probe: &probes::Probe| probe.options.first().map(|&option| Attached { hook: probe.hook, option });
        let all: Vec<Attached> = PROBES.iter().filter_map(attached).collect();
        let order: Vec<&str> = detach_order(&all).collect();
        let place = |name: &str| order.iter().position(|&detached| detached == name).expect(name);
        // Without the sent reset that follows it, a receive that was none would be told.
        let expected = ["recv_reset_bak2", "tcp_send_reset", "send_reset_bak2", "tcp_reset", "inet_sock_set_state"];
        assert!(expected.map(place).is_sorted(), "{order:?}");
    }
}
