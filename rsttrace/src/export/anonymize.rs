//! Pseudonyms in place of addresses, names and command lines. One original has one pseudonym throughout an export, and another
//! in the next: they are numbered as they come.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use crate::{
    diagnose::{catalogue, program_hints, timeouts::Timeouts},
    model::{
        Cause, Container, Direction, Endpoint, Forwarded, Ignored, Mark, OtherEnd, Pod, Process, Record,
        RecordingHeader, Reset, Translated,
        internals::{Internals, KernelTask},
    },
};

/// Replaces originals by pseudonyms.
#[derive(Default)]
pub(crate) struct Anonymizer {
    addresses: HashMap<IpAddr, IpAddr>,
    /// By kind of name and original.
    names: HashMap<(&'static str, Arc<str>), Arc<str>>,
    /// Names of each kind so far.
    counts: HashMap<&'static str, u64>,
}

impl Anonymizer {
    /// Replaces what is in a record.
    pub(crate) fn record(&mut self, record: &mut Record) {
        match record {
            Record::Reset(reset) => self.reset(Arc::make_mut(reset)),
            Record::Ignored(ignored) => self.ignored(Arc::make_mut(ignored)),
            Record::Forwarded(forwarded) => self.forwarded(Arc::make_mut(forwarded)),
            Record::Lost(lost) => self.optional("host", &mut lost.host),
            Record::Summary(_) => {}
        }
    }

    /// Replaces what is in the header of a recording.
    pub(crate) fn header(&mut self, header: &mut RecordingHeader) {
        header.host = self.name("host", &header.host);
        let of = Arc::make_mut(&mut header.of);
        for (kind, identifier) in [("machine", &mut of.machine_id), ("boot", &mut of.boot_id)] {
            if let Some(identifier) = identifier {
                *identifier = self.name(kind, identifier).to_string();
            }
        }
        of.addresses.iter_mut().flatten().for_each(|address| self.address(address));
        if let Some(filters) = &mut of.filters {
            for (name, peers) in [("--peer", &mut filters.peers), ("--not-peer", &mut filters.not_peers)] {
                // A network has no pseudonym: what it holds would not be in the pseudonym.
                if !std::mem::take(peers).is_empty() {
                    filters.others.push(name.to_owned());
                }
            }
        }
    }

    /// Replaces the host of a mark.
    pub(crate) fn mark(&mut self, mark: &mut Mark) {
        self.optional("host", &mut mark.host);
    }

    fn reset(&mut self, reset: &mut Reset) {
        self.text_name("host", &mut reset.host);
        self.end(&mut reset.local);
        self.address(&mut reset.peer.address);
        self.optional("peer", &mut reset.peer.name);
        if let Some(process) = &mut reset.process {
            self.process(process);
        }
        if let Some(actor) = &mut reset.actor {
            self.comm(&mut actor.comm);
        }
        if let Some(path) = reset.cgroup.as_mut().and_then(|cgroup| cgroup.path.as_mut()) {
            *path = (&*self.name("/cgroup", path)).into();
        }
        self.optional("unit", &mut reset.unit);
        if let Some(container) = &mut reset.container {
            self.container(container);
        }
        if let Some(pod) = &mut reset.pod {
            self.pod(Arc::make_mut(pod));
        }
        if let Some(Translated { local, peer, .. }) = &mut reset.translated {
            self.end(local);
            self.end(peer);
        }
        if let Some(OtherEnd { process, container, .. }) = &mut reset.other_end {
            if let Some(process) = process {
                self.comm(&mut process.comm);
            }
            if let Some(container) = container {
                self.container(container);
            }
        }
        self.internals(&mut reset.internals);
        self.cause(&mut reset.cause, reset.direction);
    }

    /// Replaces what is in the texts of a cause. Advice becomes that of the catalogue: what a host's own tables, or the other end,
    /// have added to it may name anything.
    fn cause(&mut self, cause: &mut Cause, direction: Direction) {
        let lines: Vec<String> = cause.evidence.lines().map(|line| self.text(without_own_timeouts(line))).collect();
        cause.evidence = std::mem::take(&mut cause.evidence).cleared();
        for line in &lines {
            cause.evidence.push_parts([line]);
        }
        cause.advice = catalogue::find_in(cause.code, direction).map_or("", |spec| spec.advice).into();
    }

    /// A line of evidence with pseudonyms for the addresses and names in it, each of which stands as a word of its own.
    fn text(&mut self, line: &str) -> String {
        let mut text = String::with_capacity(line.len());
        for word in line.split_inclusive([' ', '[', ']', ',', ';', '(', ')']) {
            let bare = word.trim_end_matches([' ', '[', ']', ',', ';', '(', ')']);
            text += &self.word(bare).unwrap_or_else(|| bare.to_owned());
            text += word.get(bare.len()..).unwrap_or_default();
        }
        // Names of more than one word.
        for ((kind, original), pseudonym) in &self.names {
            if *kind == "process" && original.contains([' ', '[', ']', ',', ';', '(', ')']) {
                text = text.replace(&**original, pseudonym);
            }
        }
        text
    }

