//! The part of YAML that a manifest needs: mappings, lists and texts. Whatever could make a small text large, or mean
//! something else to another reader, is refused: anchors, aliases, tags, keys that are there twice, more documents.
//!
//! Values stay texts, so that a hash like `1234567` or `12e4567` is not read as a number.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// The deepest nesting. A manifest has four levels.
const DEPTH: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Text {
        text: String,
        /// Whether it stood without quotes, and so may mean a truth value or nothing.
        plain: bool,
    },
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Node {
    /// What it is, for an error.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// What is not taken, though it may be YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum YamlFault {
    /// `*name`: with anchors, a text of a kilobyte can be a tree of gigabytes.
    #[error("an alias")]
    Alias,
    /// `&name`.
    #[error("an anchor")]
    Anchor,
    /// `!name`.
    #[error("a tag")]
    Tag,
    /// A mapping that has a key twice.
    #[error("a key that is there twice")]
    DuplicateKey,
    /// A key that is no text.
    #[error("a key that is no text")]
    ComplexKey,
    /// A second document, or none.
    #[error("not exactly one document")]
    Documents,
    /// Nesting of more than 16 levels.
    #[error("nesting of more than {DEPTH} levels")]
    Depth,
}

/// A text that is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("line {line} is no YAML: {problem}")]
    Broken {
        /// From 1.
        line: usize,
        /// What the parser said.
        problem: String,
    },
    /// It is YAML of a kind that is not taken.
    #[error("line {line} has {fault}: expected mappings, lists and plain texts only")]
    Refused {
        /// From 1.
        line: usize,
        /// Of which kind.
        fault: YamlFault,
    },
}

/// A list or mapping that is being read.
enum Open {
    List(Vec<Node>),
    /// With the key whose value comes next.
    Map(Vec<(String, Node)>, Option<String>),
}

/// Reads a text of exactly one document.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    let mut reader = Reader { open: Vec::new(), document: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|err| YamlError::Broken {
            line: err.marker().line(),
            problem: crate::path::shortened(err.info()),
        })?;
        let line = span.start.line();
        reader.take(event).map_err(|fault| YamlError::Refused { line, fault })?;
    }
    reader.document.ok_or(YamlError::Refused { line: 1, fault: YamlFault::Documents })
}

struct Reader {
    open: Vec<Open>,
    document: Option<Node>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), YamlFault> {
        match event {
            Event::Alias(_) => Err(YamlFault::Alias),
            Event::Scalar(_, _, anchor, tag) if anchor != 0 || tag.is_some() => Err(marked(anchor)),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if anchor != 0 || tag.is_some() =>
            {
                Err(marked(anchor))
            }
            Event::Scalar(text, style, ..) => {
                self.put(Node::Text { text: text.into_owned(), plain: style == ScalarStyle::Plain })
            }
            Event::SequenceStart(..) => self.begin(Open::List(Vec::new())),
            Event::MappingStart(..) => self.begin(Open::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(items)) => self.put(Node::List(items)),
                Some(Open::Map(members, _)) => self.put(Node::Map(members)),
                None => Err(YamlFault::Documents),
            },
            Event::DocumentStart(_) if self.document.is_some() => Err(YamlFault::Documents),
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn begin(&mut self, what: Open) -> Result<(), YamlFault> {
        if self.open.len() == DEPTH {
            return Err(YamlFault::Depth);
        }
        self.open.push(what);
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<(), YamlFault> {
        match self.open.last_mut() {
            None => self.document = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(members, key @ None)) => {
                let Node::Text { text, .. } = node else { return Err(YamlFault::ComplexKey) };
                if members.iter().any(|(known, _)| *known == text) {
                    return Err(YamlFault::DuplicateKey);
                }
                *key = Some(text);
            }
            Some(Open::Map(members, key)) => members.extend(key.take().map(|key| (key, node))),
        }
        Ok(())
    }
}

/// Something with an anchor, a tag, or both.
fn marked(anchor: usize) -> YamlFault {
    if anchor == 0 { YamlFault::Tag } else { YamlFault::Anchor }
}
