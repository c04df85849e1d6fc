//! Small tools without state of their own, which every stage may use. None of them knows a stage.

pub(crate) mod buffer_size;
pub(crate) mod build_info;
mod counted;
pub mod degraded;
mod human_duration;
pub(crate) mod messages;
pub(crate) mod process_key;
pub mod sanitize;
pub(crate) mod segment_name;
pub(crate) mod service_names;
pub(crate) mod set_table;
pub(crate) mod size;
pub(crate) mod spelling;
pub(crate) mod system_clock;
pub(crate) mod terminal;
pub(crate) mod text_position;
pub(crate) mod time_span;
mod variant_name;

pub(crate) use self::{
    counted::{counted, was},
    human_duration::human_duration,
    variant_name::serde_variant_name,
};
