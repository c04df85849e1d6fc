//! Kernel bytes to [`Reset`]s. Pure: no I/O, no clock of its own, any input.

pub mod clock;
mod record;
pub mod sample;
pub mod settle;
mod timing;

pub use self::record::{Decoder, Reasons, found};
