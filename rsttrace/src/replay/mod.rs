//! Reading of what was recorded: recordings, files of `--output json` and `--sink json`, packet captures, compressed or not, from
//! files, directories and standard input.
//!
//! Whatever is read was written by strangers: lines are bounded, what is not understood is counted and skipped.

mod capture_files;
mod continuity;
mod directory;
mod hosts_of_file;
mod lines;
mod moment;
mod parse;
mod source;
mod zstd_frames;

#[cfg(any(test, fuzzing))]
pub use self::lines::check_file;
pub use self::{
    capture_files::groups as capture_groups,
    continuity::Continuity,
    hosts_of_file::has_several_hosts,
    moment::parse_moment,
    parse::{Line, LineError, parse_line},
    source::{CaptureView, InputError, Inputs, TimeRange},
};
