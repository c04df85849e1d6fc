//! Whether one input has the lines of several hosts: a look at each line without parsing it.

use std::{io, path::Path};

use memchr::memmem;

use super::{
    directory::Directory,
    lines::{Contents, ReadLine},
    source::TimeRange,
};

/// What is in front of a host's name in a line.
const NAME: &[u8] = b"\"host\":\"";

/// Whether a file, or a directory of segments, has lines that name different hosts. Blocks while it reads them. Fails where that
/// cannot be read; of a file that breaks off the lines before count.
pub fn has_several_hosts(path: &Path) -> io::Result<bool> {
    let files = if path.is_dir() {
        match Directory::open(path, TimeRange::default())? {
            Directory::Segments(files) => files,
            Directory::Captures(_) => return Ok(false),
        }
    } else {
        vec![path.to_owned()]
    };
    let finder = memmem::Finder::new(NAME);
    let mut first: Option<Vec<u8>> = None;
    for file in files {
        let Contents::Lines(mut lines) = Contents::open(&file)? else { continue };
        while let Ok(Some(line)) = lines.next() {
            let ReadLine::Whole(line) = line else { continue };
            let Some(name) = finder.find(line).and_then(|at| line.get(at + NAME.len()..)) else { continue };
            let name = name.split(|byte| *byte == b'"').next().unwrap_or_default();
            match &first {
                Some(first) if first != name => return Ok(true),
                Some(_) => {}
                None => first = Some(name.to_owned()),
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_of_two_hosts_are_told_from_those_of_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lines");
        for (text, expected) in [
            ("{\"host\":\"a\"}\n{}\n{\"host\":\"a\"}\n", false),
            ("{\"host\":\"a\"}\n{\"host\":\"ab\"}\n", true),
            ("", false),
        ] {
            fs::write(&path, text).expect("it is written");
            assert_eq!(has_several_hosts(&path).expect("it is read"), expected, "{text}");
        }
        assert!(has_several_hosts(&directory.path().join("none")).is_err());
    }
}
