//! The subcommands; without one, [`crate::pipeline`] traces.

pub(crate) mod check_config;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod generate;
mod requirements;
