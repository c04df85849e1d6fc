//! The kernel side's own debug messages. They exist in the `debug` object only; elsewhere they cost nothing.

/// A debug message through aya-log: `debug!(&ctx, "format", arguments…)`.
#[cfg(feature = "debug")]
macro_rules! debug {
    ($($argument:tt)*) => { aya_log_ebpf::debug!($($argument)*) };
}

/// A debug message of the `debug` object: nothing in this one.
#[cfg(not(feature = "debug"))]
macro_rules! debug {
    ($($argument:tt)*) => {};
}

pub(crate) use debug;
