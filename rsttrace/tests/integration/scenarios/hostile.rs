//! Processes whose names are chosen to do harm.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Seek as _},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use super::belongs::Groups;
use crate::{
    puppet::Puppet,
    stage::{Pair, Stage, V4},
    tracer::{Tracer, shows_kernel_address},
};

/// Clears the screen, reverses the direction of writing, begins a new line; and the last character is cut in the
/// middle.
const OF_SERVER: &[u8] = b"\x1b[2J\xe2\x80\xae\nabcd\xf0\x9f\x98\x80";
/// Fifteen bytes end in the middle of the fifth character.
const OF_CLIENT: &[u8] = "x日本語日本".as_bytes();
/// A control sequence of one character, bytes that are not UTF-8, a forged record, and a delete character.
const ARGUMENT: &[u8] = b"\xc2\x9b31m\xff\xfe\n{\"schema\":1,\"type\":\"lost\",\"count\":9}\n\x7f\xe2\x80\xa8";
/// As long as a container engine's id.
const CONTAINER: &str = "\u{1b}]0;gotcha\u{7}0123456789abcdef0123456789abcdef0123456789abcdef0123";

/// A process whose name, program, arguments and container are all hostile, and one whose arguments take 100 kB, in each
/// format.
pub(crate) fn names_are_escaped_in_every_format(stage: &Stage) {
    let group = format!("rsttrace-test-{}/lxc/{CONTAINER}", stage.netns);
    let groups = Groups::make(&group);
    let own = env::current_exe().unwrap();
    let directory = tempfile::tempdir_in(own.parent().expect("a program is in a directory")).unwrap();
    let program = directory.path().join(OsString::from_vec(b"\x1b[1mevil\n\xff".to_vec()));
    fs::hard_link(&own, &program).unwrap();

    let json = stage.trace();
    let netns = stage.netns.to_string();
    let others = ["text", "long"].map(|format| {
        let file = tempfile::tempfile().unwrap();
        let arguments = [&stage.arguments()[2..], &["--output", format, "--netns", &netns, "--count", "2"]].concat();
        (Tracer::start_writing_to(&arguments, file.try_clone().unwrap().into()), file)
    });
    {
        let server = Puppet::start_as(&program, &[OsString::from_vec(ARGUMENT.to_vec())], OF_SERVER);
        let client = Puppet::start_as(&own, &["ü".repeat(50_000).into()], OF_CLIENT);
        groups.take_in(&server);
        let mut pair = Pair::between(server, client, V4);
        pair.client_aborts();

        let run = stage.finish(json, 1, 1);
        let line = command_line(pair.server.pid());
        assert!(line.contains("\"count\":9"), "{line}");
        run.the_received()
            .owner(&pair.server)
            .is("/process/command_line", line)
            .is("/process/executable", String::from_utf8_lossy(program.as_os_str().as_bytes()))
            .is("/process/cgroup", format!("/{group}"))
            .is("/container/id", CONTAINER);
        let line = command_line(pair.client.pid());
        assert!(line.ends_with("\u{fffd}…") || line.ends_with("ü…"), "{line}");
        run.the_sent().owner(&pair.client).is("/process/command_line", line);
        for ((tracer, mut file), lines) in others.into_iter().zip([Some(2), None]) {
            let (status, stderr) = tracer.status();
            assert!(status.success(), "{stderr}");
            let printed = all(&mut file);
            for text in [&printed, &stderr] {
                assert!(!text.chars().any(is_harmful), "{text:?}");
                assert!(!shows_kernel_address(text), "{text}");
            }
            for puppet in [&pair.server, &pair.client] {
                assert!(printed.contains(&format!("[{}]", puppet.pid())), "{printed}");
            }
            assert!(lines.is_none_or(|lines| printed.lines().count() == lines), "{printed}");
        }
    }
}

/// Expected command line of a process: its first 4,096 bytes, joined by blanks.
fn command_line(pid: u32) -> String {
    let bytes = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap();
    let end = if bytes.len() > 4096 { 4096 } else { bytes.len() - 1 };
    let line = String::from_utf8_lossy(&bytes[..end]).replace('\0', " ");
    if bytes.len() > 4096 { line + "…" } else { line }
}

fn all(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn is_harmful(character: char) -> bool {
    character != '\n' && (character.is_control() || ('\u{2028}'..='\u{202e}').contains(&character))
}
