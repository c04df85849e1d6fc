//! The object files of the programs, and the choice among them.

use aya::include_bytes_aligned;

use super::{KernelInfo, LoadError, LoadOptions, Loaded, TransportChoice};
use crate::util::{
    degraded::Degraded,
    messages::{info, sentence},
};

static PERF_OBJECT: &[u8] = include_bytes_aligned!("../../bpf/perf.bpf.o");
static RING_OBJECT: &[u8] = include_bytes_aligned!("../../bpf/ring.bpf.o");
static DEBUG_OBJECT: &[u8] = include_bytes_aligned!("../../bpf/debug.bpf.o");

/// Object file. All are built from one source and differ in the buffer that carries the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Perf ring buffers, one per CPU: every kernel.
    Perf,
    /// BPF ring buffer: 5.8 and later.
    Ring,
    /// BPF ring buffer, and programs that log what they do.
    Debug,
}

impl Object {
    pub(super) const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Perf => PERF_OBJECT,
            Self::Ring => RING_OBJECT,
            Self::Debug => DEBUG_OBJECT,
        }
    }
}

/// Loads the object for this transport, or the one that logs. `Auto` prefers the BPF ring buffer: it keeps the order of events
/// over all CPUs, shares its memory between them, and costs less per event. Fails when the kernel refuses the maps of every
/// object that may be used.
pub fn load_for_transport(
    kernel: &KernelInfo,
    transport: TransportChoice,
    debug: bool,
    options: &LoadOptions<'_>,
) -> Result<(Object, Loaded), LoadError> {
    let try_load = |object| Loaded::load(kernel, object, options).map(|loaded| (object, loaded));
    if debug {
        match try_load(Object::Debug) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => info(format_args!("the kernel side's messages cannot be had: {}", sentence(&error.into()))),
        }
    }
    match transport {
        TransportChoice::Ring => try_load(Object::Ring),
        TransportChoice::Perf => try_load(Object::Perf),
        TransportChoice::Auto => try_load(Object::Ring).or_else(|refusal| {
            let (object, mut loaded) = try_load(Object::Perf)?;
            loaded.degraded.push(Degraded {
                what: "BPF ring buffer".to_owned(),
                why: sentence(&refusal.into()),
                loss: "events of different CPUs may come out of order".to_owned(),
            });
            Ok((object, loaded))
        }),
    }
}
