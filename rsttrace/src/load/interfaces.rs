//! The interfaces of `--forwarded`, which may be in another network namespace than this process.

use std::{
    collections::HashSet,
    error::Error,
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    net::if_::{if_indextoname, if_nameindex, if_nametoindex},
    sched::{CloneFlags, setns},
};

use super::attach::has_tcx;
use crate::{
    model::{Interface, Netns},
    util::spelling,
};

/// Most interfaces that a message lists.
const LISTED_MAX: usize = 16;

/// Path of the calling thread's network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Reason why interfaces cannot be watched.
#[derive(Debug)]
pub enum InterfacesError {
    /// The namespace has no interface of this name.
    Missing {
        /// Name, as it was given.
        name: String,
        /// Whether the namespace is another one than this process's.
        is_elsewhere: bool,
        /// Names of the interfaces that the namespace has; empty where they cannot be listed.
        known: Vec<String>,
    },
    /// The network namespace cannot be entered.
    Enter(io::Error),
    /// This kernel keeps a classifier as a filter, which can only be removed from inside the namespace.
    OldKernel,
}

impl fmt::Display for InterfacesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, is_elsewhere, known } => {
                let place = if *is_elsewhere { " in the network namespace of --netns" } else { "" };
                write!(formatter, "there is no interface '{name}'{place}")?;
                let similar = spelling::similar(name, known.iter().map(String::as_str));
                match (similar, known.len()) {
                    (Some(similar), _) => write!(formatter, ": did you mean '{similar}'?"),
                    (None, 1..=LISTED_MAX) => write!(formatter, ", only {}", known.join(", ")),
                    _ if *is_elsewhere => formatter.write_str(": 'ip -n NAME link' lists them"),
                    _ => formatter.write_str(": 'ip link' lists them"),
                }
            }
            Self::Enter(error) => write!(
                formatter,
                "cannot enter the network namespace of --netns for --forwarded: {error}; it takes CAP_SYS_ADMIN, which \
                 root has"
            ),
            Self::OldKernel => formatter.write_str(
                "--forwarded in another network namespace needs Linux 6.6: run rsttrace in the namespace, with 'ip netns \
                 exec NAME rsttrace' or 'nsenter --net=PATH rsttrace'",
            ),
        }
    }
}

impl Error for InterfacesError {}

/// Interfaces of one network namespace.
#[derive(Debug, Default)]
pub struct Interfaces {
    /// Indices and names.
    known: Vec<(u32, Arc<str>)>,
    /// The namespace, where it is another one than this process's.
    elsewhere: Option<Elsewhere>,
    /// `None` where it cannot be read.
    netns: Option<Netns>,
}

#[derive(Debug)]
struct Elsewhere {
    /// `None` once everything is attached: an open namespace does not end.
    namespace: Option<File>,
}

