//! Parser of the buffer's samples.

use bytes::Buf;
use rsttrace_common::event::{KIND_FORWARDED, KIND_IGNORED, KIND_RECEIVED, KIND_REJECTED, KIND_SENT, ResetEvent};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Reason why a sample is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than [`ResetEvent`] has.
    Short {
        /// Length of the sample.
        bytes: usize,
    },
    /// A kind (`KIND_*`) that this version does not know.
    Kind(u8),
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short { bytes } => {
                write!(formatter, "a sample of {bytes} bytes, where an event has {}", size_of::<ResetEvent>())
            }
            Self::Kind(kind) => write!(formatter, "an event of the unknown kind {kind}"),
        }
    }
}

/// Parses one sample. It may be in two parts, where it wraps around the end of the buffer, and longer than the event, since the
/// kernel pads perf samples. Fails when it is too short or of an unknown kind; the values of all other fields are untrusted
/// and pass unchecked.
pub fn parse(mut sample: impl Buf) -> Result<ResetEvent, Malformed> {
    let mut event = ResetEvent::new_zeroed();
    if sample.remaining() < size_of::<ResetEvent>() {
        return Err(Malformed::Short { bytes: sample.remaining() });
    }
    sample.copy_to_slice(event.as_mut_bytes());
    match event.kind {
        KIND_SENT | KIND_RECEIVED | KIND_REJECTED | KIND_IGNORED | KIND_FORWARDED => Ok(event),
        kind => Err(Malformed::Kind(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        // Every byte differs from its neighbours, so that a shifted field is noticed.
        let mut bytes: Vec<u8> = (0..=250).cycle().take(size_of::<ResetEvent>()).collect();
        bytes[std::mem::offset_of!(ResetEvent, kind)] = KIND_SENT;
        bytes
    }

    #[test]
    fn parses_a_sample_in_two_parts() {
        let bytes = sample();
        let whole = parse(&bytes[..]).expect("an event");
        assert_eq!(whole.as_bytes(), bytes);
        let port = std::mem::offset_of!(ResetEvent, local_port);
        assert_eq!(whole.local_port, u16::from_ne_bytes([bytes[port], bytes[port + 1]]));
        for split in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(parse(head.chain(tail)), Ok(whole), "split at {split}");
        }
    }

    #[test]
    fn ignores_padding() {
        let mut bytes = sample();
        let whole = parse(&bytes[..]);
        bytes.extend([0xff; 12]);
        assert_eq!(parse(&bytes[..]), whole);
    }

    #[test]
    fn rejects_short_samples() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Err(Malformed::Short { bytes: length }));
        }
    }

    #[test]
    fn rejects_unknown_kinds() {
        for kind in (0..=u8::MAX).filter(|kind| !(KIND_SENT..=KIND_FORWARDED).contains(kind)) {
            let mut bytes = sample();
            bytes[std::mem::offset_of!(ResetEvent, kind)] = kind;
            assert_eq!(parse(&bytes[..]), Err(Malformed::Kind(kind)));
        }
    }
}
