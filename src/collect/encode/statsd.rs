//! StatsD, with Datadog's tags: a line a point, in packets that fit into a datagram.
//!
//! # Invariants
//! - Everything is a gauge. A counter of StatsD is a difference, which would count twice what is sent twice.
//! - A negative gauge is sent after a zero in the same packet, since StatsD reads its sign as 'less by'.
//! - A point that no packet can hold is left out, and is missing in the packets' counts.

use super::Body;
use crate::model::{Number, Sample};

/// What fits into an Ethernet frame beside its headers.
pub const DATAGRAM: usize = 1432;

/// Packets of up to so many bytes.
#[must_use]
pub fn encode(batch: &[Sample], most: usize) -> Vec<Body> {
    let mut packets = Vec::new();
    let mut packet = Body::whole(Vec::new(), 0);
    for sample in batch {
        for point in &sample.points {
            let name = plain(&point.metric.name);
            let mut tags = String::new();
            for tag in super::tags(sample, &point.tags) {
                tags.push_str(if tags.is_empty() { "|#" } else { "," });
                tags.push_str(&format!("{}:{}", plain(&tag.name), plain(&tag.value)));
            }
            let value = match point.number {
                Number::Unsigned(value) => value.to_string(),
                Number::Signed(value) => value.to_string(),
                Number::Float(value) => value.to_string(),
                Number::Flag(value) => u8::from(value).to_string(),
            };
            let mut line = if value.starts_with('-') { format!("{name}:0|g{tags}\n") } else { String::new() };
            line.push_str(&format!("{name}:{value}|g{tags}\n"));
            if line.len() > most {
                continue;
            }
            if packet.bytes.len() + line.len() > most {
                packets.push(std::mem::replace(&mut packet, Body::whole(Vec::new(), 0)));
            }
            packet.bytes.extend_from_slice(line.as_bytes());
            packet.points += 1;
        }
    }
    packets.extend(Some(packet).filter(|it| it.points > 0));
    packets
}

/// Without the protocol's own characters.
fn plain(text: &str) -> String {
    text.replace([':', '|', '@', '#', ',', '\n', '\r'], "_")
}
