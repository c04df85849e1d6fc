//! Names of addresses in `/etc/hosts`.

use std::{net::IpAddr, path::Path, sync::Arc};

use super::{
    findings::{ADDRESSES_MAX, Findings, text},
    tree::{Budget, FileCache, Folder, HOST_FILE_MAX},
};

/// The file.
pub(super) struct Hosts(FileCache<Vec<(IpAddr, Arc<str>)>>);

impl Default for Hosts {
    fn default() -> Self {
        Self(FileCache::new(HOST_FILE_MAX))
    }
}

impl Hosts {
    pub(super) fn read(&mut self, root: &Path, budget: &Budget, findings: &mut Findings) {
        self.0.begin();
        // The file may be a link, as on NixOS: its directory is where the link leads to.
        let path = root.join("etc/hosts");
        let path = path.canonicalize().unwrap_or(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Some(folder) = Folder::begin(parent, budget) else { return };
        let hosts = self.0.get(&folder, name, "".as_ref(), budget, |file| Some(parse(file)));
        for (address, name) in hosts.iter().flat_map(|hosts| hosts.iter()) {
            findings.host(*address, Arc::clone(name));
        }
    }
}

/// Parses hosts(5): the first name of each address, the one that the C library gives for it. Other lines are skipped.
pub(super) fn parse(file: &str) -> Vec<(IpAddr, Arc<str>)> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        Some((words.next()?.parse().ok()?, text(words.next()?)?))
    };
    file.lines().filter_map(line).take(ADDRESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_hosts_and_skips_other_lines() {
        let file = "127.0.0.1 localhost\n10.0.0.7\tdb-1.example db-1 # comment\n# 10.0.0.8 x\n10.0.0.9\n\
                    fe80::1%lo0 scoped\nhost 10.0.0.1\n\n2001:db8::7 six\n10.0.0.7 later\n300.0.0.1 y\n";
        let names: Vec<String> = parse(file).iter().map(|(address, name)| format!("{address} {name}")).collect();
        assert_eq!(names, ["127.0.0.1 localhost", "10.0.0.7 db-1.example", "2001:db8::7 six", "10.0.0.7 later"]);
        let mut findings = Findings::default();
        for (address, name) in parse(file) {
            findings.host(address, name);
        }
        assert_eq!(findings.hosts.len(), 2, "the first name of an address, and none of the loopback address");
        assert_eq!(&*findings.hosts[&"10.0.0.7".parse::<IpAddr>().expect("an address")], "db-1.example");
    }
}
