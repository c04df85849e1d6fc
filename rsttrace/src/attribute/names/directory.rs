//! The names that are known at one time: containers and pods by id, addresses.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use foldhash::HashMap;

use super::{
    file::NamesFile,
    findings::{ADDRESSES_MAX, Claim, ContainerFacts, Findings, ID_LENGTH},
    tree::ENTRIES_MAX,
};
use crate::model::{Container, Pod};

/// Most bytes of all known containers, those that have ended included.
const BYTES_MAX: usize = 4 << 20;

/// Time for which an address keeps its name after its container has ended, nanoseconds. The resets of a container that
/// ends come about then. No other container has the address meanwhile: that one would be found with it.
const ADDRESS_KEPT_NS: u64 = 60_000_000_000;

/// A known container.
#[derive(Clone, Debug)]
struct Known {
    facts: Arc<ContainerFacts>,
    /// Time of the last refresh that found it, nanoseconds of `CLOCK_MONOTONIC`.
    found_ns: u64,
}

/// A known address of a container or pod.
#[derive(Clone, Debug)]
struct Address {
    name: Arc<str>,
    /// Time of the last refresh that found it, nanoseconds of `CLOCK_MONOTONIC`.
    found_ns: u64,
}

/// Names of containers, pods and addresses at one time.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// By id. Kept beyond the end of the container: an id is never used again.
    containers: HashMap<Arc<str>, Known>,
    /// By UID.
    pods: HashMap<Arc<str>, Arc<Pod>>,
    /// Addresses of containers and pods.
    claimed: HashMap<IpAddr, Address>,
    /// Names of single addresses, of every origin.
    addresses: HashMap<IpAddr, Arc<str>>,
    /// Whether there is a directory of a container engine or a kubelet.
    pub(super) has_engine: bool,
    /// Directory that exists and that this user may not read, with the error.
    pub(super) denied: Option<String>,
}

impl Directory {
    /// The names of the user's file alone.
    pub(super) fn of_file(file: &NamesFile) -> Self {
        Self { addresses: file.addresses.clone(), ..Self::default() }
    }

