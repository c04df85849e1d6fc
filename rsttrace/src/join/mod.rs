//! Joins the recordings of two or more hosts: who really sent a reset, and whether it arrived.
//!
//! Records of one reset are found by the numbers of its own segment, never by the clock; the difference of the clocks follows from
//! them. That a host did not send a reset is concluded only where its recording would have it (`recorder_cover`, `judge`). Does no
//! I/O: it is given what was read. Whatever that is was written by strangers; hosts, records and marks are bounded.

mod clock_skew;
#[cfg(test)]
mod cover_tests;
mod covered_run;
mod ends_fit;
mod gathered_host;
mod hidden;
#[cfg(test)]
mod join_tests;
mod judge;
mod lent_numbers;
mod matches;
mod one_name;
mod other_host;
mod outcome;
mod own_filter;
mod pair_text;
mod partial_matches;
mod recorder_cover;
mod seen_reset;
mod sentences;
mod wire_cover;
mod wording;

use std::{fmt, sync::Arc};

use foldhash::HashMap;

use self::{
    gathered_host::{GatheredHost, Identity},
    one_name::OneName,
    seen_reset::{SeenReset, SharedTexts},
    wire_cover::WireCover,
};
pub use self::{
    outcome::{Joined, PairFilter},
    pair_text::JoinText,
};
use crate::{
    capture::CapturedPath,
    model::{Mark, Record, RecordingHeader},
    util::sanitize::truncate,
};

/// Most resets of all inputs. Each takes some 360 bytes while they are joined.
pub const RESETS_MAX: usize = 4_000_000;
/// Most characters of the name of an input beside that of its host.
const NAME: usize = 64;
/// Most hosts of all inputs.
const HOSTS_MAX: usize = 64;

/// Inputs that cannot be joined.
#[derive(Debug, PartialEq, Eq)]
pub enum JoinError {
    /// There are more resets than are kept.
    TooManyResets,
    /// There are more hosts than are kept apart.
    TooManyHosts,
    /// All inputs are of one host, of this name.
    OneHost(String),
    /// No input has a record, a header or a packet.
    NoHost,
}

impl fmt::Display for JoinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyResets => write!(
                formatter,
                "the inputs have more than {RESETS_MAX} resets, which are all that is kept in memory: name the segments of the \
                 time in question in place of directories"
            ),
            Self::TooManyHosts => {
                write!(
                    formatter,
                    "the inputs are of more than {HOSTS_MAX} hosts: name those of the two ends and of what is between"
                )
            }
            Self::OneHost(name) => write!(
                formatter,
                "all inputs are of one host, '{name}': joining takes recordings or captures of both ends ('rsttrace replay' shows \
                 one)"
            ),
            Self::NoHost => formatter.write_str("the inputs have no record of a host to join"),
        }
    }
}

impl std::error::Error for JoinError {}

/// Takes the inputs, one after the other.
#[derive(Default)]
pub struct Joiner {
    hosts: Vec<GatheredHost>,
    by_identity: HashMap<Identity, usize>,
    texts: SharedTexts,
    resets: usize,
    /// The input that is taken: its number, its name, the host of its last header, and, by name, those of its last headers of each.
    input: usize,
    name: String,
    of_header: Option<usize>,
    of_headers: HashMap<Arc<str>, usize>,
    is_capture: bool,
    /// Headers of the input that is taken by name of the host, where there are several machines or boots of one.
    clocks: OneName,
    /// What has to be said of the inputs.
    notes: Vec<String>,
}

impl Joiner {
    /// Begins with the next input, of this name.
    pub fn begin(&mut self, name: &str) {
        self.input += 1;
        name.clone_into(&mut self.name);
        (self.of_header, self.is_capture) = (None, false);
        self.of_headers.clear();
        self.clocks = OneName::default();
    }

    /// Takes the header of a segment. Fails where there are too many hosts.
    pub fn header(&mut self, header: &Arc<RecordingHeader>) -> Result<(), JoinError> {
        let netns = header.of.filters.as_ref().and_then(|filters| filters.netns);
        let identity =
            Identity::Recorded { machine: header.of.machine_id.clone(), host: Arc::clone(&header.host), netns };
        let place = self.host(identity, &header.host)?;
        if let Some(others) = self.clocks.header(header, place) {
            self.mix(&header.host, others);
        }
        self.of_header = Some(place);
        self.of_headers.insert(Arc::clone(&header.host), place);
        if let Some(host) = self.hosts.get_mut(place) {
            host.cover.header(header);
        }
        Ok(())
    }

    /// Takes a mark: it is of the host that it names, of which the input has a header, or, without a name, of that of the last one.
    pub fn mark(&mut self, mark: &Mark) {
        if let Some(name) = &mark.host
            && let Some(others) = self.clocks.mark(name, mark)
        {
            self.mix(&Arc::clone(name), others);
        }
        let place = match &mark.host {
            Some(name) => self.of_headers.get(name).copied(),
            None => self.of_header,
        };
        if let Some(host) = place.and_then(|place| self.hosts.get_mut(place)) {
            host.cover.mark(mark);
        }
    }

    /// Notes that the lines of two machines with one name come in turn.
    fn mix(&mut self, name: &str, places: [usize; 2]) {
        self.notes.push(format!(
            "{}: two machines or network namespaces with the name '{}' are in it, whose lines cannot be told apart: nothing is concluded from what they lack; \
             give each an input of its own, or a name of its own",
            self.name,
            truncate(name, NAME)
        ));
        for place in places {
            if let Some(host) = self.hosts.get_mut(place) {
                host.cover.mix();
            }
        }
    }

