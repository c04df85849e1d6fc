//! Perf ring buffers (`BPF_MAP_TYPE_PERF_EVENT_ARRAY`), one for each CPU.

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

use super::SampleFn;
use crate::util::buffer_size::{buffer_bytes, page_size};

/// Buffers of the CPUs that were online at the start.
pub(crate) struct PerfTransport {
    buffers: Vec<AsyncFd<PerfEventArrayBuffer<MapData>>>,
    /// Held open: when the map's descriptor is closed, the kernel removes the buffers from the map
    /// (`perf_event_fd_array_release`).
    _map: PerfEventArray<MapData>,
}

impl PerfTransport {
    /// Opens the buffer of each CPU that is online. Fails if the kernel refuses one of one page.
    pub(super) fn open(map: Map, bytes: u32) -> Result<Self> {
        let mut map = PerfEventArray::try_from(map)?;
        let cpus = online_cpus().map_err(|(path, error)| anyhow!(error).context(format!("cannot read {path}")))?;
        let mut buffers = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            let buffer = open_buffer(&mut map, cpu, bytes)?;
            // SAFETY: the buffer owns its descriptor and lives inside the AsyncFd.
            buffers.push(unsafe { AsyncFd::register_with_interest(buffer, Interest::READABLE) }?);
        }
        Ok(Self { buffers, _map: map })
    }

    /// See [`super::Transport::read`]; the buffers are always emptied.
    pub(super) async fn read(&mut self, each: SampleFn<'_>) -> io::Result<bool> {
        poll_fn(|context| {
            let mut has_read = false;
            for buffer in &mut self.buffers {
                if let Poll::Ready(guard) = buffer.poll_read_ready_mut(context) {
                    let mut guard = guard?;
                    read_samples(guard.get_inner_mut(), each);
                    // After the read: an event that arrives later makes the descriptor ready again.
                    guard.clear_ready();
                    has_read = true;
                }
            }
            if has_read { Poll::Ready(Ok(true)) } else { Poll::Pending }
        })
        .await
    }

    /// See [`super::Transport::drain`]; the buffers are always emptied.
    pub(super) fn drain(&mut self, each: SampleFn<'_>) -> bool {
        for buffer in &mut self.buffers {
            read_samples(buffer.get_mut(), each);
        }
        true
    }
}

/// Opens the buffer of one CPU, with half as many pages after each refusal of the kernel to map them.
fn open_buffer(map: &mut PerfEventArray<MapData>, cpu: u32, bytes: u32) -> Result<PerfEventArrayBuffer<MapData>> {
    let mut pages = buffer_bytes(bytes) as usize / page_size();
    loop {
        match map.open(cpu, Some(pages)) {
            // Without CAP_IPC_LOCK the pages count against kernel.perf_event_mlock_kb and RLIMIT_MEMLOCK: a smaller
            // buffer is better than none.
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

/// Passes every sample in the buffer to `each`.
fn read_samples(buffer: &mut PerfEventArrayBuffer<MapData>, each: SampleFn<'_>) {
    buffer.for_each(|event| match event {
        PerfEvent::Sample { head, tail } => each(head, tail),
        // The programs count each failed `bpf_perf_event_output`, exactly and at once; this record arrives with the
        // next event that fits, or never.
        PerfEvent::Lost { .. } => {}
    });
}
