//! What the sources have said in one refresh, merged.

use std::{collections::hash_map::Entry, net::IpAddr, sync::Arc};

use foldhash::HashMap;

use super::tree::ENTRIES_MAX;
use crate::model::Pod;

/// Longest name or image that is kept, bytes; a longer one is cut and ends in `…`.
const TEXT_MAX: usize = 256;

/// Most bytes of all texts of a refresh.
const TEXTS_MAX: usize = 2 << 20;

/// Most addresses with a name.
pub(super) const ADDRESSES_MAX: usize = 8192;

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContainerFacts {
    pub(super) name: Option<Arc<str>>,
    pub(super) image: Option<Arc<str>>,
    pub(super) service: Option<Arc<str>>,
    pub(super) pod: Option<Arc<Pod>>,
}

impl ContainerFacts {
    /// Name for people: that of its pod, or else its own.
    pub(super) fn display_name(&self) -> Option<Arc<str>> {
        self.pod.as_ref().map(|pod| pod.to_string().into()).or_else(|| self.name.clone())
    }

    /// Size for bounds, bytes.
    pub(super) fn bytes(&self) -> usize {
        let pod = self.pod.as_deref();
        let of_pod = pod.into_iter().flat_map(|pod| [Some(&pod.namespace), Some(&pod.name), pod.container.as_ref()]);
        let texts = [self.name.as_ref(), self.image.as_ref(), self.service.as_ref()].into_iter().chain(of_pod);
        size_of::<Self>() + texts.flatten().map(|text| text.len()).sum::<usize>()
    }

    /// Adds what is not known yet.
    fn complete(&mut self, other: Self) {
        let Self { name, image, service, pod } = other;
        self.name = self.name.take().or(name);
        self.image = self.image.take().or(image);
        self.service = self.service.take().or(service);
        // A source that knows the container's name within the pod is the better one.
        if self.pod.as_ref().is_none_or(|known| known.container.is_none()) && pod.is_some() {
            self.pod = pod;
        }
    }
}

/// Owner of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// One container or pod has it.
    Name(Arc<str>),
    /// Several say that they have it, so it has no name.
    Ambiguous,
}

/// What the sources have said in one refresh.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// By id.
    pub(super) containers: HashMap<Arc<str>, ContainerFacts>,
    /// By UID; without a container.
    pub(super) pods: HashMap<Arc<str>, Arc<Pod>>,
    /// Addresses of running containers and pods.
    pub(super) addresses: HashMap<IpAddr, Claim>,
    /// Addresses of `/etc/hosts`.
    pub(super) hosts: HashMap<IpAddr, Arc<str>>,
    /// Whether there is a directory of a container engine or a kubelet.
    pub(super) has_engine: bool,
    bytes: usize,
}

impl Findings {
    /// Adds what a source knows of a container. Of two sources the first one counts.
    pub(super) fn container(&mut self, id: &str, facts: ContainerFacts) {
        if facts == ContainerFacts::default() || !self.has_room(self.containers.len(), facts.bytes() + id.len()) {
            return;
        }
        match self.containers.entry(id.into()) {
            Entry::Occupied(mut known) => known.get_mut().complete(facts),
            Entry::Vacant(new) => drop(new.insert(facts)),
        }
    }

    /// Adds a pod.
    pub(super) fn pod(&mut self, pod: Pod) {
        if self.has_room(self.pods.len(), pod.namespace.len() + pod.name.len() + pod.uid.len()) {
            self.pods.entry(Arc::clone(&pod.uid)).or_insert_with(|| Arc::new(pod));
        }
    }

    /// Adds the address of a running container or pod.
    pub(super) fn address(&mut self, address: IpAddr, name: Arc<str>) {
        let address = address.to_canonical();
        if !can_be_named(address) || self.addresses.len() >= ADDRESSES_MAX {
            return;
        }
        match self.addresses.entry(address) {
            Entry::Occupied(mut known) => {
                if *known.get() != Claim::Name(name) {
                    known.insert(Claim::Ambiguous);
                }
            }
            Entry::Vacant(new) => drop(new.insert(Claim::Name(name))),
        }
    }

    /// Adds a line of `/etc/hosts`. Of two lines for an address the first one counts, as for the C library.
    pub(super) fn host(&mut self, address: IpAddr, name: Arc<str>) {
        let address = address.to_canonical();
        if can_be_named(address) && self.hosts.len() < ADDRESSES_MAX {
            self.hosts.entry(address).or_insert(name);
        }
    }

    fn has_room(&mut self, entries: usize, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        entries < ENTRIES_MAX && self.bytes <= TEXTS_MAX
    }
}

