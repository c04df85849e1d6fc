//! Filters that no process of this host matches now, for the start of a run.

use std::{
    collections::BTreeSet,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{liveness, procfs::CgroupMembership};
use crate::{
    model::{
        FilterOptions,
        names::{is_comm, names_unit},
    },
    util::sanitize::Sanitized,
};

/// Length from which on hexadecimal digits are the beginning of a container's id and hardly its name.
const ID_DIGITS: usize = 12;

/// What filters do not find on this host now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Absences {
    /// Notes, one for each option.
    pub notes: Vec<String>,
    /// Ids of the containers that have processes, for filters by names; `None` without one, and where not every process can
    /// be seen.
    pub containers: Option<BTreeSet<Arc<str>>>,
}

/// Values of `--pid`, `--comm`, `--unit` and `--container` (its ids, since names are read later) that no process has now.
/// Reads `/proc`, for options other than `--pid` of each process. In another PID namespace than the initial one nothing is
/// said, since not every process can be seen.
pub fn find(filters: &FilterOptions) -> Absences {
    if !liveness::is_in_init_pid_namespace() {
        return Absences::default();
    }
    find_below(Path::new("/proc"), filters)
}

fn find_below(proc: &Path, filters: &FilterOptions) -> Absences {
    let mut notes: Vec<String> = filters.pid.iter().filter_map(|pid| thread(proc, *pid)).collect();
    notes.extend(missing("process", filters.pid.iter().filter(|pid| !proc.join(pid.to_string()).exists())));
    let mut comms: Vec<&str> = filters.comm.iter().map(String::as_str).collect();
    let mut units: Vec<&str> = filters.unit.iter().map(String::as_str).collect();
    let mut ids: Vec<&str> = filters.container.iter().map(String::as_str).filter(|name| is_id(name)).collect();
    let has_names = !(filters.host.is_empty() && filters.pod.is_empty() && filters.container.is_empty());
    let mut containers = has_names.then(BTreeSet::new);
    for process in processes(proc) {
        let is_membership_wanted = !(units.is_empty() && ids.is_empty()) || has_names;
        if comms.is_empty() && !is_membership_wanted {
            break;
        }
        if !comms.is_empty() {
            let comm = fs::read(process.join("comm")).unwrap_or_default();
            let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm));
            comms.retain(|wanted| !is_comm(wanted, &comm));
        }
        if is_membership_wanted
            && let Some(found) = fs::read(process.join("cgroup")).ok().and_then(|file| CgroupMembership::parse(&file))
        {
            units.retain(|wanted| !found.unit.as_ref().is_some_and(|unit| names_unit(wanted, unit)));
            if let Some(container) = found.container {
                ids.retain(|wanted| !container.id.starts_with(wanted));
                if let Some(containers) = &mut containers {
                    containers.insert(container.id);
                }
            }
        }
    }
    notes.extend(missing("process named", comms));
    notes.extend(missing("process of unit", units));
    notes.extend(missing("process of container", ids));
    Absences { notes, containers }
}

/// Whether the value of `--container` is the beginning of an id, and hardly a name.
pub(super) fn is_id(name: &str) -> bool {
    name.len() >= ID_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A note on what is not there; `None` where all of it is.
pub(super) fn missing<T: Display>(what: &str, names: impl IntoIterator<Item = T>) -> Option<String> {
    let names: Vec<String> = names.into_iter().map(|name| Sanitized(&name.to_string()).to_string()).collect();
    let it = if names.len() == 1 { "it" } else { "them" };
    (!names.is_empty()).then(|| format!("no {what} {} now; waiting for {it}", names.join(" or ")))
}

/// A note on an id of a thread other than the first one of its process, which no socket's owner has.
fn thread(proc: &Path, id: u32) -> Option<String> {
    let status = fs::read_to_string(proc.join(id.to_string()).join("status")).ok()?;
    let process: u32 = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())?;
    (process != id).then(|| format!("{id} is a thread of process {process}: give the process to --pid"))
}

fn processes(proc: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let is_process =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    entries.map(|entry| entry.path()).filter(is_process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(proc: &Path, pid: u32, comm: &str, cgroup: &str) {
        let directory = proc.join(pid.to_string());
        fs::create_dir(&directory).expect("a directory");
        for (name, text) in [("comm", comm), ("cgroup", cgroup), ("status", &format!("Name:\tx\nTgid:\t{pid}\n"))] {
            fs::write(directory.join(name), format!("{text}\n")).expect("a file");
        }
    }

    #[test]
    fn only_what_is_missing_is_noted() {
        let proc = tempfile::tempdir().expect("a directory");
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        process(proc.path(), 7, "systemd-resolve", "0::/system.slice/systemd-resolved.service");
        process(proc.path(), 9, "nginx", &format!("0::/system.slice/docker-{id}.scope"));
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
        let there = FilterOptions {
            pid: vec![7, 9],
            comm: names(&["nginx", "systemd-resolved"]),
            unit: names(&["systemd-resolved"]),
            container: names(&["0123456789abcdef", "web"]),
            ..FilterOptions::default()
        };
        let found = find_below(proc.path(), &there);
        assert_eq!(found.notes, Vec::<String>::new());
        assert_eq!(found.containers, Some(BTreeSet::from([id.into()])));
        let missing = FilterOptions {
            pid: vec![7, 8],
            comm: names(&["nginx", "redis", "mysqld"]),
            unit: names(&["nginx"]),
            container: names(&["fedcba9876543210"]),
            ..FilterOptions::default()
        };
        assert_eq!(
            find_below(proc.path(), &missing).notes,
            [
                "no process 8 now; waiting for it",
                "no process named redis or mysqld now; waiting for them",
                "no process of unit nginx now; waiting for it",
                "no process of container fedcba9876543210 now; waiting for it",
            ]
        );
    }

    #[test]
    fn threads_are_told_from_processes() {
        let proc = tempfile::tempdir().expect("a directory");
        process(proc.path(), 7, "java", "0::/");
        fs::create_dir(proc.path().join("8")).expect("a directory");
        fs::write(proc.path().join("8/status"), "Name:\tjava\nTgid:\t7\nPid:\t8\n").expect("a file");
        let filters = FilterOptions { pid: vec![8, 7], ..FilterOptions::default() };
        let found = find_below(proc.path(), &filters);
        assert_eq!(found.notes, ["8 is a thread of process 7: give the process to --pid"]);
        assert_eq!(found.containers, None);
    }
}
