//! A `serde::Serializer` for JSON, for records that come at a hundred thousand a second.
//!
//! `serde_json` looks at every byte of every name for something to escape. Names of fields are this program's own and
//! need no escape; texts are scanned in blocks, once, for what JSON escapes and for what [`sanitize`] does.

use std::{
    error,
    fmt::{self, Display, Write as _},
};

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible, SerializeSeq, SerializeStruct},
};

use super::buffer::Buffer;
use crate::util::sanitize;

/// Serializes one value into a buffer.
pub(super) struct JsonSerializer<'a> {
    to: &'a mut Buffer,
    /// First byte of an object: a brace, or a comma where it continues one.
    open: u8,
}

impl<'a> JsonSerializer<'a> {
    pub(super) const fn new(to: &'a mut Buffer) -> Self {
        Self { to, open: b'{' }
    }

    /// Serializer of an object whose fields continue an object that is already open.
    pub(super) const fn continuing_object(to: &'a mut Buffer) -> Self {
        Self { to, open: b',' }
    }
}

/// A list or an object that is being written.
pub(super) struct Compound<'a> {
    to: &'a mut Buffer,
    /// Byte before the next item: the opening bracket, then a comma.
    separator: u8,
    close: u8,
}

impl<'a> Compound<'a> {
    fn new(to: &'a mut Buffer, [open, close]: [u8; 2]) -> Self {
        Self { to, separator: open, close }
    }

    fn separate(&mut self) {
        self.to.append([&[std::mem::replace(&mut self.separator, b',')]]);
    }

    fn end(self) {
        if self.separator != b',' {
            self.to.append([&[self.separator]]);
        }
        self.to.append([&[self.close]]);
    }
}

impl SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.separate();
        append(value, self.to)
    }

    fn end(self) -> Result<(), Error> {
        Compound::end(self);
        Ok(())
    }
}

impl SerializeStruct for Compound<'_> {
    type Ok = ();
    type Error = Error;

    #[expect(clippy::inline_always, reason = "a name is as long as the compiler knows only where it is called")]
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        debug_assert!(need_no_escape(name.as_bytes()), "{name}");
        let separator = std::mem::replace(&mut self.separator, b',');
        self.to.append([&[separator, b'"'], name.as_bytes(), b"\":"]);
        append(value, self.to)
    }

    fn end(self) -> Result<(), Error> {
        Compound::end(self);
        Ok(())
    }
}

/// Appends a value. Not inlined: it is called for every field, and there are few types.
#[inline(never)]
fn append<T: Serialize + ?Sized>(value: &T, to: &mut Buffer) -> Result<(), Error> {
    value.serialize(JsonSerializer::new(to))
}

/// Whether a byte stands in a JSON string as it is.
const fn needs_no_escape(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Like [`needs_no_escape`] for a whole slice, in blocks that the compiler vectorizes.
fn need_no_escape(bytes: &[u8]) -> bool {
    need_no_escape_in_blocks::<16>(bytes)
        .or_else(|| need_no_escape_in_blocks::<8>(bytes))
        .unwrap_or_else(|| bytes.iter().all(|byte| needs_no_escape(*byte)))
}

/// Compares in blocks of `BLOCK` bytes; `None` for a slice that is shorter. There is no branch for a single byte, so
/// that the compiler can treat a block as a vector.
fn need_no_escape_in_blocks<const BLOCK: usize>(bytes: &[u8]) -> Option<bool> {
    let last = bytes.len().checked_sub(BLOCK)?;
    let mut odd = [0; BLOCK];
    // The last bytes are compared as a block too, which overlaps the one before.
    let mut next = Some(0);
    while let Some(start) = next {
        next = (start < last).then(|| (start + BLOCK).min(last));
        let block = bytes.get(start..)?.first_chunk::<BLOCK>()?;
        for (odd, byte) in odd.iter_mut().zip(block) {
            *odd |= u8::from(!needs_no_escape(*byte));
        }
    }
    Some(odd == [0; BLOCK])
}

/// Number of bytes before the first that does not stand in a JSON string as it is.
fn plain_length(bytes: &[u8]) -> usize {
    const BLOCK: usize = 16;
    let is_plain = |block: &&[u8; BLOCK]| block.iter().fold(true, |is_plain, byte| is_plain & needs_no_escape(*byte));
    let whole = bytes.as_chunks().0.iter().take_while(is_plain).count() * BLOCK;
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().take_while(|&&byte| needs_no_escape(byte)).count()
}

/// Appends a text without its quotes, escaped.
fn escape(text: &str, to: &mut Buffer) {
    let mut rest = text;
    loop {
        let plain = plain_length(rest.as_bytes());
        // What follows ASCII is the start of a character.
        let (plain, odd) = rest.split_at(plain);
        to.append([plain.as_bytes()]);
        let mut characters = odd.chars();
        let Some(character) = characters.next() else { return };
        escape_char(character, to);
        rest = characters.as_str();
    }
}

fn escape_char(character: char, to: &mut Buffer) {
    let short = match character {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        _ if sanitize::is_unsafe_for_terminal(character) => return sanitize::escape_char_in_json(character, to),
        _ => return to.append([character.encode_utf8(&mut [0; 4]).as_bytes()]),
    };
    to.append([short]);
}

/// Adapter for `write!` that escapes each piece of text.
struct EscapingWriter<'a>(&'a mut Buffer);

