//! The secrets of one command: those in the configurations of its integrations, and the agent's token.

use outrider_home::Secret;
use outrider_logs::Redactor;
use outrider_protocol::action::Order;
use outrider_supervisor::Ended;

/// Puts stars in the place of secrets. Its `Debug` text shows none.
#[derive(Debug)]
pub(crate) struct Redaction(Vec<Redactor>);

impl Redaction {
    pub(crate) fn of(order: &Order, token: &Secret) -> Self {
        let own = Redactor::new([token.expose().to_owned()]);
        let theirs = order.integrations().iter().map(|it| Redactor::from_config(&it.config, None));
        Self(theirs.chain([own]).collect())
    }

    /// Of some texts, and the agent's token.
    pub(crate) fn of_texts<'t>(texts: impl Iterator<Item = &'t str>, token: &'t Secret) -> Self {
        Self(vec![Redactor::new(texts.chain([token.expose()]).map(str::to_owned))])
    }

    pub(crate) fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, it| it.redact(&text).into_owned())
    }

    /// The end of a process, its last words without secrets.
    pub(crate) fn ended(&self, ended: Ended) -> Ended {
        let last_stderr = ended.last_stderr.iter().map(|it| self.text(it)).collect();
        Ended { last_stderr, ..ended }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrider_supervisor::How;

    use super::*;

    #[test]
    fn last_words_lose_the_secrets_of_every_integration_and_the_agents_token() {
        let order = r#"{"action":"export","integrations":[{"name":"a","config":{"token":"first-secret"}},
            {"name":"b","config":{"url":"https://u:second-secret@host"}}]}"#;
        let redaction = Redaction::of(&serde_json::from_str(order).unwrap(), &Secret::new("agents-token"));
        let last_stderr = vec!["first-secret second-secret".into(), "agents-token plain".into()];
        let ended = redaction.ended(Ended { how: How::Panicked, after: Duration::ZERO, last_stderr });
        assert_eq!(ended.last_stderr, ["*** ***", "*** plain"]);
        assert!(!format!("{redaction:?}").contains("secret"));
    }
}
