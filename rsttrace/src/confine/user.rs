//! Going on as another user.

use nix::unistd::{self, Gid, Uid, setgroups, setresgid, setresuid};

use crate::exit::Failure;

/// Somebody whom this host knows.
#[derive(Clone, Debug)]
pub(crate) struct User {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl User {
    /// By name or number.
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

    /// Becomes it, with its own group alone and what capabilities this process may have; none of them is in effect then.
    pub(super) fn become_it(&self) -> Result<(), Failure> {
        if unistd::getresuid().is_ok_and(|now| [now.real, now.effective, now.saved] == [self.uid; 3]) {
            // Whoever started it so may have left it groups, which not everybody may give up.
            setgroups(&[self.gid]).unwrap_or_default();
            setresgid(self.gid, self.gid, self.gid).unwrap_or_default();
            return Ok(());
        }
        // SAFETY: takes integers; the kernel keeps the permitted capabilities through the change of user.
        unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
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
    fn users_are_found_by_name_and_number() {
        for name in ["root", "0"] {
            assert!(User::find(name).is_ok_and(|user| user.uid.is_root() && user.name == "root"));
        }
        for name in ["no-such-user", "", "4294967294", "-1"] {
            assert!(matches!(User::find(name), Err(Failure::Usage(_))), "{name}");
        }
    }
}
