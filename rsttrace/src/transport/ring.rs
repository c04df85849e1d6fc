//! The BPF ring buffer.

use std::io;

use anyhow::Result;
use aya::maps::{Map, MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use super::Each;

/// Events handed over at a time, so that a flood does not keep the signals waiting.
const BATCH: usize = 4096;

/// The one buffer of all CPUs.
pub(crate) struct RingTransport(AsyncFd<RingBuf<MapData>>);

impl RingTransport {
    pub(super) fn open(map: Map) -> Result<Self> {
        let ring = RingBuf::try_from(map)?;
        // SAFETY: the ring buffer owns its descriptor and lives inside the AsyncFd.
        let fd = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self(fd))
    }

    pub(super) async fn read(&mut self, each: Each<'_>) -> io::Result<()> {
        let mut guard = self.0.readable_mut().await?;
        if hand_over(guard.get_inner_mut(), each) {
            // Only now: an event that comes after this makes the descriptor ready again.
            guard.clear_ready();
        }
        Ok(())
    }

    pub(super) fn drain(&mut self, each: Each<'_>) -> bool {
        hand_over(self.0.get_mut(), each)
    }
}

/// Hands over one batch; whether the buffer was seen empty then.
fn hand_over(ring: &mut RingBuf<MapData>, each: Each<'_>) -> bool {
    for _ in 0..BATCH {
        let Some(sample) = ring.next() else { return true };
        each(&sample, &[]);
    }
    false
}