/// Whether a name says something about an address. The loopback address is each namespace's own, and so a different
/// host in each container.
fn can_be_named(address: IpAddr) -> bool {
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// A name within [`TEXT_MAX`]; `None` for an empty one.
pub(super) fn text(text: &str) -> Option<Arc<str>> {
    let text = text.trim();
    if text.len() <= TEXT_MAX {
        return (!text.is_empty()).then(|| text.into());
    }
    let end = (0..=TEXT_MAX).rev().find(|&end| text.is_char_boundary(end))?;
    Some(format!("{}…", text.get(..end)?).into())
}

/// Characters of an id, see [`is_container_id`].
pub(super) const ID_LENGTH: usize = 64;

/// Id of a container in the form in which all engines but LXC and nspawn have it: 64 lower-case hexadecimal digits.
pub(super) fn is_container_id(id: &str) -> bool {
    id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Parses the names that the kubelet gives to containers in Docker and CRI-O, `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`.
/// The pod's own container is called `POD`. Names of Kubernetes have no underscores.
pub(super) fn kubernetes_name(name: &str) -> Option<Pod> {
    let mut parts = name.strip_prefix("k8s_")?.split('_');
    let (container, name, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    let (uid, _attempt) = (parts.next()?, parts.next()?);
    let container = text(container).filter(|container| &**container != "POD");
    parts.next().is_none().then_some(())?;
    Some(Pod { namespace: text(namespace)?, name: text(name)?, uid: text(uid)?, container })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> ContainerFacts {
        ContainerFacts { name: text(name), ..ContainerFacts::default() }
    }

    #[test]
    fn long_and_empty_texts_are_bounded() {
        assert_eq!(text("  "), None);
        assert_eq!(text(" web\n").as_deref(), Some("web"));
        let long = text(&"ü".repeat(1000)).expect("a text");
        assert!(long.len() <= TEXT_MAX + '…'.len_utf8() && long.ends_with("ü…"));
    }

    #[test]
    fn an_address_of_two_containers_has_no_name() {
        let mut findings = Findings::default();
        let address: IpAddr = "10.0.0.7".parse().expect("an address");
        findings.address(address, "a".into());
        findings.address("::ffff:10.0.0.7".parse().expect("an address"), "a".into());
        assert_eq!(findings.addresses[&address], Claim::Name("a".into()));
        findings.address(address, "b".into());
        findings.address(address, "a".into());
        assert_eq!(findings.addresses[&address], Claim::Ambiguous);
    }

    #[test]
    fn the_loopback_address_has_no_name() {
        let mut findings = Findings::default();
        for address in ["127.0.0.1", "127.0.1.1", "::1", "0.0.0.0", "ff02::1", "::ffff:127.0.0.1"] {
            let address = address.parse().expect("an address");
            findings.address(address, "a".into());
            findings.host(address, "a".into());
        }
        assert!(findings.addresses.is_empty() && findings.hosts.is_empty());
    }

    #[test]
    fn sources_complete_each_other() {
        let mut findings = Findings::default();
        let pod = |container: Option<&str>| {
            let container = container.and_then(text);
            Some(Arc::new(Pod { namespace: "shop".into(), name: "cart".into(), uid: "u".into(), container }))
        };
        findings.container("id", ContainerFacts { pod: pod(None), ..named("first") });
        findings.container("id", ContainerFacts { image: text("nginx:1"), pod: pod(Some("web")), ..named("second") });
        findings.container("id", ContainerFacts { pod: pod(Some("other")), ..ContainerFacts::default() });
        let facts = &findings.containers["id"];
        assert_eq!((facts.name.as_deref(), facts.image.as_deref()), (Some("first"), Some("nginx:1")));
        assert_eq!(facts.pod.as_ref().and_then(|pod| pod.container.as_deref()), Some("web"));
        assert_eq!(facts.display_name().as_deref(), Some("shop/cart"));
        findings.container("empty", ContainerFacts::default());
        assert_eq!(findings.containers.len(), 1);
    }

    #[test]
    fn findings_are_bounded() {
        let mut findings = Findings::default();
        let long = "x".repeat(TEXT_MAX);
        for number in 0..20_000_u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).into();
            findings.container(&number.to_string(), ContainerFacts { image: text(&long), ..named(&long) });
            findings.pod(Pod {
                namespace: "n".into(),
                name: "p".into(),
                uid: number.to_string().into(),
                container: None,
            });
            findings.address(address, "a".into());
            findings.host(address, "a".into());
        }
        let bytes: usize = findings.containers.values().map(ContainerFacts::bytes).sum();
        assert!(bytes <= TEXTS_MAX && findings.containers.len() > 1000, "{bytes}");
        assert!(findings.pods.len() <= ENTRIES_MAX);
        assert_eq!((findings.addresses.len(), findings.hosts.len()), (ADDRESSES_MAX, ADDRESSES_MAX));
    }

    #[test]
    fn parses_names_that_the_kubelet_gives() {
        let pod = kubernetes_name("k8s_web_cart-7d9f_shop_8dbc1577-d0e2-4706-8787-57d52c03ddf2_3").expect("a pod");
        assert_eq!((pod.to_string().as_str(), pod.container.as_deref()), ("shop/cart-7d9f", Some("web")));
        assert_eq!(&*pod.uid, "8dbc1577-d0e2-4706-8787-57d52c03ddf2");
        let pause = kubernetes_name("k8s_POD_cart-7d9f_shop_8dbc1577-d0e2-4706-8787-57d52c03ddf2_0");
        assert_eq!(pause.map(|pod| pod.container), Some(None));
        for other in ["web", "k8s_", "k8s_a_b_c", "k8s_a_b_c_d", "k8s_a_b_c_d_0_1", "k8s__a__d_0", "K8S_a_b_c_d_0"] {
            assert_eq!(kubernetes_name(other), None, "{other}");
        }
    }
}
