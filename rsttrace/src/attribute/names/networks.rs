//! Addresses of pods and containers: results of the network plugins that containerd, CRI-O, nerdctl and Podman keep in
//! `/var/lib/cni/results`, and the DNS entries of Podman's networks in `/run/containers/networks/aardvark-dns`.

use std::{net::IpAddr, path::Path, sync::Arc};

use ipnet::IpNet;
use serde::Deserialize;

use super::{
    findings::{ContainerFacts, Findings, is_container_id, text},
    tree::{Budget, ENTRIES_MAX, FILE_MAX, FileCache, Folder},
};

const CNI_RESULTS: &str = "var/lib/cni/results";
const AARDVARK: &str = "run/containers/networks/aardvark-dns";

/// Addresses of one interface, or of one container in a network.
#[derive(Debug, PartialEq, Eq)]
struct Attachment {
    /// Id of the container; of a pod that of its own (pause) container.
    container: String,
    addresses: Vec<IpAddr>,
    /// Name, where the container's id does not give one.
    name: Option<Arc<str>>,
    /// Path of the network namespace.
    netns: Option<String>,
}

impl Attachment {
    /// Adds the addresses under the name of the container, or else under the name that came with them.
    fn add_to(&self, findings: &mut Findings) {
        let container = findings.containers.get(&*self.container);
        if let Some(name) = container.and_then(ContainerFacts::display_name).or_else(|| self.name.clone()) {
            self.addresses.iter().for_each(|&address| findings.address(address, Arc::clone(&name)));
        }
    }
}

/// The addresses of pods and containers.
pub(super) struct Networks {
    results: FileCache<Attachment>,
    networks: FileCache<Vec<Attachment>>,
}

impl Default for Networks {
    fn default() -> Self {
        Self { results: FileCache::new(FILE_MAX), networks: FileCache::new(FILE_MAX) }
    }
}

impl Networks {
    /// Reads after the sources of containers, whose names it uses.
    pub(super) fn read(&mut self, root: &Path, budget: &Budget, findings: &mut Findings) {
        self.results.begin();
        self.networks.begin();
        if let Some(results) = Folder::begin(&root.join(CNI_RESULTS), budget) {
            findings.has_engine = true;
            for name in results.names() {
                let attachment = self.results.get(&results, &name, &name, budget, parse_result);
                if let Some(attachment) = attachment.filter(|attachment| !is_stale(root, attachment)) {
                    attachment.add_to(findings);
                }
            }
        }
        if let Some(networks) = Folder::begin(&root.join(AARDVARK), budget) {
            findings.has_engine = true;
            for name in networks.names() {
                let entries = self.networks.get(&networks, &name, &name, budget, |file| Some(parse_network(file)));
                entries.iter().flat_map(|entries| entries.iter()).for_each(|entry| entry.add_to(findings));
            }
        }
    }
}

/// Whether the network namespace of a result is gone. The results survive a restart of the host, the namespaces in
/// `/run/netns` do not. Where that directory is not to be seen, as from a container, nothing is stale.
fn is_stale(root: &Path, attachment: &Attachment) -> bool {
    let Some(netns) = attachment.netns.as_deref() else { return false };
    let name = netns.strip_prefix("/var/run/netns/").or_else(|| netns.strip_prefix("/run/netns/"));
    let Some(name) = name.filter(|name| !name.contains('/')) else { return false };
    Folder::begin(&root.join("run/netns"), &Budget::default()).is_some_and(|folder| !folder.has(name))
}

/// What libcni keeps of a call (`cachedInfo`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CachedInfo {
    kind: String,
    container_id: String,
    #[serde(default)]
    netns: Option<String>,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    result: Option<CniResult>,
}

/// Result of a plugin, of versions 0.3 to 1.1; before, `ip4` and `ip6`.
#[derive(Deserialize)]
struct CniResult {
    #[serde(default)]
    ips: Option<Vec<CniAddress>>,
    #[serde(default)]
    ip4: Option<OldCniAddress>,
    #[serde(default)]
    ip6: Option<OldCniAddress>,
}

#[derive(Deserialize)]
struct CniAddress {
    address: String,
}

#[derive(Deserialize)]
struct OldCniAddress {
    ip: String,
}

