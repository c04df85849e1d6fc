//! One container of containerd, from its OCI bundle: the annotations in
//! `/run/containerd/io.containerd.runtime.v2.task/NAMESPACE/ID/config.json`. This is the only place on the disk that
//! has the image of a container of Kubernetes.

use std::{path::Path, sync::Arc};

use serde::Deserialize;

use super::{
    findings::{ContainerFacts, text},
    tree::{Budget, FILE_MAX, Folder},
};
use crate::model::Pod;

/// State directories of containerd; the second is that of K3s and RKE2.
const STATES: [&str; 2] =
    ["run/containerd/io.containerd.runtime.v2.task", "run/k3s/containerd/io.containerd.runtime.v2.task"];

/// What the bundle of a container says; `None` if there is none, or it says nothing.
pub(super) fn read(root: &Path, id: &str, budget: &Budget) -> Option<ContainerFacts> {
    let states = STATES.iter().filter_map(|path| Folder::begin(&root.join(path), budget));
    let mut bundles =
        states.flat_map(|state| state.names().into_iter().filter_map(move |name| state.enter(name)?.enter(id)));
    bundles.find_map(|bundle| parse(&bundle.read("config.json", FILE_MAX, budget)?))
}

#[derive(Deserialize)]
struct Config {
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.container-name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.cri.image-name")]
    image: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    pod_namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod_name: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    pod_uid: Option<String>,
    #[serde(rename = "nerdctl/name")]
    nerdctl_name: Option<String>,
}

/// Parses the configuration of a bundle; `None` if its annotations name nothing.
fn parse(file: &str) -> Option<ContainerFacts> {
    let said = serde_json::from_str::<Config>(file).ok()?.annotations;
    let text = |value: Option<String>| value.as_deref().and_then(text);
    let container = text(said.container);
    let pod = match (text(said.pod_namespace), text(said.pod_name), text(said.pod_uid)) {
        (Some(namespace), Some(name), Some(uid)) => {
            Some(Arc::new(Pod { namespace, name, uid, container: container.clone() }))
        }
        _ => None,
    };
    let facts = ContainerFacts {
        name: container.or_else(|| text(said.nerdctl_name)),
        image: text(said.image),
        service: None,
        pod,
    };
    (facts != ContainerFacts::default()).then_some(facts)
}

/// Parses any text.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    let _ignored = parse(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_container_and_the_sandbox_of_a_pod() {
        let file = include_str!("../../../tests/fixtures/host/containerd-bundle.json");
        let facts = parse(file).expect("a container");
        assert_eq!(
            (facts.name.as_deref(), facts.image.as_deref()),
            (Some("web"), Some("docker.io/library/nginx:1.27"))
        );
        let pod = facts.pod.expect("a pod");
        assert_eq!((pod.to_string().as_str(), pod.container.as_deref()), ("shop/cart-7d9f", Some("web")));
        let sandbox = file.replace("container-name", "x").replace("image-name", "y");
        let facts = parse(&sandbox).expect("a sandbox");
        assert_eq!((facts.name, facts.image), (None, None));
        assert!(facts.pod.is_some_and(|pod| pod.container.is_none()));
        // Before containerd 1.6 the pod has no UID there.
        assert_eq!(parse(&file.replace("sandbox-uid", "z")).expect("a container").pod, None);
    }

    #[test]
    fn other_bundles_say_nothing() {
        for file in ["", "{}", "{\"annotations\":null}", "{\"annotations\":{}}", "{\"annotations\":{\"a\":1}}", "[]"] {
            assert_eq!(parse(file), None, "{file}");
        }
        let nerdctl = parse("{\"annotations\":{\"nerdctl/name\":\"web\",\"nerdctl/namespace\":\"default\"}}");
        assert_eq!(nerdctl.and_then(|facts| facts.name).as_deref(), Some("web"));
    }
}
