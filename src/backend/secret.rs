//! Random secrets, and the hashes by which they are known.
//!
//! **Invariant:** a token, an enrollment code and a login link are shown once and kept only as a hash. All have at least
//! 100 random bits, so that a plain SHA-256 is enough: there is nothing to guess a hash from.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Crockford's base 32 in lower case: without i, l, o and u, which are read or typed wrongly.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a token: 160 bits.
const TOKEN_CHARS: usize = 32;
/// Characters of an enrollment code: 100 bits, short enough to be typed.
const CODE_CHARS: usize = 20;
/// Characters between the hyphens of an enrollment code.
const CODE_GROUP: usize = 5;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("make a secret: the operating system gave no random bytes")]
pub struct NoRandomness(#[source] getrandom::Error);

/// The SHA-256 of a secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    /// Of a secret's text.
    pub(crate) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a stored hash is this one, in a time that tells nothing of where they differ.
    pub(crate) fn is(&self, stored: &[u8]) -> bool {
        self.0.ct_eq(stored).into()
    }
}

/// Random characters that are safe in a path, a URL and a shell.
pub(crate) fn random_text(chars: usize) -> Result<String, NoRandomness> {
    let mut bytes = vec![0u8; chars];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// A new token or login secret.
pub(crate) fn token() -> Result<String, NoRandomness> {
    random_text(TOKEN_CHARS)
}

/// A new enrollment code, as it is shown: `K3F9Q-…`.
pub(crate) fn code() -> Result<String, NoRandomness> {
    let text = random_text(CODE_CHARS)?.to_ascii_uppercase();
    let groups: Vec<&str> =
        (0..CODE_CHARS).step_by(CODE_GROUP).map(|at| &text[at..at + CODE_GROUP]).collect();
    Ok(groups.join("-"))
}

/// The hash of an enrollment code as somebody typed it: hyphens, blanks and case do not matter, and a letter that looks
/// like a digit is one.
pub(crate) fn code_hash(typed: &str) -> Hash {
    let plain: String = typed
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    Hash::of(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_may_be_typed_carelessly() {
        let shown = code().unwrap();
        assert_eq!(shown.len(), CODE_CHARS + 3);
        let typed = format!(
            "  {} ",
            shown.to_ascii_lowercase().replace('-', " ").replace('0', "o").replace('1', "l")
        );
        assert!(code_hash(&typed).is(code_hash(&shown).as_bytes()));
    }

    #[test]
    fn secrets_differ_and_hashes_of_another_length_are_refused() {
        assert_ne!(token().unwrap(), token().unwrap());
        assert!(!Hash::of("a").is(Hash::of("b").as_bytes()));
        assert!(!Hash::of("a").is(&[]));
    }
}
