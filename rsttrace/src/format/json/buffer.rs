//! The buffer in which a line is built.

use std::io;

/// A byte buffer for appending many short pieces.
///
/// A record consists of very many pieces, most of a few bytes and of a length that the compiler knows. For each of them
/// a `Vec` checks its capacity, calls `memcpy` and sets the length; here the memory is initialized ahead, and a piece
/// is a comparison and a few moves.
#[derive(Default)]
pub(super) struct Buffer {
    /// The written bytes, and initialized room after them.
    bytes: Vec<u8>,
    end: usize,
}

impl Buffer {
    /// Bytes by which the room grows, beside what is needed.
    const STEP: usize = 4096;

    /// The bytes written since the last [`Buffer::clear`].
    pub(super) fn written(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.end = 0;
    }

    /// Takes the last byte back.
    pub(super) const fn pop(&mut self) {
        self.end = self.end.saturating_sub(1);
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
        // This slice is as long as the pieces together, and the compiler knows it: nothing below is checked at run
        // time.
        let Some((mut room, _)) = room.split_at_mut_checked(length) else { return };
        for piece in pieces {
            let Some((here, behind)) = room.split_at_mut_checked(piece.len()) else { return };
            here.copy_from_slice(piece);
            room = behind;
        }
        self.end += length;
    }

    /// Makes room for `length` bytes.
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
        fn keeps_every_piece(pieces in vec(vec(any::<u8>(), 0..6000), 0..8)) {
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
