//! One line to what it says.

use std::{borrow::Cow, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};

use crate::model::{Forwarded, Ignored, Lost, Mark, RECORDING_FORMAT, Record, RecordingHeader, Reset};

/// Version of the contract of `docs/output.md` that is read.
const SCHEMA: u64 = 1;

/// What a line says.
#[derive(Clone, Debug)]
pub enum Line {
    /// A record.
    Record(Record),
    /// A reset of a packet capture, which is not diagnosed yet.
    Captured(Box<Reset>),
    /// The first line of a segment of a recording.
    Header(Arc<RecordingHeader>),
    /// A mark of a recording.
    Mark(Mark),
    /// A summary, which is made anew from the records.
    Summary(Timestamp),
}

impl Line {
    /// Time of what it says.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Record(record) => record.time(),
            Self::Captured(reset) => reset.time,
            Self::Header(header) => header.time,
            Self::Mark(mark) => mark.time,
            Self::Summary(time) => *time,
        }
    }
}

/// Why a line is not understood.
#[derive(Debug, PartialEq, Eq)]
pub enum LineError {
    /// It is no JSON object of this program.
    Foreign,
    /// It begins as a line of this program, and is cut off or damaged.
    Torn,
    /// It has another version of the contract.
    Version(u64),
    /// It is a type that this version does not know.
    Type(String),
    /// A field is missing or has a value that this version does not know.
    Field(String),
}

impl fmt::Display for LineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => formatter.write_str("it is no record of rsttrace"),
            Self::Torn => formatter.write_str("it is torn"),
            Self::Version(version) => {
                write!(formatter, "it has version {version} of the records, and this rsttrace reads {SCHEMA}")
            }
            Self::Type(kind) => write!(formatter, "this rsttrace does not know the type '{kind}'"),
            Self::Field(error) => formatter.write_str(error),
        }
    }
}

/// The beginning that every line has.
#[derive(Deserialize)]
struct Envelope<'a> {
    schema: u64,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Timed {
    #[serde(with = "crate::model::timestamp")]
    time: Timestamp,
}

/// Parses a line. Fails where it is not understood.
pub fn parse_line(line: &[u8]) -> Result<Line, LineError> {
    let is_ours = line.starts_with(br#"{"schema":"#);
    let foreign = if is_ours { LineError::Torn } else { LineError::Foreign };
    let Envelope { schema, kind } = serde_json::from_slice(line).map_err(|_error| foreign)?;
    if schema != SCHEMA {
        return Err(LineError::Version(schema));
    }
    Ok(match &*kind {
        "reset" => Line::Record(Record::Reset(Arc::new(reset(line)?))),
        "ignored" => Line::Record(Record::Ignored(Arc::new(ignored(line)?))),
        "forwarded" => Line::Record(Record::Forwarded(Arc::new(forwarded(line)?))),
        "lost" => Line::Record(Record::Lost(fields::<Lost>(line)?)),
        "summary" => Line::Summary(fields::<Timed>(line)?.time),
        "recording" => {
            let header: RecordingHeader = fields(line)?;
            if header.format > RECORDING_FORMAT {
                return Err(LineError::Version(header.format.into()));
            }
            Line::Header(Arc::new(header))
        }
        "mark" => Line::Mark(fields(line)?),
        kind => return Err(LineError::Type(kind.chars().take(40).collect())),
    })
}

fn fields<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    serde_json::from_slice(line).map_err(|error| LineError::Field(error.to_string()))
}

/// Nanoseconds of a time on a clock that no line without facts shows: the wall clock, which orders records as well.
fn clock_of(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

fn reset(line: &[u8]) -> Result<Reset, LineError> {
    let mut reset: Reset = fields(line)?;
    if reset.internals.ktime_ns == 0 {
        reset.internals.ktime_ns = clock_of(reset.time);
    }
    Ok(reset)
}

fn ignored(line: &[u8]) -> Result<Ignored, LineError> {
    let mut ignored: Ignored = fields(line)?;
    ignored.ktime_ns = clock_of(ignored.time);
    Ok(ignored)
}

fn forwarded(line: &[u8]) -> Result<Forwarded, LineError> {
    let mut forwarded: Forwarded = fields(line)?;
    forwarded.ktime_ns = clock_of(forwarded.time);
    Ok(forwarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_told_why() {
        for (line, expected) in [
            ("", LineError::Foreign),
            ("{\"schema\":1,\"type\":\"reset\",\"time\":\"2026", LineError::Torn),
            ("[1,2]", LineError::Foreign),
            ("{\"a\":1}", LineError::Foreign),
            ("{\"schema\":2,\"type\":\"reset\"}", LineError::Version(2)),
            ("{\"schema\":1,\"type\":\"other\"}", LineError::Type("other".into())),
        ] {
            assert_eq!(parse_line(line.as_bytes()).expect_err(line), expected);
        }
        let error = parse_line(b"{\"schema\":1,\"type\":\"reset\"}").expect_err("fields are missing");
        assert!(error.to_string().contains("missing field"), "{error}");
        let lost =
            "{\"schema\":1,\"type\":\"lost\",\"time\":\"2026-11-28T08:00:00Z\",\"count\":3,\"where\":\"kernel\"}";
        assert!(matches!(parse_line(lost.as_bytes()), Ok(Line::Record(Record::Lost(lost))) if lost.count == 3));
    }
}
