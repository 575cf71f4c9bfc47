//! JSON given in a flag, in a file or on stdin.

use std::io::Read;

use serde::de::DeserializeOwned;

use crate::report::Error;

/// The most that is read, in bytes: a configuration is small, and a wrong file is not.
const LARGEST: u64 = 16 << 20;

/// Reads the JSON of a flag: the text itself, `@FILE`, or `-` for stdin.
pub(crate) fn json<T: DeserializeOwned>(flag: &str, value: &str) -> Result<T, Error> {
    let (place, text) = match value.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|err| Error::usage(format!("{flag}: open the file {path}: {err}")))?;
            (format!("{flag}: {path}"), bounded(flag, file)?)
        }
        None if value == "-" => (format!("{flag}: stdin"), bounded(flag, std::io::stdin().lock())?),
        None => (flag.to_owned(), value.to_owned()),
    };
    // What came in another way than by the flag was not meant to be seen.
    let is_seen = place == flag;
    serde_json::from_str(&text).map_err(|err| {
        let pointed =
            if is_seen { format!("\n{}", pointed(&text, err.line(), err.column())) } else { String::new() };
        Error::usage(format!("{place}: {err}{pointed}"))
            .hint("JSON in a shell wants single quotes around it; @FILE reads it from a file, - from stdin")
    })
}

/// Reads JSON that holds secrets: from a file or stdin only, and an error says the place and not a word of it.
#[allow(dead_code, reason = "only one of the programs takes such a flag")]
pub(crate) fn secret_json<T: DeserializeOwned>(flag: &str, value: &str) -> Result<T, Error> {
    if value != "-" && !value.starts_with('@') {
        return Err(Error::usage(format!("{flag}: expected @FILE, or - for stdin"))
            .hint("what stands on a command line can be read by others, and stays in a shell's history"));
    }
    let text: Raw = json(flag, value)?;
    serde_json::from_str(text.get()).map_err(|err| {
        let (line, column) = (err.line(), err.column());
        Error::usage(format!("{flag}: something else than expected at line {line}, column {column}"))
            .hint("`--help` names the members; what was found is not shown, since it may be a secret")
    })
}

/// JSON as it was written.
type Raw = Box<serde_json::value::RawValue>;

fn bounded(flag: &str, source: impl Read) -> Result<String, Error> {
    let mut text = String::new();
    source
        .take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(|err| Error::usage(format!("{flag}: read the JSON: {err}")))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::usage(format!(
            "{flag}: found more than {LARGEST} bytes, expected a configuration"
        )));
    }
    Ok(text)
}

/// The part of the text around a place, and a caret below it.
fn pointed(text: &str, line: usize, column: usize) -> String {
    /// Characters shown before and after the place.
    const AROUND: usize = 36;
    let chars: Vec<char> = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().chars().collect();
    let at = column.saturating_sub(1).min(chars.len());
    let from = at.saturating_sub(AROUND);
    let shown: String = chars[from..chars.len().min(at + AROUND)].iter().collect();
    format!("  {shown}\n  {}^", " ".repeat(at - from))
}

#[cfg(test)]
mod tests {
    use super::{json, pointed, secret_json};

    #[test]
    fn what_came_from_a_file_is_not_shown_and_secrets_come_from_nowhere_else() {
        let text = |flag: &str| format!("{:?}", json::<Vec<String>>("--config", flag).unwrap_err());
        assert!(text(r#"["hunter2" 5]"#).contains("hunter2"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"["hunter2" 5]"#).unwrap();
        let flag = format!("@{}", file.path().display());
        assert!(text(&flag).contains("line 1") && !text(&flag).contains("hunter2"), "{}", text(&flag));
        let text = |flag: &str| format!("{:?}", secret_json::<Vec<u64>>("--registration", flag).unwrap_err());
        assert!(
            text(r#"["hunter2"]"#).contains("expected @FILE") && !text(r#"["hunter2"]"#).contains("hunter2")
        );
        std::fs::write(file.path(), r#"["hunter2"]"#).unwrap();
        assert!(text(&flag).contains("line 1") && !text(&flag).contains("hunter2"), "{}", text(&flag));
    }

    #[test]
    fn a_caret_stands_below_the_place() {
        assert_eq!(pointed(r#"[{"name":mock}]"#, 1, 10), "  [{\"name\":mock}]\n           ^");
        assert_eq!(pointed("", 1, 0), "  \n  ^");
        assert_eq!(pointed("{\n \"a\" 1}", 2, 6), "   \"a\" 1}\n       ^");
    }
}
