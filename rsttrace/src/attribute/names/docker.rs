//! Containers of Docker: `config.v2.json` in `/var/lib/docker/containers/ID`, which the daemon rewrites whenever the
//! container changes.

use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc};

use serde::Deserialize;

use super::{
    findings::{ContainerFacts, Findings, is_container_id, kubernetes_name, text},
    tree::{Budget, FILE_MAX, FileCache, Folder},
};
use crate::model::Pod;

/// Data directory of the daemon, unless `/etc/docker/daemon.json` has another.
const DATA_ROOT: &str = "var/lib/docker";

/// What the file of one container says.
struct DockerContainer {
    facts: ContainerFacts,
    /// Empty while the container does not run.
    addresses: Vec<IpAddr>,
}

/// The containers of Docker.
pub(super) struct Docker(FileCache<DockerContainer>);

impl Default for Docker {
    fn default() -> Self {
        Self(FileCache::new(FILE_MAX))
    }
}

impl Docker {
    pub(super) fn read(&mut self, root: &Path, budget: &Budget, findings: &mut Findings) {
        self.0.begin();
        let data_root = data_root(root, budget);
        let path = root.join(data_root.as_deref().unwrap_or(DATA_ROOT)).join("containers");
        let Some(folder) = Folder::begin(&path, budget) else { return };
        findings.has_engine = true;
        for id in folder.names() {
            let Some(name) = id.to_str().filter(|id| is_container_id(id)) else { continue };
            let Some(container) = folder.enter(&id) else { continue };
            let Some(said) = self.0.get(&container, "config.v2.json", &id, budget, parse) else { continue };
            if let Some(known_as) = said.facts.display_name() {
                said.addresses.iter().for_each(|&address| findings.address(address, Arc::clone(&known_as)));
            }
            findings.container(name, said.facts.clone());
        }
    }
}

/// Data directory from the daemon's configuration, relative to `root`; `None` without one.
fn data_root(root: &Path, budget: &Budget) -> Option<String> {
    #[derive(Deserialize)]
    struct Daemon {
        // Called `graph` before Docker 17.05.
        #[serde(rename = "data-root", alias = "graph")]
        data_root: String,
    }
    let file = Folder::begin(&root.join("etc/docker"), &Budget::default())?.read("daemon.json", FILE_MAX, budget)?;
    let path = serde_json::from_str::<Daemon>(&file).ok()?.data_root;
    Some(path.strip_prefix('/')?.to_owned())
}

/// The parts of the file that are used; each may be `null`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "Config")]
    settings: Option<Settings>,
    #[serde(default)]
    state: Option<DockerState>,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(rename = "com.docker.compose.project")]
    project: Option<String>,
    #[serde(rename = "com.docker.compose.service")]
    service: Option<String>,
    #[serde(rename = "com.docker.swarm.service.name")]
    swarm_service: Option<String>,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    pod_namespace: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod_name: Option<String>,
    #[serde(rename = "io.kubernetes.pod.uid")]
    pod_uid: Option<String>,
    #[serde(rename = "io.kubernetes.container.name")]
    pod_container: Option<String>,
}

impl Labels {
    fn service(&self) -> Option<Arc<str>> {
        let compose = self.project.as_deref().zip(self.service.as_deref());
        let compose = compose.map(|(project, service)| format!("{project}/{service}"));
        text(compose.as_deref().or(self.swarm_service.as_deref())?)
    }

