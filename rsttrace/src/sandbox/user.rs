//! Switching to another user.

use nix::{
    sys::prctl,
    unistd::{self, Gid, Uid, setgroups, setresgid, setresuid},
};

use crate::exit::Failure;

/// A user of this host, with its primary group.
#[derive(Clone, Debug)]
pub(crate) struct User {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl User {
    /// Looks up a user by name or number, through the C library's name service. Blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if there is no such user or the lookup fails.
    pub(crate) fn find(name: &str) -> Result<Self, Failure> {
        let found = match name.parse() {
            Ok(uid) => unistd::User::from_uid(Uid::from_raw(uid)),
            Err(_) => unistd::User::from_name(name),
        };
        let found = found.map_err(|error| Failure::usage(format_args!("cannot look up the user '{name}': {error}")))?;
        let user = found.ok_or_else(|| {
            Failure::usage(format_args!("there is no user '{name}': 'getent passwd' lists those that there are"))
        })?;
        Ok(Self { name: user.name, uid: user.uid, gid: user.gid })
    }

    /// Switches all user and group ids of the process to this user and its primary group. The permitted capabilities
    /// are kept; the effective ones are cleared by the kernel.
    ///
    /// # Errors
    ///
    /// If the process runs as another user and has no `CAP_SETUID` or `CAP_SETGID`.
    pub(super) fn switch_user(&self) -> Result<(), Failure> {
        if unistd::getresuid().is_ok_and(|now| [now.real, now.effective, now.saved] == [self.uid; 3]) {
            // The process was started as this user, maybe with more groups; without CAP_SETGID it cannot drop them.
            let _ignored = setgroups(&[self.gid]);
            let _ignored = setresgid(self.gid, self.gid, self.gid);
            return Ok(());
        }
        // Fails only where SECBIT_KEEP_CAPS_LOCKED is set.
        let _ignored = prctl::set_keepcaps(true);
        setgroups(&[self.gid])
            .and_then(|()| setresgid(self.gid, self.gid, self.gid))
            .and_then(|()| setresuid(self.uid, self.uid, self.uid))
            .map_err(|error| {
                let Self { name, .. } = self;
                Failure::host(format_args!(
                    "cannot go on as {name}: {error}; --user needs root, or CAP_SETUID and CAP_SETGID"
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_users_by_name_and_number() {
        for name in ["root", "0"] {
            assert!(User::find(name).is_ok_and(|user| user.uid.is_root() && user.name == "root"));
        }
        for name in ["no-such-user", "", "4294967294", "-1"] {
            assert!(matches!(User::find(name), Err(Failure::Usage(_))), "{name}");
        }
    }
}
