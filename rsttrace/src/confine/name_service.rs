//! Modules of the C library's name service switch (nss(5)), loaded before the sandbox, which lets no more code be mapped.
//!
//! glibc maps the module of a service (`resolve`, `mymachines`, `sss`; before 2.34 `files` and `dns` as well) when a lookup
//! comes to it for the first time. One that is mapped already is found by its name. Other C libraries have no modules, and a
//! static program loads none.

use std::{
    ffi::{CStr, CString},
    fs,
    net::ToSocketAddrs as _,
};

/// A module that is there and cannot be loaded.
pub(super) struct Unloadable {
    /// File name of the module.
    pub(super) module: String,
    /// What the dynamic linker says.
    pub(super) why: String,
}

/// Loads the modules of every service that `/etc/nsswitch.conf` names for hosts, and looks up `localhost`, which makes them
/// and the C library load what they load themselves. Blocks as long as that lookup; the network is not asked for it.
pub(super) fn load() -> Vec<Unloadable> {
    let configuration = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let unloadable = host_services(&configuration).into_iter().filter_map(|service| load_module(&service).err());
    let unloadable = unloadable.collect();
    // Where it is not known, the way to that answer is the same.
    drop(("localhost", 0).to_socket_addrs());
    unloadable
}

/// The services of the line `hosts:`, in their order, without the actions in brackets.
fn host_services(configuration: &str) -> Vec<String> {
    let services = configuration.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.trim_start().strip_prefix("hosts:")
    });
    let mut in_action = false;
    let is_name = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    services
        .unwrap_or_default()
        .split_whitespace()
        .filter(|word| {
            let is_action = in_action || word.starts_with('[');
            in_action = is_action && !word.ends_with(']');
            !is_action && is_name(word)
        })
        .map(str::to_owned)
        .collect()
}

/// Maps the module of a service for the life of this process. One that is not installed is no error: the C library passes
/// over the service as well.
fn load_module(service: &str) -> Result<(), Unloadable> {
    let module = format!("libnss_{service}.so.2");
    let Ok(name) = CString::new(module.as_str()) else { return Ok(()) };
    // SAFETY: the name lives through the call. The module's initializers run, as they do at the first lookup.
    if !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) }.is_null() {
        return Ok(());
    }
    // SAFETY: takes no arguments; the text lives until the next call of the dynamic linker in this thread.
    let error = unsafe { libc::dlerror() };
    let why = if error.is_null() {
        String::new()
    } else {
        // SAFETY: a C string, see above.
        unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
    };
    // Its own absence, and not that of a library that it needs.
    if why.starts_with(&module) && why.contains("No such file or directory") {
        return Ok(());
    }
    Err(Unloadable { module, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_hosts_are_found() {
        let of = host_services;
        assert_eq!(of("passwd: files\nhosts:  files dns\nhosts: other\n"), ["files", "dns"]);
        assert_eq!(of(" hosts: mymachines resolve [!UNAVAIL=return] files # dns"), ["mymachines", "resolve", "files"]);
        assert_eq!(of("hosts: a [NOTFOUND=return SUCCESS=continue] b [ X=y ] c"), ["a", "b", "c"]);
        assert_eq!(of("hosts: ../../tmp/x b"), ["b"]);
        assert_eq!(of("#hosts: files\nshadow: files"), [""; 0]);
    }

    #[test]
    fn a_service_that_is_not_installed_is_no_error() {
        assert!(load_module("no-such-service").is_ok());
    }
}
