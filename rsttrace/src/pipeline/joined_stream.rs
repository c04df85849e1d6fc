//! What is made of the lines of several hosts while a report is made of them.

use crate::{replay::Line, report::JoinedSection};

/// Takes the lines of a replay.
pub(crate) trait JoinedStream {
    /// Takes a line.
    fn take(&mut self, line: &Line);

    /// What the report says of both ends, at the end of the lines; `None` where they are of one host. `has_holes`: whether lines could
    /// not be read.
    fn section(&mut self, has_holes: bool) -> Option<JoinedSection>;
}
