//! The stack of the main thread, which has no size of its own: it grows up to `RLIMIT_STACK`, and ends the process there.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::exit::Failure;

/// Bytes to raise the soft limit to, where the hard limit lets it.
const WANTED: u64 = 1 << 20;

/// Bytes that are needed: a run took up to 384 KiB without optimisation, and up to 128 KiB with it.
const NEEDED: u64 = 512 << 10;

/// Raises a limit that is too low, as far as the hard limit lets it; it holds at once, for how far the stack may still
/// grow. Fails with status 3 when that is not far enough.
pub(crate) fn raise() -> Result<(), Failure> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_STACK) else { return Ok(()) };
    let goal = WANTED.min(hard);
    if soft >= goal || setrlimit(Resource::RLIMIT_STACK, goal, hard).is_ok() {
        return check(soft.max(goal));
    }
    check(soft)
}

fn check(limit: u64) -> Result<(), Failure> {
    if limit >= NEEDED {
        return Ok(());
    }
    Err(Failure::host(format_args!(
        "the limit of the stack (RLIMIT_STACK) is {} KiB, and {} KiB are needed: raise it ('ulimit -s')",
        limit >> 10,
        NEEDED >> 10
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_refused_with_the_remedy() {
        assert!(check(NEEDED).is_ok());
        let Err(Failure::Host(error)) = check(64 << 10) else { panic!("it is too little") };
        let said = error.to_string();
        assert!(said.contains("64 KiB") && said.contains("ulimit -s"), "{said}");
    }
}
