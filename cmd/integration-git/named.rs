//! Branches and tags: those that changed since the last run, and those that are gone.
//!
//! The checkpoint is the list of names with the object that each pointed to. A branch or tag that points elsewhere is sent
//! again; one that is gone is sent once more with `deleted`. A repository with more names than [`REMEMBERED`] is sent
//! whole in each run, and what is gone from it is not told.

use std::collections::BTreeMap;

use outrider_integration::{Error, ModelSession, Sent};
use serde::{Deserialize, Serialize};

use crate::error::GitError;
use crate::export::{Hand, People};
use crate::git::{Repository, output};
use crate::models::{Branch, Tag, User};
use crate::read::listed;
use crate::refs::{BRANCH_FORMAT, Refs, TAG_FORMAT};

/// The model of [`Branch`].
pub(crate) const BRANCH: &str = "sourcecode.Branch";
/// The model of [`Tag`].
pub(crate) const TAG: &str = "sourcecode.Tag";

/// The most names of one kind in a checkpoint: some 5 MB.
const REMEMBERED: usize = 50_000;

/// Which refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of the repository, and of its remotes as last fetched.
    Branch,
    /// All tags.
    Tag,
}

impl Kind {
    /// Its model.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::Branch => BRANCH,
            Self::Tag => TAG,
        }
    }
}

/// The names that were sent, with what they pointed to; nothing when there were too many.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    refs: Option<BTreeMap<String, String>>,
}

/// A branch or a tag.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Named {
    Branch(Branch),
    Tag(Tag),
}

impl Named {
    fn name(&self) -> &str {
        match self {
            Self::Branch(it) => &it.full_name,
            Self::Tag(it) => &it.full_name,
        }
    }

    /// What the ref points to: the commit, or the tag's own object.
    fn object(&self) -> &str {
        let object = match self {
            Self::Branch(it) => it.sha.as_deref(),
            Self::Tag(it) => it.object(),
        };
        object.unwrap_or_default()
    }

    /// Who made it, where it says.
    fn person(&self) -> Option<User> {
        let Self::Tag(Tag { tagger: Some(tagger), .. }) = self else { return None };
        Some(User::of(tagger))
    }

    fn gone(kind: Kind, repo_id: &str, name: String) -> Self {
        match kind {
            Kind::Branch => Self::Branch(Branch::known(repo_id, name, None)),
            Kind::Tag => Self::Tag(Tag { deleted: true, ..Tag::known(repo_id, name) }),
        }
    }
}

/// A session whose refs are sent, with what the next run is to know.
pub(crate) struct Unfinished {
    session: ModelSession,
    known: Known,
}

impl Unfinished {
    /// Finishes the session: from now on the next run knows.
    pub(crate) async fn done(self) -> Result<Sent, Error> {
        self.session.done_with(&self.known).await
    }
}

/// Sends the refs of one kind, and those who made the tags.
pub(crate) async fn send(
    hand: &Hand,
    repository: &Repository,
    kind: Kind,
    mut session: ModelSession,
    people: &mut People,
) -> Result<Unfinished, Error> {
    // A checkpoint of another shape is none: everything is sent again.
    let known: Known = session.last_processed().ok().flatten().unwrap_or_default();
    let mut before = known.refs.unwrap_or_default();
    let mut now = Some(BTreeMap::new());
    let mut count = 0;
    let mut refs = read(repository, kind)?;
    while let Some(batch) = hand.within("git for-each-ref", refs.recv()).await? {
        for named in batch? {
            let (name, object) = (named.name().to_owned(), named.object().to_owned());
            if before.remove(&name).as_ref() != Some(&object) {
                session.send(&named).await?;
                if let Some(user) = named.person() {
                    people.add(user).await?;
                }
            }
            count += 1;
            now = now.filter(|_| count <= REMEMBERED);
            if let Some(now) = &mut now {
                now.insert(name, object);
            }
        }
        session.progress(count as u64, None).await?;
    }
    for name in before.into_keys() {
        session.send(&Named::gone(kind, &repository.id(), name)).await?;
    }
    Ok(Unfinished { session, known: Known { refs: now } })
}

type Batches = tokio::sync::mpsc::Receiver<Result<Vec<Named>, GitError>>;

fn read(repository: &Repository, kind: Kind) -> Result<Batches, GitError> {
    let (format, under): (_, &[&str]) = match kind {
        Kind::Branch => (BRANCH_FORMAT, &["refs/heads", "refs/remotes"]),
        Kind::Tag => (TAG_FORMAT, &["refs/tags"]),
    };
    let mut running = repository.refs(format, under)?;
    let mut refs = Refs::new(output(&mut running), &repository.id());
    let next = move || match kind {
        Kind::Branch => Ok(refs.branch()?.map(Named::Branch)),
        Kind::Tag => Ok(refs.tag()?.map(Named::Tag)),
    };
    Ok(listed(repository, next, running))
}
