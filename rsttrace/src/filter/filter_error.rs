//! Reasons why a filter cannot be applied on this host.

use std::{error::Error, fmt, io, path::PathBuf};

use super::netns::FIRST;
use crate::util::spelling;

/// Error of [`super::RecordFilter::new`], with what to name instead.
#[derive(Debug)]
pub enum FilterError {
    /// `ip netns` has no network namespace of this name.
    NetnsName {
        /// Name, as it was given.
        name: String,
        /// Names that there are.
        known: Vec<String>,
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
    /// No process or mount that is visible from here has the network namespace of this inode number, which has to be
    /// entered.
    NetnsAbsent(u32),
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
const NAME_ONE: &str = "give a name of 'ip netns', a path such as /proc/PID/ns/net, or an inode number";

/// Names of namespaces that an error lists.
const NAMES_SHOWN: usize = 8;

impl fmt::Display for FilterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetnsName { name, known } => {
                write!(formatter, "there is no network namespace '{name}': ")?;
                if let Some(similar) = spelling::similar(name, known.iter().map(String::as_str)) {
                    write!(formatter, "did you mean '{similar}'?")
                } else if known.is_empty() {
                    write!(formatter, "'ip netns' lists none; {NAME_ONE}")
                } else if let Some(shown) = known.get(..NAMES_SHOWN) {
                    write!(formatter, "'ip netns' lists {} and {} more", shown.join(", "), known.len() - NAMES_SHOWN)
                } else {
                    write!(formatter, "'ip netns' lists {}", known.join(", "))
                }
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
            Self::NetnsAbsent(number) => write!(
                formatter,
                "--forwarded has to find its interfaces in network namespace {number}, which no process or mount that is \
                 visible from here uses"
            ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces_are_listed_or_suggested() {
        let said = |name: &str, known: &[&str]| {
            let known = known.iter().map(|&name| name.to_owned()).collect();
            FilterError::NetnsName { name: name.to_owned(), known }.to_string()
        };
        assert_eq!(said("nccl", &["ncrt", "nccli"]), "there is no network namespace 'nccl': did you mean 'nccli'?");
        assert_eq!(said("x", &["blue", "green"]), "there is no network namespace 'x': 'ip netns' lists blue, green");
        assert!(said("x", &[]).ends_with(
            "'ip netns' lists none; give a name of 'ip netns', a path such as \
                                          /proc/PID/ns/net, or an inode number"
        ));
        let many: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(said("x", &many).ends_with("n6, n7 and 12 more"));
    }
}
