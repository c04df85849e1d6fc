//! What passed the place of a capture beside resets: connections in one or both directions, and the time that is captured.

use super::perspective::Perspective;
use crate::model::Endpoint;

/// What a capture shows of the path that it was taken on.
#[derive(Clone, Debug)]
pub struct CapturedPath {
    /// Times of the first and the last segment, nanoseconds since 1970; `None` without one.
    pub span_ns: Option<(u64, u64)>,
    /// Which host the capture is seen from.
    pub perspective: Perspective,
    /// Connections that are remembered at its end.
    pub connections: Vec<CapturedConnection>,
    /// Open connections that were forgotten.
    pub forgotten: u64,
}

/// A connection of a capture, its lower end first.
#[derive(Clone, Copy, Debug)]
pub struct CapturedConnection {
    /// Its two sides.
    pub sides: [CapturedSide; 2],
}

/// One side of a connection.
#[derive(Clone, Copy, Debug)]
pub struct CapturedSide {
    /// The end.
    pub end: Endpoint,
    /// Whether a segment of it was captured.
    pub is_seen: bool,
    /// Sequence number that it sends next.
    pub next: u32,
    /// TTL of its packets at the place of capture; `None` where none was captured.
    pub ttl: Option<u8>,
}
