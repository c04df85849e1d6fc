//! Bringing events from the kernel: two buffers behind one interface.

mod pause;
mod perf;
mod ring;

use std::io;

use anyhow::{Result, bail};
use aya::maps::Map;

pub(crate) use self::{pause::Pause, perf::PerfTransport, ring::RingTransport};

/// Size of each CPU's perf ring buffer unless the user says otherwise: 2,500 events.
pub(crate) const PERF_BYTES: u32 = 1 << 20;

/// Size of the BPF ring buffer that all CPUs share, unless the user says otherwise: 10,000 events.
pub(crate) const RING_BYTES: u32 = 4 << 20;

/// Takes the raw samples; each in up to two parts, since a sample may straddle the end of the perf ring.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]);

/// Where events come from.
pub(crate) enum Transport {
    /// One buffer for each CPU.
    Perf(PerfTransport),
    /// One buffer for all CPUs, in the order of events.
    Ring(RingTransport),
}

impl Transport {
    /// Opens the buffer that the kernel side writes to. `bytes` is for each CPU's perf ring; the BPF ring has its size
    /// already.
    pub(crate) fn open(map: Map, bytes: u32) -> Result<Self> {
        Ok(match &map {
            Map::PerfEventArray(_) => Self::Perf(PerfTransport::open(map, bytes)?),
            Map::RingBuf(_) => Self::Ring(RingTransport::open(map)?),
            _ => bail!("the map EVENTS is no buffer"),
        })
    }

    /// Waits until there are events and hands them over; `false` when there may be more, as with [`Self::drain`]. Cancelling
    /// it loses nothing.
    pub(crate) async fn read(&mut self, each: Each<'_>) -> io::Result<bool> {
        match self {
            Self::Perf(perf) => perf.read(each).await,
            Self::Ring(ring) => ring.read(each).await,
        }
    }

    /// Hands over what is there now without waiting. `false` when there may be more: a flood is handed over in
    /// batches, each in the order of events.
    pub(crate) fn drain(&mut self, each: Each<'_>) -> bool {
        match self {
            Self::Perf(perf) => perf.drain(each),
            Self::Ring(ring) => ring.drain(each),
        }
    }
}

/// Rounds a wish in bytes up to what the kernel takes: a power of two of pages.
pub(crate) fn buffer_bytes(wish: u32) -> u32 {
    let page = u32::try_from(page_size()).unwrap_or(4096);
    wish.max(page).checked_next_power_of_two().unwrap_or(1 << 30)
}

/// Bytes of a page of memory.
fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| size.try_into().ok())
        .unwrap_or(4096)
}
