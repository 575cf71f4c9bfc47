//! Names from outside, as paths that cannot leave the folder they are put under, on any system.
//!
//! A name is taken or refused by its text alone; nothing is looked up and nothing is repaired.

use std::fmt;
use std::path::PathBuf;

/// The longest path, in bytes: with a root before it, it stays below what Windows and macOS take.
pub const PATH_BYTES: usize = 512;
/// The longest segment, in bytes: what file systems take.
pub const SEGMENT_BYTES: usize = 255;
/// The most segments of a path.
pub const SEGMENTS: usize = 64;

/// Names that are devices on Windows, with any ending and in any case.
const RESERVED: &[&str] = &["con", "prn", "aux", "nul", "conin$", "conout$"];
/// Names that are devices on Windows with one digit behind them.
const RESERVED_NUMBERED: &[&str] = &["com", "lpt"];

/// A relative path with `/` between its segments: at least one segment, none of them `.` or `..`, and each a name that
/// Linux, macOS and Windows take for the same file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// There is no text.
    #[error("is empty")]
    Empty,
    /// It begins with `/`.
    #[error("is absolute")]
    Absolute,
    /// It begins with a drive's letter, as `C:`.
    #[error("names a drive")]
    Drive,
    /// It has a segment `..`.
    #[error("has a segment `..`")]
    Parent,
    /// It has a segment `.`.
    #[error("has a segment `.`")]
    Current,
    /// Two `/` in a row, or one at the end of a file's name.
    #[error("has an empty segment")]
    EmptySegment,
    /// It has a backslash.
    #[error("has a backslash")]
    Backslash,
    /// It has a NUL or another control character.
    #[error("has a control character")]
    Control,
    /// It has a character that shows nothing or turns the direction of text.
    #[error("has an invisible character")]
    Invisible,
    /// It has one of `< > : " | ? *`.
    #[error("has a character that Windows does not take")]
    Character,
    /// A segment is the name of a device of Windows.
    #[error("has a segment that is a device on Windows")]
    Reserved,
    /// A segment ends in a dot or a space, or begins with a space.
    #[error("has a segment with a space at an end or a dot behind it")]
    Trailing,
    /// It has more than [`SEGMENTS`] segments.
    #[error("has more than {SEGMENTS} segments")]
    TooDeep,
    /// It has more than [`PATH_BYTES`] bytes, or a segment more than [`SEGMENT_BYTES`].
    #[error("is longer than {PATH_BYTES} bytes, or a segment than {SEGMENT_BYTES}")]
    TooLong,
    /// It is no UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
}

/// A name that is no path within a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {name:?} {fault}: expected a relative path of plain names with `/` between them")]
pub struct PathError {
    /// The name, shortened; what is no UTF-8 is replaced.
    pub name: String,
    /// What is wrong with it.
    pub fault: PathFault,
}

impl RelPath {
    /// Takes a name as an archive or a list has it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(name: &str) -> Result<Self, PathError> {
        match fault(name) {
            None => Ok(Self(name.to_owned())),
            Some(fault) => Err(PathError { name: shortened(name), fault }),
        }
    }

    /// Takes a name of bytes; they have to be UTF-8.
    ///
    /// # Errors
    /// As [`RelPath::parse`].
    pub fn from_bytes(name: &[u8]) -> Result<Self, PathError> {
        match std::str::from_utf8(name) {
            Ok(name) => Self::parse(name),
            Err(_) => {
                let name = shortened(&String::from_utf8_lossy(&name[..name.len().min(PATH_BYTES)]));
                Err(PathError { name, fault: PathFault::NotUtf8 })
            }
        }
    }

    /// The text, with `/` between segments.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, from the outermost.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The folders that this lies in, from the outermost; none for a path of one segment.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// What is left when whole segments `prefix` are taken off; `Some(None)` when nothing is, `None` when this lies
    /// elsewhere.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &Self) -> Option<Option<Self>> {
        let rest = self.0.strip_prefix(&prefix.0)?;
        match rest.strip_prefix('/') {
            Some(rest) => Some(Some(Self(rest.to_owned()))),
            None => rest.is_empty().then_some(None),
        }
    }

    /// `rest` below this.
    ///
    /// # Errors
    /// When both together are too long or too deep.
    pub fn join(&self, rest: &Self) -> Result<Self, PathError> {
        Self::parse(&format!("{}/{}", self.0, rest.0))
    }

    /// For the calls of the system.
    #[must_use]
    pub fn to_path(&self) -> PathBuf {
        self.segments().collect()
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// At most 80 characters of a name, so that an error stays a line.
pub(crate) fn shortened(name: &str) -> String {
    shortened_to(80, name)
}

/// At most so many characters of a text.
pub(crate) fn shortened_to(longest: usize, text: &str) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn fault(name: &str) -> Option<PathFault> {
    if name.is_empty() {
        return Some(PathFault::Empty);
    }
    if name.len() > PATH_BYTES {
        return Some(PathFault::TooLong);
    }
    if let Some(fault) = name.chars().find_map(bad_character) {
        return Some(fault);
    }
    if name.starts_with('/') {
        return Some(PathFault::Absolute);
    }
    if name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic() {
        return Some(PathFault::Drive);
    }
    if name.contains(['<', '>', ':', '"', '|', '?', '*']) {
        return Some(PathFault::Character);
    }
    if name.split('/').count() > SEGMENTS {
        return Some(PathFault::TooDeep);
    }
    name.split('/').find_map(bad_segment)
}

fn bad_character(it: char) -> Option<PathFault> {
    match it {
        '\\' => Some(PathFault::Backslash),
        it if it.is_control() => Some(PathFault::Control),
        // Marks of direction, joiners, the soft hyphen, fillers, variation selectors, tags, and the separators of lines
        // and paragraphs: some file systems ignore them in a comparison, and nobody sees them.
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{ffff}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => Some(PathFault::Invisible),
        _ => None,
    }
}

fn bad_segment(segment: &str) -> Option<PathFault> {
    match segment {
        "" => Some(PathFault::EmptySegment),
        "." => Some(PathFault::Current),
        ".." => Some(PathFault::Parent),
        _ if segment.len() > SEGMENT_BYTES => Some(PathFault::TooLong),
        _ if segment.ends_with(['.', ' ']) || segment.starts_with(' ') => Some(PathFault::Trailing),
        _ => is_reserved(segment).then_some(PathFault::Reserved),
    }
}

fn is_reserved(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |prefix: &str| {
        let mut rest = stem.strip_prefix(prefix).unwrap_or_default().chars();
        // Windows takes superscript digits as well.
        matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    };
    RESERVED.contains(&stem.as_str()) || RESERVED_NUMBERED.iter().any(|prefix| numbered(prefix))
}

#[cfg(test)]
mod tests;