impl Interfaces {
    /// Looks the interfaces up, in `namespace` if there is one, otherwise in that of this process. Fails when there is none
    /// of a name, and when the namespace cannot be entered or detached from.
    pub fn find(names: &[String], namespace: Option<File>) -> Result<Self, InterfacesError> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let identity = |file: fs::Metadata| (file.dev(), file.ino());
        let own = fs::metadata(OWN).ok().map(identity);
        let given = namespace.as_ref().and_then(|file| file.metadata().ok()).map(identity);
        let elsewhere = namespace.filter(|_| given != own).map(|file| Elsewhere { namespace: Some(file) });
        if elsewhere.is_some() && !has_tcx() {
            return Err(InterfacesError::OldKernel);
        }
        let inode = given.or(own).and_then(|(_, inode)| u32::try_from(inode).ok());
        let mut interfaces = Self { known: Vec::new(), elsewhere, netns: inode.map(|inode| Netns { inode }) };
        let is_elsewhere = interfaces.elsewhere.is_some();
        let look_up = |name: &String| {
            let index = if_nametoindex(name.as_str());
            let missing = |_| InterfacesError::Missing { name: name.clone(), is_elsewhere, known: names_here() };
            index.map(|index| (index, Arc::from(name.as_str()))).map_err(missing)
        };
        let known: Result<Vec<_>, _> = interfaces.inside(|| names.iter().map(look_up).collect())?;
        interfaces.known = known?;
        let mut seen = HashSet::new();
        interfaces.known.retain(|(index, _)| seen.insert(*index));
        Ok(interfaces)
    }

    /// Runs `work` in the namespace. In another one than this process's, a thread of its own enters it, and has ended when
    /// this returns: this thread cannot be left in the wrong one. Fails when the namespace cannot be entered.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, InterfacesError> {
        let Some(namespace) = self.elsewhere.as_ref().and_then(|elsewhere| elsewhere.namespace.as_ref()) else {
            return Ok(work());
        };
        let enter = || setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| work());
        let joined = thread::scope(|scope| scope.spawn(enter).join());
        // The panic of `work` is that of its caller.
        let entered = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        entered.map_err(|error: Errno| InterfacesError::Enter(error.into()))
    }

    /// Names of the interfaces.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|(_, name)| &**name)
    }

    /// Closes the namespace, so that it can end. Its interfaces keep their names.
    pub(super) fn close(&mut self) {
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.namespace = None;
        }
    }

    /// Interface with this index, and its namespace. In this process's own namespace it has the name of now, in another one
    /// that of the start.
    pub fn of_index(&self, index: u32) -> (Interface, Option<Netns>) {
        let name = if self.elsewhere.is_some() {
            self.known.iter().find(|(known, _)| *known == index).map(|(_, name)| Arc::clone(name))
        } else {
            if_indextoname(index).ok().map(|name| name.to_string_lossy().into())
        };
        (Interface { index, name }, self.netns)
    }
}

/// Names of the interfaces in the calling thread's network namespace; none where they cannot be listed.
fn names_here() -> Vec<String> {
    let interfaces = if_nameindex();
    interfaces.iter().flatten().map(|interface| interface.name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_the_own_namespace_are_found() {
        let own = File::open(OWN).expect("a namespace");
        let interfaces = Interfaces::find(&["lo".to_owned()], Some(own)).expect("it is there");
        assert!(interfaces.elsewhere.is_none());
        let (interface, netns) = interfaces.of_index(interfaces.known[0].0);
        assert_eq!(interface.name.as_deref(), Some("lo"));
        assert_eq!(netns.map(|netns| u64::from(netns.inode)), fs::metadata(OWN).ok().map(|own| own.ino()));
        let missing = Interfaces::find(&["lo".to_owned(), "nope".to_owned()], None).expect_err("there is none");
        assert!(missing.to_string().starts_with("there is no interface 'nope'"), "{missing}");
    }

    #[test]
    fn a_missing_interface_is_told_with_those_that_are_there() {
        let missing = |name: &str, is_elsewhere, known: &[&str]| {
            let known = known.iter().map(|&name| name.to_owned()).collect();
            InterfacesError::Missing { name: name.to_owned(), is_elsewhere, known }.to_string()
        };
        assert_eq!(missing("nope", false, &["lo", "eth0"]), "there is no interface 'nope', only lo, eth0");
        assert_eq!(missing("eht0", false, &["lo", "eth0"]), "there is no interface 'eht0': did you mean 'eth0'?");
        let elsewhere = "there is no interface 'nope' in the network namespace of --netns";
        assert_eq!(missing("nope", true, &["lo"]), format!("{elsewhere}, only lo"));
        assert_eq!(missing("nope", true, &["veth"; 100]), format!("{elsewhere}: 'ip -n NAME link' lists them"));
        assert!(names_here().iter().any(|name| name == "lo"));
    }

    #[test]
    fn a_file_of_another_kind_cannot_be_entered() {
        let file = File::open("/dev/null").expect("it is there");
        match Interfaces::find(&["lo".to_owned()], Some(file)) {
            Err(InterfacesError::Enter(error)) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL)),
            other => assert!(matches!(other, Err(InterfacesError::OldKernel)) && !has_tcx()),
        }
    }
}
