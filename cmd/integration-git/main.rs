//! `integration-git`: exports git repositories, on this machine or by their address: `sourcecode.Repo`, `Branch`, `Tag`, `User` and `Commit`.
//!
//! **Invariant:** it only reads: no repository is changed. One that is read by its address is cloned into the agent's cache.
//!
//! **Invariant:** its counts are git's: commits as `git rev-list --all --count`, lines as `git log --all --numstat` with
//! git's own defaults. It asks the `git` program for everything, and computes no difference itself.
//!
//! **Invariant:** memory is bounded by the number of refs and of distinct people, never by the number of commits.
//!
//! A run opens, for each repository, a tracking session `repository` and below it a session for each model. Each model's
//! session remembers what was exported, so that the next run sends what is new: see [`frontier`] for commits and
//! [`named`] for branches and tags. A repository that fails, fails alone.
//!
//! | module | duty |
//! | --- | --- |
//! | [`config`] | the configuration and what may be wrong with it |
//! | [`address`] | pure: addresses, and the secrets that come with them |
//! | [`process`] | runs git; the only place that does |
//! | [`network`], [`remote`] | how git may use the network for an address, and what is there |
//! | [`clones`], [`sources`] | clones in the cache; repositories in place or as clones |
//! | [`git`], [`error`] | a repository as git tells of it, and why it does not |
//! | [`tokens`], [`text`], [`parse`], [`refs`] | pure: git's output into [`models`] |
//! | [`read`] | the history, by several gits at once |
//! | [`frontier`] | pure: the checkpoint of commits |
//! | [`export`], [`named`], [`onboard`] | the calls of the agent |

mod address;
mod clones;
mod config;
mod error;
mod export;
mod frontier;
mod git;
mod models;
mod named;
mod network;
mod onboard;
mod parse;
mod process;
mod read;
mod refs;
mod remote;
mod sources;
mod text;
mod tokens;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use outrider_integration::{
    About, ConfigError, Context, Error, ExportReply, Integration, Raw, Run, SourceInfo, ValidateConfigReply,
};

use crate::config::{Config, Entry, Source};
use crate::export::Hand;
use crate::git::{Repository, git_version};
use crate::sources::tried;

/// The integration.
struct Git;

impl Integration for Git {
    type Config = Config;

    fn about(&self) -> About {
        About::new("git", env!("CARGO_PKG_VERSION"))
            .models([export::REPO, export::COMMIT, export::USER, named::BRANCH, named::TAG])
            .onboard_kinds(["repos", "users"])
            .config_schema(config::schema())
    }

    async fn export(&self, run: Run, config: Config) -> Result<ExportReply, Error> {
        refuse(config.wrong())?;
        export::everything(&run, &config).await
    }

    async fn validate(&self, context: Context, config: Config) -> Result<ValidateConfigReply, Error> {
        let hand = Hand::new(context.clone(), config.quiet_limit());
        let version = hand.off_thread("git version", |stop| git_version(&stop)).await?;
        let mut source = SourceInfo { version: Some(version), ..SourceInfo::default() };
        let mut wrong = config.wrong();
        let bad: Vec<String> = wrong.iter().map(|it| it.pointer.clone()).collect();
        let mut real = Vec::new();
        for (index, entry) in config.repositories.iter().enumerate() {
            if bad.contains(&entry.pointer(index)) {
                real.push(None);
                continue;
            }
            // A hand of its own: one repository that takes too long leaves the next alone.
            let hand = Hand::new(context.clone(), config.quiet_limit());
            match try_entry(&hand, entry, &mut source).await {
                Ok(id) => real.push(Some(id)),
                Err(err) if err.ends_the_call() => return Err(err),
                Err(err) => {
                    wrong.push(config::Wrong { pointer: entry.pointer(index), message: err.chain() });
                    real.push(None);
                }
            }
        }
        wrong.extend(config.doubles(&real));
        let errors = wrong.into_iter().map(fault).collect();
        Ok(ValidateConfigReply { errors, source: Some(source) })
    }

    async fn onboard(&self, context: Context, kind: &str, config: Config) -> Result<Vec<Raw>, Error> {
        refuse(config.wrong())?;
        let hand = Hand::new(context.clone(), config.quiet_limit());
        match kind {
            "repos" => onboard::repos(&hand, &config).await,
            "users" => onboard::users(&hand, &context, &config).await,
            other => Err(Error::NotSupported { what: format!("onboarding data of kind {other:?}") }),
        }
    }
}

/// Tries one repository, and adds what an address says of itself to `source`; its id.
async fn try_entry(hand: &Hand, entry: &Entry, source: &mut SourceInfo) -> Result<String, Error> {
    let Source::Path(path) = &entry.source else {
        if let Some(told) = tried(hand, entry).await? {
            let branch = told.default_branch().unwrap_or("none");
            source.scopes.push(format!(
                "{}: {} branches and tags, default branch {branch}",
                entry.id(),
                told.refs
            ));
        }
        if let Source::Address(address) = &entry.source
            && let Some(account) = address.account()
        {
            source.account.get_or_insert_with(|| account.to_owned());
        }
        return Ok(entry.id());
    };
    let path = path.clone();
    let opened = hand.off_thread("git rev-parse", move |stop| Repository::open(&path, &stop)).await?;
    Ok(opened.id())
}

fn refuse(wrong: Vec<config::Wrong>) -> Result<(), Error> {
    if wrong.is_empty() { Ok(()) } else { Err(Error::Config(wrong.into_iter().map(fault).collect())) }
}

fn fault(wrong: config::Wrong) -> ConfigError {
    ConfigError { path: wrong.pointer, message: wrong.message }
}

fn main() -> ExitCode {
    outrider_integration::run(Git)
}
