//! Container and Kubernetes pod of a cgroup, from its path alone. Pure.
//!
//! Container runtimes name the cgroups that they create; nothing but these names is read, and no runtime is asked. The
//! names of a container that its path does not have are in [`super::names`]. The
//! known layouts are in two tables. The innermost container of a path is reported: for Docker in Docker the inner one,
//! and the pod's for a Kubernetes node that is itself a container.

use std::{borrow::Cow, sync::Arc};

use super::systemd_escape;
use crate::model::Container;

/// Prefixes of cgroup names, each with its runtime: `PREFIX ID`, with `.scope` behind it where systemd creates the
/// cgroup. A prefix stands before those that it begins with.
const NAME_PREFIXES: &[(&str, &str)] = &[
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("containerd-", "containerd"),
    ("crio-conmon-", "cri-o"),
    ("crio-", "cri-o"),
    ("docker-", "docker"),
    // conmon monitors one container, and forwards the ports of a rootless one.
    ("libpod-conmon-", "podman"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("buildah-", "podman"),
];

/// Names of parent cgroups, each with its runtime: the cgroups below are named after the container alone.
const PARENT_CGROUPS: &[(&str, &str, IdFormat)] = &[
    ("docker", "docker", IdFormat::Hex),
    ("lxc", "lxc", IdFormat::Any),
    ("lxc.payload", "lxc", IdFormat::Any),
    ("garden", "garden", IdFormat::Any),
];

/// Form of a container's id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IdFormat {
    /// Hexadecimal digits, as container engines generate them, see [`is_hex_id`].
    Hex,
    /// Any name that the user chose.
    Any,
}

/// Runtime and id of the container that a component of a path names; the runtime is `None` if the name does not show
/// it.
type ContainerMatch<'a> = (Option<&'static str>, Cow<'a, str>);

/// Container that a cgroup belongs to; `None` if the path names none.
pub fn of_cgroup(path: &str) -> Option<Container> {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    let (at, (runtime, id)) =
        (0..steps.len()).rev().find_map(|at| Some((at, match_step(steps.get(..at)?, steps.get(at)?)?)))?;
    Some(Container {
        runtime: runtime.map(Arc::from),
        id: id.into(),
        pod_uid: steps.get(..=at)?.iter().rev().find_map(|step| pod_uid(step)),
        name: None,
        image: None,
        service: None,
    })
}

/// Returns whether a component of a path is the scope that an engine created for a container.
pub(super) fn is_container_scope(step: &str) -> bool {
    step.strip_suffix(".scope").is_some() && match_name(step).is_some()
}

/// Matches a component of a path, given the components above it.
fn match_step<'a>(above: &[&str], step: &'a str) -> Option<ContainerMatch<'a>> {
    if let Some(found) = match_name(step) {
        return Some(found);
    }
    if let Some((task, container)) = ecs_task(above, step) {
        return Some((Some("ecs"), format!("{task}/{container}").into()));
    }
    let parent = above.last().and_then(|parent| PARENT_CGROUPS.iter().find(|(name, ..)| name == parent));
    if let Some((_, runtime, format)) = parent
        && (*format == IdFormat::Any || is_hex_id(step))
    {
        return Some((Some(runtime), step.into()));
    }
    // Below a pod, or below a parent that the user configured: 64 hexadecimal digits are the id of a container.
    (step.len() == 64 && is_hex_id(step)).then_some((None, step.into()))
}

/// Matches the name of a cgroup, whatever is above it.
fn match_name(step: &str) -> Option<ContainerMatch<'_>> {
    // `SLICE:cri-containerd:ID`, the kubelet's notation for systemd, which containerd took for a path.
    if let Some((runtime, id)) = step.rsplit_once(':')
        && let Some((_, runtime)) = runtime.rsplit_once(':')
    {
        let known = NAME_PREFIXES.iter().find(|(prefix, _)| prefix.strip_suffix('-') == Some(runtime));
        return is_hex_id(id).then(|| (known.map(|&(_, runtime)| runtime), id.into()));
    }
    for prefix in ["lxc.payload.", "lxc.monitor."] {
        if let Some(name) = step.strip_prefix(prefix).filter(|name| !name.is_empty()) {
            return Some((Some("lxc"), name.into()));
        }
    }
    if let Some(name) = nspawn_machine(step) {
        return Some((Some("systemd-nspawn"), systemd_escape::unescape(name)));
    }
    let name = step.strip_suffix(".scope").unwrap_or(step);
    NAME_PREFIXES.iter().find_map(|&(prefix, runtime)| {
        let id = name.strip_prefix(prefix).filter(|id| is_hex_id(id))?;
        Some((Some(runtime), id.into()))
    })
}

