//! Container and pod of a cgroup, from its path alone. Pure.
//!
//! Runtimes name the cgroups that they make, and that name is all that this reads: no runtime is asked. Layouts that
//! are known stand in two tables; the innermost container of a path wins, so that of docker in docker it is the inner
//! one, and of a Kubernetes node that is a container itself it is the pod's.

use std::{borrow::Cow, sync::Arc};

use super::service;
use crate::model::Container;

/// Names of a cgroup: what stands before the id, and whose it is. `.scope` behind the id, where systemd makes the
/// cgroup, is not part of it. Longer beginnings stand before shorter ones.
const BEGINNINGS: &[(&str, &str)] = &[
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("containerd-", "containerd"),
    ("crio-conmon-", "cri-o"),
    ("crio-", "cri-o"),
    ("docker-", "docker"),
    // conmon watches over one container, and forwards the ports of a rootless one.
    ("libpod-conmon-", "podman"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("buildah-", "podman"),
];

/// Names of the cgroup above a container's, which then has a name of its own choice.
const PARENTS: &[(&str, &str, Naming)] = &[
    ("docker", "docker", Naming::Hex),
    ("lxc", "lxc", Naming::Free),
    ("lxc.payload", "lxc", Naming::Free),
    ("garden", "garden", Naming::Free),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// Hexadecimal digits, as container engines give out.
    Hex,
    /// Whatever its owner called it.
    Free,
}

/// What one step of a path says: whose container, and its id.
type Found<'a> = (Option<&'static str>, Cow<'a, str>);

/// The container that a cgroup belongs to; `None` where the path tells of none.
pub fn container(path: &str) -> Option<Container> {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    let (at, (runtime, id)) =
        (0..steps.len()).rev().find_map(|at| Some((at, found(steps.get(..at)?, steps.get(at)?)?)))?;
    Some(Container {
        runtime: runtime.map(Arc::from),
        id: id.into(),
        pod_uid: steps.get(..=at)?.iter().rev().find_map(|step| pod_uid(step)),
    })
}

/// Whether a step of a path is the scope that an engine has made for a container.
pub(super) fn is_scope(step: &str) -> bool {
    step.strip_suffix(".scope").is_some() && named(step).is_some()
}

/// What the step below these says.
fn found<'a>(above: &[&str], step: &'a str) -> Option<Found<'a>> {
    if let Some(found) = named(step) {
        return Some(found);
    }
    if let Some((task, container)) = ecs(above, step) {
        return Some((Some("ecs"), format!("{task}/{container}").into()));
    }
    let parent = above.last().and_then(|parent| PARENTS.iter().find(|(name, ..)| name == parent));
    if let Some((_, runtime, naming)) = parent
        && (*naming == Naming::Free || is_id(step))
    {
        return Some((Some(runtime), step.into()));
    }
    // Below a pod, or wherever somebody let an engine put it: 64 digits are a container's id and nothing else.
    (step.len() == 64 && is_id(step)).then_some((None, step.into()))
}

/// What the name of a cgroup says without its surroundings.
fn named(step: &str) -> Option<Found<'_>> {
    // The kubelet's own notation, where containerd takes it for a path: `SLICE:cri-containerd:ID`.
    if let Some((runtime, id)) = step.rsplit_once(':')
        && let Some((_, runtime)) = runtime.rsplit_once(':')
    {
        let known = BEGINNINGS.iter().find(|(beginning, _)| beginning.strip_suffix('-') == Some(runtime));
        return is_id(id).then(|| (known.map(|&(_, runtime)| runtime), id.into()));
    }
    for prefix in ["lxc.payload.", "lxc.monitor."] {
        if let Some(name) = step.strip_prefix(prefix).filter(|name| !name.is_empty()) {
            return Some((Some("lxc"), name.into()));
        }
    }
    if let Some(name) = machine(step) {
        return Some((Some("systemd-nspawn"), service::unescape(name)));
    }
    let bare = step.strip_suffix(".scope").unwrap_or(step);
    BEGINNINGS.iter().find_map(|&(beginning, runtime)| {
        let id = bare.strip_prefix(beginning).filter(|id| is_id(id))?;
        Some((Some(runtime), id.into()))
    })
}

