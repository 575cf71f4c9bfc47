//! `integration-git`: exports repositories on this machine: `sourcecode.Repo`, `Branch`, `Tag`, `User` and `Commit`.
//!
//! **Invariant:** it only reads: no repository is changed, nothing is fetched.
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
//! | [`process`] | runs git; the only place that does |
//! | [`git`], [`error`] | a repository as git tells of it, and why it does not |
//! | [`tokens`], [`text`], [`parse`], [`refs`] | pure: git's output into [`models`] |
//! | [`read`] | the history, by several gits at once |
//! | [`frontier`] | pure: the checkpoint of commits |
//! | [`export`], [`named`], [`onboard`] | the calls of the agent |

mod config;
mod error;
mod export;
mod frontier;
mod git;
mod models;
mod named;
mod onboard;
mod parse;
mod process;
mod read;
mod refs;
mod text;
mod tokens;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use outrider_integration::{
    About, ConfigError, Context, Error, ExportReply, Integration, Raw, Run, SourceInfo, ValidateConfigReply,
};

use crate::config::Config;
use crate::export::Hand;
use crate::git::{Repository, git_version};

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
        let hand = Hand::new(context, config.quiet_limit());
        let version = hand.off_thread("git version", |stop| git_version(&stop)).await?;
        let mut wrong = config.wrong();
        let (mut real, bad): (Vec<Option<PathBuf>>, Vec<String>) =
            (Vec::new(), wrong.iter().map(|it| it.pointer.clone()).collect());
        for (index, entry) in config.repositories.iter().enumerate() {
            if bad.contains(&entry.pointer(index)) {
                real.push(None);
                continue;
            }
            let path = entry.path.clone();
            let opened =
                hand.off_thread("git rev-parse", move |stop| Ok(Repository::open(&path, &stop))).await?;
            if let Err(err) = &opened {
                wrong.push(config::Wrong { pointer: entry.pointer(index), message: err.full() });
            }
            real.push(opened.ok().map(|it| it.folder().to_owned()));
        }
        wrong.extend(config.doubles(&real));
        let errors = wrong.into_iter().map(fault).collect();
        Ok(ValidateConfigReply {
            errors,
            source: Some(SourceInfo { version: Some(version), ..SourceInfo::default() }),
        })
    }

    async fn onboard(&self, context: Context, kind: &str, config: Config) -> Result<Vec<Raw>, Error> {
        refuse(config.wrong())?;
        let hand = Hand::new(context, config.quiet_limit());
        match kind {
            "repos" => onboard::repos(&hand, &config).await,
            "users" => onboard::users(&hand, &config).await,
            other => Err(Error::NotSupported { what: format!("onboarding data of kind {other:?}") }),
        }
    }
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
