//! The root's key, and the cipher.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::KeyError;
use crate::Root;
use crate::atomic::{self, FileError};

const KEY_BYTES: usize = 32;
/// How often the making of the key is tried while its file is removed under it.
const TRIES: u32 = 10;

/// The key that encrypts the secrets of sources. A nonce is random: with the few texts that a root ever encrypts, two of
/// the same are out of reach.
pub(super) struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    /// The root's key, if it has one.
    pub(super) fn load(root: &Root) -> Result<Option<Self>, KeyError> {
        let path = root.secrets_key();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) if err.kind() == io::ErrorKind::InvalidData => return Err(KeyError::NoKey { path }),
            Err(err) => return Err(KeyError::File(FileError::at("read", &path)(err))),
        };
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        match STANDARD.decode_slice(text.trim(), &mut *key) {
            Ok(KEY_BYTES) => Ok(Some(Self(key))),
            _ => Err(KeyError::NoKey { path }),
        }
    }

    /// The root's key, made when there is none. Of several processes that make it at once all get the same.
    pub(super) fn load_or_make(root: &Root) -> Result<Self, KeyError> {
        let mut tries = 0;
        loop {
            if let Some(key) = Self::load(root)? {
                return Ok(key);
            }
            tries += 1;
            match Self::make(root) {
                // A service that begins removes what others may have left half-written, and cannot know of this.
                Err(err) if err.err.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                made => made.map_err(KeyError::File)?,
            }
        }
    }

    /// Makes the file, unless there is one by then.
    fn make(root: &Root) -> Result<(), FileError> {
        let path = root.secrets_key();
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let failed =
            |_| FileError::at("make a key for", &path)(io::Error::other("the system gave no random numbers"));
        SystemRandom::new().fill(&mut *key).map_err(failed)?;
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*key)));
        atomic::write_new(&path, text.as_bytes(), atomic::PRIVATE)
    }

    /// Tells keys apart without telling anything of them.
    pub(super) fn fingerprint(&self) -> String {
        let digest = Sha256::new().chain_update("outrider secrets.key").chain_update(*self.0).finalize();
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Nonce, ciphertext, tag.
    pub(super) fn encrypt(&self, head: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut bytes = Zeroizing::new(plain.to_vec());
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        let tag = self.cipher()?.seal_in_place_separate_tag(nonce_of, Aad::from(head), &mut bytes).ok()?;
        Some([&nonce, bytes.as_slice(), tag.as_ref()].concat())
    }

    pub(super) fn decrypt(&self, head: &[u8], bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self.cipher()?.open_in_place(nonce, Aad::from(head), &mut body).ok()?;
        Some(Zeroizing::new(plain.to_vec()))
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &*self.0).ok().map(LessSafeKey::new)
    }
}
