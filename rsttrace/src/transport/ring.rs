//! The BPF ring buffer (`BPF_MAP_TYPE_RINGBUF`).

use std::io;

use anyhow::Result;
use aya::maps::{Map, MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use super::SampleFn;

/// Events read at a time. Bounded, so that signals are handled during a flood, and because each record takes some 3 KB
/// until it is formatted: with all that one event touches, twice as many do not fit into a second-level cache of 2 MB.
const BATCH: usize = 256;

/// The one ring buffer of all CPUs.
pub(crate) struct RingTransport(AsyncFd<RingBuf<MapData>>);

impl RingTransport {
    /// Maps the buffer. Fails if the kernel refuses that.
    pub(super) fn open(map: Map) -> Result<Self> {
        let ring = RingBuf::try_from(map)?;
        // SAFETY: the ring buffer owns its descriptor and lives inside the AsyncFd.
        let fd = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self(fd))
    }

    /// See [`super::Transport::read`]; reads [`BATCH`] events at most.
    pub(super) async fn read(&mut self, each: SampleFn<'_>) -> io::Result<bool> {
        let mut guard = self.0.readable_mut().await?;
        let emptied = read_batch(guard.get_inner_mut(), each);
        if emptied {
            // After the read: an event that arrives later makes the descriptor ready again.
            guard.clear_ready();
        }
        Ok(emptied)
    }

    /// See [`super::Transport::drain`]; reads [`BATCH`] events at most.
    pub(super) fn drain(&mut self, each: SampleFn<'_>) -> bool {
        read_batch(self.0.get_mut(), each)
    }
}

/// Passes up to [`BATCH`] samples to `each`. Returns whether the buffer was empty then.
fn read_batch(ring: &mut RingBuf<MapData>, each: SampleFn<'_>) -> bool {
    for _ in 0..BATCH {
        let Some(sample) = ring.next() else { return true };
        each(&sample, &[]);
    }
    false
}
