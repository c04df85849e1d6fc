//! Transport of events from the kernel: the BPF ring buffer and the perf ring buffers behind one interface.

mod coalesce;
mod perf;
mod ring;

use std::io;

use anyhow::{Result, bail};
use aya::maps::Map;

pub(crate) use self::{coalesce::ReadCoalescer, perf::PerfTransport, ring::RingTransport};

/// Callback for one raw sample. A sample that wraps around the end of a perf ring comes in two parts; otherwise the
/// second is empty.
pub(crate) type SampleFn<'a> = &'a mut dyn FnMut(&[u8], &[u8]);

/// Reading end of the map `EVENTS`.
pub(crate) enum Transport {
    /// Perf ring buffers, one for each CPU.
    Perf(PerfTransport),
    /// The BPF ring buffer of all CPUs, in the order of events.
    Ring(RingTransport),
}

impl Transport {
    /// Opens the buffer that the programs write to. `bytes` is the size of each CPU's perf ring, rounded up to one that the
    /// kernel accepts; the BPF ring has its size since it was created. Fails if the kernel refuses the buffer.
    pub(crate) fn open(map: Map, bytes: u32) -> Result<Self> {
        Ok(match &map {
            Map::PerfEventArray(_) => Self::Perf(PerfTransport::open(map, bytes)?),
            Map::RingBuf(_) => Self::Ring(RingTransport::open(map)?),
            _ => bail!("the map EVENTS is no buffer"),
        })
    }

    /// Waits for events and passes them to `each`. Resolves to `false` if the buffer may have more, see
    /// [`Self::drain`]. Fails when a buffer's descriptor cannot be watched. Cancel safe.
    pub(crate) async fn read(&mut self, each: SampleFn<'_>) -> io::Result<bool> {
        match self {
            Self::Perf(perf) => perf.read(each).await,
            Self::Ring(ring) => ring.read(each).await,
        }
    }

    /// Passes the events that are in the buffer to `each`, without waiting. Returns `false` if there may be more: a
    /// flood is read in batches, each in the order of events.
    pub(crate) fn drain(&mut self, each: SampleFn<'_>) -> bool {
        match self {
            Self::Perf(perf) => perf.drain(each),
            Self::Ring(ring) => ring.drain(each),
        }
    }
}
