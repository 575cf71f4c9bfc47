//! What the made-up objects look like. Texts are slices of one pool, ids are written into buffers that are used again, and
//! nothing is built as a tree: a million objects of 500 bytes cost about a second.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;

use crate::models::PullRequest;

/// Text from which bodies are cut, in bytes. Much more than what gzip looks back on, so that objects compress like text and
/// not like copies of each other.
const POOL_BYTES: usize = 1024 * 1024;

/// The first pull request of a repository was made at this time, in milliseconds since 1970: 2024-01-01.
const BEGINNING_MS: u64 = 1_704_067_200_000;

/// The kind of source, in every object.
pub(crate) const REF_TYPE: &str = "mock";

/// An id, stable between runs, and a name for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// The organization of this number, from 0.
pub(crate) fn organization(n: u64) -> Place {
    Place { id: format!("o{}", n + 1), name: format!("organization-{}", n + 1) }
}

/// A repository of an organization.
pub(crate) fn repo(organization: u64, n: u64) -> Place {
    let (organization, n) = (organization + 1, n + 1);
    Place { id: format!("o{organization}-r{n}"), name: format!("organization-{organization}/repo-{n}") }
}

/// A user of an organization.
pub(crate) fn user(organization: u64, n: u64) -> Place {
    let (organization, n) = (organization + 1, n + 1);
    Place { id: format!("o{organization}-u{n}"), name: format!("User {n} of organization-{organization}") }
}

/// Makes the texts of objects, and pull requests as a whole.
#[derive(Debug)]
pub(crate) struct Content {
    seed: u64,
    object_bytes: usize,
    pool: String,
    with_hash: bool,
    hash: Option<String>,
    id: String,
    author_id: String,
}

impl Content {
    /// Content of a seed, for objects of this size, with a hash or without.
    pub(crate) fn new(seed: u64, object_bytes: usize, with_hash: bool) -> Self {
        let pool = pool(seed, POOL_BYTES + object_bytes);
        let (hash, id, author_id) = (None, String::new(), String::new());
        Self { seed, object_bytes, pool, with_hash, hash, id, author_id }
    }

    /// The hash of the object at a place, where objects have one: it changes when anything that makes the object does.
    pub(crate) fn hash(&self, place: u64) -> Option<String> {
        let hash = mixed(self.seed ^ mixed(place ^ self.object_bytes as u64));
        self.with_hash.then(|| format!("{hash:016x}"))
    }

    /// Text with which an object, serialized with an empty one in its place as `bare`, gets its size.
    pub(crate) fn filling(&self, place: u64, bare: &impl Serialize) -> &str {
        self.text(place, self.object_bytes.saturating_sub(serialized_bytes(bare)))
    }

    /// Writes the pull request `n` of a repository, from 0, as serialization would; `repo` tells repositories apart. None of its
    /// texts has anything to escape, and looking for it in a million objects would be felt.
    pub(crate) fn pull_request(&mut self, repo: u64, repo_id: &str, n: u64, out: &mut String) {
        let place = mixed(mixed(self.seed ^ repo) ^ n);
        self.id.clear();
        self.author_id.clear();
        self.hash = self.hash(place);
        // Writing to a String cannot fail.
        write!(self.id, "{repo_id}-p{}", n + 1).unwrap_or_default();
        let organization = repo_id.split('-').next().unwrap_or_default();
        write!(self.author_id, "{organization}-u{}", 1 + place % 3).unwrap_or_default();
        let created_at_ms = BEGINNING_MS + n * 3_600_000 + place % 3_600_000;
        let one = PullRequest {
            id: &self.id,
            ref_type: REF_TYPE,
            repo_id,
            number: n + 1,
            title: self.text(mixed(place), 30 + usize::from(place.to_le_bytes()[1] % 16)),
            author_id: &self.author_id,
            status: ["open", "merged", "closed"][usize::from(place.to_le_bytes()[0] % 3)],
            created_at_ms,
            updated_at_ms: created_at_ms + place % 86_400_000,
            hash: self.hash.as_deref(),
            body: "",
        };
        out.clear();
        begin(out, &one);
        let body = self.text(place, self.object_bytes.saturating_sub(out.len() + END.len()));
        out.push_str(body);
        out.push_str(END);
    }

    /// A piece of the pool that the number chooses. Plain ASCII without anything that JSON escapes.
    fn text(&self, place: u64, bytes: usize) -> &str {
        let starts = (self.pool.len() - bytes.min(self.pool.len())).max(1) as u64;
        let start = usize::try_from(place % starts).unwrap_or_default();
        self.pool.get(start..start + bytes).unwrap_or_default()
    }
}

/// What follows the body.
const END: &str = "\"}";

/// The JSON of a pull request up to its body.
fn begin(out: &mut String, one: &PullRequest<'_>) {
    texts(out, &[r#"{"id":""#, one.id, r#"","ref_type":""#, one.ref_type, r#"","repo_id":""#, one.repo_id]);
    number(out, r#"","number":"#, one.number);
    texts(
        out,
        &[r#","title":""#, one.title, r#"","author_id":""#, one.author_id, r#"","status":""#, one.status],
    );
    number(out, r#"","created_at_ms":"#, one.created_at_ms);
    number(out, r#","updated_at_ms":"#, one.updated_at_ms);
    if let Some(hash) = one.hash {
        texts(out, &[r#","hash":""#, hash, r#"""#]);
    }
    out.push_str(r#","body":""#);
}

fn texts(out: &mut String, pieces: &[&str]) {
    pieces.iter().for_each(|piece| out.push_str(piece));
}

fn number(out: &mut String, name: &str, n: u64) {
    // Writing to a String cannot fail.
    write!(out, "{name}{n}").unwrap_or_default();
}

/// The JSON of a value in bytes.
fn serialized_bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be serialized is told when it is sent.
    serde_json::to_writer(&mut count, value).map_or(0, |()| count.0)
}

const SYLLABLES: [&str; 16] =
    ["ba", "con", "de", "fi", "ga", "lo", "mer", "na", "or", "pul", "re", "sta", "ti", "un", "ver", "xy"];

/// Words of a seed, with spaces between. An export waits for it, so it is put together of pairs of syllables.
fn pool(seed: u64, bytes: usize) -> String {
    let pair = |n: usize| [SYLLABLES[n / 16], SYLLABLES[n % 16]].concat();
    let pairs: Vec<String> = (0..256).map(pair).collect();
    let mut text = String::with_capacity(bytes + 16);
    let mut state = seed;
    while text.len() < bytes {
        state = mixed(state);
        // A nibble a syllable, and two bits for how many there are.
        let [first, second, third, fourth, .., count] = state.to_le_bytes().map(usize::from);
        let one = |at: usize| SYLLABLES[at % 16];
        let two = |at: usize, next: usize| pairs[at % 16 * 16 + next % 16].as_str();
        let (begin, end) = match count >> 6 {
            0 => (one(first), ""),
            1 => (two(first, second), ""),
            2 => (two(first, second), one(third)),
            _ => (two(first, second), two(third, fourth)),
        };
        text.push_str(begin);
        text.push_str(end);
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

/// One step of splitmix64: neighbouring numbers become unrelated ones.
pub(crate) fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
