//! Default sizes of the kernel side's tables, and its thresholds.

/// Ways per set of a history table: the sockets that a set has room for.
pub const WAYS: u32 = 8;
/// Sets of the table of connections. (Half full, one set in 50 has more connections than it can hold.)
pub const CONNECTION_SETS: u32 = 16384;
/// Sets of the table of listening sockets.
pub const LISTENER_SETS: u32 = 1024;
/// Slots of the map `CLOSED`, over all CPUs.
pub const CLOSED_SLOTS: u32 = 32768;
/// Slots of the map `CLOSED_BY_TUPLE`. When 10,000 more connections have closed, one slot in 13 has been overwritten.
pub const CLOSED_INDEX_SLOTS: u32 = 131_072;
/// Slots of the map `HOLDER_LOOKUPS`, over all CPUs: lookups that can be pending at once.
pub const HOLDER_LOOKUP_SLOTS: u32 = 8192;
/// Slots of the map `COMMAND_LINES`.
pub const COMMAND_LINE_SLOTS: u32 = 2048;
// The kernel side would divide for each owner that it notes otherwise.
const _: () = assert!(COMMAND_LINE_SLOTS.is_power_of_two());
/// Resets to closed ports that each CPU passes on singly per epoch ([`FloodProgress::epoch`]) before it aggregates them.
///
/// [`FloodProgress::epoch`]: crate::flood::FloodProgress::epoch
pub const AGGREGATE_AFTER: u32 = 256;
/// Aggregates per CPU.
pub const AGGREGATES_PER_CPU: usize = 64;
/// Resets to closed ports that may be in one CPU's buffer, or in its share of the ring buffer. The user side sets it from
/// the buffer's size.
pub const FLOOD_BUDGET: u32 = 512;
