//! An entry as messages that NATS takes, each with an id by which it is known when it comes again.
//!
//! # Invariants
//! - The same entry makes the same parts with the same ids, as long as the server takes as much at once; where that changed,
//!   the parts are others, and so are their ids.
//! - Nothing of an entry is left out: what cannot be made small enough is an error.

use prost::Message;

use crate::backlog::Entry;
use crate::plain::word;
use crate::wire::generated::collect as proto;

/// What a message's headers may take: the id, with a sender's name of 512 bytes written out, and the stream's name.
const HEADER_BYTES: usize = 4 << 10;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its header `Nats-Msg-Id`; nothing where its sender does not say which of theirs it is.
    pub(super) id: Option<String>,
    pub(super) bytes: Vec<u8>,
}

/// It cannot be made small enough.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) found: usize,
    pub(super) most: usize,
}

/// The parts, for a server that takes so many bytes at once.
pub(super) fn parts(entry: Entry, payload: usize) -> Result<Vec<Part>, TooLarge> {
    let most = payload.saturating_sub(HEADER_BYTES);
    let id = entry.origin.as_ref().map(|(sender, sequence)| format!("{}:{sequence}", word(sender)));
    if entry.bytes.len() <= most {
        return Ok(vec![Part { id, bytes: entry.bytes }]);
    }
    let too_large = TooLarge { found: entry.bytes.len(), most };
    let Ok(batch) = proto::Batch::decode(&*entry.bytes) else { return Err(too_large) };
    let mut all = Vec::new();
    split(batch, most, &mut all)?;
    let part = |(at, bytes)| Part { id: id.as_ref().map(|id| format!("{id}/{most}/{at}")), bytes };
    Ok(all.into_iter().enumerate().map(part).collect())
}

/// Halves it until each half fits.
fn split(mut batch: proto::Batch, most: usize, all: &mut Vec<Vec<u8>>) -> Result<(), TooLarge> {
    let found = batch.encoded_len();
    if found <= most {
        all.push(batch.encode_to_vec());
        return Ok(());
    }
    let mut rest = proto::Batch {
        collector: batch.collector.clone(),
        sequence: batch.sequence,
        metrics: batch.metrics.clone(),
        ..proto::Batch::default()
    };
    if batch.samples.len() > 1 || batch.events.len() > 1 {
        rest.samples = batch.samples.split_off(batch.samples.len().div_ceil(2));
        rest.events = batch.events.split_off(batch.events.len().div_ceil(2));
    } else if let ([sample], []) = (&mut *batch.samples, &*batch.events)
        && sample.points.len() > 1
    {
        let points = sample.points.split_off(sample.points.len().div_ceil(2));
        rest.samples = vec![proto::Sample { points, ..sample.clone() }];
    } else if !batch.samples.is_empty() && !batch.events.is_empty() {
        rest.events = std::mem::take(&mut batch.events);
    } else {
        return Err(TooLarge { found, most });
    }
    split(batch, most, all)?;
    split(rest, most, all)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalogue::PIDS;
    use crate::model::{MetricRef, Number, Point, Sample, Source, Tags, Time};
    use crate::wire;

    fn entry(samples: u64, points: usize, text: usize) -> Entry {
        let tags = Tags::new([("t", "x".repeat(text))]);
        let source = Arc::new(Source { key: "k".into(), tags: Tags::default() });
        let sample = |at| {
            let number = Number::Unsigned(at);
            let one = Point { metric: MetricRef::Known(&PIDS), tags: tags.clone(), number, start: None };
            Sample { source: Arc::clone(&source), time: Time::from_unix_nanos(1), points: vec![one; points] }
        };
        let samples: Vec<_> = (0..samples).map(sample).collect();
        let bytes = wire::batch("a b\n", 7, &samples, &[]).encode_to_vec();
        Entry { origin: Some(("a b\n".into(), 7)), points: 0, bytes }
    }

    fn read(parts: &[Part]) -> Vec<Point> {
        let read = |it: &Part| wire::read(proto::Batch::decode(&*it.bytes).unwrap()).unwrap().samples;
        parts.iter().flat_map(read).flat_map(|it| it.points).collect()
    }

    #[test]
    fn what_fits_is_one_message_with_the_id_of_its_sender() {
        let small = entry(3, 2, 10);
        let bytes = small.bytes.clone();
        let found = parts(small, 1 << 20).unwrap();
        assert_eq!(found, [Part { id: Some("a%20b%0a:7".into()), bytes: bytes.clone() }]);
        let nameless = Entry { origin: None, points: 1, bytes };
        assert_eq!(parts(nameless, 1 << 20).unwrap()[0].id, None);
    }

    #[test]
    fn what_is_too_large_is_split_the_same_way_each_time_and_nothing_is_lost() {
        for (samples, points, text) in [(1000, 3, 100), (1, 3000, 100), (3, 1000, 50)] {
            let large = entry(samples, points, text);
            let whole = read(&[Part { id: None, bytes: large.bytes.clone() }]);
            let payload = 64 << 10;
            let found = parts(large.clone(), payload).unwrap();
            assert!(found.len() > 1 && found.iter().all(|it| it.bytes.len() <= payload - HEADER_BYTES));
            assert_eq!(read(&found), whole);
            assert_eq!(found[1].id.as_deref(), Some("a%20b%0a:7/61440/1"));
            assert_eq!(parts(large, payload).unwrap(), found);
        }
    }

    #[test]
    fn one_point_that_is_too_large_is_an_error() {
        let error = parts(entry(2, 1, 4000), HEADER_BYTES + 1000).unwrap_err();
        assert_eq!(error.most, 1000);
        assert!(error.found > 4000);
    }
}
