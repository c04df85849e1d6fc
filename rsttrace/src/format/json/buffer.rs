//! A line while it is made.

use std::io;

/// Bytes that are written one behind the other, and then read all at once.
///
/// A record is very many pieces, most of a few bytes and of a length that the compiler knows. For each of them a `Vec` looks
/// for room, calls `memcpy` and sets the length; here the bytes are there before they are needed, and a piece is a
/// comparison and a few moves.
#[derive(Default)]
pub(super) struct Buffer {
    /// What has been written, and room behind it.
    bytes: Vec<u8>,
    end: usize,
}

impl Buffer {
    /// Room that is made when there is none.
    const STEP: usize = 4096;

    /// What has been written.
    pub(super) fn written(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.end = 0;
    }

    /// Appends pieces.
    #[expect(clippy::inline_always, reason = "only where it is called are the lengths of the pieces known")]
    #[inline(always)]
    pub(super) fn append<const N: usize>(&mut self, pieces: [&[u8]; N]) {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if self.bytes.len().saturating_sub(self.end) < length {
            self.grow(length);
        }
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        // As long as the pieces together, and known to be, so that nothing below is a question when the program runs.
        let Some((mut room, _)) = room.split_at_mut_checked(length) else { return };
        for piece in pieces {
            let Some((here, behind)) = room.split_at_mut_checked(piece.len()) else { return };
            here.copy_from_slice(piece);
            room = behind;
        }
        self.end += length;
    }

    /// Makes room.
    #[cold]
    fn grow(&mut self, length: usize) {
        self.bytes.resize(self.end + length + Self::STEP, 0);
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append([bytes]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_there(pieces in vec(vec(any::<u8>(), 0..6000), 0..8)) {
            let mut buffer = Buffer::default();
            for _ in 0..2 {
                buffer.clear();
                for piece in &pieces {
                    buffer.append([b"<", piece, b""]);
                }
                let expected: Vec<u8> = pieces.iter().flat_map(|piece| [b"<", piece.as_slice()].concat()).collect();
                prop_assert_eq!(buffer.written(), expected);
            }
        }
    }
}
