//! The perf ring buffers, one for each CPU.

use std::{future::poll_fn, io, task::Poll};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    maps::{
        Map, MapData, PerfEventArray,
        perf::{PerfBufferError, PerfEvent, PerfEventArrayBuffer},
    },
    util::online_cpus,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Each, buffer_bytes, page_size};

/// The buffers of the CPUs that were online at the start.
pub(crate) struct PerfTransport {
    buffers: Vec<AsyncFd<PerfEventArrayBuffer<MapData>>>,
    /// The kernel takes a buffer out of the map when the map is closed.
    _map: PerfEventArray<MapData>,
}

impl PerfTransport {
    pub(super) fn open(map: Map, bytes: u32) -> Result<Self> {
        let mut map = PerfEventArray::try_from(map)?;
        let cpus = online_cpus().map_err(|(path, error)| anyhow!(error).context(format!("cannot read {path}")))?;
        let mut buffers = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            let buffer = open_one(&mut map, cpu, bytes)?;
            // SAFETY: the buffer owns its descriptor and lives inside the AsyncFd.
            buffers.push(unsafe { AsyncFd::register_with_interest(buffer, Interest::READABLE) }?);
        }
        Ok(Self { buffers, _map: map })
    }

    pub(super) async fn read(&mut self, each: Each<'_>) -> io::Result<bool> {
        poll_fn(|context| {
            let mut some = false;
            for buffer in &mut self.buffers {
                if let Poll::Ready(guard) = buffer.poll_read_ready_mut(context) {
                    let mut guard = guard?;
                    hand_over(guard.get_inner_mut(), each);
                    // Only now: an event that comes after this makes the descriptor ready again.
                    guard.clear_ready();
                    some = true;
                }
            }
            if some { Poll::Ready(Ok(true)) } else { Poll::Pending }
        })
        .await
    }

    pub(super) fn drain(&mut self, each: Each<'_>) -> bool {
        for buffer in &mut self.buffers {
            hand_over(buffer.get_mut(), each);
        }
        true
    }
}

fn open_one(map: &mut PerfEventArray<MapData>, cpu: u32, bytes: u32) -> Result<PerfEventArrayBuffer<MapData>> {
    let mut pages = buffer_bytes(bytes) as usize / page_size();
    loop {
        match map.open(cpu, Some(pages)) {
            // Without CAP_IPC_LOCK the memory counts against limits: less of it is better than none.
            Err(PerfBufferError::MMapError { .. }) if pages > 1 => pages /= 2,
            Err(PerfBufferError::OpenError { io_error }) if io_error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(anyhow!(io_error).context(
                    "the kernel refuses perf ring buffers: give CAP_SYS_ADMIN, lower kernel.perf_event_paranoid to 2, or choose --transport ring",
                ));
            }
            result => {
                return result.with_context(|| {
                    format!("cannot open the perf ring buffer of CPU {cpu}: lower --buffer-size or raise kernel.perf_event_mlock_kb")
                });
            }
        }
    }
}

fn hand_over(buffer: &mut PerfEventArrayBuffer<MapData>, each: Each<'_>) {
    buffer.for_each(|event| match event {
        PerfEvent::Sample { head, tail } => each(head, tail),
        // The kernel side counts its own refusals, exactly and at once; this count comes late or never.
        PerfEvent::Lost { .. } => {}
    });
}
