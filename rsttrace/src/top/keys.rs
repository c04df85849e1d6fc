//! Keys from the bytes of a terminal.

/// A key that the view may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// Return.
    Enter,
    /// Escape alone.
    Escape,
    /// Tabulator.
    Tab,
    /// Tabulator with the shift key.
    BackTab,
    /// Backspace.
    Backspace,
    /// Control and C.
    Interrupt,
    /// Control and U: delete the line.
    DeleteLine,
    /// Control and L: draw anew.
    Redraw,
}

/// Reader of keys. A sequence may come in parts.
#[derive(Debug, Default)]
pub(super) struct KeyReader(Vec<u8>);

/// Longest sequence that is waited for, bytes.
const LONGEST: usize = 32;

impl KeyReader {
    /// The keys of these bytes and of those before. Bytes that are no key of the view are dropped.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.0.extend_from_slice(bytes);
        let (mut keys, mut place) = (Vec::new(), 0);
        while let Some(rest) = self.0.get(place..).filter(|rest| !rest.is_empty()) {
            let Some((length, key)) = next(rest) else { break };
            place += length;
            keys.extend(key);
        }
        self.0.drain(..place);
        if self.0.len() > LONGEST {
            self.0.clear();
        }
        keys
    }
}

/// Length of the first key, and the key where it is known; `None` where more bytes are needed.
fn next(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let key = match *bytes.first()? {
        0x1b => return escape(bytes),
        b'\r' | b'\n' => Some(Key::Enter),
        b'\t' => Some(Key::Tab),
        0x7f | 0x08 => Some(Key::Backspace),
        0x03 => Some(Key::Interrupt),
        0x15 => Some(Key::DeleteLine),
        0x0c => Some(Key::Redraw),
        ..0x20 => None,
        _ => return character(bytes),
    };
    Some((1, key))
}

/// A character in UTF-8.
fn character(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let length = match bytes.first()? {
        ..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return Some((1, None)),
    };
    let text = bytes.get(..length)?;
    let character = std::str::from_utf8(text).ok().and_then(|text| text.chars().next());
    Some(character.map_or((1, None), |character| (length, Some(Key::Char(character)))))
}

/// A sequence that begins with an escape character. Alone at the end of what was read it is the key: a terminal sends a sequence at
/// once.
fn escape(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    match bytes.get(1) {
        None | Some(0x1b) => Some((1, Some(Key::Escape))),
        Some(b'O') => {
            let last = *bytes.get(2)?;
            // Return on the number pad.
            Some((3, if last == b'M' { Some(Key::Enter) } else { letter(last) }))
        }
        Some(b'[') => {
            let end = bytes.iter().skip(2).position(|byte| (0x40..0x7f).contains(byte))? + 2;
            let key = match (bytes.get(2..end)?, bytes[end]) {
                ([b'5', ..], b'~') => Some(Key::PageUp),
                ([b'6', ..], b'~') => Some(Key::PageDown),
                ([b'1' | b'7', ..], b'~') => Some(Key::Home),
                ([b'4' | b'8', ..], b'~') => Some(Key::End),
                (_, b'Z') => Some(Key::BackTab),
                (_, last) => letter(last),
            };
            Some((end + 1, key))
        }
        // With the Alt key.
        Some(_) => Some((2, None)),
    }
}

/// Last letter of the sequence of a key with an arrow or a name.
const fn letter(last: u8) -> Option<Key> {
    match last {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'H' => Some(Key::Home),
        b'F' => Some(Key::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_keys() {
        for (bytes, expected) in [
            (&b"jk"[..], &[Key::Char('j'), Key::Char('k')][..]),
            (b"\x1b[A\x1bOB\x1bOM", &[Key::Up, Key::Down, Key::Enter]),
            (b"\x1b[5~\x1b[6~\x1b[1~\x1b[F", &[Key::PageUp, Key::PageDown, Key::Home, Key::End]),
            (b"\x1b", &[Key::Escape]),
            (b"\x1b\x1b[B", &[Key::Escape, Key::Down]),
            (
                b"\r\n\t\x1b[Z\x7f\x08",
                &[Key::Enter, Key::Enter, Key::Tab, Key::BackTab, Key::Backspace, Key::Backspace],
            ),
            ("ü日".as_bytes(), &[Key::Char('ü'), Key::Char('日')]),
            (b"\x03\x15\x0c", &[Key::Interrupt, Key::DeleteLine, Key::Redraw]),
            // A report of the mouse, an unknown sequence, a key with Alt, bytes that are no UTF-8.
            (b"\x1b[<0;10;10Mq\x1b[200~\x1bxq\xff\xc3q", &[Key::Char('q'), Key::Char('q'), Key::Char('q')]),
        ] {
            assert_eq!(KeyReader::default().read(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn sequences_come_in_parts() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.read(b"\x1b["), []);
        assert_eq!(reader.read(b"Bj"), [Key::Down, Key::Char('j')]);
        assert_eq!((reader.read(b"\xe6"), reader.read(b"\x97\xa5")), (Vec::new(), vec![Key::Char('日')]));
        assert_eq!(reader.read(&[b"\x1b[".as_slice(), &[b'1'; 100]].concat()), []);
        assert_eq!(reader.read(b"q"), [Key::Char('q')]);
    }
}