    /// The pseudonym for a word that is an address, with or without a port, or the name of a process that was replaced.
    fn word(&mut self, word: &str) -> Option<String> {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Some(self.pseudonym_of(address).to_string());
        }
        if let Ok(end) = word.parse::<SocketAddr>() {
            return Some(SocketAddr::new(self.pseudonym_of(end.ip()), end.port()).to_string());
        }
        // IPv6 addresses with a port are in brackets, which part words.
        self.names.get(&("process", Arc::from(word))).map(ToString::to_string)
    }

    fn ignored(&mut self, ignored: &mut Ignored) {
        self.text_name("host", &mut ignored.host);
        self.end(&mut ignored.local);
        self.address(&mut ignored.peer.address);
        self.optional("peer", &mut ignored.peer.name);
        if let Some(process) = &mut ignored.process {
            self.process(process);
        }
    }

    fn forwarded(&mut self, forwarded: &mut Forwarded) {
        self.text_name("host", &mut forwarded.host);
        self.end(&mut forwarded.from);
        self.end(&mut forwarded.to);
        self.optional("interface", &mut forwarded.interface.name);
    }

    /// Facts: the processes and addresses in them.
    fn internals(&mut self, internals: &mut Internals) {
        let found = &mut internals.holder_findings;
        let tasks = [&mut internals.owner, &mut internals.holder, &mut found.holder, &mut found.closer];
        for KernelTask { comm, .. } in tasks.into_iter().flatten() {
            self.comm(comm);
        }
        if let Some(entry) = &mut internals.conntrack {
            for tuple in [&mut entry.original, &mut entry.reply] {
                self.end(&mut tuple.source);
                self.end(&mut tuple.destination);
            }
        }
    }

    fn process(&mut self, process: &mut Process) {
        let Process { comm, executable, command_line, user, cgroup, .. } = process;
        self.comm(comm);
        self.optional("/executable", executable);
        self.optional("command line", command_line);
        self.optional("user", user);
        if let Some(path) = cgroup {
            *path = (&*self.name("/cgroup", path)).into();
        }
    }

    fn container(&mut self, container: &mut Container) {
        let Container { runtime: _, id, pod_uid, name, image, service } = container;
        self.text_name("container", id);
        self.optional("pod-uid", pod_uid);
        self.optional("container-name", name);
        self.optional("image", image);
        self.optional("service", service);
    }

    fn pod(&mut self, pod: &mut Pod) {
        let Pod { namespace, name, uid, container } = pod;
        self.text_name("namespace", namespace);
        self.text_name("pod", name);
        self.text_name("pod-uid", uid);
        self.optional("container-name", container);
    }

    /// The name of a process. That of a well-known program stays: it says nothing of the host, and much of the cause.
    fn comm(&mut self, comm: &mut Arc<str>) {
        if !program_hints::is_well_known(comm) {
            self.text_name("process", comm);
        }
    }

    fn optional(&mut self, kind: &'static str, name: &mut Option<Arc<str>>) {
        if let Some(name) = name {
            self.text_name(kind, name);
        }
    }

    fn text_name(&mut self, kind: &'static str, name: &mut Arc<str>) {
        *name = self.name(kind, name);
    }

    fn end(&mut self, end: &mut Endpoint) {
        self.address(&mut end.address);
    }

    fn address(&mut self, address: &mut IpAddr) {
        *address = self.pseudonym_of(*address);
    }

    fn name(&mut self, kind: &'static str, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(&(kind, Arc::from(name))) {
            return Arc::clone(known);
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let pseudonym: Arc<str> = format!("{kind}-{count}").into();
        self.names.insert((kind, name.into()), Arc::clone(&pseudonym));
        pseudonym
    }

    /// An address of `10.0.0.0/8` or `fd00::/64`, of which there are enough for 16 million. Those that every host has (loopback, unspecified) stay.
    fn pseudonym_of(&mut self, address: IpAddr) -> IpAddr {
        if address.is_loopback() || address.is_unspecified() {
            return address;
        }
        let next = u32::try_from(self.addresses.len() + 1).unwrap_or(u32::MAX) & 0x00ff_ffff;
        *self.addresses.entry(address).or_insert_with(|| match address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(0x0a00_0000 | next).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits((0xfd00 << 112) | u128::from(next)).into(),
        })
    }
}

