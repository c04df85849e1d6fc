//! JSON lines appended to a file. Only whole lines are left in it. It is rotated by size here (`rotate=`), or
//! externally, with SIGHUP afterwards.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{DeliveryReport, Sink, line_file::LineFile};
use crate::{
    format::{Formatter as _, json::JsonFormatter},
    model::Record,
    util::{messages::info, size, spelling},
};

/// Smallest size of a file that is rotated.
const ROTATE_MIN: u64 = 1 << 10;

/// Options of the file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSinkOptions {
    path: PathBuf,
    /// Size in bytes beyond which the file is rotated; `None` for never.
    rotate: Option<u64>,
    /// Number of rotated files that are kept, 1 to 1000.
    keep: u32,
}

impl FileSinkOptions {
    /// Parses `PATH[,rotate=SIZE][,keep=N]`. The error names the option that is wrong.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, String> {
        let mut path = text.unwrap_or_default();
        let (mut rotate, mut keep) = (None, 5);
        while let Some((before, option)) = path.rsplit_once(',') {
            if let Some(bytes) = option.strip_prefix("rotate=") {
                let bytes = size::parse(bytes)?;
                rotate = Some(bytes).filter(|&bytes| bytes >= ROTATE_MIN).ok_or("rotate is 1K or more").map(Some)?;
            } else if let Some(files) = option.strip_prefix("keep=") {
                let files = files.parse().ok().filter(|files| (1..=1000).contains(files));
                keep = files.ok_or("keep is a number from 1 to 1000")?;
            } else if let Some(name) = option_name(option) {
                let known = spelling::similar(name, ["rotate", "keep"]);
                let tip = known.map_or_else(String::new, |known| format!(", did you mean '{known}'?"));
                return Err(format!("unknown option '{name}'{tip}"));
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

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a rotated file; the newest has number 1.
    fn rotated(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Name of an option as it would be written behind the path, `name=value`; `None` for what belongs to the path.
fn option_name(text: &str) -> Option<&str> {
    let (name, value) = text.split_once('=')?;
    let is_name =
        !value.contains('/') && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    is_name.then_some(name)
}

/// A sink of JSON lines in a file.
pub(super) struct JsonFileSink {
    options: FileSinkOptions,
    formatter: JsonFormatter,
    /// `None` after an attempt to open the file has failed.
    open: Option<LineFile>,
    /// Formatted lines that are not written yet.
    block: Vec<u8>,
    line: Vec<u8>,
}

impl JsonFileSink {
    /// Opens the file, or creates it, and repairs its end. Blocks on the file system. Fails where it can be neither opened nor
    /// created, is no regular file or character device, or is in use by another rsttrace.
    pub(super) fn open(options: FileSinkOptions) -> Result<Self> {
        let open = Some(LineFile::new(&options.path)?);
        Ok(Self { options, formatter: JsonFormatter::default(), open, block: Vec::new(), line: Vec::new() })
    }

    /// The file; opened again after a failure, and after it was removed: records in a file without a name would be gone
    /// with the end of the run.
    fn opened(&mut self) -> Result<&mut LineFile> {
        let path = &self.options.path;
        let open = match self.open.take() {
            Some(open) if !open.is_removed(path)? => open,
            Some(_removed) => {
                info(format_args!("{}: the file was removed, a new one is begun", path.display()));
                LineFile::new(path)?
            }
            None => LineFile::new(path)?,
        };
        Ok(self.open.insert(open))
    }

    /// Length of the file in bytes, after its last line has been repaired; `None` for a character device.
    fn length(&mut self) -> Result<Option<u64>> {
        let path = self.options.path.clone();
        self.opened()?.length(&path)
    }

    /// Writes the block. Where that fails nothing of it stays in the file.
    fn write_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let written = self.write_lines(&block);
        self.block = block;
        self.block.clear();
        written
    }

    /// Appends lines and makes sure that the file still has its path afterwards.
    fn write_lines(&mut self, lines: &[u8]) -> Result<()> {
        let path = self.options.path.clone();
        // A file that is removed during the write takes the lines with it: one retry here, then the worker's.
        for _ in 0..2 {
            let open = self.opened()?;
            open.append(lines).with_context(|| format!("cannot write to {}", path.display()))?;
            if !open.is_removed(&path)? {
                return Ok(());
            }
        }
        bail!("cannot write to {}: it is removed at each write", path.display())
    }

    /// Whether the formatted line would exceed the size limit of a file of this length, the block included.
    fn is_full(&self, length: Option<u64>) -> bool {
        let (Some(limit), Some(length)) = (self.options.rotate, length) else { return false };
        let there = length + self.block.len() as u64;
        there > 0 && there + self.line.len() as u64 > limit
    }

    /// Renames the file and opens a new one. Fails where one of both fails; the next delivery tries again.
    fn rotate(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            open.sync(&self.options.path)?;
        }
        for number in (1..self.options.keep).rev() {
            rename(&self.options.rotated(number), &self.options.rotated(number + 1))?;
        }
        rename(&self.options.path, &self.options.rotated(1))?;
        self.opened().map(drop)
    }

    /// Appends records. `delivered` is the number of those that are in a file, also where it fails.
    fn append(&mut self, records: &[Record], delivered: &mut usize) -> Result<()> {
        self.block.clear();
        let mut length = self.length()?;
        for (index, record) in records.iter().enumerate() {
            self.line.clear();
            self.formatter.write(record, &mut self.line)?;
            if self.is_full(length) {
                self.write_block()?;
                *delivered = index;
                self.rotate()?;
                length = self.length()?;
            }
            self.block.extend_from_slice(&self.line);
        }
        self.write_block()
    }
}

/// Renames a file; one that does not exist is left alone, since it may have been moved externally.
fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot rename {}", from.display()))
        }
        _ => Ok(()),
    }
}

