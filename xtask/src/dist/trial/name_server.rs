//! Name server (DNS over UDP) that knows one host.

use std::{net::UdpSocket, thread};

use anyhow::{Context as _, Result};

/// Name of the host that is known.
pub(super) const HOST: &str = "collector.example";

/// Length of a message's header, which is followed by the question.
const HEADER: usize = 12;
/// Type of a question for an IPv4 address.
const TYPE_A: [u8; 2] = [0, 1];

/// Starts the server on 127.0.0.1, in the network namespace of this thread. It answers until the process ends.
pub(super) fn start() -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:53").context("cannot listen for questions")?;
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = buffer.get(..length).and_then(answer) {
                // A question without an answer is asked again.
                let _ignored = socket.send_to(&answer, from);
            }
        }
    });
    Ok(())
}

/// Answer to a message with one question: 127.0.0.1 for [`HOST`], nothing for its IPv6 address, and no such name for others.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut rest = question.get(HEADER..)?;
    while let [length @ 1..=63, after @ ..] = rest {
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        name.push(String::from_utf8_lossy(label).into_owned());
        rest = after;
    }
    let kind = rest.get(1..3)?;
    let end = question.len() - rest.len() + 5;
    let is_known = name.join(".") == HOST;
    let has_address = is_known && kind == TYPE_A;
    let mut message = question.get(..2)?.to_vec();
    // A response with recursion; 3: no such name.
    message.extend([0x81, if is_known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    message.extend(question.get(HEADER..end)?);
    if has_address {
        // The name of the question; IPv4 address, internet, 60 s, 4 bytes.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(labels: &[&str], kind: u8) -> Vec<u8> {
        let mut message = vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.extend([0, 0, kind, 0, 1]);
        message
    }

    #[test]
    fn answers_for_its_host_alone() {
        let known = answer(&question(&["collector", "example"], 1)).unwrap();
        assert_eq!(known[..8], [7, 8, 0x81, 0x80, 0, 1, 0, 1]);
        assert!(known.ends_with(&[127, 0, 0, 1]));
        let without_address = answer(&question(&["collector", "example"], 28)).unwrap();
        assert_eq!(without_address[2..8], [0x81, 0x80, 0, 1, 0, 0]);
        assert_eq!(answer(&question(&["other"], 1)).unwrap()[3], 0x83);
        assert_eq!(answer(&[0; 12]), None);
    }
}
