//! Packet captures as a source of records.
//!
//! The connections of a capture are followed, and each reset becomes the record that a live run on one of the hosts would have
//! made, as far as the packets show it. Reads nothing itself but the bytes that it is given. Whatever is in them was written by
//! strangers: blocks, connections and what is kept of each packet are bounded.

mod captured_path;
mod followed;
mod follower;
#[cfg(test)]
mod follower_tests;
mod half;
mod link_layer;
mod packets;
mod perspective;
mod tcp_segment;
mod vantage;
mod wire_reset;

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use ipnet::IpNet;
use rsttrace_common::abi::tcp_flag;

pub use self::{
    captured_path::{CapturedConnection, CapturedPath, CapturedSide},
    follower::{Captured, FollowedCounts, Follower},
    link_layer::LinkType,
    packets::{CaptureError, Packets, RawPacket},
    perspective::{INITIAL_TTLS, Inference, Perspective},
    tcp_segment::{NoSegment, TcpOptions, TcpSegment},
};
use self::{follower::write_counts, perspective::PerspectiveFinder};

/// Segments that are read before it is decided which host is this one.
const READ_AHEAD: usize = 20_000;

/// Packets that are no TCP segments.
#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    packets: u64,
    other: u64,
    fragments: u64,
    cut_off: u64,
    /// Packets of link types that are not read, and the first of those.
    links: u64,
    link: Option<i32>,
}

/// What one file of a capture hands on to the next: its open connections, and what was counted.
pub struct Carried {
    follower: Follower,
    left_out: LeftOut,
}

/// A capture that is read and followed.
pub struct Capture {
    packets: Packets,
    follower: Option<Follower>,
    /// What the file before it has handed on.
    carried: Option<Follower>,
    hosts: Vec<IpNet>,
    number: u64,
    /// Whether more of it is still to come: it is decided at the first reset which host is this one.
    is_pipe: bool,
    /// Segments that were read ahead.
    ahead: VecDeque<TcpSegment>,
    records: VecDeque<Captured>,
    left_out: LeftOut,
    error: Option<CaptureError>,
}

impl Capture {
    /// Begins to read a capture. `hosts` are the addresses of this host, where they are given; `number` is one that no other
    /// capture of the run has; of a pipe, records come as soon as their packets. Blocks until the header is there. Fails where
    /// there is no whole one.
    pub fn new(input: impl Read + Send + 'static, hosts: Vec<IpNet>, number: u64, is_pipe: bool) -> io::Result<Self> {
        Ok(Self {
            packets: Packets::new(input)?,
            follower: None,
            carried: None,
            hosts,
            number,
            is_pipe,
            ahead: VecDeque::new(),
            records: VecDeque::new(),
            left_out: LeftOut::default(),
            error: None,
        })
    }

    /// The next record; `None` at the end, and after an error ([`Self::end`]). Blocks until it is there.
    pub fn next_record(&mut self) -> Option<Captured> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Some(record);
            }
            if self.follower.is_none() {
                self.follower = Some(self.begin());
            }
            let segment = match self.ahead.pop_front() {
                Some(segment) => segment,
                None => self.next_segment()?,
            };
            let records = &mut self.records;
            self.follower.as_mut()?.follow(&segment, &mut |record| records.push_back(record));
        }
    }

    /// Whether a record can be had without reading on.
    pub fn has_buffered(&self) -> bool {
        !self.records.is_empty() || !self.ahead.is_empty()
    }

    /// Goes on with the connections of the file before it. To be called before the first record is read.
    pub fn go_on_with(&mut self, before: Carried) {
        (self.carried, self.left_out) = (Some(before.follower), before.left_out);
    }

    /// Time of the first packet of TCP, nanoseconds since 1970; `None` where there is none. Blocks until it is there.
    pub fn first_ns(&mut self) -> Option<u64> {
        let segment = self.ahead.front().copied().or_else(|| self.next_segment())?;
        if self.ahead.is_empty() {
            self.ahead.push_back(segment);
        }
        Some(segment.time_ns)
    }

    /// Why it could not be read to its end, and what a file that goes on with it needs.
    pub fn end(mut self) -> (Option<CaptureError>, Carried) {
        let follower = self.follower.take().unwrap_or_else(|| self.begin());
        (self.error, Carried { follower, left_out: self.left_out })
    }

    /// Decides which host is this one.
    fn begin(&mut self) -> Follower {
        if self.carried.is_none() && !self.hosts.is_empty() {
            return Follower::new(Perspective::Given(std::mem::take(&mut self.hosts)), self.number);
        }
        if let Some(carried) = self.carried.take_if(|carried| !carried.perspective().has_others()) {
            return carried;
        }
        let mut finder = PerspectiveFinder::default();
        self.ahead.iter().for_each(|segment| finder.observe(segment));
        while self.ahead.len() < READ_AHEAD
            && let Some(segment) = self.next_segment()
        {
            finder.observe(&segment);
            self.ahead.push_back(segment);
            if self.is_pipe && segment.has(tcp_flag::RST) {
                break;
            }
        }
        let Some(mut carried) = self.carried.take() else { return Follower::new(finder.conclude(), self.number) };
        let is_host = |address| carried.perspective().is_host(address);
        let is_seen = self.ahead.iter().any(|segment| is_host(segment.from.address) || is_host(segment.to.address));
        if !is_seen && !self.ahead.is_empty() {
            carried.look_from(finder.conclude());
        }
        carried
    }

    fn next_segment(&mut self) -> Option<TcpSegment> {
        loop {
            let packet = match self.packets.next_packet() {
                Ok(packet) => packet?,
                Err(error) => {
                    self.error.get_or_insert(error);
                    return None;
                }
            };
            self.left_out.packets += 1;
            match TcpSegment::of(packet) {
                Ok(segment) => return Some(segment),
                Err(why) => self.left_out.count(why),
            }
        }
    }
}

