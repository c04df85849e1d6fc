//! The BPF ring buffer.

use std::io;

use anyhow::Result;
use aya::maps::{Map, MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use super::Each;

/// Events handed over at a time, so that a flood does not keep the signals waiting. Their records take some 3 KB each until
/// they are lines.
const BATCH: usize = 512;

/// The one buffer of all CPUs.
pub(crate) struct RingTransport(AsyncFd<RingBuf<MapData>>);

impl RingTransport {
    pub(super) fn open(map: Map) -> Result<Self> {
        let ring = RingBuf::try_from(map)?;
        // SAFETY: the ring buffer owns its descriptor and lives inside the AsyncFd.
        let fd = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self(fd))
    }

    pub(super) async fn read(&mut self, each: Each<'_>) -> io::Result<bool> {
        let mut guard = self.0.readable_mut().await?;
        let emptied = hand_over(guard.get_inner_mut(), each);
        if emptied {
            // Only now: an event that comes after this makes the descriptor ready again.
            guard.clear_ready();
        }
        Ok(emptied)
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