    fn pod(&self) -> Option<Pod> {
        Some(Pod {
            namespace: text(self.pod_namespace.as_deref()?)?,
            name: text(self.pod_name.as_deref()?)?,
            uid: text(self.pod_uid.as_deref()?)?,
            container: self.pod_container.as_deref().and_then(text).filter(|name| &**name != "POD"),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerState {
    #[serde(default)]
    running: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<HashMap<String, Option<Network>>>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(default, rename = "IPAddress")]
    ipv4: Option<String>,
    #[serde(default, rename = "GlobalIPv6Address")]
    ipv6: Option<String>,
}

/// Parses the file of one container; `None` if it has another form.
fn parse(file: &str) -> Option<DockerContainer> {
    let config: Config = serde_json::from_str(file).ok()?;
    let (image, labels) =
        config.settings.map(|settings| (settings.image, settings.labels.unwrap_or_default())).unwrap_or_default();
    // Names begin with a slash.
    let name = config.name.as_deref().map(|name| name.strip_prefix('/').unwrap_or(name));
    let pod = labels.pod().or_else(|| kubernetes_name(name?));
    let name = match &pod {
        Some(pod) => pod.container.clone(),
        None => name.and_then(text),
    };
    let facts = ContainerFacts {
        name,
        image: image.as_deref().and_then(text),
        service: labels.service(),
        pod: pod.map(Arc::new),
    };
    let is_running = config.state.is_some_and(|state| state.running);
    let networks = config.network_settings.and_then(|settings| settings.networks).filter(|_| is_running);
    let addresses = networks.iter().flat_map(HashMap::values).flatten();
    let addresses = addresses.flat_map(|network| [network.ipv4.as_deref(), network.ipv6.as_deref()]).flatten();
    Some(DockerContainer { facts, addresses: addresses.filter_map(|address| address.parse().ok()).collect() })
}

/// Parses any text.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    let _ignored = parse(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = include_str!("../../../tests/fixtures/host/docker-compose.json");

    #[test]
    fn parses_a_container_of_compose() {
        let container = parse(RUNNING).expect("a container");
        let facts = container.facts;
        assert_eq!(facts.name.as_deref(), Some("shop-web-1"));
        assert_eq!(facts.image.as_deref(), Some("nginx:1.27-alpine"));
        assert_eq!(facts.service.as_deref(), Some("shop/web"));
        assert_eq!(facts.pod, None);
        let mut addresses: Vec<String> = container.addresses.iter().map(ToString::to_string).collect();
        addresses.sort();
        assert_eq!(addresses, ["172.24.0.3", "fd00:24::3"]);
    }

    #[test]
    fn a_stopped_container_has_no_address() {
        // After a crash of the daemon the file still has them.
        let container = parse(&RUNNING.replace("\"Running\":true", "\"Running\":false")).expect("a container");
        assert!(container.addresses.is_empty());
        assert_eq!(container.facts.name.as_deref(), Some("shop-web-1"));
    }

    #[test]
    fn a_container_of_the_kubelet_has_a_pod() {
        let labels = r#"{"Name":"/k8s_web_cart_shop_u1_0","State":{"Running":true},"Config":{"Image":"sha256:1",
            "Labels":{"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"cart","io.kubernetes.pod.uid":"u1",
            "io.kubernetes.container.name":"web","io.kubernetes.docker.type":"container"}},"NetworkSettings":null}"#;
        for file in [labels.to_owned(), labels.replace("io.kubernetes.pod.", "x.")] {
            let facts = parse(&file).expect("a container").facts;
            let pod = facts.pod.expect("a pod");
            assert_eq!((pod.to_string().as_str(), pod.container.as_deref()), ("shop/cart", Some("web")));
            assert_eq!(facts.name.as_deref(), Some("web"));
        }
        let pause = parse(&labels.replace("\"web\"", "\"POD\"")).expect("a container").facts;
        assert_eq!((pause.name, pause.pod.and_then(|pod| pod.container.clone())), (None, None));
    }

    #[test]
    fn other_forms_say_nothing() {
        let deep = format!("{{\"Name\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let deep_elsewhere = format!("{{\"x\":{}1{},\"Name\":\"/web\"}}", "[".repeat(1000), "]".repeat(1000));
        for file in ["", "{", "1", "null", "{\"Name\":1}", "{\"Config\":{\"Labels\":[]}}", &deep, &RUNNING[..900]] {
            assert!(parse(file).is_none(), "{}", &file[..file.len().min(80)]);
        }
        // A part that is not used may have any form.
        drop(parse(&deep_elsewhere));
        for empty in
            ["{}", "{\"Name\":null,\"Config\":null,\"State\":null,\"NetworkSettings\":{\"Networks\":{\"a\":null}}}"]
        {
            assert_eq!(parse(empty).map(|container| container.facts), Some(ContainerFacts::default()), "{empty}");
        }
        let network = r#"{"State":{"Running":true},"NetworkSettings":{"Networks":{"a":{"IPAddress":"","GlobalIPv6Address":"x"}}}}"#;
        assert!(parse(network).is_some_and(|container| container.addresses.is_empty()));
    }
}
