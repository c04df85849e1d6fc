//! What recordings need of the run: who recorded what, and marks.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::sys::utsname::{UtsName, uname};

use super::{Pipeline, own_addresses::own_addresses};
use crate::{
    filter::netns::NetnsFilter,
    model::{Mark, RecordedFilters, RecordingContext},
    sandbox::User,
    sink::{outputs::Outputs, recording},
    summary::coverage::CounterBaseline,
    util::system_clock,
};

/// Time between two marks.
const MARK_INTERVAL: Duration = Duration::from_secs(10);

impl Pipeline {
    /// Creates the directories of recordings, for the user that the run switches to, and reads the addresses of this host. Before
    /// the sandbox: with what is left, a directory of root's cannot be changed, and no namespace entered.
    pub(super) fn create_recordings(&mut self, user: Option<&User>) -> Result<()> {
        if self.next_mark().is_some() {
            self.addresses = own_addresses(self.processor.stages().filter.netns.as_ref());
        }
        let directories = self.trace.output.sink.iter().filter_map(|sink| sink.recording_directory());
        for directory in directories {
            let new = recording::create_directory(directory)?;
            if let Some((user, new)) = user.zip(new) {
                user.give(&new).with_context(|| format!("cannot give {} to its user", directory.display()))?;
            }
        }
        Ok(())
    }

    /// The run as a recording describes it.
    pub(super) fn recording_context(&self) -> RecordingContext {
        let system = uname().ok();
        let filter = &self.processor.stages().filter;
        let part =
            |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
        RecordingContext {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine_id: identifier("/etc/machine-id"),
            boot_id: identifier("/proc/sys/kernel/random/boot_id"),
            kernel: part(system.as_ref().map(UtsName::release)),
            architecture: part(system.as_ref().map(UtsName::machine)),
            filtered: !filter.is_everything(),
            filters: Some(RecordedFilters::of(filter.filters(), filter.netns.as_ref().map(NetnsFilter::number))),
            ignored: Some(self.trace.more.ignored),
            netns: self.results.baseline.own_netns(),
            addresses: self.addresses.clone(),
            degraded: self.loaded.degraded.iter().map(|degraded| degraded.loss.clone()).collect(),
        }
    }

    /// When the next mark is due; `None` without a recording.
    pub(super) fn next_mark(&self) -> Option<Instant> {
        let records = self.trace.output.sink.iter().any(|sink| sink.recording_directory().is_some());
        records.then(|| Instant::now() + MARK_INTERVAL)
    }

    /// Sends what is left to the outputs, and the last mark behind it, where there is a recording.
    pub(super) async fn mark_end(&mut self, outputs: &mut Outputs) {
        if self.next_mark().is_some() {
            outputs.send(&mut self.results.outbox, drop).await;
            self.mark(outputs, true);
        }
    }

    /// Sends a mark to the recordings, behind the records that have been sent.
    pub(super) fn mark(&self, outputs: &Outputs, last: bool) {
        let (resets, lost) = self.results.tally.totals();
        let own_netns = self.results.baseline.own_netns();
        let compared = self.processor.stages().filter.is_whole_namespace(own_netns).then_some(lost);
        let undelivered = outputs.counts().into_iter().filter(|sink| sink.sink.starts_with("recording:"));
        outputs.mark(&Arc::new(Mark {
            time: Timestamp::now(),
            host: Some(Arc::clone(self.processor.stages().decoder.host())),
            monotonic_ns: system_clock::monotonic_ns().unwrap_or(0),
            resets,
            lost,
            undelivered: undelivered.map(|sink| sink.undelivered).sum(),
            counters: CounterBaseline::compare_own(&self.results.baseline, compared).counters,
            last,
        }));
    }
}

/// Content of a file with one identifier; `None` where there is none.
fn identifier(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text.len() <= 64)
}
