//! What is remembered of an object: 20 bytes.

use outrider_protocol::ids::{IntegrationId, Model};
use sha2::{Digest, Sha256};

/// Bytes of a [`Key`].
pub(super) const KEY_BYTES: usize = 12;
/// Bytes of a [`Mark`] on disk.
pub(super) const MARK_BYTES: usize = KEY_BYTES + 8;

/// Which object: 96 bits of a SHA-256 of integration, model and id. Among 10 million objects two meet with a
/// probability of 10^-15; and whoever names the objects of a source can make two meet on purpose only by 2^48 tries, for
/// objects that are both theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(super) [u8; KEY_BYTES]);

/// An object and the state in which it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which object.
    pub key: Key,
    /// 64 bits of a SHA-256 of its hash, never 0; 0 stands for a state that is not known.
    pub(super) state: u64,
}

impl Mark {
    /// The object may have any state from now on.
    pub(super) fn doubt(key: Key) -> Self {
        Self { key, state: 0 }
    }

    pub(super) fn is_doubt(self) -> bool {
        self.state == 0
    }

    pub(super) fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..KEY_BYTES].copy_from_slice(&self.key.0);
        bytes[KEY_BYTES..].copy_from_slice(&self.state.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; MARK_BYTES]) -> Self {
        let (mut key, mut state) = ([0; KEY_BYTES], [0; 8]);
        key.copy_from_slice(&bytes[..KEY_BYTES]);
        state.copy_from_slice(&bytes[KEY_BYTES..]);
        Self { key: Key(key), state: u64::from_be_bytes(state) }
    }
}

/// Reads marks that stand one after the other; a rest shorter than one is left out.
pub(super) fn marks_in(bytes: &[u8]) -> impl Iterator<Item = Mark> {
    bytes.as_chunks::<MARK_BYTES>().0.iter().map(Mark::from_bytes)
}

/// The objects of one model of one integration.
#[derive(Debug, Clone)]
pub struct Scope(Sha256);

impl Scope {
    /// The scope of a model.
    #[must_use]
    pub fn new(integration: &IntegrationId, model: &Model) -> Self {
        let mut digest = Sha256::new();
        for part in [integration.as_str(), model.as_str()] {
            // Neither holds a line feed.
            digest.update(part);
            digest.update(b"\n");
        }
        Self(digest)
    }

    /// What is remembered of an object with this id and hash. Without a hash it is never taken for unchanged, and what
    /// was remembered of it is forgotten.
    #[must_use]
    pub fn mark(&self, id: &str, hash: Option<&str>) -> Mark {
        let digest = self.0.clone().chain_update(id).finalize();
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&digest[..KEY_BYTES]);
        let Some(hash) = hash else { return Mark::doubt(Key(key)) };
        let digest = Sha256::digest(hash);
        let mut state = [0; 8];
        state.copy_from_slice(&digest[..8]);
        Mark { key: Key(key), state: u64::from_be_bytes(state).max(1) }
    }
}
