//! A file of lines, open for appending, in which only whole lines are left: what is torn, by a crash or an external
//! truncation, is repaired before the next line.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::util::{counted, messages::info, was};

/// First bytes of every line that this program writes.
const LINE_PREFIX: &[u8] = br#"{"schema":"#;

/// Bytes at the end of a file in which the start of its last line is searched for.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// The file, open for appending.
pub(super) struct LineFile {
    file: File,
    /// False for a character device such as `/dev/null`, which has neither a length nor a name to check.
    is_regular: bool,
    /// Length in bytes after the last write or repair. A file of any other length was changed externally.
    end: u64,
}

impl LineFile {
    /// Makes what was written durable; nothing for a character device. Blocks on the disk. Fails where it does.
    pub(super) fn sync(&self, path: &Path) -> Result<()> {
        if !self.is_regular {
            return Ok(());
        }
        self.file.sync_all().with_context(|| format!("cannot make {} last", path.display()))
    }

    /// Opens a file, or creates it, and repairs its end. Blocks on the file system. Fails where it can be neither opened nor
    /// created, is no regular file or character device, or is in use by another rsttrace.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let shown = path.display();
        // Mode 0640, since command lines are in it. `O_NONBLOCK` keeps the open of a FIFO from blocking; it is refused
        // below.
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .with_context(|| format!("cannot open {shown}{}", missing_directory(path)))?;
        let kind = file.metadata().with_context(|| format!("cannot look at {shown}"))?.file_type();
        if kind.is_char_device() {
            return Ok(Self { file, is_regular: false, end: 0 });
        }
        if !kind.is_file() {
            bail!("{shown} is no regular file");
        }
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => bail!("{shown} is in use: another rsttrace writes to it"),
            // Some network file systems have no locks.
            Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        }
        let end = repair_end(&mut file, path)?;
        Ok(Self { file, is_regular: true, end })
    }

    /// Whether the file has no name any more. One that was renamed has one, and gets lines until SIGHUP comes.
    pub(super) fn is_removed(&self, path: &Path) -> Result<bool> {
        if !self.is_regular {
            return Ok(false);
        }
        let cannot = || format!("cannot look at {}", path.display());
        let own = self.file.metadata().with_context(cannot)?;
        if own.nlink() > 0 {
            return Ok(false);
        }
        // Some file systems keep no link count.
        let has_path = fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
        Ok(!has_path)
    }

    /// Length in bytes; `None` for a character device. A file that was truncated or written to externally is repaired
    /// first, so that the next line begins where a line ends.
    pub(super) fn length(&mut self, path: &Path) -> Result<Option<u64>> {
        if !self.is_regular {
            return Ok(None);
        }
        let length = self.file.metadata().with_context(|| format!("cannot look at {}", path.display()))?.len();
        if length != self.end {
            self.end = repair_end(&mut self.file, path)?;
        }
        Ok(Some(self.end))
    }

    /// Appends whole lines, or nothing.
    pub(super) fn append(&mut self, block: &[u8]) -> io::Result<()> {
        if !self.is_regular {
            return self.file.write_all(block);
        }
        let mut inside = 0..0;
        let appended = append(&self.file, block, &mut inside);
        match &appended {
            Ok(()) => self.end = inside.end,
            // The part that was written is cut off again, or the next line would follow half a line. Where that fails,
            // the length differs from `end`, and the file is repaired before the next write.
            Err(_) if !inside.is_empty() => {
                let _ignored = shrink(&self.file, inside.start);
            }
            Err(_) => {}
        }
        appended
    }
}

/// Directory that the packaged services make.
const SERVICE_DIRECTORY: &str = "/var/log/rsttrace";

/// Names the directory of a file where it is missing, with the remedy, as the rest of a sentence.
fn missing_directory(path: &Path) -> String {
    let is_missing =
        |directory: &&Path| fs::metadata(directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).filter(is_missing);
    let Some(directory) = directory else { return String::new() };
    let service = if directory == Path::new(SERVICE_DIRECTORY) { "; the service makes it when it starts" } else { "" };
    let directory = directory.display();
    format!(": the directory {directory} is missing ('mkdir -p {directory}' makes it{service})")
}

