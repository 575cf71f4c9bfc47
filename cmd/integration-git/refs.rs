//! Branches and tags, read from any stream of bytes in the formats below. Pure.

use std::io::BufRead;

use crate::models::{Branch, Tag};
use crate::text::{ref_name, signature, text};
use crate::tokens::{ParseError, Tokens, hash};

/// The format that [`Refs::branch`] reads, for `git for-each-ref`.
pub(crate) const BRANCH_FORMAT: &str = "%(refname)%00%(objectname)%00%(symref)%00";
/// The format that [`Refs::tag`] reads, for `git for-each-ref`. The message is asked for of annotated tags only: of a
/// light tag it would be the commit's.
pub(crate) const TAG_FORMAT: &str = "%(refname)%00%(objectname)%00%(objecttype)%00%(*objectname)%00%(*objecttype)%00\
     %(taggername)%00%(taggeremail)%00%(taggerdate:raw)%00%(if:equals=tag)%(objecttype)%(then)%(contents)%(end)%00\
     %(if:equals=tag)%(objecttype)%(then)%(contents:signature)%(end)%00";

/// The longest message of a tag that is kept, in bytes; the rest is cut off.
const LONGEST_MESSAGE: usize = 1 << 20;

/// Reads refs as `git for-each-ref` lists them.
#[derive(Debug)]
pub(crate) struct Refs<R> {
    tokens: Tokens<R>,
    repo_id: String,
}

impl<R: BufRead> Refs<R> {
    pub(crate) fn new(input: R, repo_id: &str) -> Self {
        Self { tokens: Tokens::new(input), repo_id: repo_id.to_owned() }
    }

    /// The next branch, as [`BRANCH_FORMAT`] asks for it; nothing at the end. Refs that only name another ref, such as
    /// `origin/HEAD`, are passed over.
    ///
    /// # Errors
    /// When the stream breaks, ends within a branch, or holds something else.
    pub(crate) fn branch(&mut self) -> Result<Option<Branch>, ParseError> {
        loop {
            self.tokens.skip_line_feed()?;
            if self.tokens.peek()?.is_none() {
                return Ok(None);
            }
            let name = ref_name(&self.tokens.whole("the name of a branch")?);
            let sha = hash(&self.tokens.whole("the hash of a branch")?)?;
            let another = self.tokens.whole("what a branch stands for")?;
            if another.is_empty() {
                return Ok(Some(Branch::known(&self.repo_id, name, Some(sha))));
            }
        }
    }

    /// The next tag, as [`TAG_FORMAT`] asks for it; nothing at the end.
    ///
    /// # Errors
    /// When the stream breaks, ends within a tag, or holds something else.
    pub(crate) fn tag(&mut self) -> Result<Option<Tag>, ParseError> {
        self.tokens.skip_line_feed()?;
        if self.tokens.peek()?.is_none() {
            return Ok(None);
        }
        let name = ref_name(&self.tokens.whole("the name of a tag")?);
        let object = hash(&self.tokens.whole("the hash of a tag")?)?;
        let kind = self.tokens.whole("the type of a tag")?;
        let peeled = self.tokens.whole("the target of a tag")?;
        let peeled_kind = self.tokens.whole("the type of a tag's target")?;
        let tagger = self.tokens.whole("the name of a tagger")?;
        let email = self.tokens.whole("the e-mail address of a tagger")?;
        let date = self.tokens.whole("the date of a tag")?;
        let (message, _) = self.tokens.next(LONGEST_MESSAGE, "the message of a tag")?;
        let (seal, _) = self.tokens.next(LONGEST_MESSAGE, "the signature of a tag")?;

        let mut tag = Tag::known(&self.repo_id, name);
        if kind != b"tag" {
            tag.target = Some(object);
            tag.target_type = Some(text(&kind));
            return Ok(Some(tag));
        }
        tag.sha = Some(object);
        tag.target = Some(hash(&peeled)?);
        tag.target_type = Some(text(&peeled_kind));
        let email = email.strip_prefix(b"<").unwrap_or(&email);
        let email = email.strip_suffix(b">").unwrap_or(email);
        if !tagger.is_empty() || !email.is_empty() {
            tag.tagger = Some(signature(&tagger, email, &date));
        }
        let message = message.strip_suffix(seal.as_slice()).unwrap_or(&message);
        tag.message = Some(text(message).trim_end_matches('\n').to_owned());
        Ok(Some(tag))
    }
}

impl Branch {
    /// The branch of a ref; without a hash it is one that is gone.
    pub(crate) fn known(repo_id: &str, full_name: String, sha: Option<String>) -> Self {
        let of_remote = full_name.strip_prefix("refs/remotes/");
        let name = of_remote.or_else(|| full_name.strip_prefix("refs/heads/")).unwrap_or(&full_name);
        Self {
            id: format!("{repo_id}@{full_name}"),
            repo_id: repo_id.to_owned(),
            name: name.to_owned(),
            remote: of_remote.map(|it| it.split('/').next().unwrap_or(it).to_owned()),
            deleted: sha.is_none(),
            sha,
            full_name,
        }
    }
}

impl Tag {
    /// The tag of a ref, with nothing but its name.
    pub(crate) fn known(repo_id: &str, full_name: String) -> Self {
        Self {
            id: format!("{repo_id}@{full_name}"),
            repo_id: repo_id.to_owned(),
            name: full_name.strip_prefix("refs/tags/").unwrap_or(&full_name).to_owned(),
            full_name,
            target: None,
            target_type: None,
            sha: None,
            tagger: None,
            message: None,
            deleted: false,
        }
    }

    /// The object that the ref itself names: what changes when the tag is moved.
    pub(crate) fn object(&self) -> Option<&str> {
        self.sha.as_deref().or(self.target.as_deref())
    }
}
