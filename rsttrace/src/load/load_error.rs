//! Reasons why nothing can be traced.

use std::{error::Error, fmt};

/// Error of a start, with what the kernel or this host refuses.
#[derive(Debug)]
pub enum LoadError {
    /// The kernel's types cannot be read, or lack a field without which nothing can be traced.
    KernelTypes(anyhow::Error),
    /// The kernel refuses the maps of the programs, or they have no room for the filters.
    Maps(anyhow::Error),
    /// The kernel refuses a required probe.
    Probe {
        /// Name of its hook.
        hook: &'static str,
        /// Reason.
        error: anyhow::Error,
    },
    /// The programs have been detached.
    Detached,
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelTypes(error) | Self::Maps(error) => error.fmt(formatter),
            Self::Probe { hook, .. } => write!(formatter, "{hook} cannot be traced"),
            Self::Detached => formatter.write_str("the programs are gone"),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::KernelTypes(error) | Self::Maps(error) | Self::Probe { error, .. } => Some(error.as_ref()),
            Self::Detached => None,
        }
    }
}
