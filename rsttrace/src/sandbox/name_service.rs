//! Preloading of the C library's name service modules (nss(5)): the sandbox allows no more executable mappings.
//!
//! glibc maps the module of a service (`resolve`, `mymachines`, `sss`; before 2.34 `files` and `dns` as well) when a
//! lookup first uses it, and finds a module that is already mapped by its name. Other C libraries have no modules, and
//! a static program loads none.

use std::{
    ffi::{CStr, CString},
    fs,
    net::ToSocketAddrs as _,
};

/// A module that is installed and could not be loaded.
pub(super) struct ModuleError {
    /// File name of the module.
    pub(super) module: String,
    /// Message of the dynamic linker.
    pub(super) message: String,
}

/// Loads the modules of all services that `/etc/nsswitch.conf` lists for hosts, then resolves `localhost`, so that the
/// modules and the C library load their own dependencies. Blocks for that lookup, which does not use the network.
/// Returns the modules that could not be loaded.
pub(super) fn load() -> Vec<ModuleError> {
    let configuration = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let errors = host_services(&configuration).into_iter().filter_map(|service| load_module(&service).err()).collect();
    // A lookup that fails has loaded the dependencies as well.
    let _ignored = ("localhost", 0).to_socket_addrs();
    errors
}

/// Services of the `hosts:` line, in their order, without the actions in brackets.
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

/// Maps the module of a service for the rest of the process's life. A module that is not installed is no error: the C
/// library skips such a service.
fn load_module(service: &str) -> Result<(), ModuleError> {
    let module = format!("libnss_{service}.so.2");
    let Ok(name) = CString::new(module.as_str()) else { return Ok(()) };
    // SAFETY: the name lives through the call. The module's initializers run, as they do at the first lookup.
    if !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) }.is_null() {
        return Ok(());
    }
    // SAFETY: takes no arguments; the text lives until the next call of the dynamic linker in this thread.
    let error = unsafe { libc::dlerror() };
    let message = if error.is_null() {
        String::new()
    } else {
        // SAFETY: dlerror returns a C string, which lives until the next call of the dynamic linker in this thread.
        unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
    };
    // The module itself is missing, and not a library that it depends on.
    if message.starts_with(&module) && message.contains("No such file or directory") {
        return Ok(());
    }
    Err(ModuleError { module, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_services_of_hosts() {
        let of = host_services;
        assert_eq!(of("passwd: files\nhosts:  files dns\nhosts: other\n"), ["files", "dns"]);
        assert_eq!(of(" hosts: mymachines resolve [!UNAVAIL=return] files # dns"), ["mymachines", "resolve", "files"]);
        assert_eq!(of("hosts: a [NOTFOUND=return SUCCESS=continue] b [ X=y ] c"), ["a", "b", "c"]);
        assert_eq!(of("hosts: ../../tmp/x b"), ["b"]);
        assert_eq!(of("#hosts: files\nshadow: files"), [""; 0]);
    }

    #[test]
    fn accepts_a_service_that_is_not_installed() {
        assert!(load_module("no-such-service").is_ok());
    }
}