impl Sink for JsonFileSink {
    fn deliver(&mut self, records: &[Record]) -> DeliveryReport {
        let mut delivered = 0;
        match self.append(records, &mut delivered) {
            Ok(()) => DeliveryReport::complete(records.len()),
            Err(error) => DeliveryReport::stopped(delivered, error),
        }
    }

    fn reopen(&mut self) -> Result<()> {
        let synced = self.finish();
        // The old file is closed even where it cannot be synced: it belongs to the tool that rotated it.
        self.open = None;
        self.opened()?;
        synced
    }

    fn finish(&mut self) -> Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| open.sync(&self.options.path))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Lost, LostWhere};

    fn lost(count: u64) -> Record {
        Record::Lost(Lost { time: Timestamp::UNIX_EPOCH, host: None, count, r#where: LostWhere::Kernel })
    }

    fn counts(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap())
            .collect()
    }

    fn open(path: &Path, options: &str) -> JsonFileSink {
        JsonFileSink::open(FileSinkOptions::parse(Some(&format!("{}{options}", path.display()))).unwrap()).unwrap()
    }

    #[test]
    fn parses_options() {
        let options = |text| FileSinkOptions::parse(Some(text));
        let made = |path: &str, rotate, keep| Ok(FileSinkOptions { path: path.into(), rotate, keep });
        assert_eq!(options("/a"), made("/a", None, 5));
        assert_eq!(options("/a,b,rotate=2M"), made("/a,b", Some(2 << 20), 5));
        assert_eq!(options("/a,b=2/c,rotate=20k"), made("/a,b=2/c", Some(20 << 10), 5));
        assert_eq!(options("/a,keep=3,rotate=1024"), made("/a", Some(1024), 3));
        for bad in ["", ",keep=3", "/a,keep=0", "/a,rotate=1", "/a,rotate=", "/a,rotate=1KK", "/a,rotate=99999999999G"]
        {
            assert!(options(bad).is_err(), "{bad}");
        }
        assert!(FileSinkOptions::parse(None).is_err());
        // A typo would fill the disk.
        assert!(options("/a,rotat=100M").is_err_and(|error| error.contains("did you mean 'rotate'?")));
        assert!(options("/a,rotate=1M,compress=1").is_err_and(|error| error == "unknown option 'compress'"));
    }

    #[test]
    fn appends_to_an_existing_file() {
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
    fn refuses_a_file_that_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let _first = open(&path, "");
        let second = JsonFileSink::open(FileSinkOptions::parse(path.to_str()).unwrap());
        assert!(second.err().unwrap().to_string().contains("in use"));
    }

    #[test]
    fn cuts_off_a_torn_line_and_ends_a_whole_one() {
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
        // Text of another program stays.
        fs::write(&path, "another program's notes").unwrap();
        open(&path, "").deliver(&[lost(3)]);
        assert!(fs::read_to_string(&path).unwrap().starts_with("another program's notes\n{"));
    }

    #[test]
    fn rotates_by_size_without_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut file = open(&path, ",rotate=1K,keep=3");
        let records: Vec<Record> = (0..60).map(lost).collect();
        for some in records.chunks(7) {
            assert_eq!(file.deliver(some).delivered, some.len());
        }
        let mut all = Vec::new();
        for number in (1..=3).rev() {
            let old = file.options.rotated(number);
            assert!(fs::metadata(&old).unwrap().len() <= 1024);
            all.extend(counts(&old));
        }
        all.extend(counts(&path));
        let first = all[0];
        assert!(all.len() > 30 && all.iter().copied().eq(first..60), "{all:?}");
        assert!(!file.options.rotated(4).exists());
    }

    #[test]
    fn reopens_after_an_external_rotation() {
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
    fn creates_a_new_file_after_removal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut file = open(&path, "");
        file.deliver(&[lost(1)]);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.deliver(&[lost(2)]).delivered, 1);
        assert_eq!(file.deliver(&[lost(3)]).delivered, 1);
        assert_eq!(counts(&path), [2, 3]);
    }

    /// Lengths of the rotated files and of the current one.
    fn lengths(file: &JsonFileSink) -> Vec<u64> {
        let old = (1..=file.options.keep).map(|number| file.options.rotated(number));
        old.chain([file.options.path.clone()]).filter_map(|path| Some(fs::metadata(path).ok()?.len())).collect()
    }

    #[test]
    fn keeps_the_size_limit_after_removal_and_renaming() {
        let all: Vec<Record> = (0..60).map(lost).collect();
        let changes: [fn(&Path); 2] =
            [|path| fs::remove_file(path).unwrap(), |path| fs::rename(path, path.with_extension("moved")).unwrap()];
        for change in changes {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("records");
            let mut file = open(&path, ",rotate=1K,keep=100");
            file.deliver(&all[..3]);
            change(&path);
            assert_eq!(file.deliver(&all).delivered, all.len());
            let lengths = lengths(&file);
            assert!(lengths.len() > 3 && lengths.iter().all(|&length| length <= 1024), "{lengths:?}");
        }
    }

    #[test]
    fn keeps_the_size_limit_after_a_failed_open() {
        let directory = tempfile::tempdir().unwrap();
        let (there, away) = (directory.path().join("there"), directory.path().join("away"));
        fs::create_dir(&there).unwrap();
        let all: Vec<Record> = (0..60).map(lost).collect();
        let mut file = open(&there.join("records"), ",rotate=1K,keep=100");
        file.deliver(&all[..3]);
        fs::rename(&there, &away).unwrap();
        assert!(file.reopen().is_err());
        assert_eq!(file.deliver(&all).delivered, 0);
        fs::rename(&away, &there).unwrap();
        assert_eq!(file.deliver(&all).delivered, all.len());
        let lengths = lengths(&file);
        assert!(lengths.len() > 3 && lengths.iter().all(|&length| length <= 1024), "{lengths:?}");
    }

    #[test]
    fn continues_with_a_whole_line_after_truncation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut file = open(&path, "");
        file.deliver(&[lost(1), lost(2)]);
        let line = fs::metadata(&path).unwrap().len() / 2;
        for (length, expected) in [(line + 7, &[1, 3][..]), (0, &[3]), (line, &[3, 3])] {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            assert_eq!(file.deliver(&[lost(3)]).delivered, 1);
            assert_eq!(counts(&path), expected, "{length}");
        }
    }

    #[test]
    fn a_full_disk_is_no_rejection() {
        let mut file = JsonFileSink::open(FileSinkOptions::parse(Some("/dev/full")).unwrap()).unwrap();
        let delivery = file.deliver(&[lost(1), lost(2)]);
        assert!(delivery.delivered == 0 && delivery.rejected.is_none());
        assert!(format!("{:#}", delivery.error.unwrap()).contains("No space left"));
    }

    #[test]
    fn refuses_directories_and_fifos() {
        let directory = tempfile::tempdir().unwrap();
        assert!(JsonFileSink::open(FileSinkOptions::parse(directory.path().to_str()).unwrap()).is_err());
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(JsonFileSink::open(FileSinkOptions::parse(pipe.to_str()).unwrap()).is_err());
    }
}
