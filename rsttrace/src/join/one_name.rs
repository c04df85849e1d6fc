//! Machines, or network namespaces of one machine, with one name in one input: told by headers and clocks, since lines name hosts
//! alone.

use std::sync::Arc;

use foldhash::HashMap;
use jiff::Timestamp;

use crate::model::{Mark, RecordingHeader};

/// Most headers of one name that are compared.
const HEADERS_MAX: usize = 64;
/// Smallest difference between the two clocks of a line and those of a header by which they are of different boots, nanoseconds.
const APART_NS: i128 = 1_000_000_000;

/// The machines and boots that the headers of an input name, by the name of the host.
#[derive(Debug, Default)]
pub(super) struct OneName(HashMap<Arc<str>, Named>);

#[derive(Debug, Default)]
struct Named {
    boots: Vec<KnownBoot>,
    is_told: bool,
    /// Whether the last mark was the end of a run.
    is_ended: bool,
}

/// A boot of a machine, by its last header.
#[derive(Debug)]
struct KnownBoot {
    machine: Option<String>,
    boot: Option<String>,
    time: Timestamp,
    monotonic_ns: u64,
    place: usize,
}

impl KnownBoot {
    fn has_clocks_of(&self, mark: &Mark) -> bool {
        let monotonic = i128::from(mark.monotonic_ns) - i128::from(self.monotonic_ns);
        let wall = mark.time.as_nanosecond() - self.time.as_nanosecond();
        (wall - monotonic).abs() < APART_NS
    }
}

impl OneName {
    /// Takes a header, of the host at this place. Returns both places, once for each name, where an earlier boot goes on after the
    /// begin of a later one, or a recording of another namespace begins before the end of the one before.
    pub(super) fn header(&mut self, header: &RecordingHeader, place: usize) -> Option<[usize; 2]> {
        let named = self.0.entry(Arc::clone(&header.host)).or_default();
        let is_of = |known: &KnownBoot| known.machine == header.of.machine_id && known.boot == header.of.boot_id;
        let known = named.boots.iter().position(is_of);
        let last = named.boots.last().map(|last| (last.time, last.place));
        let of = KnownBoot {
            machine: header.of.machine_id.clone(),
            boot: header.of.boot_id.clone(),
            time: header.time,
            monotonic_ns: header.clock.monotonic_ns,
            place,
        };
        match known {
            Some(known) if known + 1 == named.boots.len() => {
                let other = last.map(|(_, other)| other).filter(|other| *other != place && !named.is_ended);
                *named.boots.last_mut()? = of;
                named.tell([place, other?])
            }
            // An older one may have been delivered again.
            Some(_) => {
                let (_, other) = last.filter(|(time, _)| *time < header.time)?;
                named.tell([place, other])
            }
            None if named.boots.len() < HEADERS_MAX => {
                named.boots.push(of);
                None
            }
            None => None,
        }
    }

    /// Takes a mark of a host with this name. Returns both places, once for each name, where it is of an earlier boot than the last
    /// header, and later.
    pub(super) fn mark(&mut self, name: &Arc<str>, mark: &Mark) -> Option<[usize; 2]> {
        let named = self.0.get_mut(name)?;
        named.is_ended = mark.last;
        let (last, earlier) = named.boots.split_last()?;
        if last.has_clocks_of(mark) || mark.time <= last.time {
            return None;
        }
        let other = earlier.iter().find(|boot| boot.has_clocks_of(mark))?;
        let places = [last.place, other.place];
        named.tell(places)
    }
}

impl Named {
    fn tell(&mut self, places: [usize; 2]) -> Option<[usize; 2]> {
        (!std::mem::replace(&mut self.is_told, true)).then_some(places)
    }
}