/// The name of a machine that systemd-nspawn runs. Virtual machines register under the same scheme, and are none.
fn machine(step: &str) -> Option<&str> {
    let registered = step.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"));
    let started = step.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"));
    registered.or(started).filter(|name| !name.is_empty() && !name.starts_with("qemu\\x2d"))
}

/// Amazon's agent: `/ecs/TASK/CONTAINER`, with the cluster's name in between in some versions.
fn ecs<'a>(above: &[&'a str], step: &'a str) -> Option<(&'a str, &'a str)> {
    let below = above.get(above.iter().rposition(|&name| name == "ecs")? + 1..)?;
    let task = below.last().filter(|task| below.len() <= 2 && is_id(task))?;
    (is_id(step) || step.starts_with(task)).then_some((task, step))
}

/// The pod that a step names: `podUID`, or a slice that ends in it, where systemd wants `_` for `-`.
fn pod_uid(step: &str) -> Option<Arc<str>> {
    // The kubelet's own notation begins with the slice.
    let name = step.split(':').next().unwrap_or(step);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name.strip_prefix("pod").or_else(|| name.rsplit_once("-pod").map(|(_, uid)| uid))?;
    let uid = uid.replace('_', "-");
    // A static pod has a hash instead of a UUID.
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    (digits == 32 && uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())).then(|| uid.into())
}