/// Appends bytes in as many writes as it takes. `inside` becomes the range of the file with the bytes that were written
/// last without a gap, also on failure; it stays empty if nothing was written.
fn append(mut file: &File, bytes: &[u8], inside: &mut Range<u64>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            taken => taken?,
        };
        // `O_APPEND` writes at the end that the file has at that moment, and sets the position after the written bytes.
        // A length that is read before or afterwards may belong to another state, by a truncation in between.
        let end = file.stream_position()?;
        let start = end.saturating_sub(taken as u64);
        let goes_on = inside.is_empty() || inside.end == start;
        *inside = if goes_on && !inside.is_empty() { inside.start..end } else { start..end };
        if !goes_on {
            return Err(io::Error::other("it was truncated in the middle of a write"));
        }
        rest = &rest[taken..];
    }
    Ok(())
}

/// Truncates a file to a length in bytes. A shorter file stays as it is: `ftruncate` would extend it with zeros.
fn shrink(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
}

/// Makes the file end in a whole line, which it may not do after a crash of the machine, and returns its length in
/// bytes. Half a line of this program is cut off; any other last line is ended.
fn repair_end(file: &mut File, path: &Path) -> Result<u64> {
    truncate_torn_line(file, path).with_context(|| format!("cannot repair the end of {}", path.display()))
}

fn truncate_torn_line(file: &mut File, path: &Path) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LINE_BYTES)))?;
    (&mut *file).take(MAX_LINE_BYTES).read_to_end(&mut tail)?;
    let torn = &tail[tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1)..];
    if torn.is_empty() {
        return Ok(length);
    }
    // Some file systems leave zeros where a crash kept the data from the disk.
    let is_ours = torn.starts_with(LINE_PREFIX) || LINE_PREFIX.starts_with(torn) || torn.iter().all(|&byte| byte == 0);
    if is_ours && serde_json::from_slice::<serde::de::IgnoredAny>(torn).is_err() {
        let whole = length - torn.len() as u64;
        shrink(file, whole)?;
        let (bytes, shown) = (torn.len() as u64, path.display());
        info(format_args!("{shown}: its last line was torn, {} {} taken away", counted(bytes, "byte"), was(bytes)));
        return Ok(whole);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrink_never_extends() {
        let file = tempfile::tempfile().unwrap();
        for (there, to, left) in [(10, 20, 10), (10, 10, 10), (10, 3, 3), (0, 1, 0)] {
            file.set_len(there).unwrap();
            shrink(&file, to).unwrap();
            assert_eq!(file.metadata().unwrap().len(), left, "{there} cut to {to}");
        }
    }

    #[test]
    fn append_knows_its_range_after_a_truncation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        for (length, expected) in [(0, 0..5), (5, 5..10), (10, 10..15), (3, 3..8)] {
            file.set_len(length).unwrap();
            let mut inside = 0..0;
            append(&file, b"line\n", &mut inside).unwrap();
            assert_eq!(inside, expected);
        }
        // A part was written and truncated away; the rest would begin in the middle of a line.
        let mut inside = 3..8;
        file.set_len(0).unwrap();
        assert!(append(&file, b"rest\n", &mut inside).is_err());
        assert_eq!(inside, 0..5);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/records");
        let error = format!("{:#}", LineFile::new(&path).err().unwrap());
        assert!(error.contains("missing is missing ('mkdir -p /") && !error.contains("service"), "{error}");
        // A directory is no file.
        let error = format!("{:#}", LineFile::new(directory.path()).err().unwrap());
        assert!(!error.contains("mkdir"), "{error}");
        assert_eq!(
            missing_directory(Path::new("/var/log/rsttrace/resets.json")).contains("the service makes it"),
            !Path::new(SERVICE_DIRECTORY).exists()
        );
    }
}
