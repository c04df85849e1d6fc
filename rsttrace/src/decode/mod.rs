//! Kernel bytes to [`Reset`](crate::model::Reset)s. Pure: no I/O, no clock of its own, any input.

pub mod clock;
pub mod flood;
pub mod reclassify;
mod record;
mod reset_segment;
pub mod sample;
mod socket_figures;

pub use self::{
    record::{Decoder, Reasons, holder_findings},
    reset_segment::BitFields,
};