fn is_id(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e8c1d2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";
    const OUTER: &str = "aa11bb22cc33dd44ee55ff6600778899aa11bb22cc33dd44ee55ff6600778899";
    const POD: &str = "8dbc1577-d0e2-4706-8787-57d52c03ddf2";
    const POD_: &str = "8dbc1577_d0e2_4706_8787_57d52c03ddf2";
    const STATIC_POD: &str = "6e9f5d5d2d7c4f5b8a1f0c9e8d7b6a54";
    const TASK: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";

    /// Runtime, id and pod of a path in which `ID` and the like stand for the values above.
    fn of(path: &str) -> Option<(Option<String>, String, Option<String>)> {
        let path = [("OUTER", OUTER), ("STATIC", STATIC_POD), ("POD_", POD_), ("POD", POD), ("TASK", TASK), ("ID", ID)]
            .iter()
            .fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
        let found = container(&path)?;
        let text = |text: Option<Arc<str>>| text.map(|text| text.to_string());
        Some((text(found.runtime), found.id.to_string(), text(found.pod_uid)))
    }

    #[track_caller]
    fn check(path: &str, runtime: Option<&str>, id: &str, pod: Option<&str>) {
        let expected = (runtime.map(str::to_owned), id.to_owned(), pod.map(str::to_owned));
        assert_eq!(of(path), Some(expected), "{path}");
    }

    #[test]
    fn docker() {
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/system.slice/docker-ID.scope/system.slice/nginx.service",
            "/system.slice/docker-ID.scope/init.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            "/docker/OUTER/docker/ID",
            "/docker/OUTER/docker/ID/system.slice/ssh.service",
            "/../docker-ID.scope",
            "/ecstasks.slice/ecstasks-TASK.slice/docker-ID.scope",
        ] {
            check(path, Some("docker"), ID, None);
        }
    }

    #[test]
    fn containerd() {
        check("/system.slice/nerdctl-ID.scope", Some("containerd"), ID, None);
        check("/default/ID", None, ID, None);
        check("/k8s.io/ID", None, ID, None);
        let slices =
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope";
        check(slices, Some("containerd"), ID, Some(POD));
        check("/kubepods.slice/kubepods-podPOD_.slice/cri-containerd-ID.scope", Some("containerd"), ID, Some(POD));
        check("/../../kubepods-besteffort-podPOD_.slice/cri-containerd-ID.scope", Some("containerd"), ID, Some(POD));
        let kubelet = "/system.slice/containerd.service/kubepods-burstable-podPOD_.slice:cri-containerd:ID";
        check(kubelet, Some("containerd"), ID, Some(POD));
    }

    #[test]
    fn kubernetes_without_systemd() {
        for path in ["/kubepods/burstable/podPOD/ID", "/kubepods/podPOD/ID", "/kubepods/besteffort/podPOD/ID"] {
            check(path, None, ID, Some(POD));
        }
        check("/kubepods/burstable/podSTATIC/ID", None, ID, Some(STATIC_POD));
        check("/kubepods/burstable/podPOD/crio-ID", Some("cri-o"), ID, Some(POD));
        check("/kubepods.slice/kubepods-podPOD_.slice/docker-ID.scope", Some("docker"), ID, Some(POD));
    }

    #[test]
    fn kubernetes_in_a_container() {
        check("/docker/OUTER/kubelet/kubepods/burstable/podPOD/ID", None, ID, Some(POD));
        let kind = "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/\
                    kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope";
        check(kind, Some("containerd"), ID, Some(POD));
        // The node's own services.
        check("/docker/OUTER/system.slice/containerd.service", Some("docker"), OUTER, None);
    }

    #[test]
    fn cri_o_and_podman() {
        let pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice";
        for name in ["crio-ID.scope", "crio-ID.scope/container", "crio-conmon-ID.scope"] {
            check(&format!("{pod}/{name}"), Some("cri-o"), ID, Some(POD));
        }
        for path in [
            "/machine.slice/libpod-ID.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/machine.slice/libpod-conmon-ID.scope",
            "/system.slice/web.service/libpod-payload-ID",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-ID",
            "/machine.slice/machine-libpod_pod_OUTER.slice/libpod-ID.scope",
            "/libpod_parent/libpod-ID",
        ] {
            check(path, Some("podman"), ID, None);
        }
    }

    #[test]
    fn lxc_nspawn_ecs_and_garden() {
        check("/lxc/web-1", Some("lxc"), "web-1", None);
        check("/lxc/web-1/system.slice/nginx.service", Some("lxc"), "web-1", None);
        check("/lxc.payload.web-1/system.slice/nginx.service", Some("lxc"), "web-1", None);
        check("/lxc.payload/web-1", Some("lxc"), "web-1", None);
        check("/lxc.monitor.web-1", Some("lxc"), "web-1", None);
        check("/machine.slice/machine-deb\\x2dtest.scope/payload", Some("systemd-nspawn"), "deb-test", None);
        check("/machine.slice/systemd-nspawn@deb.service/payload/init.scope", Some("systemd-nspawn"), "deb", None);
        check("/ecs/TASK/ID", Some("ecs"), &format!("{TASK}/{ID}"), None);
        check("/ecs/my-cluster/TASK/ID", Some("ecs"), &format!("{TASK}/{ID}"), None);
        check("/ecs/TASK/TASK-1234567890", Some("ecs"), &format!("{TASK}/{TASK}-1234567890"), None);
        check("/garden/5a2b7c1e-0f1d-4e3c", Some("garden"), "5a2b7c1e-0f1d-4e3c", None);
        check("/system.slice/garden.service/garden/5a2b7c1e", Some("garden"), "5a2b7c1e", None);
    }

    #[test]
    fn what_is_no_container() {
        for path in [
            "",
            "/",
            "/init.scope",
            "/system.slice/docker.service",
            "/system.slice/containerd.service",
            "/system.slice/docker-registry.service",
            "/system.slice/docker-proxy.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/machine.slice/machine-qemu\\x2d3\\x2dvm.scope/libvirt/emulator",
            "/kubepods/burstable/podPOD",
            "/docker",
            "/docker/not-an-id",
            "/lxc",
            "/ecs",
            "/ecs/TASK",
            "/process_api/ca044bc99450a234a7bde266667af54e",
            "/podman.slice/a:b:c",
            "::::",
            "//..//../\u{202e}/\u{0}",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
