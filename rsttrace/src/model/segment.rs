//! What the reset's own segment says, whether its header was seen or follows from the socket.

use serde::{Deserialize, Serialize};

/// Numbers of the reset's own segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Segment {
    /// Sequence number; `None` where it is not known.
    pub seq: Option<u32>,
    /// Acknowledgement number; `None` where the segment has none, or it is not known.
    pub ack: Option<u32>,
    /// Whether the segment has the timestamp option (RFC 7323); `None` where the connection has no timestamps, or it is not
    /// known.
    pub timestamp: Option<bool>,
    /// Timestamp of the segment's sender (`TSval`); `None` without one, and, but in captures, for a reset that this host sends.
    pub timestamp_value: Option<u32>,
    /// Timestamp that the segment echoes (`TSecr`); `None` without one, and, but in captures, for a reset that this host sends.
    pub timestamp_echo: Option<u32>,
}
