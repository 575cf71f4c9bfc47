//! The objects that are exported. What is missing in the source is missing in the JSON.
//!
//! **Text.** JSON is Unicode, git is bytes. In names, e-mail addresses and messages a byte that is no UTF-8 (after git
//! has converted from the encoding that the commit declares) becomes U+FFFD. Paths and names of refs are identities, so
//! nothing of them may be lost: see [`FileChange::path`].
//!
//! **Identity.** `id` is unique among all objects of its model in one configured integration. A commit, branch or tag
//! sent again with the same id replaces what was sent before.
//!
//! These comments are the documentation for users, too: the acceptance tests take in this file and make
//! `schemas/exported-data.md` of it. So it uses nothing else of this program.

use serde::{Deserialize, Serialize};

/// `sourcecode.Repo`: a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Repo {
    /// Its real path on the agent's machine, links resolved; for one that is read by its address, the address, without
    /// user, password, query.
    pub(crate) id: String,
    /// What people call it.
    pub(crate) name: String,
    /// The branch that HEAD names, such as `main`; missing where HEAD is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_branch: Option<String>,
    /// The address of the remote `origin`, without user, password, query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote_url: Option<String>,
    /// Whether it has no work tree.
    pub(crate) bare: bool,
    /// Whether its history is cut off (`git clone --depth`).
    pub(crate) shallow: bool,
    /// Whether it has no commit.
    pub(crate) empty: bool,
    /// How objects are named: `sha1` or `sha256`.
    pub(crate) object_format: String,
}

/// `sourcecode.Branch`: a branch, of the repository itself or of a remote as it was when last fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Branch {
    /// `REPO_ID@REF`.
    pub(crate) id: String,
    /// The repository's id.
    pub(crate) repo_id: String,
    /// `main`, or `origin/main` for one of a remote.
    pub(crate) name: String,
    /// The whole name of the ref: `refs/heads/main`.
    #[serde(rename = "ref")]
    pub(crate) full_name: String,
    /// The remote it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remote: Option<String>,
    /// The commit it points to; missing where `deleted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha: Option<String>,
    /// The branch was exported before and is gone.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) deleted: bool,
}

/// `sourcecode.Tag`: a tag, light or annotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Tag {
    /// `REPO_ID@REF`.
    pub(crate) id: String,
    /// The repository's id.
    pub(crate) repo_id: String,
    /// `v1.0`.
    pub(crate) name: String,
    /// The whole name of the ref: `refs/tags/v1.0`.
    #[serde(rename = "ref")]
    pub(crate) full_name: String,
    /// The object it names in the end, usually a commit; missing where `deleted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// `commit`, `tree` or `blob`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_type: Option<String>,
    /// The tag object of an annotated tag; missing for a light one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha: Option<String>,
    /// Who made it, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tagger: Option<Signature>,
    /// What an annotated tag says, without its signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// The tag was exported before and is gone.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) deleted: bool,
}

/// `sourcecode.User`: one identity, as it stands in commits and tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct User {
    /// Made from name and e-mail address: the same identity has the same id in every repository.
    pub(crate) id: String,
    /// The name.
    pub(crate) name: String,
    /// The e-mail address.
    pub(crate) email: String,
}

/// Who did something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Signature {
    /// The id of the [`User`].
    pub(crate) user_id: String,
    /// The name.
    pub(crate) name: String,
    /// The e-mail address.
    pub(crate) email: String,
    /// RFC 3339 with the offset of the person's clock; missing where the object holds no time that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<String>,
}

impl User {
    /// The one who signed.
    pub(crate) fn of(signature: &Signature) -> Self {
        let Signature { user_id, name, email, time: _ } = signature.clone();
        Self { id: user_id, name, email }
    }
}

/// `sourcecode.Commit`: a commit and what it changed against its first parent. A merge lists no files, as `git log
/// --numstat` does not; the first commit of a history, and of a cut-off one, lists its whole tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Commit {
    /// `REPO_ID@SHA`.
    pub(crate) id: String,
    /// The repository's id.
    pub(crate) repo_id: String,
    /// The commit's hash.
    pub(crate) sha: String,
    /// The hashes of its parents.
    pub(crate) parents: Vec<String>,
    /// Who wrote the change.
    pub(crate) author: Signature,
    /// Who made the commit.
    pub(crate) committer: Signature,
    /// The whole message, without line feeds at its end.
    pub(crate) message: String,
    /// The message was longer than an object may be, and is cut off.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) message_truncated: bool,
    /// Lines added in all its files.
    pub(crate) additions: u64,
    /// Lines deleted in all its files.
    pub(crate) deletions: u64,
    /// How many files it changed.
    pub(crate) files_changed: u64,
    /// Each of them.
    pub(crate) files: Vec<FileChange>,
    /// There were more files than an object may hold; the numbers above count them all.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) files_truncated: bool,
}

/// What a commit did to one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FileChange {
    /// Its path, after the commit. Where a path of this change is no UTF-8, `escaped` is set: then both paths hold
    /// `\xNN` for each byte that is none, and `\\` for a backslash.
    pub(crate) path: String,
    /// Its path before, where it was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old_path: Option<String>,
    /// Whether the paths are escaped.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) escaped: bool,
    /// What happened to it.
    pub(crate) status: Status,
    /// How much of a renamed file stayed, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) similarity: Option<u8>,
    /// Lines added; missing for a binary file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) additions: Option<u64>,
    /// Lines deleted; missing for a binary file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletions: Option<u64>,
    /// Git counts no lines in it.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) binary: bool,
    /// It is a submodule: a commit of another repository, which git counts as one line.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) submodule: bool,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or mode changed.
    Modified,
    /// It has another path, and maybe another content.
    Renamed,
    /// It became another kind of file: a link, a submodule.
    TypeChanged,
    /// Something that this program does not know.
    Other,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
