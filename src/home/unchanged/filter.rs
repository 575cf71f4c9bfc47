//! Keys that a run must not take for unchanged, in a fixed amount of memory: a Bloom filter. A key that was put in is
//! always found; one that was not is found rarely, and is then sent for nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mark::Key;

/// Bits: 4 MiB. A million keys make 0.4 in a hundred others be found, five million 7.
const BITS: usize = 1 << 25;

/// Takes its memory with the first key.
#[derive(Debug, Default)]
pub(super) struct Filter(OnceLock<Box<[AtomicU64]>>);

impl Filter {
    pub(super) fn insert(&self, key: Key) {
        let words = self.0.get_or_init(|| (0..BITS / 64).map(|_| AtomicU64::new(0)).collect());
        for (word, bit) in places(key) {
            words[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        let holds = |words: &[AtomicU64]| {
            places(key).iter().all(|(word, bit)| words[*word].load(Ordering::Relaxed) & bit != 0)
        };
        self.0.get().is_some_and(|words| holds(words))
    }
}

/// A key is a hash already, so parts of it are as good as other hashes.
fn places(Key(key): Key) -> [(usize, u64); 2] {
    [[key[0], key[1], key[2], key[3]], [key[4], key[5], key[6], key[7]]].map(|part| {
        let bit = u32::from_be_bytes(part) as usize % BITS;
        (bit / 64, 1 << (bit % 64))
    })
}
