//! Switching to another user.

use std::{fmt, fs::File, io, os::unix::fs::fchown};

use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{self, Gid, Uid, setgroups, setresgid, setresuid},
};

/// Remedy where a user cannot be found: an image with nothing but the program, or a user of a directory service.
const WITHOUT_LOOKUP: &str = "--user UID:GID needs no lookup";

/// Reason why a user cannot be found or switched to.
#[derive(Debug)]
pub(crate) enum UserError {
    /// The name service failed.
    Lookup {
        /// Name or number as it was given.
        user: String,
        /// Reason.
        error: Errno,
    },
    /// There is no such user.
    Unknown {
        /// Name or number as it was given.
        user: String,
    },
    /// The kernel refused the switch.
    Switch {
        /// Name of the user.
        user: String,
        /// Reason.
        error: Errno,
    },
}

impl fmt::Display for UserError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup { user, error } => {
                write!(formatter, "cannot look up the user '{user}': {error}; {WITHOUT_LOOKUP}")
            }
            Self::Unknown { user } => {
                write!(formatter, "no such user: '{user}' ('getent passwd' lists the users; {WITHOUT_LOOKUP})")
            }
            Self::Switch { user, error } => {
                write!(formatter, "cannot go on as {user}: {error}; --user needs root, or CAP_SETUID and CAP_SETGID")
            }
        }
    }
}

impl std::error::Error for UserError {}

/// A user of this host, with its primary group.
#[derive(Clone, Debug)]
pub(crate) struct User {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl User {
    /// Looks up a user by name or number, through the C library's name service. Blocks for as long as that takes. `UID:GID`
    /// is not looked up: an image with nothing but the program has no users. Fails when there is no such user, and when the
    /// lookup fails.
    pub(crate) fn find(name: &str) -> Result<Self, UserError> {
        if let Some((uid, gid)) = numbers(name) {
            return Ok(Self { name: name.to_owned(), uid, gid });
        }
        let found = match name.parse() {
            Ok(uid) => unistd::User::from_uid(Uid::from_raw(uid)),
            Err(_) => unistd::User::from_name(name),
        };
        let found = found.map_err(|error| UserError::Lookup { user: name.to_owned(), error })?;
        let user = found.ok_or_else(|| UserError::Unknown { user: name.to_owned() })?;
        Ok(Self { name: user.name, uid: user.uid, gid: user.gid })
    }

    /// Makes an open file this user's. Fails without `CAP_CHOWN`.
    pub(crate) fn give(&self, file: &File) -> io::Result<()> {
        fchown(file, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Switches all user and group ids of the process to this user and its primary group. The permitted capabilities
    /// are kept; the effective ones are cleared by the kernel. Fails when the process runs as another user and has no
    /// `CAP_SETUID` or `CAP_SETGID`.
    pub(super) fn switch_user(&self) -> Result<(), UserError> {
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
            .map_err(|error| UserError::Switch { user: self.name.clone(), error })
    }
}

/// User and group of `UID:GID`. The largest number means "unchanged" to the kernel.
fn numbers(text: &str) -> Option<(Uid, Gid)> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|&number| number != u32::MAX);
    let (uid, gid) = text.split_once(':')?;
    Some((Uid::from_raw(number(uid)?), Gid::from_raw(number(gid)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_numbers_as_they_are() {
        assert!(
            User::find("4294967294:7").is_ok_and(|user| user.uid.as_raw() == 4_294_967_294 && user.gid.as_raw() == 7)
        );
        for name in ["7:", ":7", "7:x", "4294967295:7", "7:4294967295", "-1:7"] {
            assert!(matches!(User::find(name), Err(UserError::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn finds_users_by_name_and_number() {
        for name in ["root", "0"] {
            assert!(User::find(name).is_ok_and(|user| user.uid.is_root() && user.name == "root"));
        }
        for name in ["no-such-user", "", "4294967294", "-1"] {
            assert!(matches!(User::find(name), Err(UserError::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn errors_of_lookups_name_the_form_without_one() {
        let user = || "65534".to_owned();
        for error in [UserError::Lookup { user: user(), error: Errno::ENOENT }, UserError::Unknown { user: user() }] {
            assert!(error.to_string().contains("--user UID:GID needs no lookup"), "{error}");
        }
    }
}
