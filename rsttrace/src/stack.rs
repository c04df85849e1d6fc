//! The stack of the main thread, which has no size of its own: it grows up to `RLIMIT_STACK`, and ends the process there.

use std::fmt;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Bytes to raise the soft limit to, where the hard limit lets it.
const WANTED: u64 = 1 << 20;

/// Bytes that are needed: a run took up to 384 KiB without optimisation, and up to 128 KiB with it.
const NEEDED: u64 = 512 << 10;

/// Limit of the stack that is too low, and that cannot be raised far enough.
#[derive(Debug)]
pub(crate) struct StackError {
    /// Bytes.
    limit: u64,
}

impl fmt::Display for StackError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the limit of the stack (RLIMIT_STACK) is {} KiB, and {} KiB are needed: raise it ('ulimit -s')",
            self.limit >> 10,
            NEEDED >> 10
        )
    }
}

impl std::error::Error for StackError {}

/// Raises a limit that is too low, as far as the hard limit lets it; it holds at once, for how far the stack may still
/// grow. Fails when that is not far enough.
pub(crate) fn raise() -> Result<(), StackError> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_STACK) else { return Ok(()) };
    let goal = WANTED.min(hard);
    if soft >= goal || setrlimit(Resource::RLIMIT_STACK, goal, hard).is_ok() {
        return check(soft.max(goal));
    }
    check(soft)
}

const fn check(limit: u64) -> Result<(), StackError> {
    if limit >= NEEDED { Ok(()) } else { Err(StackError { limit }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_refused_with_the_remedy() {
        assert!(check(NEEDED).is_ok());
        let said = check(64 << 10).expect_err("it is too little").to_string();
        assert!(said.contains("64 KiB") && said.contains("ulimit -s"), "{said}");
    }
}