impl Carried {
    /// Times of the first and the last packet of TCP, nanoseconds since 1970; `None` where there was none.
    pub fn span_ns(&self) -> Option<(u64, u64)> {
        self.follower.span_ns()
    }

    /// What passed the place of capture, of the connections that are still remembered.
    pub fn path(&self) -> CapturedPath {
        self.follower.path()
    }

    /// How it was read, in sentences: what there was in it and which host is this one; where it was captured.
    pub fn remarks(&self) -> Vec<String> {
        let (resets, segments) = (self.follower.counts().resets, self.follower.counts().segments);
        let packets = self.left_out.packets;
        let mut remark = format!(
            "{packets} packet{}, {segments} of TCP, {resets} reset{}",
            if packets == 1 { "" } else { "s" },
            if resets == 1 { "" } else { "s" }
        );
        if segments == 0 {
            return vec![remark];
        }
        let perspective = self.follower.perspective().to_string();
        if !perspective.is_empty() {
            remark.push_str("; ");
            remark.push_str(&perspective);
        }
        [remark, self.follower.vantage()].into_iter().filter(|remark| !remark.is_empty()).collect()
    }

    /// What of it was left out or looks incomplete, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let notes = [self.follower.counts().to_string(), self.left_out.to_string()];
        notes.into_iter().filter(|note| !note.is_empty()).collect()
    }

    /// Whether no packet of it could be read.
    pub fn is_foreign(&self) -> bool {
        self.left_out.packets > 0 && self.left_out.links == self.left_out.packets
    }
}

impl LeftOut {
    fn count(&mut self, why: NoSegment) {
        match why {
            NoSegment::Other => self.other += 1,
            NoSegment::Fragment => self.fragments += 1,
            NoSegment::CutOff => self.cut_off += 1,
            NoSegment::Link(link) => {
                self.links += 1;
                self.link.get_or_insert(link);
            }
        }
    }
}

/// What was left out, in sentences; other protocols are no loss.
impl std::fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { fragments, cut_off, links, link, .. } = *self;
        let parts = [
            (fragments, "IP fragment was left out", "IP fragments were left out"),
            (
                cut_off,
                "packet was captured too short to have a TCP header (tcpdump -s 128 is enough)",
                "packets were captured too short to have a TCP header (tcpdump -s 128 is enough)",
            ),
        ];
        let separator = if write_counts(&parts, formatter)? { "; " } else { "" };
        match link {
            Some(-1) => {
                let are = if links == 1 { "packet is" } else { "packets are" };
                write!(formatter, "{separator}{links} {are} of interfaces that the file does not describe")
            }
            Some(link) if links > 0 => {
                let have = if links == 1 { "packet has" } else { "packets have" };
                write!(formatter, "{separator}{links} {have} the link type {link}, which is not read")
            }
            _ => Ok(()),
        }
    }
}
