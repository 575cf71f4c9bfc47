//! `onboard_export`: the configured repositories, and the people in them.

use std::collections::BTreeMap;

use outrider_integration::{Context, Error, Raw, record};

use crate::config::Config;
use crate::error::GitError;
use crate::export::Hand;
use crate::git::{Repository, output};
use crate::models::User;
use crate::read::listed;
use crate::sources::{Sources, describe};
use crate::text::user;
use crate::tokens::Tokens;

/// The most people in one answer: some 15 MB of JSON, which is still one message.
const MOST_USERS: usize = 100_000;

/// Every configured repository, described.
pub(crate) async fn repos(hand: &Hand, config: &Config) -> Result<Vec<Raw>, Error> {
    let mut records = Vec::with_capacity(config.repositories.len());
    for entry in &config.repositories {
        let repo = describe(hand, entry).await?;
        records.push(record(&repo)?);
    }
    Ok(records)
}

/// Everybody who wrote or made a commit, sorted by e-mail address and name.
pub(crate) async fn users(hand: &Hand, context: &Context, config: &Config) -> Result<Vec<Raw>, Error> {
    let mut users = BTreeMap::new();
    let sources = Sources::take(hand, context, config).await?;
    for entry in &config.repositories {
        let repository = sources.open(hand, entry).await?;
        let mut people = hand.off_thread("git log", move |_| people(&repository)).await?;
        while let Some(batch) = hand.within("git log", people.recv()).await? {
            for user in batch? {
                users.insert((user.email.clone(), user.name.clone(), user.id.clone()), user);
            }
            if users.len() > MOST_USERS {
                return Err(Error::source(format!(
                    "found more than {MOST_USERS} people, which is more than a list holds"
                ))
                .hint("configure fewer repositories at once"));
            }
        }
    }
    users.values().map(record).collect()
}

type Batches = tokio::sync::mpsc::Receiver<Result<Vec<User>, GitError>>;

fn people(repository: &Repository) -> Result<Batches, GitError> {
    let mut running = repository.people()?;
    let mut tokens = Tokens::new(output(&mut running));
    let next = move || {
        tokens.skip_line_feed()?;
        if tokens.peek()?.is_none() {
            return Ok(None);
        }
        let name = tokens.whole("a person's name")?;
        let email = tokens.whole("a person's e-mail address")?;
        Ok(Some(user(&name, &email)))
    };
    Ok(listed(repository, next, running))
}
