//! Lines of a file, which may be compressed, within bounds of memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use memchr::memchr;

use super::zstd_frames::{Damage, ZstdFrames};

/// Longest line, bytes, without its newline. A record has some two kilobytes, and a command line of up to 128 KiB.
const LINE_MAX: usize = 1 << 20;
/// Bytes that tell the kind of a file.
const MAGIC_BYTES: usize = 4;

/// Kind of a file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Plain,
    Gzip,
    Zstd,
    /// A packet capture.
    Capture,
}

impl FileKind {
    fn of(magic: &[u8]) -> Self {
        match magic {
            // The second is a skippable frame, with which some tools begin.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
            [0x1f, 0x8b, ..] => Self::Gzip,
            // pcap in either byte order and resolution of time, and pcapng.
            [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0xc3, 0xd4]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x0a, 0x0d, 0x0d, 0x0a] => Self::Capture,
            _ => Self::Plain,
        }
    }
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadLine<'a> {
    /// A line without its newline; the last one of a file may have none.
    Whole(&'a [u8]),
    /// A line beyond [`LINE_MAX`], which was skipped.
    TooLong,
}

/// What a file holds, behind its compression.
pub(super) enum Contents {
    /// Lines of text.
    Lines(Lines),
    /// A packet capture, from its first byte on.
    Capture(Box<dyn BufRead + Send>),
}

impl Contents {
    /// Opens a file. Blocks until its first bytes can be read, of a FIFO until there is a writer. Fails where it cannot be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Self::of(file)
    }

    /// Reads from anything. Blocks and fails as its first reads do.
    pub(super) fn of(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (kind, whole) = sniff(input)?;
        if let Some(name) = other_compression(&whole.get_ref().0.get_ref()[..]) {
            let message =
                format!("it is compressed with {name}; compressions that are read are zstd (.zst) and gzip (.gz)");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let damage = Damage::default();
        let decoded: Box<dyn Read + Send> = match kind {
            FileKind::Plain => {
                return Ok(Self::Lines(Lines::new(Box::new(BufReader::with_capacity(1 << 16, whole)), damage)));
            }
            FileKind::Capture => return Ok(Self::Capture(Box::new(BufReader::with_capacity(1 << 16, whole)))),
            FileKind::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, whole))),
            FileKind::Zstd => Box::new(ZstdFrames::new(whole, damage.clone())?),
        };
        let (kind, whole) = match sniff(decoded) {
            Ok(sniffed) => sniffed,
            // It was cut off within its first block: what was read of it is nothing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Self::Lines(Lines::new(Box::new(BufReader::new(Broken(Some(error)))), damage)));
            }
            Err(error) => return Err(error),
        };
        let reader = Box::new(BufReader::with_capacity(1 << 16, whole));
        if kind == FileKind::Capture {
            damage.ends_the_file();
            return Ok(Self::Capture(reader));
        }
        Ok(Self::Lines(Lines::new(reader, damage)))
    }
}

/// Name of a compression that is not read, by the first bytes.
const fn other_compression(magic: &[u8]) -> Option<&'static str> {
    match magic {
        [0xfd, b'7', b'z', b'X', ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        _ => None,
    }
}

/// A file that cannot be read from here on.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// An input whose first bytes have been read, and come again.
type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// Tells the kind of a file by its first bytes, and gives them back.
fn sniff<R: Read>(mut input: R) -> io::Result<(FileKind, Whole<R>)> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    input.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic)?;
    Ok((FileKind::of(&magic), Cursor::new(magic).chain(input)))
}

/// Reads a file of any kind and compression, for its fuzz target: up to 10,000 lines, within bounds.
#[cfg(any(test, fuzzing))]
pub fn check_file(data: &[u8]) {
    let Ok(Contents::Lines(mut lines)) = Contents::of(Cursor::new(data.to_vec())) else { return };
    for _ in 0..10_000 {
        match lines.next() {
            Ok(Some(ReadLine::Whole(line))) => assert!(line.len() <= LINE_MAX && memchr(b'\n', line).is_none()),
            // What is too long may have been decompressed from next to nothing, again and again.
            Ok(None | Some(ReadLine::TooLong)) | Err(_) => break,
        }
    }
    // A frame takes four bytes at least, and a place is damaged once.
    assert!(lines.damaged_places() <= u64::try_from(data.len() / 4).unwrap_or(0));
}

/// The lines of one file.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    /// Bytes that were read ahead of the line.
    buffered: usize,
    damage: Damage,
}

impl Lines {
    fn new(reader: Box<dyn BufRead + Send>, damage: Damage) -> Self {
        Self { reader, line: Vec::new(), buffered: 0, damage }
    }

    /// Places so far at which a part of the file could not be decompressed, and is missing.
    pub(super) fn damaged_places(&self) -> u64 {
        self.damage.places()
    }

