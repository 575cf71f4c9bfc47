//! What is told of something that is tried again and again: when trouble begins, when it changes, and when it ends. Pure.
//!
//! # Invariants
//! - The same trouble is told once, however often it comes.
//! - Where nobody was asked because of trouble, that is no other trouble than this.
//! - A login that is refused is told of its node alone, not by each who needed it.

use super::ask::{About, PollError};

/// What was told, and what is to be.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// The trouble that was told last, while it lasts.
    told: Option<PollError>,
    news: Option<Result<(), PollError>>,
}

impl Telling {
    /// It went so.
    pub(crate) fn went(&mut self, went: Result<(), &PollError>) {
        match went {
            Ok(()) => {
                if self.told.take().is_some() {
                    // Trouble that nobody has heard of yet was none.
                    let unheard = matches!(self.news, Some(Err(_)));
                    self.news = (!unheard).then_some(Ok(()));
                }
            }
            Err(error) if error.about == About::Login => {}
            Err(error) if error.about == About::LeftAlone && self.told.is_some() => {}
            Err(error) => {
                if self.told.as_ref().is_none_or(|it| !error.is_like(it)) {
                    self.news = Some(Err(error.clone()));
                }
                self.told = Some(error.clone());
            }
        }
    }

    /// What is to be told, once.
    pub(crate) fn news(&mut self) -> Option<Result<(), PollError>> {
        self.news.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, about: About) -> PollError {
        PollError { status: Some(status), about, ..PollError::ours("x".to_owned()) }
    }

    #[test]
    fn trouble_is_told_when_it_begins_changes_and_ends() {
        let mut it = Telling::default();
        let mut told = |went: Result<(), PollError>| {
            it.went(went.as_ref().map(|_| ()));
            it.news().map(|it| it.map_err(|it| it.status))
        };
        assert_eq!(told(Ok(())), None);
        assert_eq!(told(Err(error(500, About::Asked))), Some(Err(Some(500))));
        assert_eq!(told(Err(error(500, About::Asked))), None);
        assert_eq!(told(Err(error(401, About::Login))), None, "told of its node");
        assert_eq!(told(Err(error(503, About::Asked))), Some(Err(Some(503))));
        assert_eq!(told(Err(error(0, About::LeftAlone))), None, "of what was told");
        assert_eq!(told(Err(error(503, About::Asked))), None);
        assert_eq!(told(Ok(())), Some(Ok(())));
        assert_eq!(told(Err(error(0, About::LeftAlone))), Some(Err(Some(0))), "others' trouble");
        assert_eq!(told(Ok(())), Some(Ok(())));
        assert_eq!((told(Err(error(401, About::Login))), told(Ok(()))), (None, None));
    }
}
