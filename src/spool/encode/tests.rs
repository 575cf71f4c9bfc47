//! Members made, cut, damaged, counted: of both kinds.

use super::*;
use crate::hash::Hash;
use crate::{Amount, Compression};

const CODECS: [Codec; 4] =
    [Codec::Gzip { level: 0 }, Codec::Gzip { level: 1 }, Codec::Zstd { level: 1 }, Codec::Zstd { level: 9 }];

fn member(encoder: &mut Encoder, pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = |chunk: &[u8]| {
        bytes.extend_from_slice(chunk);
        Ok(())
    };
    encoder.member(pieces.iter().copied(), &mut sink).unwrap();
    bytes
}

fn noise() -> Vec<u8> {
    let mut dice = crate::faulty::Dice::new(1);
    (0..BLOCK_BYTES + 500_000).map(|_| dice.byte(256)).collect()
}

#[test]
fn a_file_cut_at_any_byte_counts_its_whole_members() {
    CODECS.into_iter().for_each(cut_at_any_byte);
}

fn cut_at_any_byte(codec: Codec) {
    let mut encoder = Encoder::new(codec);
    let first = member(&mut encoder, &[b"{\"a\":1}\n", b"{\"a\":2}\n"]);
    let second = member(&mut encoder, &[b"{\"b\":3}\n"]);
    let whole = [first.as_slice(), &second].concat();
    for end in 0..=whole.len() {
        let counted = count(&whole[..end], codec.compression()).unwrap();
        let (bytes, records) = match end {
            it if it < first.len() => (0, 0),
            it if it < whole.len() => (first.len(), 2),
            _ => (whole.len(), 3),
        };
        assert_eq!((counted.bytes, counted.amount.records), (bytes as u64, records), "cut at {end}");
        assert_eq!(counted.hash.hex(), Hash::of(&whole[..bytes]).hex());
    }
}

#[test]
fn a_damaged_member_and_what_follows_it_is_not_counted() {
    CODECS.into_iter().for_each(damaged_at_any_byte);
}

fn damaged_at_any_byte(codec: Codec) {
    let mut encoder = Encoder::new(codec);
    let first = member(&mut encoder, &[b"one\n"]);
    let second = member(&mut encoder, &[b"two\n"]);
    let damages = (0..second.len()).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)).chain([(at, 0x55)]));
    for (at, damage) in damages {
        let mut damaged = [first.as_slice(), &second, &second].concat();
        damaged[first.len() + at] ^= damage;
        let counted = count(damaged.as_slice(), codec.compression()).unwrap();
        // Some bits of a header mean nothing; then the member reads as it was written.
        let harmless = counted.bytes == damaged.len() as u64 && counted.amount.records == 3;
        assert!(harmless || counted.bytes == first.len() as u64, "byte {at}, {damage:02x}: {counted:?}");
        assert_eq!(counted.amount.raw_bytes, counted.amount.records * 4);
    }
}

#[test]
fn a_member_reads_the_same_whichever_way_it_was_made() {
    let text: Vec<u8> = (0..400_000).flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect();
    assert!(text.len() > BLOCK_BYTES);
    for (cut, codec) in [10, BLOCK_BYTES, text.len()].into_iter().flat_map(|cut| CODECS.map(|it| (cut, it))) {
        let (head, tail) = text[..cut].split_at(cut / 3);
        let made = member(&mut Encoder::new(codec), &[head, tail]);
        let counted = count(made.as_slice(), codec.compression()).unwrap();
        assert_eq!(counted.amount, Amount { records: lines(&text[..cut]), raw_bytes: cut as u64 });
    }
}

#[test]
fn the_lowest_level_stores_the_text_as_it_is() {
    let text = b"{\"n\":1}\n".repeat(10_000);
    let made = member(&mut Encoder::new(Codec::Gzip { level: 0 }), &[&text]);
    assert!(memchr::memmem::find(&made, &text[..1000]).is_some() && made.len() < text.len() + 100);
}

#[test]
fn zeros_behind_the_last_member_are_not_counted() {
    for codec in CODECS {
        let first = member(&mut Encoder::new(codec), &[b"one\n"]);
        let padded = [first.as_slice(), &[0; 5000]].concat();
        assert_eq!(count(padded.as_slice(), codec.compression()).unwrap().bytes, first.len() as u64);
    }
}

#[test]
fn a_frame_without_a_checksum_is_not_counted() {
    let bare = zstd_frame(false);
    assert_eq!(count(bare.as_slice(), Compression::Zstd).unwrap().bytes, 0);
    let checked = zstd_frame(true);
    assert_eq!(count(checked.as_slice(), Compression::Zstd).unwrap().bytes, checked.len() as u64);
}

fn zstd_frame(checksum: bool) -> Vec<u8> {
    let mut compressor = ::zstd::bulk::Compressor::new(1).unwrap();
    compressor.include_checksum(checksum).unwrap();
    compressor.compress(b"one\n").unwrap()
}

#[test]
fn an_encoder_is_whole_again_after_its_sink_has_failed() {
    let noise = noise();
    for codec in CODECS {
        let mut encoder = Encoder::new(codec);
        for text in [&noise[..1_000_000], &noise] {
            let failed = encoder.member([text], &mut |_| Err(io::ErrorKind::StorageFull.into()));
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
            for after in [&b"one\n"[..], &noise] {
                assert_eq!(member(&mut encoder, &[after]), member(&mut Encoder::new(codec), &[after]));
            }
        }
    }
}

#[test]
fn a_large_member_comes_in_bounded_chunks() {
    let noise = noise();
    for (codec, text) in CODECS.into_iter().flat_map(|it| [(it, &noise[..1_500_000]), (it, &noise)]) {
        let (mut largest, mut total) = (0, 0);
        let mut sink = |chunk: &[u8]| {
            largest = largest.max(chunk.len());
            total += chunk.len();
            Ok(())
        };
        Encoder::new(codec).member([text], &mut sink).unwrap();
        assert!(largest <= OUT_BYTES && total > 1_000_000, "{largest} of {total}");
    }
}
