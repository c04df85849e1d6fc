//! JSON lines appended to a file. Only whole lines are ever left in it; it is turned by size here, or by somebody else
//! who sends SIGHUP afterwards.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{Delivery, Outlet};
use crate::{
    exit::note,
    sink::{Record, Sink as _, json::Json},
};

/// How every line of ours begins.
const BEGINNING: &[u8] = br#"{"schema":"#;

/// How much of the end of a file is searched for the beginning of its last line.
const LONGEST_LINE: u64 = 1 << 20;

/// Where the records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    /// Bytes after which a new file is begun.
    rotate: Option<u64>,
    /// Old files that are kept.
    keep: u32,
}

impl Place {
    /// Reads `PATH[,rotate=BYTES][,keep=N]`.
    pub(super) fn of(text: Option<&str>) -> Result<Self, String> {
        let mut path = text.unwrap_or_default();
        let (mut rotate, mut keep) = (None, 5);
        while let Some((before, option)) = path.rsplit_once(',') {
            if let Some(bytes) = option.strip_prefix("rotate=") {
                rotate = Some(size(bytes).ok_or_else(|| format!("'{bytes}' is not a size such as 100M"))?);
            } else if let Some(files) = option.strip_prefix("keep=") {
                let files = files.parse().ok().filter(|files| (1..=1000).contains(files));
                keep = files.ok_or("keep is a number from 1 to 1000")?;
            } else {
                break;
            }
            path = before;
        }
        if path.is_empty() {
            return Err("a path is missing".into());
        }
        Ok(Self { path: path.into(), rotate, keep })
    }

    /// An old file; the newest is number 1.
    fn old(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// A size such as `100M`, at least a kilobyte.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let factor: u64 = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|&bytes| bytes >= 1 << 10)
}

/// The file, and what is in it.
struct Open {
    file: File,
    /// Bytes of whole lines; `None` for what is no regular file.
    length: Option<u64>,
}

/// JSON lines in a file.
pub(super) struct JsonFile {
    place: Place,
    sink: Json,
    /// None after an attempt to open it has failed.
    open: Option<Open>,
    /// Lines on their way.
    block: Vec<u8>,
    line: Vec<u8>,
}

impl JsonFile {
    pub(super) fn open(place: Place) -> Result<Self> {
        let open = Some(Open::new(&place.path)?);
        Ok(Self { place, sink: Json::default(), open, block: Vec::new(), line: Vec::new() })
    }

    /// The file, opened again if that failed before.
    fn opened(&mut self) -> Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.place.path)?,
        };
        Ok(self.open.insert(open))
    }

    fn write_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let written = self.opened().and_then(|open| Ok(open.write(&block)?));
        self.block = block;
        self.block.clear();
        written.with_context(|| format!("cannot write to {}", self.place.path.display()))
    }

    /// Whether the line that has been made is too much for the file.
    fn is_full(&self) -> bool {
        let Some(limit) = self.place.rotate else { return false };
        let length = self.open.as_ref().and_then(|open| open.length);
        length.is_some_and(|length| {
            let there = length + self.block.len() as u64;
            there > 0 && there + self.line.len() as u64 > limit
        })
    }

    /// Moves the file away and begins a new one.
    fn rotate(&mut self) -> Result<()> {
        self.write_block()?;
        if let Some(open) = self.open.take() {
            open.file.sync_all().context("cannot make the full file last")?;
        }
        for number in (1..self.place.keep).rev() {
            let (from, to) = (self.place.old(number), self.place.old(number + 1));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot rename {}", from.display()));
                }
                _ => {}
            }
        }
        let path = &self.place.path;
        fs::rename(path, self.place.old(1)).with_context(|| format!("cannot rename {}", path.display()))?;
        self.opened().map(drop)
    }
}

impl Outlet for JsonFile {
    fn deliver(&mut self, records: &[Record]) -> Delivery {
        let mut delivered = 0;
        self.block.clear();
        for (index, record) in records.iter().enumerate() {
            self.line.clear();
            if let Err(error) = self.sink.write(record, &mut self.line) {
                return Delivery::stopped(delivered, error.into());
            }
            if self.is_full() {
                if let Err(error) = self.write_block() {
                    return Delivery::stopped(delivered, error);
                }
                delivered = index;
                if let Err(error) = self.rotate() {
                    return Delivery::stopped(delivered, error);
                }
            }
            self.block.extend_from_slice(&self.line);
        }
        match self.write_block() {
            Ok(()) => Delivery::complete(records.len()),
            Err(error) => Delivery::stopped(delivered, error),
        }
    }

    fn reopen(&mut self) -> Result<()> {
        let synced = self.finish();
        // The old one is let go in any case: it is somebody else's by now.
        self.open = None;
        self.opened()?;
        synced
    }

