//! Hooks on kernel functions, which the optional probes need.

use crate::{host, stage::Stage};

/// A kernel that allows hooks on its functions has both kinds: fentry, and kprobes. On 64-bit ARM fentry came late.
pub(crate) fn fentry_and_kprobes_are_allowed(_: &Stage) {
    assert_eq!((host::has_fentry(), host::has_kprobes()), (host::knows_fentry(), true));
}
