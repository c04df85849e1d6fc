//! Reasons why a filter cannot be applied on this host.

use std::{error::Error, fmt, io, path::PathBuf};

use super::netns::FIRST;

/// Error of [`super::RecordFilter::new`], with what to name instead.
#[derive(Debug)]
pub enum FilterError {
    /// No hierarchy that is mounted here has this cgroup.
    NoCgroup {
        /// Path, as it was given.
        path: PathBuf,
        /// Where the hierarchies are mounted.
        mounts: Vec<PathBuf>,
    },
    /// No network namespace can have this inode number.
    NetnsNumber(String),
    /// The path of a network namespace cannot be looked at.
    NetnsPath {
        /// Path, as it was given.
        path: PathBuf,
        /// Verb of the operation that failed.
        operation: &'static str,
        /// Reason.
        error: io::Error,
    },
    /// The network namespace of the path has ceased to exist.
    NetnsGone(PathBuf),
    /// The path names something else.
    NotNetns {
        /// Path, as it was given.
        path: PathBuf,
        /// What it names.
        kind: NotNetns,
    },
}

/// What a path names that names no network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNetns {
    /// A directory or a device.
    NoFile,
    /// A namespace of another kind.
    OtherNamespace,
    /// An empty file, to which `ip netns` binds a namespace.
    EmptyFile,
    /// A file with contents.
    File,
}

/// What to do instead.
const NAME_ONE: &str = "name a path such as /run/netns/NAME or /proc/PID/ns/net, or an inode number";

impl fmt::Display for FilterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCgroup { path, mounts } => {
                let mounts: Vec<_> = mounts.iter().map(|mount| mount.display().to_string()).collect();
                write!(
                    formatter,
                    "there is no cgroup {}: name one as in /proc/PID/cgroup, or a directory in {}",
                    path.display(),
                    mounts.join(", ")
                )
            }
            Self::NetnsNumber(text) => write!(
                formatter,
                "{text} cannot be the inode number of a network namespace (from {FIRST} to {}): 'readlink \
                 /proc/PID/ns/net' shows it",
                u32::MAX
            ),
            Self::NetnsPath { path, operation, error } => {
                write!(formatter, "cannot {operation} the network namespace {}: {error}; {NAME_ONE}", path.display())
            }
            Self::NetnsGone(path) => {
                write!(formatter, "the network namespace of {} no longer exists; {NAME_ONE}", path.display())
            }
            Self::NotNetns { path, kind } => write!(formatter, "{} {kind}", path.display()),
        }
    }
}

impl Error for FilterError {}

/// The rest of a sentence that begins with the path.
impl fmt::Display for NotNetns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => write!(formatter, "is not a network namespace; {NAME_ONE}"),
            Self::OtherNamespace => {
                write!(formatter, "is a namespace of another kind, not a network namespace; {NAME_ONE}")
            }
            Self::EmptyFile => formatter.write_str(
                "is an empty file, not a network namespace: the mount of 'ip netns' is gone or not visible from here; \
                 name /proc/PID/ns/net of a process in it",
            ),
            Self::File => write!(formatter, "is a file, not a network namespace; {NAME_ONE}"),
        }
    }
}
