//! Which objects: conditions on fields, and a pattern. An object's text is looked at first, and only one that may fit is read
//! as JSON.

use std::str::FromStr;

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::pick::{FieldPath, text};

/// How a value is held against the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Equal,
    Other,
    Containing,
}

/// One `--where`.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    field: FieldPath,
    is: Is,
    value: String,
    /// A text that stands in every object that fits, unless that has an escape in it which can stand for any character.
    needle: Option<Finder<'static>>,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let wrong = || format!("found {written:?}, expected FIELD=VALUE, FIELD!=VALUE or FIELD~TEXT");
        let at = written.find(['=', '~']).ok_or_else(wrong)?;
        let (field, value) = (&written[..at], &written[at + 1..]);
        let (field, is) = match (field.strip_suffix('!'), written.as_bytes()[at]) {
            (Some(field), b'=') => (field, Is::Other),
            (None, b'=') => (field, Is::Equal),
            (None, _) => (field, Is::Containing),
            (Some(_), _) => return Err(wrong()),
        };
        let needle = (is != Is::Other).then(|| plainest(value)).filter(|it| !it.is_empty());
        let needle = needle.map(|it| Finder::new(it).into_owned());
        Ok(Self { field: field.parse()?, is, value: value.to_owned(), needle })
    }
}

/// The longest part of a text that JSON can only write as it is, or with a `\u`.
fn plainest(value: &str) -> &str {
    let escaped = |c: char| matches!(c, '"' | '\\' | '/') || c.is_control();
    value.split(escaped).max_by_key(|it| it.len()).unwrap_or_default()
}

impl Condition {
    fn may_hold(&self, object: &[u8]) -> bool {
        let Some(needle) = &self.needle else { return true };
        needle.find(object).is_some() || memchr::memmem::find(object, br"\u").is_some()
    }

    fn holds(&self, object: &[u8]) -> Result<bool, serde_json::Error> {
        let mut found = false;
        self.field.each(object, &mut |value| {
            let value = text(value);
            found = match self.is {
                Is::Equal | Is::Other => value == self.value,
                Is::Containing => value.contains(&self.value),
            };
            found
        })?;
        Ok(found != (self.is == Is::Other))
    }
}

/// What an object must be like.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) conditions: Vec<Condition>,
    pub(super) pattern: Option<Regex>,
}

impl Query {
    /// Whether every object fits.
    pub(super) fn is_all(&self) -> bool {
        self.conditions.is_empty() && self.pattern.is_none()
    }

    /// Whether an object fits.
    ///
    /// # Errors
    /// When it may, and is no JSON.
    pub(super) fn fits(&self, object: &[u8]) -> Result<bool, serde_json::Error> {
        if !self.conditions.iter().all(|it| it.may_hold(object))
            || self.pattern.as_ref().is_some_and(|it| !it.is_match(object))
        {
            return Ok(false);
        }
        for condition in &self.conditions {
            if !condition.holds(object)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(conditions: &[&str], object: &str) -> bool {
        let conditions = conditions.iter().map(|it| it.parse().unwrap()).collect();
        Query { conditions, pattern: None }.fits(object.as_bytes()).unwrap()
    }

    #[test]
    fn a_condition_holds_or_does_not() {
        let object = r#"{"state":"open","n":15,"author":{"name":"Ada \"A\" L/","id":null},"labels":["bug","ui"],"url":"a\/b","odd":"\u0061b\tc"}"#;
        for (condition, expected) in [
            ("state=open", true),
            ("state=closed", false),
            ("state=ope", false),
            ("state!=closed", true),
            ("state!=open", false),
            ("state~pen", true),
            ("n=15", true),
            ("n=5", false),
            ("n~5", true),
            ("author.name=Ada \"A\" L/", true),
            ("author.name~\"A\"", true),
            ("author.id=null", true),
            ("author.id=", false),
            ("labels=ui", true),
            ("labels!=ui", false),
            ("labels=u", false),
            ("url=a/b", true),
            ("odd=ab\tc", true),
            ("odd~b\t", true),
            ("none=open", false),
            ("none!=open", true),
            ("state~", true),
            ("author.name=x=y~z", false),
        ] {
            assert_eq!(fits(&[condition], object), expected, "{condition}");
        }
        assert!(fits(&["state=open", "n=15"], object) && !fits(&["state=open", "n=16"], object));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for wrong in ["state", "=x", "a!~b", "a..b=c"] {
            assert!(wrong.parse::<Condition>().unwrap_err().contains("expected"), "{wrong}");
        }
    }

    /// The look at the text must never leave out an object that fits: held against the slow way, with values of all
    /// kinds of characters in all ways of writing them.
    #[test]
    fn the_look_at_the_text_hides_nothing() {
        let alphabet = ['a', 'b', '"', '\\', '/', '\n', '\u{e4}', '\u{1f600}'];
        let mut state = 7_u64;
        let mut dice = |sides: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % sides
        };
        let mut fitting = 0;
        for _ in 0..20_000 {
            let value: String = (0..dice(4)).map(|_| alphabet[dice(alphabet.len())]).collect();
            let wanted: String = if dice(2) == 0 { value.clone() } else { value.chars().skip(1).collect() };
            let mut json = String::new();
            for c in value.chars() {
                match dice(3) {
                    0 => c.encode_utf16(&mut [0; 2]).iter().for_each(|it| json += &format!("\\u{it:04x}")),
                    1 if c == '/' => json += "\\/",
                    _ => {
                        let quoted = serde_json::to_string(&c).unwrap();
                        json += &quoted[1..quoted.len() - 1];
                    }
                }
            }
            let object = format!("{{\"f\":\"{json}\"}}");
            let condition: Condition = format!("f{}{wanted}", ["=", "~"][dice(2)]).parse().unwrap();
            let slow = condition.holds(object.as_bytes()).unwrap();
            assert!(!slow || condition.may_hold(object.as_bytes()), "{object} {condition:?}");
            fitting += u32::from(slow);
        }
        assert!(fitting > 5_000, "{fitting}");
    }
}
