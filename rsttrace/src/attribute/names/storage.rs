//! Containers of Podman and CRI-O: the list of containers/storage, `containers.json`, and `volatile-containers.json` for
//! those that are removed when they end.

use std::{path::Path, sync::Arc};

use serde::Deserialize;

use super::{
    findings::{ContainerFacts, Findings, is_container_id, kubernetes_name, text},
    tree::{Budget, ENTRIES_MAX, FileCache, Folder, HOST_FILE_MAX},
};

/// Directory of the lists. Podman without root keeps its own in the home of its user, which is not read.
const FOLDER: &str = "var/lib/containers/storage/overlay-containers";

const FILES: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// The containers of Podman and CRI-O.
pub(super) struct Storage([FileCache<Vec<(String, ContainerFacts)>>; 2]);

impl Default for Storage {
    fn default() -> Self {
        Self([FileCache::new(HOST_FILE_MAX), FileCache::new(HOST_FILE_MAX)])
    }
}

impl Storage {
    pub(super) fn read(&mut self, root: &Path, budget: &Budget, findings: &mut Findings) {
        let folder = Folder::begin(&root.join(FOLDER), budget);
        for (cache, name) in self.0.iter_mut().zip(FILES) {
            cache.begin();
            let Some(folder) = &folder else { continue };
            findings.has_engine = true;
            let containers = cache.get(folder, name, "".as_ref(), budget, parse);
            for (id, facts) in containers.iter().flat_map(|containers| containers.iter()) {
                findings.container(id, facts.clone());
            }
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// JSON in a string.
    #[serde(default)]
    metadata: Option<String>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default, rename = "image-name")]
    image: Option<String>,
}

/// Parses a list; `None` if it has another form.
fn parse(file: &str) -> Option<Vec<(String, ContainerFacts)>> {
    let entries: Vec<Entry> = serde_json::from_str(file).ok()?;
    let entries = entries.into_iter().filter(|entry| is_container_id(&entry.id)).take(ENTRIES_MAX);
    Some(entries.map(|entry| (facts(&entry), entry.id)).map(|(facts, id)| (id, facts)).collect())
}

fn facts(entry: &Entry) -> ContainerFacts {
    let metadata: Metadata =
        entry.metadata.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let name = entry.names.iter().flatten().next();
    let pod = name.and_then(|name| kubernetes_name(name));
    let name = match &pod {
        Some(pod) => pod.container.clone(),
        None => name.and_then(|name| text(name)),
    };
    ContainerFacts { name, image: metadata.image.as_deref().and_then(text), service: None, pod: pod.map(Arc::new) }
}

/// Parses any text.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    let _ignored = parse(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = include_str!("../../../tests/fixtures/host/storage-containers.json");

    #[test]
    fn parses_containers_of_podman_and_cri_o() {
        let containers = parse(LIST).expect("a list");
        let shown: Vec<_> = containers
            .iter()
            .map(|(id, facts)| {
                let pod = facts.pod.as_ref().map(|pod| format!("{pod} {:?}", pod.container));
                (&id[..4], facts.name.as_deref(), facts.image.as_deref(), pod)
            })
            .collect();
        let image = Some("quay.io/centos7/httpd-24-centos7:latest");
        assert_eq!(
            shown,
            [
                ("5796", Some("contenedor1"), image, None),
                (
                    "c0ff",
                    Some("web"),
                    Some("registry.k8s.io/e2e-test-images/nginx:1.14-4"),
                    Some("shop/cart-7d9f Some(\"web\")".to_owned())
                ),
                ("dead", None, Some("registry.k8s.io/pause:3.9"), Some("shop/cart-7d9f None".to_owned())),
            ]
        );
    }

    #[test]
    fn other_forms_say_nothing() {
        for file in ["", "{}", "[1]", "[{\"names\":[\"a\"]}]", &LIST[..400]] {
            assert!(parse(file).is_none(), "{file}");
        }
        assert_eq!(parse("[{\"id\":\"../../etc\",\"names\":[\"a\"]}]"), Some(Vec::new()));
        let odd = format!("[{{\"id\":\"{}\",\"names\":null,\"metadata\":\"{{\"}}]", "a".repeat(64));
        assert_eq!(parse(&odd).map(|containers| containers[0].1.clone()), Some(ContainerFacts::default()));
    }
}
