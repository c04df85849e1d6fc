//! `--netns PATH` while the run goes on: the path is looked at again, and the kernel side told what it names.

use super::Pipeline;
use crate::util::messages::{info, sentence};
use crate::util::system_clock::monotonic_ns;

impl Pipeline {
    /// Checks what the path names now. Events that were read before can be matched afterwards, later ones cannot.
    pub(super) fn check_netns_path(&mut self) {
        let (Some(netns), Some(now_ns)) = (&mut self.processor.stages_mut().filter.netns, monotonic_ns()) else {
            return;
        };
        let Some(change) = netns.look(now_ns) else { return };
        let told = self.loaded.watch_netns(netns.number());
        // Only when it is true.
        info(change);
        if let Err(error) = told {
            info(format_args!(
                "cannot pass this change to the kernel side, which may filter its resets out: {}",
                sentence(&error)
            ));
        }
    }
}
