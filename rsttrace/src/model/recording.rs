//! Lines of a recording that are no records of resets: what was recorded, and that the recorder was there.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CounterCoverage, RecordedFilters, timestamp};

/// Version of the form of a recording. A reader takes every version up to its own.
pub const RECORDING_FORMAT: u32 = 1;

/// First line of each segment of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordingHeader {
    /// Time when the segment was begun, UTC.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Version of the form of the recording.
    pub format: u32,
    /// Number of the segment within its run, from 1.
    pub segment: u64,
    /// Time when the run began, UTC.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub run: Timestamp,
    /// Name of the host.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub host: Arc<str>,
    /// What the run was on, and what it recorded.
    #[serde(flatten)]
    pub of: Arc<RecordingContext>,
    /// The clocks when the segment was begun.
    pub clock: ClockState,
}

/// What is alike in every segment of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordingContext {
    /// Version of the program.
    pub version: String,
    /// Identifier of the machine (`/etc/machine-id`); `None` where it has none.
    pub machine_id: Option<String>,
    /// Identifier of the boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
    /// Release of the kernel (`uname -r`).
    pub kernel: String,
    /// Architecture (`uname -m`).
    pub architecture: String,
    /// Whether filters left resets out.
    pub filtered: bool,
    /// The filters; `None` in a recording whose version did not write them.
    #[serde(default)]
    pub filters: Option<RecordedFilters>,
    /// Whether ignored resets were recorded (`--ignored`); `None` in a recording whose version did not write it.
    #[serde(default)]
    pub ignored: Option<bool>,
    /// Inode number of the network namespace that the recorder ran in, of which the marks have the counters.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub netns: Option<u32>,
    /// Addresses of the interfaces when the run began, at most 256: in the only network namespace that was recorded, or in that of the
    /// recorder. `None` in a recording whose version did not write them, and where they could not be read.
    #[serde(default)]
    pub addresses: Option<Vec<IpAddr>>,
    /// What the run could not see, each in a few words.
    pub degraded: Vec<String>,
}

/// The clocks of a host at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClockState {
    /// `CLOCK_MONOTONIC`, nanoseconds. It stops while the host sleeps, and cannot be set.
    pub monotonic_ns: u64,
    /// Whether the wall clock follows a time server (`adjtimex`); `None` where the kernel did not say.
    pub synchronized: Option<bool>,
    /// Estimated error of the wall clock (`adjtimex`), microseconds; `None` where the kernel did not say.
    pub estimated_error_us: Option<u64>,
}

/// Line every ten seconds, and at the end: the recorder was there, and this is what it had seen. Without marks there is a
/// gap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mark {
    /// Time, UTC.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Name of the host, so that marks of many hosts can be in one stream; `None` in a recording whose version did not write it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub host: Option<Arc<str>>,
    /// `CLOCK_MONOTONIC`, nanoseconds: a wall clock that is set shows as a difference between marks.
    pub monotonic_ns: u64,
    /// Resets that passed the filters since the run began.
    pub resets: u64,
    /// Resets that were lost since the run began.
    pub lost: u64,
    /// Records that this recording could not take since the run began.
    pub undelivered: u64,
    /// The host's counters in the recorder's network namespace, beside what was observed.
    pub counters: Vec<CounterCoverage>,
    /// Whether it is the last line of the run.
    pub last: bool,
}
