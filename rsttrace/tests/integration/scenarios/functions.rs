//! What the extra probes stand on.

use crate::{host, stage::Stage};

/// A kernel that lets programs be attached to its functions takes them by both ways: fentry, and probes.
pub(crate) fn are_hooked_by_both_ways(_: &Stage) {
    assert_eq!((host::has_fentry(), host::has_kprobes()), (true, true));
}
