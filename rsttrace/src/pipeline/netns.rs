//! `--netns PATH` while the run goes on: the path is looked at again, and the kernel side told what it names.

use super::{Run, wait::monotonic_ns};
use crate::exit::{note, sentence};

impl Run {
    /// Looks at the path. Events that have been read can be matched afterwards, and no later ones.
    pub(super) fn look_at_netns(&mut self) {
        let (Some(netns), Some(now_ns)) = (&mut self.selection.netns, monotonic_ns()) else { return };
        let Some(change) = netns.look(now_ns) else { return };
        let told = self.loaded.watch_netns(netns.number());
        // Only when it is true.
        note(change);
        if let Err(error) = told {
            note(format_args!("the kernel side cannot be told of it, and may leave it out: {}", sentence(&error)));
        }
    }
}
