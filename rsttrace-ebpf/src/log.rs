//! Debug messages of the programs. They exist only in the `debug` object.

/// Logs through aya-log: `debug!(&ctx, "format", arguments…)`.
#[cfg(feature = "debug")]
macro_rules! debug {
    ($($argument:tt)*) => { aya_log_ebpf::debug!($($argument)*) };
}

/// Expands to nothing: this object logs nothing.
#[cfg(not(feature = "debug"))]
macro_rules! debug {
    ($($argument:tt)*) => {};
}

pub(crate) use debug;
