//! The systemd unit of a cgroup, from its path alone. Pure.

use std::{borrow::Cow, sync::Arc};

use super::container;

/// Kinds of units that have processes, or sockets that systemd opened for them.
const KINDS: &[&str] = &[".service", ".scope", ".socket", ".mount", ".swap"];

/// The innermost unit of a path, as `systemctl status` takes it. What a container engine calls the scope of a container
/// is the container and not repeated as a unit; the service that it runs in, and a service inside it, are units.
pub fn unit(path: &str) -> Option<Arc<str>> {
    path.split('/').rev().find(|step| is_unit(step)).map(|step| {
        // What would collide with a file of the cgroup file system has an underscore before it.
        step.strip_prefix('_').unwrap_or(step).into()
    })
}

fn is_unit(step: &str) -> bool {
    let kind = KINDS.iter().find_map(|kind| step.strip_suffix(kind));
    kind.is_some_and(|name| !name.is_empty()) && !container::is_scope(step)
}

/// Undoes `\x2d`, which stands for what a unit's name cannot hold.
pub(super) fn unescape(name: &str) -> Cow<'_, str> {
    if !name.contains("\\x") {
        return name.into();
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = rest
            .strip_prefix(b"\\x")
            .and_then(|rest| std::str::from_utf8(rest.get(..2)?).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { rest.get(4..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_unit_is_named() {
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
            assert_eq!(unit(&path.replace("ID", id)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn escapes_are_undone_and_nonsense_stays() {
        for (name, expected) in
            [("a\\x2db", "a-b"), ("a\\x2", "a\\x2"), ("\\xzz", "\\xzz"), ("a", "a"), ("\\xff", "\u{fffd}")]
        {
            assert_eq!(unescape(name), expected);
        }
    }
}
