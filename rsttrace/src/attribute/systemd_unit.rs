//! systemd unit of a cgroup, from its path alone. Pure.

use std::sync::Arc;

use super::container;

/// Suffixes of the unit types that have processes, or sockets that systemd opened for them.
const UNIT_SUFFIXES: &[&str] = &[".service", ".scope", ".socket", ".mount", ".swap"];

/// Innermost unit in the path of a cgroup, like `systemctl status`; `None` if there is none.
///
/// The scope that a container engine creates for a container is reported as the container and not as a unit. The
/// service that contains it, and a service inside it, are units.
pub fn of_cgroup(path: &str) -> Option<Arc<str>> {
    path.split('/').rev().find(|step| is_unit(step)).map(|step| {
        // systemd prefixes `_` where a name would collide with a file of the cgroup file system (`cg_escape`).
        step.strip_prefix('_').unwrap_or(step).into()
    })
}

fn is_unit(step: &str) -> bool {
    let name = UNIT_SUFFIXES.iter().find_map(|suffix| step.strip_suffix(suffix));
    name.is_some_and(|name| !name.is_empty()) && !container::is_container_scope(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_innermost_unit() {
        let id = "3f4e8c1d2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/system.slice/ssh.socket", Some("ssh.socket")),
            (
                "/system.slice/sshd@4-10.0.0.1:22-10.0.0.2:5000.service",
                Some("sshd@4-10.0.0.1:22-10.0.0.2:5000.service"),
            ),
            ("/init.scope", Some("init.scope")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/gw.service", Some("gw.service")),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("init.scope")),
            ("/system.slice/postgresql@15-main.service/worker", Some("postgresql@15-main.service")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/system.slice/a\\x2db.service", Some("a\\x2db.service")),
            ("/system.slice/docker-ID.scope", None),
            ("/system.slice/docker-ID.scope/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/web.service/libpod-payload-ID", Some("web.service")),
            ("/machine.slice/libpod-ID.scope/container", None),
            ("/machine.slice/systemd-nspawn@deb.service/payload", Some("systemd-nspawn@deb.service")),
            ("/machine.slice/machine-deb.scope/payload/system.slice/ssh.service", Some("ssh.service")),
            ("/machine.slice/machine-qemu\\x2d3\\x2dvm.scope/libvirt", Some("machine-qemu\\x2d3\\x2dvm.scope")),
            ("/lxc.payload.web/system.slice/nginx.service", Some("nginx.service")),
            ("/docker/ID", None),
            ("/kubepods/burstable/podX/ID", None),
            ("/user.slice", None),
            ("/.service", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(of_cgroup(&path.replace("ID", id)).as_deref(), expected, "{path}");
        }
    }
}