/// Parses a result; `None` if it has another form.
fn parse_result(file: &str) -> Option<Attachment> {
    let info: CachedInfo = serde_json::from_str(file).ok()?;
    (info.kind == "cniCacheV1").then_some(())?;
    let arguments = info.cni_args.unwrap_or_default();
    let argument = |key: &str| arguments.iter().find(|(name, _)| name == key).and_then(|(_, value)| text(value));
    let pod = argument("K8S_POD_NAMESPACE").zip(argument("K8S_POD_NAME"));
    let result = info.result?;
    let old = [result.ip4, result.ip6].into_iter().flatten().map(|address| address.ip);
    let new = result.ips.into_iter().flatten().map(|address| address.address);
    let addresses = new
        .chain(old)
        .filter_map(|text| text.parse::<IpNet>().map(|net| net.addr()).ok().or_else(|| text.parse().ok()));
    // nerdctl puts its namespace before the id.
    let container = info.container_id.rsplit('-').next().unwrap_or_default().to_owned();
    Some(Attachment {
        container,
        addresses: addresses.collect(),
        name: pod.map(|(namespace, name)| format!("{namespace}/{name}").into()),
        netns: info.netns,
    })
}

/// Parses the containers of a network of aardvark-dns: after a line with addresses of the bridge, lines of
/// `ID IPV4,… IPV6,… NAME,… [DNS]`. Other lines are skipped.
fn parse_network(file: &str) -> Vec<Attachment> {
    let entry = |line: &str| {
        let mut parts = line.split(' ');
        let container = parts.next().filter(|id| is_container_id(id))?.to_owned();
        let (v4, v6) = (parts.next()?, parts.next()?);
        let name = parts.next()?.split(',').next().and_then(text);
        let addresses =
            [v4, v6].into_iter().flat_map(|list| list.split(',')).filter_map(|address| address.parse().ok());
        Some(Attachment { container, addresses: addresses.collect(), name, netns: None })
    };
    file.lines().skip(1).filter_map(entry).take(ENTRIES_MAX).collect()
}

/// Parses any text.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    drop((parse_result(text), parse_network(text)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::names::findings::Claim;

    const POD: &str = include_str!("../../../tests/fixtures/host/cni-pod.json");
    const NETWORK: &str = include_str!("../../../tests/fixtures/host/aardvark-network");

    fn addresses(attachment: &Attachment) -> Vec<String> {
        attachment.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn parses_results_of_plugins() {
        let pod = parse_result(POD).expect("a result");
        assert_eq!((pod.name.as_deref(), addresses(&pod)), (Some("shop/cart-7d9f"), vec!["10.244.1.4".to_owned()]));
        assert_eq!(pod.netns.as_deref(), Some("/var/run/netns/cni-8b8677c8-8929-4746-8206-514069760f6e"));
        let id = "c4".repeat(32);
        let nerdctl = format!(
            r#"{{"kind":"cniCacheV1","containerId":"default-{id}","cniArgs":null,"result":{{"cniVersion":"1.0.0",
            "ips":[{{"address":"10.4.0.2/24"}},{{"address":"fd04::2/64"}},{{"address":"x"}}]}}}}"#
        );
        let nerdctl = parse_result(&nerdctl).expect("a result");
        assert_eq!((&nerdctl.container, nerdctl.name.as_deref()), (&id, None));
        assert_eq!(addresses(&nerdctl), ["10.4.0.2", "fd04::2"]);
        let old = r#"{"kind":"cniCacheV1","containerId":"x","result":{"ip4":{"ip":"10.5.0.2/24"}}}"#;
        assert_eq!(addresses(&parse_result(old).expect("a result")), ["10.5.0.2"]);
    }

    #[test]
    fn other_forms_are_no_results() {
        let other_kind = POD.replace("cniCacheV1", "cniCacheV2");
        for file in ["", "{}", "[]", r#"{"kind":"cniCacheV1","containerId":"x"}"#, &other_kind, &POD[..300]] {
            assert_eq!(parse_result(file), None, "{file}");
        }
    }

    #[test]
    fn parses_networks_of_aardvark() {
        let entries = parse_network(NETWORK);
        let shown: Vec<_> = entries.iter().map(|entry| (entry.name.as_deref(), addresses(entry))).collect();
        let of = |addresses: &[&str]| addresses.iter().map(|&address| address.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            shown,
            [(Some("db"), of(&["10.89.0.2", "fd89::2"])), (Some("web"), of(&["10.89.0.3", "10.89.0.4"]))]
        );
        for other in ["", "10.89.0.1\n", "4242", "10.89.0.1\nx 10.0.0.1  a\n\n \n"] {
            assert_eq!(parse_network(other), [], "{other}");
        }
    }

    #[test]
    fn the_name_of_the_container_precedes() {
        let mut findings = Findings::default();
        let attachment = parse_result(POD).expect("a result");
        findings.container(&attachment.container, ContainerFacts { name: text("web"), ..ContainerFacts::default() });
        attachment.add_to(&mut findings);
        assert_eq!(findings.addresses.values().collect::<Vec<_>>(), [&Claim::Name("web".into())]);
    }
}
