//! The objects that are made up.
//!
//! These comments are the documentation for users, too: the acceptance tests take in this file and make
//! `schemas/exported-data.md` of it. So it uses nothing else of this program.

use serde::Serialize;

/// A made-up repository.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Repo<'a> {
    /// `ORGANIZATION-rN`, the same in every run.
    pub(crate) id: &'a str,
    /// The kind of source: `mock`.
    pub(crate) ref_type: &'static str,
    /// `ORGANIZATION_NAME/repo-N`.
    pub(crate) name: &'a str,
    /// The organization it belongs to.
    pub(crate) organization_id: &'a str,
    /// The branch that a clone checks out.
    pub(crate) default_branch: &'static str,
    /// Changes whenever anything else of the object does; only with `skip_unchanged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<&'a str>,
    /// Text that fills the object up to the configured size.
    pub(crate) description: &'a str,
}

/// A made-up person.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct User<'a> {
    /// `ORGANIZATION-uN`, the same in every run.
    pub(crate) id: &'a str,
    /// The kind of source: `mock`.
    pub(crate) ref_type: &'static str,
    /// What the person is called.
    pub(crate) name: &'a str,
    /// The organization the person belongs to.
    pub(crate) organization_id: &'a str,
    /// Whether the person is a member of the organization.
    pub(crate) member: bool,
    /// Changes whenever anything else of the object does; only with `skip_unchanged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<&'a str>,
    /// Text that fills the object up to the configured size.
    pub(crate) biography: &'a str,
}

/// A made-up pull request.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PullRequest<'a> {
    /// `REPO_ID-pN`, the same in every run.
    pub(crate) id: &'a str,
    /// The kind of source: `mock`.
    pub(crate) ref_type: &'static str,
    /// The repository's id.
    pub(crate) repo_id: &'a str,
    /// Counts the pull requests of the repository, from 1.
    pub(crate) number: u64,
    /// The headline.
    pub(crate) title: &'a str,
    /// The id of the user who made it.
    pub(crate) author_id: &'a str,
    /// `open`, `merged` or `closed`.
    pub(crate) status: &'static str,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub(crate) created_at_ms: u64,
    /// When it was last changed, in milliseconds since 1970-01-01 UTC.
    pub(crate) updated_at_ms: u64,
    /// Changes whenever anything else of the object does; only with `skip_unchanged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<&'a str>,
    /// Text that fills the object up to the configured size.
    pub(crate) body: &'a str,
}
