//! What the incidents of one cause have in common, and what that rules out.

use rsttrace_common::abi::tcp;

use super::shown::number;
use crate::model::{Direction, Finding, Reset};

/// Counts over the incidents of one cause in one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct CommonSigns {
    /// Incidents that hit a socket.
    with_socket: u64,
    /// Those on which the peer's FIN had come.
    after_fin: u64,
    /// Those of which the retransmissions are known, and those that had any.
    retransmits_known: u64,
    retransmitted: u64,
    /// Those whose TTL can be compared with that of the handshake, and those with an equal one.
    ttl_known: u64,
    ttl_equal: u64,
    /// Those on connections with timestamps, and those that had one.
    timestamp_known: u64,
    with_timestamp: u64,
    /// Payload bytes of this host that were lost.
    pub(super) lost_bytes: u64,
}

impl CommonSigns {
    /// Adds an incident by its first record.
    pub(super) fn observe(&mut self, reset: &Reset) {
        let count = reset.count;
        self.lost_bytes = self.lost_bytes.saturating_add(reset.cause.lost_bytes.unwrap_or(0));
        if let Some(socket) = &reset.socket {
            self.with_socket += count;
            let is_after_fin = socket.fin_received_ms.is_some()
                || matches!(socket.state.0, tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
            self.after_fin += if is_after_fin { count } else { 0 };
            if let Some(retransmits) = socket.retransmits {
                self.retransmits_known += count;
                self.retransmitted += if retransmits > 0 { count } else { 0 };
            }
        }
        if reset.direction == Direction::Sent {
            return;
        }
        if let Some((ttl, own)) = reset.packet.as_ref().and_then(|packet| Some((packet.ttl, packet.handshake_ttl?))) {
            self.ttl_known += count;
            self.ttl_equal += if ttl == own { count } else { 0 };
        }
        if let Some(has_timestamp) = reset.segment.timestamp {
            self.timestamp_known += count;
            self.with_timestamp += if has_timestamp { count } else { 0 };
        }
    }

    /// Explanations that these incidents rule out, one sentence each, with the numbers; none that the cause itself names.
    pub(super) fn ruled_out(&self, finding: &Finding) -> Vec<String> {
        let Finding { code, direction, resets, .. } = *finding;
        let mut sentences = Vec::new();
        let is_forged = matches!(code, "injected" | "policy" | "path-lost-state" | "idle-timeout-path");
        if direction == Direction::Received && !is_forged {
            if self.timestamp_known > 0 && self.with_timestamp == self.timestamp_known {
                sentences.push(format!(
                    "Not made by a device on the path: {} had the connection's TCP timestamp.",
                    those(self.timestamp_known, resets, "all")
                ));
            } else if self.ttl_known > 0 && self.ttl_equal == self.ttl_known {
                sentences.push(format!(
                    "No sign of a device on the path: {} had the TTL of the peer's handshake.",
                    those(self.ttl_known, resets, "all")
                ));
            }
        }
        let is_race = matches!(
            code,
            "keepalive-race" | "reused-closed-connection" | "after-close" | "data-after-close" | "tls-goodbye"
        );
        if direction == Direction::Received && self.with_socket > 0 && self.after_fin == 0 && !is_race {
            sentences.push(format!(
                "Not a connection that the peer had closed in order: no FIN had come before {}.",
                those(self.with_socket, resets, "any of")
            ));
        }
        let is_loss = code.contains("retransm") || code.contains("timeout") || code.contains("unreachable");
        if self.retransmits_known > 0 && self.retransmitted == 0 && !is_loss {
            sentences.push(format!(
                "Not packet loss: nothing had been retransmitted before {}.",
                those(self.retransmits_known, resets, "any of")
            ));
        }
        sentences
    }
}

/// Incidents of a cause, of which so many show a sign, in words behind `all` or `any of`.
fn those(known: u64, resets: u64, all: &str) -> String {
    match (known, resets) {
        (_, 1) => "it".to_owned(),
        (known, resets) if known >= resets => format!("{} them", if all == "all" { "all of" } else { all }),
        (known, _) if all == "all" => format!("all {} that show it", number(known)),
        (known, _) => format!("{all} the {} that show it", number(known)),
    }
}
