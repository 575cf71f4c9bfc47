//! The integration `mock`: made-up organizations, repositories and pull requests, for tests and benchmarks.
//!
//! Configuration, every member optional (see [`config::Settings`]):
//!
//! | member | means | default |
//! | --- | --- | --- |
//! | `organizations` | how many | 1 |
//! | `users` | in each organization | 3 |
//! | `repos` | in each organization | 2 |
//! | `pull_requests` | in each repository | 10 |
//! | `object_bytes` | JSON of each object; below what its members need, they decide | 400 |
//! | `delay_ms` | waited before each object | 0 |
//! | `batch` | objects in one `session.send` | 200 |
//! | `seed` | of the content; ids do not depend on it | 0 |
//! | `skip_unchanged` | send every object in each run, with a hash by which the agent leaves out what the backend has | false |
//! | `announce` | log when the first object of an organization was accepted | false |
//! | `access_tokens` | asked for at the beginning, each refused but the last; the log is told of each | 0 |
//! | `pause_s` | waited at the beginning, as for a source's rate limit | 0 |
//! | `fault` | `{"kind": …, "at": N}`: misbehave at the N-th object of the run, counted from 1 | none |
//! | `token`, `pin`, `url` | stand there, for tests of secrets | none |
//! | `leak` | `{"texts": […], "end": …}`: say these texts in every way (see [`leak`]) | none |
//!
//! Kinds of fault: `fail` (the export answers with an error), `project` (the repository at hand fails, the others go on),
//! `hang`, `crash` (exit status 1), `panic`, `kill` (SIGKILL to itself), `flood` (100,000 log lines, then on), `garbage` (a
//! line that is no message on stdout, then on).
//!
//! **Invariant:** an object depends on the seed, its place and `object_bytes` only: not on how many others there are, so a
//! later run with higher counts sends the missing ones and nothing else.
//!
//! Sessions: tracking `organization`; below it, for each organization, `sourcecode.User` and `sourcecode.Repo`; below the
//! latter, for each repository, `sourcecode.PullRequest`. A model session stores how many objects it has sent so far.

#![expect(clippy::print_stderr, reason = "a program's last words; the agent keeps them")]

mod config;
mod content;
mod export;
mod fault;
mod leak;
mod models;
#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitCode;

use outrider_integration::{
    About, Context, Error, ExportReply, Integration, Raw, Run, SourceInfo, ValidateConfigReply, record,
};
use serde::Serialize;

use crate::config::{Plan, Settings};
use crate::content::{Place, organization, repo, user};
use crate::export::Exporter;
use crate::fault::{Faults, Stray};

/// The longest list that `onboard_export` makes.
const LONGEST_LIST: usize = 10_000;

/// The integration.
#[derive(Debug)]
struct Mock {
    stray: Stray,
}

impl Integration for Mock {
    type Config = Settings;

    fn about(&self) -> About {
        About::new("mock", env!("CARGO_PKG_VERSION"))
            .models_skip_unchanged(["sourcecode.Repo", "sourcecode.User", "sourcecode.PullRequest"])
            .onboard_kinds(["users", "repos", "projects"])
            .config_schema(config::schema())
    }

    async fn export(&self, run: Run, settings: Settings) -> Result<ExportReply, Error> {
        let plan = Plan::try_from(settings)?;
        if let Some(leak) = &plan.leak {
            leak.say(&run, &self.stray).await?;
        }
        let faults = Faults::new(plan.fault, self.stray.clone());
        Exporter::new(run, plan, faults).export().await
    }

    async fn validate(&self, _context: Context, settings: Settings) -> Result<ValidateConfigReply, Error> {
        let plan = Plan::try_from(settings)?;
        if let Some(leak) = plan.leak {
            return Ok(leak.validation());
        }
        let source = SourceInfo {
            version: Some(format!("{} objects, made up", plan.objects())),
            account: Some("mock".to_owned()),
            scopes: vec!["read".to_owned()],
        };
        Ok(ValidateConfigReply { errors: Vec::new(), source: Some(source) })
    }

    async fn onboard(&self, _context: Context, kind: &str, settings: Settings) -> Result<Vec<Raw>, Error> {
        let plan = Plan::try_from(settings)?;
        if let Some(leak) = &plan.leak {
            return Err(Error::source(format!("the source refused {}", leak.name())));
        }
        match kind {
            "users" => {
                list((0..plan.organizations).flat_map(|org| (0..plan.users).map(move |n| user(org, n))))
            }
            "repos" => {
                list((0..plan.organizations).flat_map(|org| (0..plan.repos).map(move |n| repo(org, n))))
            }
            "projects" => list((0..plan.organizations).map(organization)),
            other => Err(Error::NotSupported { what: format!("onboarding data of kind {other:?}") }),
        }
    }
}

/// A record of a list from which a person chooses.
#[derive(Debug, Serialize)]
struct Choice {
    id: String,
    name: String,
}

fn list(places: impl Iterator<Item = Place>) -> Result<Vec<Raw>, Error> {
    places.take(LONGEST_LIST).map(|Place { id, name }| record(&Choice { id, name })).collect()
}

fn main() -> ExitCode {
    match stray_output() {
        Ok(stray) => outrider_integration::run(Mock { stray }),
        Err(err) => {
            eprintln!("integration-mock: copy stdout, for the fault `garbage`: {err}");
            ExitCode::FAILURE
        }
    }
}

/// The pipe of the link, behind the link's back; taken before the SDK points descriptor 1 elsewhere.
#[cfg(unix)]
fn stray_output() -> io::Result<Stray> {
    use std::os::fd::AsFd as _;
    Ok(Stray::new(std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?)))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
fn stray_output() -> io::Result<Stray> {
    Ok(Stray::new(io::stdout()))
}
