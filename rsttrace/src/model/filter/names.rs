//! Names in filters, compared with those that records have.

use crate::model::Pod;

/// Whether a name matches a pattern, in which `*` stands for any text. Letters of ASCII match in either case.
pub fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let within = name.strip_prefix(first).and_then(|name| name.strip_suffix(last));
    within.is_some_and(|mut within| {
        middle.split('*').all(|part| match within.split_once(part) {
            Some((_, after)) => {
                within = after;
                true
            }
            None => false,
        })
    })
}

/// Bytes of a process's name in the kernel (`TASK_COMM_LEN` without the zero at the end).
const COMM_BYTES: usize = 15;

/// Whether a process has this name, of which the kernel keeps the beginning.
pub fn is_comm(wanted: &str, own: &str) -> bool {
    wanted == own || wanted.len() > COMM_BYTES && own.len() == COMM_BYTES && wanted.starts_with(own)
}

/// Whether a name is that of this unit; without a suffix, of the service of that name.
pub fn names_unit(name: &str, unit: &str) -> bool {
    unit == name || unit.strip_suffix(".service") == Some(name)
}

/// Whether a name is that of this pod: `NAME`, in any namespace, or `NAMESPACE/NAME`.
pub fn names_pod(wanted: &str, pod: &Pod) -> bool {
    match wanted.split_once('/') {
        Some((namespace, name)) => *pod.namespace == *namespace && *pod.name == *name,
        None => *pod.name == *wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_of_processes_match_by_their_beginning() {
        assert!(is_comm("nginx", "nginx") && !is_comm("nginx-debug", "nginx"));
        assert!(is_comm("systemd-resolved", "systemd-resolve") && is_comm("systemd-resolve", "systemd-resolve"));
        assert!(!is_comm("systemd-networkd", "systemd-resolve") && !is_comm("systemd-resolved", "systemd"));
    }

    #[test]
    fn services_are_units_without_their_suffix() {
        assert!(names_unit("nginx", "nginx.service") && names_unit("nginx.service", "nginx.service"));
        assert!(!names_unit("nginx", "nginx.socket") && !names_unit("ngin", "nginx.service"));
    }

    #[test]
    fn pods_match_with_and_without_a_namespace() {
        let pod = Pod { namespace: "shop".into(), name: "db-0".into(), uid: "u".into(), container: None };
        assert!(names_pod("db-0", &pod) && names_pod("shop/db-0", &pod));
        assert!(!names_pod("other/db-0", &pod) && !names_pod("shop", &pod));
    }
}
