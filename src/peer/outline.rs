//! What is kept of a line that is too long to be taken: the outline of its message, a few hundred bytes. They tell whose
//! answer it is, or who waits for one, while everything else is forgotten as it passes.

use memchr::memchr2;

/// Room for an outline: the members of a message with their small values. A line with a larger one is no message that
/// anyone would write.
const OUTLINE_BYTES: usize = 4 * 1024;

/// The longest text that is kept, such as an id. It must not be shortened: an answer to half an id answers nobody.
const TEXT_BYTES: usize = 1024;

/// What a message may begin with.
const MEMBERS: [&[u8]; 6] =
    [br#""jsonrpc""#, br#""id""#, br#""method""#, br#""params""#, br#""result""#, br#""error""#];

/// The outline of one JSON object, gathered from its pieces: what stands directly in it, with `{}` or `[]` in the place of
/// all that is nested deeper and `{}` in the place of long texts. Of JSON it is JSON, with the same members.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    kept: Vec<u8>,
    /// Objects and arrays that are open.
    depth: usize,
    text: Text,
}

/// Whether the bytes are inside of a text.
#[derive(Debug, Default, Clone, Copy)]
enum Text {
    #[default]
    Outside,
    Inside {
        /// Where it begins in the outline, if it is kept.
        kept: Option<usize>,
        /// A backslash came last.
        escaped: bool,
    },
}

impl Outline {
    /// Goes on with the next piece. False when the line is no message, as far as is seen: its beginning is not one's, or
    /// it has too much of what cannot be left out.
    pub(crate) fn take(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while let [byte, after @ ..] = rest {
            rest = match self.text {
                Text::Inside { kept, escaped } => self.inside(rest, kept, escaped),
                Text::Outside => {
                    self.outside(*byte);
                    after
                }
            };
        }
        self.kept.len() <= OUTLINE_BYTES && self.begins_a_message()
    }

    /// The outline so far, which is whole after the line's last piece.
    pub(crate) fn into_text(self) -> Option<String> {
        String::from_utf8(self.kept).ok()
    }

    fn begins_a_message(&self) -> bool {
        let Some(first) = self.kept.strip_prefix(b"{") else { return false };
        let first = first.trim_ascii_start();
        MEMBERS.iter().any(|member| member.starts_with(first) || first.starts_with(member))
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                let kept = (self.depth <= 1).then_some(self.kept.len());
                self.text = Text::Inside { kept, escaped: false };
                if kept.is_some() {
                    self.keep(b"\"");
                }
            }
            b'{' | b'[' => {
                self.depth += 1;
                match (self.depth, byte) {
                    (1, _) => self.keep(&[byte]),
                    (2, b'{') => self.keep(b"{}"),
                    (2, _) => self.keep(b"[]"),
                    _ => {}
                }
            }
            b'}' | b']' => {
                if self.depth <= 1 {
                    self.keep(&[byte]);
                }
                self.depth = self.depth.saturating_sub(1);
            }
            _ if self.depth == 1 || self.depth == 0 && !byte.is_ascii_whitespace() => self.keep(&[byte]),
            _ => {}
        }
    }

    /// Goes on inside of a text, to its end or the next backslash.
    fn inside<'a>(&mut self, piece: &'a [u8], kept: Option<usize>, escaped: bool) -> &'a [u8] {
        let at = if escaped { Some(0) } else { memchr2(b'"', b'\\', piece) };
        let (part, rest) = piece.split_at(at.map_or(piece.len(), |at| at + 1));
        let kept = kept.filter(|start| {
            let fits = self.kept.len() - start + part.len() <= TEXT_BYTES;
            if fits {
                self.keep(part);
            } else {
                self.kept.truncate(*start);
                self.keep(b"{}");
            }
            fits
        });
        self.text = match part.last() {
            Some(b'"') if !escaped => Text::Outside,
            last => Text::Inside { kept, escaped: !escaped && last == Some(&b'\\') },
        };
        rest
    }

    /// No more than is needed to see that it is too much.
    fn keep(&mut self, bytes: &[u8]) {
        if self.kept.len() <= OUTLINE_BYTES {
            self.kept.extend_from_slice(bytes);
        }
    }
}