    /// What has to be said of the inputs so far, one sentence each.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Notes that lines of the input could not be read here, which may have been of any of its hosts.
    pub fn hole(&mut self) {
        for place in self.of_headers.values() {
            if let Some(host) = self.hosts.get_mut(*place) {
                host.cover.hole();
            }
        }
    }

    /// Takes a record; `is_captured` tells whether it is of a packet capture. Fails where there are too many.
    pub fn record(&mut self, record: &Record, is_captured: bool) -> Result<(), JoinError> {
        let (host, mut reset) = match record {
            Record::Reset(reset) => (&reset.host, SeenReset::of_reset(reset, &mut self.texts)),
            Record::Ignored(ignored) => (&ignored.host, SeenReset::of_ignored(ignored, &mut self.texts)),
            Record::Forwarded(_) | Record::Lost(_) | Record::Summary(_) => return Ok(()),
        };
        if self.resets >= RESETS_MAX {
            return Err(JoinError::TooManyResets);
        }
        self.resets += 1;
        let place = if is_captured {
            self.capture()?
        } else {
            match self.of_headers.get(host) {
                Some(place) => *place,
                None => self.host(Identity::Named(Arc::clone(host)), host)?,
            }
        };
        if let Some(host) = self.hosts.get_mut(place) {
            if let (Record::Reset(record), false) = (record, is_captured) {
                // Without a header there is no run to count it in.
                reset.run = host.cover.record(record.time, record.internals.ktime_ns, record.seq, record.count);
            }
            host.resets.push(reset);
        }
        Ok(())
    }

    /// Takes what passed the place of a capture. Fails where there are too many hosts.
    pub fn path(&mut self, path: &CapturedPath) -> Result<(), JoinError> {
        let place = self.capture()?;
        if let Some(host) = self.hosts.get_mut(place) {
            host.wire = Some(WireCover::new(path));
        }
        Ok(())
    }

    /// Joins what was taken. Fails where it is of one host.
    pub fn finish(self) -> Result<Joined, JoinError> {
        let mut hosts = merged(self.hosts);
        hosts.iter_mut().for_each(GatheredHost::finish);
        match hosts.as_slice() {
            [] => return Err(JoinError::NoHost),
            [host] => return Err(JoinError::OneHost(host.name.to_string())),
            _ => {}
        }
        tell_apart(&mut hosts);
        Ok(Joined::of(hosts))
    }

    /// The host that the capture stands for.
    fn capture(&mut self) -> Result<usize, JoinError> {
        self.is_capture = true;
        let name = self.name.rsplit('/').next().unwrap_or(&self.name).to_owned();
        self.host(Identity::Captured(self.input), &name)
    }

    /// The host of an identity, which may be a new one.
    fn host(&mut self, identity: Identity, name: &str) -> Result<usize, JoinError> {
        let place = match self.by_identity.get(&identity) {
            Some(place) => *place,
            None if self.hosts.len() >= HOSTS_MAX => return Err(JoinError::TooManyHosts),
            None => {
                self.hosts.push(GatheredHost::new(identity.clone(), name, self.hosts.len()));
                self.by_identity.insert(identity, self.hosts.len() - 1);
                self.hosts.len() - 1
            }
        };
        if let Some(host) = self.hosts.get_mut(place)
            && host.inputs.last() != Some(&self.name)
        {
            host.inputs.push(self.name.clone());
        }
        Ok(place)
    }
}

/// Merges what is of one host: a recording of all its namespaces has those of one, and records without headers are of the host
/// with their name, where there is one such.
fn merged(all: Vec<GatheredHost>) -> Vec<GatheredHost> {
    let mut hosts: Vec<GatheredHost> = Vec::new();
    let (mut recorded, named): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|host| !matches!(host.identity, Identity::Named(_)));
    recorded.sort_by_key(|host| matches!(host.identity, Identity::Recorded { netns: Some(_), .. }));
    for host in recorded {
        let is_whole = |other: &&mut GatheredHost| match (&other.identity, &host.identity) {
            (
                Identity::Recorded { machine, host, netns: None },
                Identity::Recorded { machine: other_machine, host: other_host, .. },
            ) => machine == other_machine && host == other_host,
            _ => false,
        };
        match hosts.iter_mut().find(is_whole) {
            Some(whole) => whole.absorb(host),
            None => hosts.push(host),
        }
    }
    for host in named {
        let is_of = |other: &&mut GatheredHost| match (&other.identity, &host.identity) {
            (Identity::Recorded { host, .. }, Identity::Named(name)) => host == name,
            _ => false,
        };
        let mut owners: Vec<&mut GatheredHost> = hosts.iter_mut().filter(is_of).collect();
        match owners.as_mut_slice() {
            [owner] => owner.absorb(host),
            _ => hosts.push(host),
        }
    }
    hosts.sort_by_key(|host| host.order);
    hosts
}

/// Gives hosts of one name different ones: that of their input, or a number.
fn tell_apart(hosts: &mut [GatheredHost]) {
    let input = |host: &GatheredHost| {
        let input = host.inputs.first().map(|input| input.trim_end_matches('/').rsplit('/').next().unwrap_or(input));
        truncate(input.unwrap_or_default(), NAME).into_owned()
    };
    let names: Vec<(Arc<str>, String)> = hosts.iter().map(|host| (Arc::clone(&host.name), input(host))).collect();
    for ((number, host), (name, input)) in (1_u64..).zip(hosts).zip(&names) {
        if names.iter().filter(|(other, _)| other == name).count() > 1 {
            let is_twice = names.iter().filter(|other| (&other.0, &other.1) == (name, input)).count() > 1;
            host.name =
                if is_twice { format!("{name} ({input}, {number})") } else { format!("{name} ({input})") }.into();
        }
    }
}
