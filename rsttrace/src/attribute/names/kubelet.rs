//! Pods and containers of the kubelet, from the names of its logs: `/var/log/pods/NAMESPACE_POD_UID`, and
//! `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`. Only names are read, no logs.

use std::{path::Path, sync::Arc};

use foldhash::HashMap;

use super::{
    findings::{ContainerFacts, Findings, is_container_id, text},
    tree::{Budget, Folder},
};
use crate::model::Pod;

const PODS: &str = "var/log/pods";
const CONTAINERS: &str = "var/log/containers";

/// Reads the names of both directories.
pub(super) fn read(root: &Path, budget: &Budget, findings: &mut Findings) {
    if let Some(pods) = Folder::begin(&root.join(PODS), budget) {
        findings.has_engine = true;
        pods.names().iter().filter_map(|name| pod(name.to_str()?)).for_each(|pod| findings.pod(pod));
    }
    let Some(containers) = Folder::begin(&root.join(CONTAINERS), budget) else { return };
    let pods = by_name(findings);
    for name in containers.names() {
        let Some(Log { id, pod, container }) = name.to_str().and_then(container) else { continue };
        let pod = pods.get(&pod).and_then(Option::as_ref);
        let pod = pod.map(|pod| Arc::new(Pod { container: Some(Arc::clone(&container)), ..Pod::clone(pod) }));
        findings.container(id, ContainerFacts { name: Some(container), pod, ..ContainerFacts::default() });
    }
}

/// Namespace and name of a pod.
type PodName = (Arc<str>, Arc<str>);

/// Pods by name; `None` for a name that several have: a pod of a stateful set that was made again has its
/// name and another UID.
fn by_name(findings: &Findings) -> HashMap<PodName, Option<Arc<Pod>>> {
    let mut pods = HashMap::default();
    for pod in findings.pods.values() {
        let others = pods.entry((Arc::clone(&pod.namespace), Arc::clone(&pod.name)));
        others.and_modify(|known| *known = None).or_insert_with(|| Some(Arc::clone(pod)));
    }
    pods
}

/// What the name of a container's log says.
#[derive(Debug, PartialEq, Eq)]
struct Log<'a> {
    id: &'a str,
    pod: PodName,
    container: Arc<str>,
}

/// Parses `NAMESPACE_POD_UID`; no part has an underscore.
fn pod(name: &str) -> Option<Pod> {
    let mut parts = name.split('_');
    let (namespace, name, uid) = (text(parts.next()?)?, text(parts.next()?)?, text(parts.next()?)?);
    parts.next().is_none().then_some(Pod { namespace, name, uid, container: None })
}

/// Parses `POD_NAMESPACE_CONTAINER-ID.log`.
fn container(name: &str) -> Option<Log<'_>> {
    let (names, id) = name.strip_suffix(".log")?.rsplit_once('-').filter(|(_, id)| is_container_id(id))?;
    let mut parts = names.split('_');
    let (pod, namespace, container) = (text(parts.next()?)?, text(parts.next()?)?, text(parts.next()?)?);
    parts.next().is_none().then_some(Log { id, pod: (namespace, pod), container })
}

/// Parses any text.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(name: &str) {
    drop((pod(name), container(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_of_logs() {
        let parsed = pod("kube-system_etcd-node-1_6e9f5d5d2d7c4f5b8a1f0c9e8d7b6a54").expect("a static pod");
        assert_eq!(
            (parsed.to_string().as_str(), &*parsed.uid),
            ("kube-system/etcd-node-1", "6e9f5d5d2d7c4f5b8a1f0c9e8d7b6a54")
        );
        for other in ["", "8dbc1577-d0e2-4706-8787-57d52c03ddf2", "a_b", "a_b_c_d", "a__c", "_b_c", "a_b_"] {
            assert_eq!(pod(other), None, "{other}");
        }
        let id = "a1".repeat(32);
        let name = format!("cart-7d9f_shop_web-{id}.log");
        let expected = Log { id: &id, pod: ("shop".into(), "cart-7d9f".into()), container: "web".into() };
        assert_eq!(container(&name), Some(expected));
        for other in [
            "",
            ".log",
            "cart_shop_web-1.log",
            &format!("cart_web-{id}.log"),
            &format!("a_b_c_d-{id}.log"),
            &name[..80],
        ] {
            assert!(container(other).is_none(), "{other}");
        }
    }
}