    /// Whether a line can be had without reading from the input, as far as that is known.
    pub(super) fn has_buffered(&self) -> bool {
        self.buffered > 0
    }

    /// The next line; `None` at the end. Blocks until it is there. Fails where the input cannot be read, or decompressed.
    pub(super) fn next(&mut self) -> io::Result<Option<ReadLine<'_>>> {
        self.line.clear();
        let (mut is_too_long, mut is_empty) = (false, true);
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                if is_empty {
                    return Ok(None);
                }
                break;
            }
            is_empty = false;
            let end = memchr(b'\n', available);
            let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
            is_too_long |= self.line.len() + part.len() > LINE_MAX;
            if !is_too_long {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.buffered = available.len() - used;
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        Ok(Some(if is_too_long { ReadLine::TooLong } else { ReadLine::Whole(&self.line) }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(input: Vec<u8>) -> io::Result<Vec<Option<String>>> {
        let Contents::Lines(mut lines) = Contents::of(Cursor::new(input))? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push(match line {
                ReadLine::Whole(line) => Some(String::from_utf8_lossy(line).into_owned()),
                ReadLine::TooLong => None,
            });
        }
        Ok(all)
    }

    #[test]
    fn every_compression_is_recognised() {
        let text = b"one\ntwo\n\nthree";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).expect("a vector");
        let mut zstd = zstd::encode_all(&text[..5], 1).expect("a vector");
        zstd.extend(zstd::encode_all(&text[5..], 1).expect("a vector"));
        for input in [text.to_vec(), gzip.finish().expect("a vector"), zstd] {
            let expected = ["one", "two", "", "three"].map(|line| Some(line.to_owned()));
            assert_eq!(all(input).expect("readable"), expected);
        }
        assert!(all(Vec::new()).expect("empty").is_empty());
    }

    #[test]
    fn long_lines_are_skipped_and_memory_is_bounded() {
        let mut input = vec![b'x'; LINE_MAX + 1];
        input.extend(b"\nnext\n");
        assert_eq!(all(input).expect("readable"), [None, Some("next".to_owned())]);
        assert_eq!(all(vec![b'x'; LINE_MAX]).expect("readable")[0].as_ref().map(String::len), Some(LINE_MAX));
    }

    #[test]
    fn a_compression_that_is_not_read_is_named_with_those_that_are() {
        for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh91AY", "bzip2"), (b"\x04\x22\x4d\x18d", "lz4")] {
            let error = all(magic.to_vec()).expect_err("it is not read").to_string();
            assert!(error.contains(name) && error.contains(".zst") && error.contains(".gz"), "{error}");
        }
        assert_eq!(all(b"BZhello".to_vec()).expect("text"), [Some("BZhello".to_owned())]);
    }

    #[test]
    fn of_a_frame_that_is_cut_off_its_blocks_are_read() {
        let lines: Vec<String> = (0..100_000).map(|number| format!("{number} {}", number * 7919 % 10_007)).collect();
        let text = lines.join("\n");
        let mut zstd = zstd::encode_all(text.as_bytes(), 1).expect("a vector");
        zstd.truncate(zstd.len() - 10);
        let Ok(Contents::Lines(mut lines)) = Contents::of(Cursor::new(zstd)) else { panic!("lines") };
        let mut read = 0;
        let error = loop {
            match lines.next() {
                Ok(Some(_)) => read += 1,
                Ok(None) => panic!("it is cut off"),
                Err(error) => break error,
            }
        };
        assert!(read > 50_000 && error.kind() == io::ErrorKind::UnexpectedEof, "{read}: {error}");
        // Within its first block nothing can be read, which is told as of any other file that breaks off.
        let mut short = zstd::encode_all(&b"one\ntwo\n"[..], 1).expect("a vector");
        short.truncate(6);
        let Ok(Contents::Lines(mut lines)) = Contents::of(Cursor::new(short)) else { panic!("lines") };
        assert!(lines.next().is_err() && lines.next().expect("the end").is_none());
    }

    #[test]
    fn truncated_files_are_errors_and_captures_are_recognised() {
        let mut zstd = zstd::encode_all(&b"one\ntwo\n"[..], 1).expect("a vector");
        zstd.truncate(zstd.len() - 3);
        assert!(all(zstd).is_err());
        let capture = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0];
        let compressed = zstd::encode_all(&capture[..], 1).expect("a vector");
        for input in [capture.clone(), compressed] {
            let Ok(Contents::Capture(mut reader)) = Contents::of(Cursor::new(input)) else { panic!("it is a capture") };
            let mut read = Vec::new();
            reader.read_to_end(&mut read).expect("readable");
            assert_eq!(read, capture);
        }
    }
}