    fn finish(&mut self) -> Result<()> {
        match &self.open {
            Some(open) if open.length.is_some() => {
                open.file.sync_all().with_context(|| format!("cannot make {} last", self.place.path.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Open {
    fn new(path: &Path) -> Result<Self> {
        let shown = path.display();
        // Command lines are in it, which are not for everybody. What would wait for a reader shows below.
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .with_context(|| format!("cannot open {shown}"))?;
        let kind = file.metadata().with_context(|| format!("cannot look at {shown}"))?.file_type();
        if kind.is_char_device() {
            return Ok(Self { file, length: None });
        }
        if !kind.is_file() {
            bail!("{shown} is no regular file");
        }
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => bail!("{shown} is in use: another rsttrace writes to it"),
            // Some network file systems have no locks.
            Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        }
        let length = repair(&mut file, path).with_context(|| format!("cannot repair the end of {shown}"))?;
        Ok(Self { file, length: Some(length) })
    }

    /// Writes whole lines, or none.
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(block);
        if let Some(length) = &mut self.length {
            match written {
                Ok(()) => *length += block.len() as u64,
                // What did get in is taken out again, or the next line would go behind half a one.
                Err(_) => self.file.set_len(*length)?,
            }
        }
        written
    }
}

/// Makes the file end in a whole line, as it does not after a crash of the machine, and returns its length.
fn repair(file: &mut File, path: &Path) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LINE)))?;
    (&mut *file).take(LONGEST_LINE).read_to_end(&mut tail)?;
    let torn = &tail[tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1)..];
    if torn.is_empty() {
        return Ok(length);
    }
    // Some file systems leave zeros where a crash has kept the bytes from the disk.
    let is_ours = torn.starts_with(BEGINNING) || BEGINNING.starts_with(torn) || torn.iter().all(|&byte| byte == 0);
    if is_ours && serde_json::from_slice::<serde::de::IgnoredAny>(torn).is_err() {
        let whole = length - torn.len() as u64;
        file.set_len(whole)?;
        note(format_args!("{}: its last line was torn, {} bytes were taken away", path.display(), torn.len()));
        return Ok(whole);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::sink::{Lost, LostWhere};

    fn lost(count: u64) -> Record {
        Record::Lost(Lost { time: Timestamp::UNIX_EPOCH, count, r#where: LostWhere::Kernel })
    }

    fn counts(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap())
            .collect()
    }

    fn open(path: &Path, options: &str) -> JsonFile {
        JsonFile::open(Place::of(Some(&format!("{}{options}", path.display()))).unwrap()).unwrap()
    }

    #[test]
    fn places_are_read() {
        let place = |text| Place::of(Some(text));
        let made = |path: &str, rotate, keep| Ok(Place { path: path.into(), rotate, keep });
        assert_eq!(place("/a"), made("/a", None, 5));
        assert_eq!(place("/a,b,rotate=2M"), made("/a,b", Some(2 << 20), 5));
        assert_eq!(place("/a,keep=3,rotate=1024"), made("/a", Some(1024), 3));
        for bad in ["", ",keep=3", "/a,keep=0", "/a,rotate=1", "/a,rotate=", "/a,rotate=1KK", "/a,rotate=99999999999G"]
        {
            assert!(place(bad).is_err(), "{bad}");
        }
        assert!(Place::of(None).is_err());
    }

    #[test]
    fn it_appends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        for run in 0..3 {
            let mut file = open(&path, "");
            assert_eq!(file.deliver(&[lost(2 * run), lost(2 * run + 1)]).delivered, 2);
            file.finish().unwrap();
        }
        assert_eq!(counts(&path), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn nobody_else_writes_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let _first = open(&path, "");
        let second = JsonFile::open(Place::of(path.to_str()).unwrap());
        assert!(second.err().unwrap().to_string().contains("in use"));
    }

    #[test]
    fn a_torn_line_is_taken_away_and_a_whole_one_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        open(&path, "").deliver(&[lost(1), lost(2)]);
        let whole = fs::read(&path).unwrap();
        let second = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for cut in second..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            open(&path, "").deliver(&[lost(3)]);
            let expected: &[u64] = if cut == whole.len() - 1 { &[1, 2, 3] } else { &[1, 3] };
            assert_eq!(counts(&path), expected, "cut at {cut}");
        }
        // What is not ours stays.
        fs::write(&path, "somebody's notes").unwrap();
        open(&path, "").deliver(&[lost(3)]);
        assert!(fs::read_to_string(&path).unwrap().starts_with("somebody's notes\n{"));
    }

    #[test]
    fn it_is_turned_by_size_without_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut file = open(&path, ",rotate=1K,keep=3");
        let records: Vec<Record> = (0..60).map(lost).collect();
        for some in records.chunks(7) {
            assert_eq!(file.deliver(some).delivered, some.len());
        }
        let mut all = Vec::new();
        for number in (1..=3).rev() {
            let old = file.place.old(number);
            assert!(fs::metadata(&old).unwrap().len() <= 1024);
            all.extend(counts(&old));
        }
        all.extend(counts(&path));
        let first = all[0];
        assert!(all.len() > 30 && all.iter().copied().eq(first..60), "{all:?}");
        assert!(!file.place.old(4).exists());
    }

    #[test]
    fn whoever_moves_it_away_gets_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("records"), directory.path().join("moved"));
        let mut file = open(&path, "");
        file.deliver(&[lost(1)]);
        fs::rename(&path, &moved).unwrap();
        file.deliver(&[lost(2)]);
        file.reopen().unwrap();
        file.deliver(&[lost(3)]);
        assert_eq!((counts(&moved), counts(&path)), (vec![1, 2], vec![3]));
    }

    #[test]
    fn what_does_not_fit_is_tried_again() {
        let mut file = JsonFile::open(Place::of(Some("/dev/full")).unwrap()).unwrap();
        let delivery = file.deliver(&[lost(1), lost(2)]);
        assert!(delivery.delivered == 0 && delivery.refused.is_none());
        assert!(format!("{:#}", delivery.trouble.unwrap()).contains("No space left"));
    }

    #[test]
    fn only_files_are_written_to() {
        let directory = tempfile::tempdir().unwrap();
        assert!(JsonFile::open(Place::of(directory.path().to_str()).unwrap()).is_err());
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(JsonFile::open(Place::of(pipe.to_str()).unwrap()).is_err());
    }
}
