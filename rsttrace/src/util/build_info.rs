//! What this build is made of, as its build script has found it.

/// Version, commit, kernel objects, features, and target: the text of `--version`.
pub(crate) const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("RSTTRACE_BUILD_COMMIT"),
    "\nkernel objects: ",
    env!("RSTTRACE_BUILD_OBJECTS"),
    "\nfeatures: ",
    env!("RSTTRACE_BUILD_FEATURES"),
    "\ntarget: ",
    env!("RSTTRACE_BUILD_TARGET"),
    ", ",
    env!("RSTTRACE_BUILD_LINKING"),
);
