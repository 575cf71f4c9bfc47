//! What a receiver is told to be let in, and what must not be repeated of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrider_logs::Redactor;
use outrider_protocol::collect::{Access, Credential};

use crate::secret::read;

/// A way in.
#[derive(Debug)]
pub(crate) enum Login {
    /// None is needed.
    None,
    /// A name and a password.
    Basic(String, Credential),
    /// A header whose value is the secret behind a word.
    Header(&'static str, &'static str, Credential),
}

impl Login {
    pub(crate) fn of(access: &Access) -> Self {
        match access.clone() {
            Access::Open => Self::None,
            Access::Basic(user, password) => Self::Basic(user, password),
            Access::Bearer(token) => Self::Header("authorization", "Bearer ", token),
            Access::ApiKey(key) => Self::Header("authorization", "ApiKey ", key),
        }
    }

    /// The header with its value, and the secrets in that.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub(crate) fn header(&self) -> Result<Option<(&'static str, String, Secrets)>, String> {
        Ok(match self {
            Self::None => None,
            Self::Basic(name, credential) => {
                let secret = read(credential)?;
                let both = format!("{name}:{secret}");
                let value = format!("Basic {}", STANDARD.encode(&both));
                Some(("authorization", value, Secrets(vec![both, secret])))
            }
            Self::Header(header, word, credential) => {
                let secret = read(credential)?;
                Some((header, format!("{word}{secret}"), Secrets(vec![secret])))
            }
        })
    }
}

/// What stars stand in the place of.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// A text without them, as they are and encoded; also without one that is too short to be looked for in everything that
    /// is written: here it is known to have been sent.
    pub(crate) fn starred(&self, text: &str) -> String {
        let text = Redactor::new(self.0.iter().cloned()).redact(text).into_owned();
        let all = self.0.iter().filter(|it| !it.is_empty());
        all.fold(text, |text, secret| text.replace(secret.as_str(), "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_starred_as_it_is_and_encoded() {
        let login = Login::Basic("user".into(), Credential::Given("hunter22/x".into()));
        let (name, value, secrets) = login.header().unwrap().unwrap();
        assert_eq!((name, value.as_str()), ("authorization", "Basic dXNlcjpodW50ZXIyMi94"));
        for said in [
            "key hunter22/x is unknown",
            "Basic dXNlcjpodW50ZXIyMi94 is unknown",
            "?p=hunter22%2Fx",
            r#"{"said":"hunter22\/x"}"#,
        ] {
            let shown = secrets.starred(said);
            assert!(
                shown.contains("***") && !shown.contains("hunter") && !shown.contains("ZXIyMi"),
                "{shown}"
            );
        }
        assert_eq!(Secrets(vec!["abc".into()]).starred("the key abc"), "the key ***");
        assert_eq!(Secrets::default().starred("nothing"), "nothing");
    }
}
