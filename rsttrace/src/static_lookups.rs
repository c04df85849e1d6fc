//! Lookups of hosts and users in a static program.
//!
//! glibc loads the modules that `/etc/nsswitch.conf` names (`sss`, `resolve`, `systemd`, …) into static programs too. They need
//! the host's C library, which is another version than the one that is linked in: that is not supported, and has ended
//! programs. The services `files` and `dns` have been in the library itself since 2.34.

use std::ffi::{c_char, c_int};

unsafe extern "C" {
    /// Sets the services of a database for this process (`nss.h`), which then does not read `/etc/nsswitch.conf` for it. Returns
    /// 0, or -1 for an unknown database or without memory.
    fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
}

/// Restricts the lookups of this process to the services that need no modules. No other thread may exist yet.
pub(crate) fn restrict() {
    for (database, services) in [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")] {
        // SAFETY: both texts are static, and no other thread looks anything up.
        let _without_memory = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}