impl fmt::Write for EscapingWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident $kind:ty,)+) => {
        $(fn $method(self, value: $kind) -> Result<(), Error> {
            self.to.append([itoa::Buffer::new().format(value).as_bytes()]);
            Ok(())
        })+
    };
}

/// Floating-point numbers as `serde_json` writes them: the shortest text that reads as this number, and `null` for NaN
/// and infinity.
macro_rules! numbers {
    ($($method:ident $kind:ty,)+) => {
        $(fn $method(self, value: $kind) -> Result<(), Error> {
            serde_json::to_writer(self.to, &value).map_err(ser::Error::custom)
        })+
    };
}

impl<'a> Serializer for JsonSerializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.to.append([if value { b"true" } else { b"false" }]);
        Ok(())
    }

    integers! {
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64,
    }

    numbers! { serialize_f32 f32, serialize_f64 f64, }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.collect_str(&value)
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        // Most texts need no escape at all.
        if need_no_escape(value.as_bytes()) {
            self.to.append([b"\"", value.as_bytes(), b"\""]);
            return Ok(());
        }
        self.to.append([b"\""]);
        escape(value, self.to);
        self.to.append([b"\""]);
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.to.append([b"\""]);
        write!(EscapingWriter(self.to), "{value}").map_err(ser::Error::custom)?;
        self.to.append([b"\""]);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        Err(Error::unknown("bytes"))
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.to.append([b"null"]);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        // Names of variants are this program's own, like those of fields.
        debug_assert!(need_no_escape(variant.as_bytes()), "{variant}");
        self.to.append([b"\"", variant.as_bytes(), b"\""]);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(Error::unknown("a variant with a value"))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>, Error> {
        Ok(Compound::new(self.to, *b"[]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(Error::unknown("a tuple"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        Err(Error::unknown("a tuple"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(Error::unknown("a variant with values"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(Error::unknown("a map"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, Error> {
        Ok(Compound::new(self.to, [self.open, b'}']))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(Error::unknown("a variant with fields"))
    }
}

/// A type that no record has, and that [`JsonSerializer`] therefore does not know.
#[derive(Debug)]
pub(super) struct Error(Box<str>);

impl Error {
    fn unknown(what: &str) -> Self {
        Self(format!("a record has {what}, which has no JSON form yet").into())
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl error::Error for Error {}

impl ser::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::{
        prelude::{Strategy, any, prop},
        prop_assert_eq, proptest,
    };

    use super::*;

    fn line(value: &impl Serialize) -> String {
        let mut line = Buffer::default();
        value.serialize(JsonSerializer::new(&mut line)).expect("it has a form");
        String::from_utf8(line.written().to_vec()).expect("UTF-8")
    }

    #[derive(Debug, Serialize)]
    struct Inner {
        address: IpAddr,
        ms: Option<f64>,
    }

    #[derive(Debug, Serialize)]
    struct Outer {
        text: String,
        texts: Vec<String>,
        inner: Option<Inner>,
        number: i64,
        truth: bool,
    }

    #[derive(Serialize)]
    struct Empty {}

    fn outer() -> impl Strategy<Value = Outer> {
        let inner = (any::<IpAddr>(), any::<Option<f64>>()).prop_map(|(address, ms)| Inner { address, ms });
        let texts = prop::collection::vec(any::<String>(), 0..4);
        (any::<String>(), texts, prop::option::of(inner), any::<i64>(), any::<bool>())
            .prop_map(|(text, texts, inner, number, truth)| Outer { text, texts, inner, number, truth })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(value in outer()) {
            let (ours, theirs) = (line(&value), serde_json::to_string(&value).expect("JSON"));
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
            prop_assert_eq!(read(&ours), read(&theirs));
        }

        #[test]
        fn escapes_unsafe_characters(text: String) {
            let line = line(&text);
            assert!(!line.chars().any(sanitize::is_unsafe_for_terminal), "{line:?}");
        }
    }

    #[test]
    fn escapes_at_any_block_boundary() {
        for length in [0, 1, 30, 31, 32, 33, 63, 64, 65] {
            for special in ["", "\"", "\\", "\n", "µ", "日", "\u{202e}", "\u{e0041}", "\u{7f}"] {
                let text = format!("{}{special}x{special}", "y".repeat(length));
                let line = line(&text);
                assert_eq!(serde_json::from_str::<String>(&line).ok(), Some(text));
                assert!(!line.chars().any(sanitize::is_unsafe_for_terminal), "{line:?}");
            }
        }
    }

    #[test]
    fn finds_every_byte_that_needs_an_escape() {
        for byte in 0..=u8::MAX {
            for length in 1..40 {
                for place in 0..length {
                    let mut bytes = vec![b'~'; length];
                    bytes[place] = byte;
                    assert_eq!(need_no_escape(&bytes), needs_no_escape(byte), "{byte:#x} at {place} of {length}");
                    let plain = if needs_no_escape(byte) { length } else { place };
                    assert_eq!(plain_length(&bytes), plain, "{byte:#x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn closes_empty_values() {
        assert_eq!(
            (line(&Empty {}), line(&Vec::<u8>::new()), line(&None::<u8>)),
            ("{}".into(), "[]".into(), "null".into())
        );
        assert_eq!(line(&f64::NAN), "null");
    }

    #[test]
    fn refuses_types_without_a_form() {
        assert!((1, 2).serialize(JsonSerializer::new(&mut Buffer::default())).is_err());
    }
}
