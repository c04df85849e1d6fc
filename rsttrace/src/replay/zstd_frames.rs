//! A file of zstd frames, of which some may be damaged: what comes after those is read nevertheless.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use zstd::stream::read::Decoder;

/// Largest window of zstd that is accepted, as a power of two: 128 MiB. The recorder's frames have one of 256 KiB.
const WINDOW_LOG_MAX: u32 = 27;
/// First bytes of a frame (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What is known of the damage of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Damage(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Places at which a frame could not be read.
    places: AtomicU64,
    /// Whether a damaged frame ends the file: what it holds makes no sense with a part missing.
    ends: AtomicBool,
}

impl Damage {
    /// Makes the next damaged frame the end of the file.
    pub(super) fn ends_the_file(&self) {
        self.0.ends.store(true, Ordering::Relaxed);
    }

    /// Places at which frames were damaged.
    pub(super) fn places(&self) -> u64 {
        self.0.places.load(Ordering::Relaxed)
    }
}

/// A file, before which a frame's first bytes may come again.
struct Rewound<R> {
    before: &'static [u8],
    input: BufReader<R>,
}

impl<R: Read> Read for Rewound<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Rewound<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.before.is_empty() { self.input.fill_buf() } else { Ok(self.before) }
    }

    fn consume(&mut self, count: usize) {
        match self.before.split_at_checked(count) {
            Some((_, rest)) if !self.before.is_empty() => self.before = rest,
            _ => self.input.consume(count),
        }
    }
}

impl<R: Read> Rewound<R> {
    /// Skips to the next frame: the byte at which this begins is not its first. Returns whether there is one.
    fn skip_to_frame(&mut self) -> io::Result<bool> {
        let is_at_frame = !self.before.is_empty();
        self.before = &[];
        let (mut is_first, mut matched) = (!is_at_frame, 0);
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                return Ok(false);
            }
            let mut used = 0;
            for byte in available {
                used += 1;
                if std::mem::take(&mut is_first) {
                    continue;
                }
                // The bytes differ from each other.
                matched = if MAGIC.get(matched) == Some(byte) { matched + 1 } else { usize::from(*byte == MAGIC[0]) };
                if matched == MAGIC.len() {
                    break;
                }
            }
            self.input.consume(used);
            if matched == MAGIC.len() {
                self.before = &MAGIC;
                return Ok(true);
            }
        }
    }
}

/// Reads what frames hold. In place of what is missing there is a newline, so that the lines before and behind do not become one.
pub(super) struct ZstdFrames<R: Read> {
    decoder: Option<Decoder<'static, Rewound<R>>>,
    damage: Damage,
}

impl<R: Read> ZstdFrames<R> {
    /// Begins to read. Fails where there is no memory.
    pub(super) fn new(input: R, damage: Damage) -> io::Result<Self> {
        let input = Rewound { before: &[], input: BufReader::with_capacity(1 << 16, input) };
        Ok(Self { decoder: Some(decoder(input)?), damage })
    }

    /// Goes on with the next frame. Returns whether there is one.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(old) = self.decoder.take() else { return Ok(false) };
        let mut input = old.finish();
        let is_found = input.skip_to_frame()?;
        if is_found {
            self.decoder = Some(decoder(input)?);
        }
        Ok(is_found)
    }
}

fn decoder<R: Read>(input: Rewound<R>) -> io::Result<Decoder<'static, Rewound<R>>> {
    let mut decoder = Decoder::with_buffer(input)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

impl<R: Read> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.decoder else { return Ok(0) };
            let error = match decoder.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            // The file itself cannot be read, or it ends in the middle of a frame.
            let is_damage = error.raw_os_error().is_none() && error.kind() != io::ErrorKind::UnexpectedEof;
            if !is_damage || self.damage.0.ends.load(Ordering::Relaxed) || !self.go_on()? {
                self.decoder = None;
                return Err(error);
            }
            self.damage.0.places.fetch_add(1, Ordering::Relaxed);
            if let Some(first) = buffer.first_mut() {
                *first = b'\n';
                return Ok(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads frames of a line each, of which those with these numbers are damaged at this byte.
    fn read(damaged: &[usize], at: usize) -> (String, u64, bool) {
        let lines = |number: usize| format!("{number} {}\n", "x".repeat(number));
        let mut file = Vec::new();
        for number in 0..5 {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a vector");
            encoder.include_checksum(true).expect("a parameter");
            io::Write::write_all(&mut encoder, lines(number).as_bytes()).expect("a vector");
            let mut frame = encoder.finish().expect("a vector");
            if damaged.contains(&number) {
                let at = at.min(frame.len() - 1);
                frame[at] ^= 0x55;
            }
            file.extend(frame);
        }
        let damage = Damage::default();
        let mut read = Vec::new();
        let ended =
            ZstdFrames::new(file.as_slice(), damage.clone()).and_then(|mut frames| frames.read_to_end(&mut read));
        (String::from_utf8_lossy(&read).into_owned(), damage.places(), ended.is_ok())
    }

    #[test]
    fn frames_behind_a_damaged_one_are_read() {
        for at in 0..40 {
            let (text, places, is_ok) = read(&[1], at);
            let has_others = text.starts_with("0 \n") && text.ends_with("\n2 xx\n3 xxx\n4 xxxx\n");
            assert!(text.starts_with("0 \n") && (has_others || !is_ok), "{at}: {text:?}");
            // In the header of a block (bytes 6 to 8) is the length of what follows: that may be all of the file.
            assert!(has_others || (6..9).contains(&at), "{at}: {text:?}");
            assert!(places == 1 || !is_ok || text.contains("\n1 x\n"), "{at}: {places} {text:?}");
        }
        let (text, places, is_ok) = read(&[0, 2], 10);
        assert!(text.contains("1 x\n") && text.ends_with("3 xxx\n4 xxxx\n") && places == 2 && is_ok, "{text:?}");
    }

    #[test]
    fn damage_of_the_last_frame_is_an_error() {
        let (text, places, is_ok) = read(&[4], 9);
        assert!(text.contains("3 xxx\n") && places == 0 && !is_ok, "{text:?}");
    }

    /// The first bytes of a frame lie on both sides of the end of a buffer.
    #[test]
    fn a_frame_is_found_across_the_end_of_a_buffer() {
        for start in (1 << 16) - 6..(1 << 16) + 2 {
            let mut file = vec![b'.'; start];
            file.extend(MAGIC);
            file.push(b'!');
            let mut input = Rewound { before: &[], input: BufReader::with_capacity(1 << 16, file.as_slice()) };
            assert!(input.skip_to_frame().expect("a slice"));
            let mut rest = Vec::new();
            input.read_to_end(&mut rest).expect("a slice");
            assert_eq!(rest, [&MAGIC[..], b"!"].concat());
        }
    }
}
