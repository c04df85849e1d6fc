//! Rules of the packet filter.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crate::host;

/// Executes these commands of nft, one per line, in the calling thread's namespace.
pub(crate) fn rules(commands: &str) {
    let program = host::program("nft").expect("it is installed");
    let mut nft = Command::new(program).args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(format!("{commands}\n").as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft does not take:\n{commands}");
}