    /// The directory after a refresh at `now_ns`, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) fn refreshed(&self, findings: Findings, file: &NamesFile, now_ns: u64, denied: Option<String>) -> Self {
        let Findings { containers, pods, addresses, hosts, has_engine, .. } = findings;
        let claimed = self.claimed(addresses, now_ns);
        let mut names = hosts;
        names.extend(claimed.iter().map(|(&address, known)| (address, Arc::clone(&known.name))));
        names.extend(file.addresses.iter().map(|(&address, name)| (address, Arc::clone(name))));
        let mut all_pods = pods;
        for (uid, pod) in &self.pods {
            if all_pods.len() < ENTRIES_MAX {
                all_pods.entry(Arc::clone(uid)).or_insert_with(|| Arc::clone(pod));
            }
        }
        let containers = self.containers(containers, now_ns);
        Self { containers, pods: all_pods, claimed, addresses: names, has_engine, denied }
    }

    /// The containers that were found, and of the others those that were found last, as many as there is room for.
    fn containers(&self, found: HashMap<Arc<str>, ContainerFacts>, now_ns: u64) -> HashMap<Arc<str>, Known> {
        let known = |(id, facts): (Arc<str>, ContainerFacts)| {
            let before = self.containers.get(&id).filter(|before| *before.facts == facts);
            let facts = before.map_or_else(|| Arc::new(facts), |before| Arc::clone(&before.facts));
            (id, Known { facts, found_ns: now_ns })
        };
        let mut containers: HashMap<_, _> = found.into_iter().map(known).collect();
        let mut bytes: usize = containers.iter().map(|(id, known)| id.len() + known.facts.bytes()).sum();
        let mut others: Vec<_> = self.containers.iter().filter(|(id, _)| !containers.contains_key(*id)).collect();
        others.sort_unstable_by_key(|(_, known)| std::cmp::Reverse(known.found_ns));
        for (id, known) in others {
            bytes += id.len() + known.facts.bytes();
            if containers.len() >= ENTRIES_MAX || bytes > BYTES_MAX {
                break;
            }
            containers.insert(Arc::clone(id), known.clone());
        }
        containers
    }

    /// The addresses that were found, and those that have lost their container within [`ADDRESS_KEPT_NS`].
    fn claimed(&self, found: HashMap<IpAddr, Claim>, now_ns: u64) -> HashMap<IpAddr, Address> {
        let kept = self.claimed.iter().filter(|(address, known)| {
            !found.contains_key(*address) && now_ns.saturating_sub(known.found_ns) < ADDRESS_KEPT_NS
        });
        let kept: Vec<_> = kept.map(|(&address, known)| (address, known.clone())).collect();
        let found = found.into_iter().filter_map(|(address, claim)| match claim {
            Claim::Name(name) => Some((address, Address { name, found_ns: now_ns })),
            Claim::Ambiguous => None,
        });
        found.chain(kept).take(ADDRESSES_MAX).collect()
    }

    /// Whether name and image of a container are known.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.containers.get(id).is_some_and(|known| known.facts.name.is_some() && known.facts.image.is_some())
    }

    /// Whether every container of these has a known name.
    pub(super) fn has_names_of(&self, ids: &BTreeSet<Arc<str>>) -> bool {
        ids.iter().all(|id| self.containers.get(engine_id(id)).is_some_and(|known| known.facts.name.is_some()))
    }

    /// Names of the known containers.
    pub(super) fn container_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.containers.values().filter_map(|known| known.facts.name.as_ref())
    }

    /// The known pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Pod> {
        let of_containers = self.containers.values().filter_map(|known| known.facts.pod.as_deref());
        self.pods.values().map(|pod| &**pod).chain(of_containers)
    }

    /// Whether the kubelet has named pods: it names all of them.
    pub(super) fn has_pods(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Names of single addresses.
    pub(super) fn address_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.addresses.values()
    }

    /// Names a container, and returns its pod.
    pub(super) fn name_container(&self, container: &mut Container) -> Option<Arc<Pod>> {
        let facts = self.containers.get(engine_id(&container.id)).map(|known| &*known.facts);
        if let Some(ContainerFacts { name, image, service, pod: _ }) = facts {
            (container.name, container.image, container.service) = (name.clone(), image.clone(), service.clone());
        }
        let of_container = facts.and_then(|facts| facts.pod.as_ref());
        // The UID of the cgroup is the kernel's: names of pods are used again, by a StatefulSet for example.
        let Some(uid) = &container.pod_uid else { return of_container.cloned() };
        if let Some(pod) = of_container.filter(|pod| pod.uid == *uid) {
            return Some(Arc::clone(pod));
        }
        let pod = self.pods.get(uid)?;
        Some(container.name.as_ref().map_or_else(
            || Arc::clone(pod),
            |name| Arc::new(Pod { container: Some(Arc::clone(name)), ..Pod::clone(pod) }),
        ))
    }

    /// Name of an address; `None` if it has none of its own. A network may have one.
    pub(super) fn address(&self, address: IpAddr) -> Option<&Arc<str>> {
        if self.addresses.is_empty() { None } else { self.addresses.get(&address) }
    }
}

