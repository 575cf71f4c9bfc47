//! Log lines as they pass between processes.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How much a line matters. Ordered: `Error` is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every step, for somebody who searches for a bug.
    Trace,
    /// What an integration's author wants to see.
    Debug,
    /// What an operator wants to see.
    Info,
    /// Something is odd, the work goes on.
    Warn,
    /// Something failed.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        })
    }
}

/// Fields of a log line: names and any JSON.
pub type Fields = serde_json::Map<String, serde_json::Value>;

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// When it was written, by the clock of the agent's machine.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub time: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// Who says it: the action's name, or the integration's id.
    pub source: String,
    /// What it says.
    pub message: String,
    /// Named facts.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub fields: Fields,
}

impl fmt::Display for LogLine {
    /// The line as it stands in a log file: `2026-11-21T08:00:00.123Z INFO  git: message name=value`. Line breaks
    /// become `\n`, so that one line stays one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} {:<5} {}: ", self.time, self.level, self.source)?;
        one_line(f, &self.message)?;
        for (name, value) in &self.fields {
            write!(f, " {name}=")?;
            match value {
                serde_json::Value::String(text)
                    if !text.is_empty() && !text.contains([' ', '"', '=', '\n', '\r']) =>
                {
                    f.write_str(text)?;
                }
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

fn one_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (i, part) in text.trim_end().split('\n').enumerate() {
        if i > 0 {
            f.write_str("\\n")?;
        }
        f.write_str(part.trim_end_matches('\r'))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let mut fields = Fields::new();
        fields.insert("repo".into(), "a/b".into());
        fields.insert("note".into(), "two words".into());
        let line = LogLine {
            time: "2026-11-21T08:00:00.1234Z".parse().unwrap(),
            level: Level::Info,
            source: "git".into(),
            message: "first\r\nsecond\n".into(),
            fields,
        };
        assert_eq!(
            line.to_string(),
            "2026-11-21T08:00:00.123Z INFO  git: first\\nsecond note=\"two words\" repo=a/b"
        );
    }
}
