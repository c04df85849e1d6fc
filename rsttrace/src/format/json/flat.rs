//! One JSON object a line without objects in it, for tables: the fields that the journal and syslog get, under the same names.

use std::io::{self, Write};

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::{
    format::{
        Formatter,
        fields::{Value, record_fields},
    },
    model::{Record, timestamp},
    util::sanitize,
};

/// Formatter of flat JSON lines.
#[derive(Default)]
pub(crate) struct FlatJsonFormatter {
    line: Vec<u8>,
}

impl Formatter for FlatJsonFormatter {
    fn write(&mut self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, &FlatRecord(record))?;
        sanitize::escape_json(&mut self.line);
        self.line.push(b'\n');
        out.write_all(&self.line)
    }
}

/// A record as one object without others in it.
struct FlatRecord<'a>(&'a Record);

impl Serialize for FlatRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &1)?;
        map.serialize_entry("time", &Time(self.0))?;
        for field in record_fields(self.0) {
            map.serialize_entry(field.name, &field.value)?;
        }
        map.end()
    }
}

struct Time<'a>(&'a Record);

impl Serialize for Time<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        timestamp::serialize(&self.0.time(), serializer)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Str(text) => serializer.serialize_str(text),
            Self::U64(number) => serializer.serialize_u64(*number),
            Self::F64(decimal) => serializer.serialize_f64(*decimal),
            Self::Bool(value) => serializer.serialize_bool(*value),
        }
    }
}