/// Id by which the engine knows a container: of Amazon ECS the part behind the task.
pub(super) fn engine_id(id: &str) -> &str {
    // As long as an id is, there is no task before it.
    if id.len() == ID_LENGTH { id } else { id.rsplit('/').next().unwrap_or(id) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::names::findings::text;

    const SECOND: u64 = 1_000_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn refreshed(before: &Directory, now_ns: u64, find: impl FnOnce(&mut Findings)) -> Directory {
        let mut findings = Findings::default();
        find(&mut findings);
        before.refreshed(findings, &NamesFile::default(), now_ns, None)
    }

    fn named(directory: &Directory, address: &str) -> Option<String> {
        directory.address(self::address(address)).map(ToString::to_string)
    }

    fn container(id: &str, pod_uid: Option<&str>) -> Container {
        let pod_uid = pod_uid.map(Into::into);
        Container { runtime: None, id: id.into(), pod_uid, name: None, image: None, service: None }
    }

    #[test]
    fn an_address_keeps_its_name_for_a_while() {
        let one = refreshed(&Directory::default(), SECOND, |found| found.address(address("10.0.0.2"), "web".into()));
        let gone = refreshed(&one, 2 * SECOND, |_| ());
        assert_eq!(named(&gone, "10.0.0.2").as_deref(), Some("web"));
        let later = refreshed(&gone, 60 * SECOND, |_| ());
        assert_eq!(named(&later, "10.0.0.2").as_deref(), Some("web"));
        assert_eq!(named(&refreshed(&later, 61 * SECOND, |_| ()), "10.0.0.2"), None);
        let reused = refreshed(&gone, 3 * SECOND, |found| found.address(address("10.0.0.2"), "db".into()));
        assert_eq!(named(&reused, "10.0.0.2").as_deref(), Some("db"), "the next container has it at once");
        let disputed = refreshed(&gone, 3 * SECOND, |found| {
            found.address(address("10.0.0.2"), "db".into());
            found.address(address("10.0.0.2"), "cache".into());
        });
        assert_eq!(named(&disputed, "10.0.0.2"), None);
    }

    #[test]
    fn the_users_file_precedes_containers_and_those_hosts() {
        let file = NamesFile::parse("'10.0.0.2' = 'mine'\n'10.0.0.0/24' = 'net'").expect("a good file");
        let mut findings = Findings::default();
        for number in 2..=3 {
            findings.address(address(&format!("10.0.0.{number}")), "container".into());
        }
        for number in 2..=4 {
            findings.host(address(&format!("10.0.0.{number}")), "host".into());
        }
        let directory = Directory::of_file(&file).refreshed(findings, &file, SECOND, None);
        let names = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"].map(|address| named(&directory, address));
        assert_eq!(names.each_ref().map(Option::as_deref), [Some("mine"), Some("container"), Some("host"), None]);
        assert_eq!(named(&Directory::of_file(&file), "10.0.0.2").as_deref(), Some("mine"));
    }

    #[test]
    fn a_container_is_known_beyond_its_end() {
        let facts = || ContainerFacts { name: text("web"), image: text("nginx"), ..ContainerFacts::default() };
        let one = refreshed(&Directory::default(), SECOND, |found| found.container("id", facts()));
        let later = refreshed(&one, 3600 * SECOND, |_| ());
        assert!(later.knows("id") && !later.knows("other"));
        let mut container = container("task/id", None);
        assert_eq!(later.name_container(&mut container), None);
        assert_eq!((container.name.as_deref(), container.image.as_deref()), (Some("web"), Some("nginx")));
    }

    #[test]
    fn the_uid_of_the_cgroup_selects_the_pod() {
        let pod = |uid: &str, container: Option<&str>| Pod {
            namespace: "shop".into(),
            name: "db-0".into(),
            uid: uid.into(),
            container: container.and_then(text),
        };
        let directory = refreshed(&Directory::default(), SECOND, |found| {
            found.pod(pod("old", None));
            found.pod(pod("new", None));
            found.container(
                "exact",
                ContainerFacts { pod: Some(pod("new", Some("main")).into()), ..Default::default() },
            );
            found.container("named", ContainerFacts { name: text("main"), ..Default::default() });
            found.container("stale", ContainerFacts { pod: Some(pod("old", Some("x")).into()), ..Default::default() });
        });
        for (id, uid, expected) in [
            ("exact", Some("new"), Some(("new", Some("main")))),
            ("exact", None, Some(("new", Some("main")))),
            ("named", Some("new"), Some(("new", Some("main")))),
            ("named", Some("other"), None),
            ("stale", Some("new"), Some(("new", None))),
            ("unknown", Some("old"), Some(("old", None))),
            ("unknown", None, None),
        ] {
            let found = directory.name_container(&mut container(id, uid));
            let found = found.as_ref().map(|pod| (&*pod.uid, pod.container.as_deref()));
            assert_eq!(found, expected, "{id} {uid:?}");
        }
    }

    #[test]
    fn the_directory_is_bounded() {
        let mut directory = Directory::default();
        let long: Arc<str> = "x".repeat(250).into();
        for round in 0..5_u64 {
            directory = refreshed(&directory, round * SECOND, |found| {
                for number in 0..3000_u32 {
                    let id = format!("{round}-{number}");
                    let facts = ContainerFacts { name: Some(Arc::clone(&long)), ..ContainerFacts::default() };
                    found.container(&id, facts);
                    let ip = 0x0a00_0000 + u32::try_from(round).expect("small") * 3000 + number;
                    found.address(std::net::Ipv4Addr::from(ip).into(), "a".into());
                }
            });
            assert!(directory.containers.contains_key(&*format!("{round}-0")), "those that are there now");
        }
        assert!(directory.containers.len() <= ENTRIES_MAX && directory.containers.len() > 3000);
        assert_eq!(directory.claimed.len(), ADDRESSES_MAX);
    }
}
