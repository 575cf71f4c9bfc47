//! SHA-256, as FIPS 180-4 has it. This crate uses nothing but std, and std has none.

/// A sum.
pub(crate) type Digest = [u8; 32];

/// Of a block, in bytes.
const BLOCK: usize = 64;

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes.
const BEGIN: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The same of the cube roots of the first 64 primes.
const ROUNDS: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// A sum that is being made.
#[derive(Debug, Clone)]
pub(crate) struct Sha256 {
    state: [u32; 8],
    /// What does not fill a block yet.
    rest: [u8; BLOCK],
    filled: usize,
    bytes: u64,
}

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self { state: BEGIN, rest: [0; BLOCK], filled: 0, bytes: 0 }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.filled > 0 {
            let (more, after) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.rest[self.filled..][..more.len()].copy_from_slice(more);
            self.filled += more.len();
            bytes = after;
            if self.filled < BLOCK {
                return;
            }
            compress(&mut self.state, &self.rest);
            self.filled = 0;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        blocks.iter().for_each(|block| compress(&mut self.state, block));
        self.rest[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    pub(crate) fn finish(mut self) -> Digest {
        let bits = self.bytes.wrapping_mul(8);
        // A one, zeros, and the length, so that the last block is full.
        let zeros = (BLOCK * 2 - 9 - self.filled) % BLOCK;
        self.update(&[0x80]);
        self.update(&[0; BLOCK][..zeros]);
        self.update(&bits.to_be_bytes());
        let mut sum = [0; 32];
        for (bytes, word) in sum.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        sum
    }
}

/// One round of eight: the names of the state move by one from round to round, so that nothing has to be copied.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $add:expr) => {
        let mixed = $h
            .wrapping_add($e.rotate_right(6) ^ $e.rotate_right(11) ^ $e.rotate_right(25))
            .wrapping_add($g ^ ($e & ($f ^ $g)))
            .wrapping_add($add);
        $d = $d.wrapping_add(mixed);
        $h = mixed
            .wrapping_add($a.rotate_right(2) ^ $a.rotate_right(13) ^ $a.rotate_right(22))
            .wrapping_add(($a & $b) | ($c & ($a | $b)));
    };
}

fn compress(state: &mut [u32; 8], block: &[u8; BLOCK]) {
    let words = schedule(block);
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (words, rounds) in words.as_chunks::<8>().0.iter().zip(ROUNDS.as_chunks::<8>().0) {
        let add = |it: usize| words[it].wrapping_add(rounds[it]);
        round!(a b c d e f g h, add(0));
        round!(h a b c d e f g, add(1));
        round!(g h a b c d e f, add(2));
        round!(f g h a b c d e, add(3));
        round!(e f g h a b c d, add(4));
        round!(d e f g h a b c, add(5));
        round!(c d e f g h a b, add(6));
        round!(b c d e f g h a, add(7));
    }
    for (it, more) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *it = it.wrapping_add(more);
    }
}

fn schedule(block: &[u8; BLOCK]) -> [u32; 64] {
    let mut words = [0; 64];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for it in 16..64 {
        let (near, far) = (words[it - 2], words[it - 15]);
        words[it] = words[it - 16]
            .wrapping_add(far.rotate_right(7) ^ far.rotate_right(18) ^ (far >> 3))
            .wrapping_add(words[it - 7])
            .wrapping_add(near.rotate_right(17) ^ near.rotate_right(19) ^ (near >> 10));
    }
    words
}

/// The sum in hexadecimal digits.
#[cfg(test)]
fn hex(bytes: &[u8]) -> String {
    let mut sum = Sha256::new();
    sum.update(bytes);
    sum.finish().iter().map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The examples of FIPS 180-2 and of NIST's "SHA-256 test vectors".
    #[test]
    fn the_published_examples_come_out() {
        let million = vec![b'a'; 1_000_000];
        let examples: [(&[u8], &str); 4] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ];
        for (text, sum) in examples {
            assert_eq!(hex(text), sum, "{} bytes", text.len());
        }
    }

    #[test]
    fn the_sum_does_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..1000_u32).map(|it| (it * 7 % 251) as u8).collect();
        for length in [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1000] {
            for step in [1, 3, 63, 64, 65, 1000] {
                let mut sum = Sha256::new();
                bytes[..length].chunks(step).for_each(|it| sum.update(it));
                let sum: String = sum.finish().iter().map(|it| format!("{it:02x}")).collect();
                assert_eq!(sum, hex(&bytes[..length]), "{length} bytes by {step}");
            }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a program that has nothing to do with the agent")]
    fn the_systems_own_program_comes_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = 1_u32;
        for length in (0..300).chain([4095, 4096, 65_537, 1_000_003]) {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    last = last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    last.to_be_bytes()[0]
                })
                .collect();
            std::fs::write(dir.path().join(format!("{length}-{}", hex(&bytes))), bytes).unwrap();
        }
        let names = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name());
        let said = Command::new("sha256sum").args(names).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.lines().count(), 304);
        for line in said.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            assert!(name.ends_with(&format!("-{sum}")), "{line}");
        }
    }
}
