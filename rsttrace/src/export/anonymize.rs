//! Pseudonyms in place of addresses, names and command lines. One original has one pseudonym throughout an export, and another
//! in the next: they are numbered as they come.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::{
    diagnose::program_hints,
    model::{
        Cause, Container, Endpoint, Forwarded, Ignored, OtherEnd, Pod, Process, Record, RecordingHeader, Reset,
        Translated,
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

/// Originals of one record that its texts may contain, with their pseudonyms.
#[derive(Default)]
struct Replaced(Vec<(String, String)>);

impl Replaced {
    fn add(&mut self, original: &str, pseudonym: &str) {
        if !original.is_empty() && original != pseudonym {
            self.0.push((original.to_owned(), pseudonym.to_owned()));
        }
    }

    /// The text with pseudonyms; the longest original first, since it may contain others.
    fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (original, pseudonym)| text.replace(original, pseudonym))
    }
}

impl Anonymizer {
    /// Replaces what is in a record.
    pub(crate) fn record(&mut self, record: &mut Record) {
        match record {
            Record::Reset(reset) => self.reset(Arc::make_mut(reset)),
            Record::Ignored(ignored) => self.ignored(Arc::make_mut(ignored)),
            Record::Forwarded(forwarded) => self.forwarded(Arc::make_mut(forwarded)),
            Record::Lost(_) | Record::Summary(_) => {}
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
    }

    fn reset(&mut self, reset: &mut Reset) {
        let mut replaced = Replaced::default();
        self.text_name("host", &mut reset.host, &mut replaced);
        self.end(&mut reset.local, &mut replaced);
        self.address(&mut reset.peer.address, &mut replaced);
        self.optional("peer", &mut reset.peer.name, &mut replaced);
        if let Some(process) = &mut reset.process {
            self.process(process, &mut replaced);
        }
        if let Some(actor) = &mut reset.actor {
            self.comm(&mut actor.comm, &mut replaced);
        }
        if let Some(path) = reset.cgroup.as_mut().and_then(|cgroup| cgroup.path.as_mut()) {
            *path = (&*self.name("/cgroup", path)).into();
        }
        self.optional("unit", &mut reset.unit, &mut replaced);
        if let Some(container) = &mut reset.container {
            self.container(container, &mut replaced);
        }
        if let Some(pod) = &mut reset.pod {
            self.pod(Arc::make_mut(pod), &mut replaced);
        }
        if let Some(Translated { local, peer, .. }) = &mut reset.translated {
            self.end(local, &mut replaced);
            self.end(peer, &mut replaced);
        }
        if let Some(OtherEnd { process, container, .. }) = &mut reset.other_end {
            if let Some(process) = process {
                self.comm(&mut process.comm, &mut replaced);
            }
            if let Some(container) = container {
                self.container(container, &mut replaced);
            }
        }
        self.internals(&mut reset.internals, &mut replaced);
        replaced.0.sort_by_key(|(original, _)| std::cmp::Reverse(original.len()));
        cause(&mut reset.cause, &replaced);
    }

    fn ignored(&mut self, ignored: &mut Ignored) {
        let mut replaced = Replaced::default();
        self.text_name("host", &mut ignored.host, &mut replaced);
        self.end(&mut ignored.local, &mut replaced);
        self.address(&mut ignored.peer.address, &mut replaced);
        self.optional("peer", &mut ignored.peer.name, &mut replaced);
        if let Some(process) = &mut ignored.process {
            self.process(process, &mut replaced);
        }
    }

    fn forwarded(&mut self, forwarded: &mut Forwarded) {
        let mut replaced = Replaced::default();
        self.text_name("host", &mut forwarded.host, &mut replaced);
        self.end(&mut forwarded.from, &mut replaced);
        self.end(&mut forwarded.to, &mut replaced);
        self.optional("interface", &mut forwarded.interface.name, &mut replaced);
    }

    /// Facts: the processes and addresses in them.
    fn internals(&mut self, internals: &mut Internals, replaced: &mut Replaced) {
        let found = &mut internals.holder_findings;
        let tasks = [&mut internals.owner, &mut internals.holder, &mut found.holder, &mut found.closer];
        for KernelTask { comm, .. } in tasks.into_iter().flatten() {
            self.comm(comm, replaced);
        }
        if let Some(entry) = &mut internals.conntrack {
            for tuple in [&mut entry.original, &mut entry.reply] {
                self.end(&mut tuple.source, replaced);
                self.end(&mut tuple.destination, replaced);
            }
        }
    }

    fn process(&mut self, process: &mut Process, replaced: &mut Replaced) {
        let Process { comm, executable, command_line, user, cgroup, .. } = process;
        self.comm(comm, replaced);
        self.optional("/executable", executable, replaced);
        self.optional("command line", command_line, replaced);
        self.optional("user", user, replaced);
        if let Some(path) = cgroup {
            *path = (&*self.name("/cgroup", path)).into();
        }
    }

    fn container(&mut self, container: &mut Container, replaced: &mut Replaced) {
        let Container { runtime: _, id, pod_uid, name, image, service } = container;
        self.text_name("container", id, replaced);
        self.optional("pod-uid", pod_uid, replaced);
        self.optional("container-name", name, replaced);
        self.optional("image", image, replaced);
        self.optional("service", service, replaced);
    }

    fn pod(&mut self, pod: &mut Pod, replaced: &mut Replaced) {
        let Pod { namespace, name, uid, container } = pod;
        self.text_name("namespace", namespace, replaced);
        self.text_name("pod", name, replaced);
        self.text_name("pod-uid", uid, replaced);
        self.optional("container-name", container, replaced);
    }

    /// The name of a process. That of a well-known program stays: it says nothing of the host, and much of the cause.
    fn comm(&mut self, comm: &mut Arc<str>, replaced: &mut Replaced) {
        if !program_hints::is_well_known(comm) {
            self.text_name("process", comm, replaced);
        }
    }

    fn optional(&mut self, kind: &'static str, name: &mut Option<Arc<str>>, replaced: &mut Replaced) {
        if let Some(name) = name {
            self.text_name(kind, name, replaced);
        }
    }

    fn text_name(&mut self, kind: &'static str, name: &mut Arc<str>, replaced: &mut Replaced) {
        let pseudonym = self.name(kind, name);
        replaced.add(name, &pseudonym);
        *name = pseudonym;
    }

    fn end(&mut self, end: &mut Endpoint, replaced: &mut Replaced) {
        self.address(&mut end.address, replaced);
    }

    fn address(&mut self, address: &mut IpAddr, replaced: &mut Replaced) {
        let pseudonym = self.pseudonym_of(*address);
        replaced.add(&address.to_string(), &pseudonym.to_string());
        *address = pseudonym;
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

/// Replaces what is in the texts of a cause. The codes are this program's own.
fn cause(cause: &mut Cause, replaced: &Replaced) {
    let lines: Vec<String> = cause.evidence.lines().map(|line| replaced.text(line)).collect();
    cause.evidence = std::mem::take(&mut cause.evidence).cleared();
    for line in &lines {
        cause.evidence.push_parts([line]);
    }
    cause.advice = replaced.text(&cause.advice).into();
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
}
