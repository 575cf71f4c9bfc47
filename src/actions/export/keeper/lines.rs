//! Objects on their way into the spool, one a line.

use std::ops::Range;

/// Whole lines, in the memory that their batch came in.
#[derive(Debug)]
pub(crate) struct Lines {
    text: Vec<u8>,
    at: Range<usize>,
}

impl Lines {
    /// Of objects that stand in a batch at these places, in order. Behind each there is one byte at least that belongs to no
    /// object, a comma or a bracket, so that its line feed has room.
    pub(crate) fn gathered(batch: String, objects: &[Range<usize>]) -> Self {
        let mut text = batch.into_bytes();
        let start = objects.first().map_or(0, |first| first.start);
        let mut end = start;
        for object in objects {
            if object.start != end {
                text.copy_within(object.clone(), end);
            }
            end += object.len();
            if let Some(behind) = text.get_mut(end) {
                *behind = b'\n';
                end += 1;
            }
        }
        Self { text, at: start..end }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.text.get(self.at.clone()).unwrap_or_default()
    }

    /// What they take in memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
impl From<Vec<u8>> for Lines {
    fn from(text: Vec<u8>) -> Self {
        let at = 0..text.len();
        Self { text, at }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_are_made_where_the_objects_stand() {
        let batch = r#"{"session":1,"objects":[{"a":1}, {"b":[]},{},  {"c":"é"}],"count":4}"#;
        let places = |wanted: &[&str]| -> Vec<_> {
            wanted.iter().map(|it| batch.find(it).map(|at| at..at + it.len()).unwrap()).collect()
        };
        let check = |wanted: &[&str], expected: &str| {
            let lines = Lines::gathered(batch.to_owned(), &places(wanted));
            assert_eq!(std::str::from_utf8(lines.as_bytes()).unwrap(), expected);
        };
        check(
            &[r#"{"a":1}"#, r#"{"b":[]}"#, "{}", r#"{"c":"é"}"#],
            "{\"a\":1}\n{\"b\":[]}\n{}\n{\"c\":\"é\"}\n",
        );
        check(&[r#"{"b":[]}"#, r#"{"c":"é"}"#], "{\"b\":[]}\n{\"c\":\"é\"}\n");
        check(&[r#"{"c":"é"}"#], "{\"c\":\"é\"}\n");
        check(&[], "");
    }
}
