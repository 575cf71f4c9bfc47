//! The part of YAML that manifests and sections need: mappings, lists and texts. Whatever could make a small text large, or
//! mean something else to another reader, is refused: anchors, aliases, tags, keys that are there twice, more documents.
//!
//! Values stay texts, so that a hash like `1234567` or `12e4567` is not read as a number; [`to_json`] is for those who want
//! numbers.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// The deepest nesting. A manifest has four levels, a section for APIs ten.
const DEPTH: usize = 16;
/// The longest text of the parser that is repeated, in characters.
const SAID: usize = 120;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A text, or what stands for a number, a truth value or nothing.
    Text {
        /// It.
        text: String,
        /// Whether it stood without quotes, and so may mean a truth value or nothing.
        plain: bool,
    },
    /// In their order.
    List(Vec<Self>),
    /// In their order; no key is there twice.
    Map(Vec<(String, Self)>),
}

impl Node {
    /// What it is, for an error.
    #[must_use]
    pub fn kind(&self) -> &'static str {
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

/// What a text of exactly one document is in JSON. Texts without quotes mean what YAML 1.2 says of JSON's own words and numbers:
/// `yes` and `0o7` are texts.
///
/// # Errors
/// When it is no such text, naming its line.
pub fn to_json(text: &str) -> Result<Value, YamlError> {
    parse(text).map(value)
}

fn value(node: Node) -> Value {
    match node {
        Node::Text { text, plain: false } => Value::String(text),
        Node::Text { text, plain: true } => match text.as_str() {
            "" | "~" | "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => text.parse::<Number>().map_or(Value::String(text), Value::Number),
        },
        Node::List(items) => items.into_iter().map(value).collect(),
        Node::Map(members) => {
            members.into_iter().map(|(key, node)| (key, value(node))).collect::<Map<_, _>>().into()
        }
    }
}

/// Reads a text of exactly one document.
///
/// # Errors
/// When it is no such text, naming its line.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let mut reader = Reader { open: Vec::new(), document: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|err| YamlError::Broken {
            line: err.marker().line(),
            problem: err.info().chars().filter(|c| !c.is_control()).take(SAID).collect(),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_numbers_mean_in_json_what_they_look_like() {
        let text = "a: 1\nb: -2.5e3\nc: \"1\"\nd: yes\ne: true\nf: ~\ng:\nh: 0x1f\ni: 12345678901234567890123\n\
                    j: [x, 'false', null]\nk: {l: 10.0.0.1:4443}\nm: >-\n  two\n  lines\nn: .5\n";
        assert_eq!(
            to_json(text).unwrap().to_string(),
            json!({
                "a": 1, "b": -2.5e3, "c": "1", "d": "yes", "e": true, "f": null, "g": null, "h": "0x1f",
                "i": serde_json::from_str::<Value>("12345678901234567890123").unwrap(),
                "j": ["x", "false", null], "k": { "l": "10.0.0.1:4443" }, "m": "two lines", "n": ".5",
            })
            .to_string()
        );
    }

    #[test]
    fn what_other_readers_take_for_something_else_is_refused_with_its_line() {
        for (text, line, word) in [
            ("a: 1\nb: &x 2\n", 2, "an anchor"),
            ("a: *x\n", 1, "no YAML"),
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: !!binary x\n", 1, "a tag"),
            ("a: 1\n---\nb: 2\n", 2, "one document"),
            ("a: [1\n", 2, "no YAML"),
        ] {
            let err = to_json(text).unwrap_err().to_string();
            assert!(err.starts_with(&format!("line {line} ")) && err.contains(word), "{text:?}: {err}");
        }
    }
}