/// Name of a systemd-nspawn machine, still escaped. Virtual machines of libvirt (`qemu-`) register with
/// systemd-machined by names of that form and are no containers.
fn nspawn_machine(step: &str) -> Option<&str> {
    let registered = step.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"));
    let started = step.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"));
    registered.or(started).filter(|name| !name.is_empty() && !name.starts_with("qemu\\x2d"))
}

/// Task and container of Amazon's ECS agent: `/ecs/TASK/CONTAINER`, or `/ecs/CLUSTER/TASK/CONTAINER` with some
/// versions.
fn ecs_task<'a>(above: &[&'a str], step: &'a str) -> Option<(&'a str, &'a str)> {
    let below = above.get(above.iter().rposition(|&name| name == "ecs")? + 1..)?;
    let task = below.last().filter(|task| below.len() <= 2 && is_hex_id(task))?;
    (is_hex_id(step) || step.starts_with(task)).then_some((task, step))
}

/// UID of the pod that a component names: `podUID`, or a slice that ends in it with `_` for each `-`, as systemd needs
/// it.
fn pod_uid(step: &str) -> Option<Arc<str>> {
    // The kubelet's notation `SLICE:RUNTIME:ID` begins with the slice.
    let name = step.split(':').next().unwrap_or(step);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name.strip_prefix("pod").or_else(|| name.rsplit_once("-pod").map(|(_, uid)| uid))?;
    let uid = uid.replace('_', "-");
    // 32 digits with or without dashes: a static pod has a hash in place of a UUID.
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    (digits == 32 && uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())).then(|| uid.into())
}

/// Returns whether a text is at least 12 lower-case hexadecimal digits, the shortest form in which engines show an id.
fn is_hex_id(text: &str) -> bool {
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

    /// Runtime, id and pod of a path, in which names such as `ID` are replaced by the constants.
    fn parsed(path: &str) -> Option<(Option<String>, String, Option<String>)> {
        let path = [("OUTER", OUTER), ("STATIC", STATIC_POD), ("POD_", POD_), ("POD", POD), ("TASK", TASK), ("ID", ID)]
            .iter()
            .fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
        let found = of_cgroup(&path)?;
        let text = |text: Option<Arc<str>>| text.map(|text| text.to_string());
        Some((text(found.runtime), found.id.to_string(), text(found.pod_uid)))
    }

    #[track_caller]
    fn check(path: &str, runtime: Option<&str>, id: &str, pod: Option<&str>) {
        let expected = (runtime.map(str::to_owned), id.to_owned(), pod.map(str::to_owned));
        assert_eq!(parsed(path), Some(expected), "{path}");
    }

    #[test]
    fn recognises_docker() {
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
    fn recognises_containerd() {
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
    fn recognises_kubernetes_without_systemd() {
        for path in ["/kubepods/burstable/podPOD/ID", "/kubepods/podPOD/ID", "/kubepods/besteffort/podPOD/ID"] {
            check(path, None, ID, Some(POD));
        }
        check("/kubepods/burstable/podSTATIC/ID", None, ID, Some(STATIC_POD));
        check("/kubepods/burstable/podPOD/crio-ID", Some("cri-o"), ID, Some(POD));
        check("/kubepods.slice/kubepods-podPOD_.slice/docker-ID.scope", Some("docker"), ID, Some(POD));
    }

    #[test]
    fn recognises_kubernetes_in_a_container() {
        check("/docker/OUTER/kubelet/kubepods/burstable/podPOD/ID", None, ID, Some(POD));
        let kind = "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/\
                    kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope";
        check(kind, Some("containerd"), ID, Some(POD));
        // The node's own services.
        check("/docker/OUTER/system.slice/containerd.service", Some("docker"), OUTER, None);
    }

    #[test]
    fn recognises_cri_o_and_podman() {
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
    fn recognises_lxc_nspawn_ecs_and_garden() {
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
    fn finds_no_container_elsewhere() {
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
            assert_eq!(parsed(path), None, "{path}");
        }
    }
}