/// A line of evidence without the owners of timeouts in parentheses, where one of them is not of the built-in table.
fn without_own_timeouts(line: &str) -> &str {
    static BUILT_IN: LazyLock<Timeouts> = LazyLock::new(|| Timeouts::read(None).unwrap_or_default());
    let Some((before, owners)) = line.strip_suffix(')').and_then(|line| line.rsplit_once(" (")) else { return line };
    if !owners.contains(" s: ") {
        return line;
    }
    let names =
        owners.split("; ").flat_map(|of_time| of_time.split_once(" s: ").map_or("", |(_, names)| names).split(", "));
    let is_built_in = |name: &str| BUILT_IN.rows().iter().any(|row| row.owner == name);
    if names.into_iter().all(is_built_in) { line } else { before }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{Formatter as _, json::JsonFormatter},
        replay::{Line, parse_line},
    };

    fn line(record: &Record) -> String {
        let mut line = Vec::new();
        JsonFormatter::with_facts().write(record, &mut line).expect("a vector");
        String::from_utf8(line).expect("UTF-8")
    }

    /// Every text of the golden records that is an address or a name, but for loopback and well-known programs.
    const ORIGINALS: [&str; 10] = [
        "10.0.1.9",
        "10.0.0.5",
        "gw-1",
        "java -jar",
        "/usr/bin/java",
        "shop",
        "cart-7d9f",
        "web",
        "kubepods",
        "own-server",
    ];

    #[test]
    fn nothing_of_the_original_is_left_and_pseudonyms_are_stable() {
        let mut anonymizer = Anonymizer::default();
        let mut peers = HashMap::new();
        for text in include_str!("../../tests/golden/json.txt").lines() {
            let Ok(Line::Record(mut record)) = parse_line(text.as_bytes()) else { continue };
            let before = if let Record::Reset(reset) = &record { Some(reset.peer.address) } else { None };
            anonymizer.record(&mut record);
            let after = line(&record);
            let parsed: serde_json::Value = serde_json::from_str(&after).expect("JSON");
            for original in ORIGINALS {
                // Advice is of the catalogue, and may have words that are names elsewhere.
                let mut without_advice = parsed.clone();
                if let Some(cause) = without_advice.get_mut("cause").and_then(|cause| cause.as_object_mut()) {
                    cause.retain(|field, _| field != "advice" && field != "summary");
                }
                let is_pseudonym = original.starts_with("10.0.");
                assert!(is_pseudonym || !without_advice.to_string().contains(original), "{original}: {after}");
            }
            if let (Some(before), Record::Reset(reset)) = (before, &record) {
                assert_eq!(*peers.entry(before).or_insert(reset.peer.address), reset.peer.address);
            }
        }
        assert!(peers.len() > 1);
    }

    #[test]
    fn a_mark_has_the_pseudonym_of_its_host() {
        let line = br#"{"schema":1,"type":"mark","time":"2026-11-28T08:00:00Z","host":"gw-1","monotonic_ns":1,"resets":0,"lost":0,"undelivered":0,"counters":[],"last":false}"#;
        let Ok(Line::Mark(mut mark)) = parse_line(line) else { panic!("a mark") };
        let mut anonymizer = Anonymizer::default();
        anonymizer.mark(&mut mark);
        assert_eq!(mark.host.as_deref(), Some(&*anonymizer.name("host", "gw-1")));
        assert_ne!(mark.host.as_deref(), Some("gw-1"));
    }

    #[test]
    fn addresses_of_a_header_are_those_of_its_records() {
        let line = br#"{"schema":1,"type":"recording","time":"2026-11-28T08:00:00Z","format":1,"segment":1,"run":"2026-11-28T08:00:00Z","host":"gw-1","version":"0","machine_id":"m","boot_id":null,"kernel":"","architecture":"","filtered":false,"addresses":["172.31.77.2","2001:db8::7"],"degraded":[],"clock":{"monotonic_ns":0,"synchronized":null,"estimated_error_us":null}}"#;
        let Ok(Line::Header(mut header)) = parse_line(line) else { panic!("a header") };
        let mut anonymizer = Anonymizer::default();
        anonymizer.header(Arc::make_mut(&mut header));
        let originals = ["172.31.77.2", "2001:db8::7"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let pseudonyms = originals.map(|address| anonymizer.pseudonym_of(address));
        assert_eq!(header.of.addresses.as_deref(), Some(&pseudonyms[..]));
        assert!(originals.iter().all(|original| !pseudonyms.contains(original)));
    }

    #[test]
    fn words_are_replaced_and_parts_of_words_are_not() {
        let mut anonymizer = Anonymizer::default();
        let mut comm: Arc<str> = "a".into();
        anonymizer.comm(&mut comm);
        let mut other: Arc<str> = "my app".into();
        anonymizer.comm(&mut other);
        let line =
            "the other end is on this host: a[12] sent the reset, what had come from 172.31.77.2:47302, and my app[3]";
        let expected = "the other end is on this host: process-1[12] sent the reset, what had come from 10.0.0.1:47302, and process-2[3]";
        assert_eq!(anonymizer.text(line), expected);
        assert_eq!(anonymizer.text("TTL 64, fe80::1 and 127.0.0.1:80"), "TTL 64, fd00::2 and 127.0.0.1:80");
    }

    #[test]
    fn timeouts_of_a_host_are_left_out() {
        for (line, expected) in [
            (
                "the last send came after a silence of 3.0 s (3 s: quince)",
                "the last send came after a silence of 3.0 s",
            ),
            ("nothing had gone either way for 5.0 s (5 s: Node.js, quince)", "nothing had gone either way for 5.0 s"),
            (
                "nothing had gone either way for 5.0 s (5 s: Node.js)",
                "nothing had gone either way for 5.0 s (5 s: Node.js)",
            ),
            ("nothing had gone for 4.0 s (no known timeout)", "nothing had gone for 4.0 s (no known timeout)"),
        ] {
            assert_eq!(without_own_timeouts(line), expected);
        }
    }
}
