//! Saying texts in every way in which an integration can say something, for tests of what keeps secrets in.

use std::io::Write as _;

use outrider_integration::{ConfigError, Error, Fields, Level, Run, SourceInfo, ValidateConfigReply, object};
use serde::Deserialize;

use crate::fault::Stray;

/// What is stored with the session of a leak, for tests of where checkpoints end up.
pub(crate) const CURSOR: &str = "the-cursor-of-the-leaking-session";

/// What to say, and how the export ends then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leak {
    texts: Vec<String>,
    #[serde(default)]
    end: End,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    /// The export goes on.
    #[default]
    GoOn,
    /// It answers with an error.
    Fail,
    /// It panics.
    Panic,
    /// It opens a session twice, so that the agent's own words repeat the texts.
    Misuse,
}

/// Whole, and cut off in the middle. A closed stderr leaks nothing.
fn say_on_stderr(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let half = text.floor_char_boundary(text.len() / 2);
    drop(writeln!(stderr, "stderr: {text}\nstderr: cut off {}", &text[..half]));
}

impl Leak {
    /// Says everything by way of logs, stderr, stdout and sessions.
    pub(crate) async fn say(&self, run: &Run, stray: &Stray) -> Result<(), Error> {
        for text in &self.texts {
            run.warn(&format!("the secret is {text}")).await;
            let fields = Fields::from_iter([
                ("secret".to_owned(), text.as_str().into()),
                ("nested".to_owned(), serde_json::json!({ "list": [text], text: 1 })),
                (text.clone(), "as a name".into()),
            ]);
            run.log(Level::Info, "the secret is in a field", fields).await;
            say_on_stderr(text);
            drop(stray.write(format!("stdout: {text}\n").as_bytes()));
            let tracking = run.tracking(text, Some(object(text, text))).await?;
            tracking.progress(1, 2).await?;
            let below = tracking.tracking(text, object(text, text)).await?;
            // Whatever an integration is so careless as to keep.
            below.done_with(&serde_json::json!({ "cursor": CURSOR, "seen": [text], text: 1 })).await?;
            tracking.done_with(CURSOR).await?;
        }
        let all = self.texts.join(" and ");
        match self.end {
            End::GoOn => Ok(()),
            End::Fail => Err(Error::source(format!("the source refused {all}"))),
            End::Panic => panic!("the mock integration panics with {all}"),
            End::Misuse => {
                let first = run.tracking(&all, Some(object(&all, &all))).await?;
                let second = run.tracking(&all, Some(object(&all, &all))).await;
                first.done().await?;
                second.map(drop)
            }
        }
    }

    /// Answers a validation with everything.
    pub(crate) fn validation(&self) -> ValidateConfigReply {
        let all = self.texts.join(" and ");
        let source =
            SourceInfo { version: Some(all.clone()), account: Some(all.clone()), scopes: vec![all.clone()] };
        let errors = match self.end {
            End::GoOn => Vec::new(),
            End::Fail | End::Panic | End::Misuse => {
                vec![ConfigError { path: format!("/{all}"), message: format!("{all} is not valid") }]
            }
        };
        ValidateConfigReply { errors, source: Some(source) }
    }

    /// All texts, for a name.
    pub(crate) fn name(&self) -> String {
        self.texts.join(" and ")
    }
}
