//! One export: organizations, and in each its users and its repositories with their pull requests.

use jiff::{SignedDuration, Timestamp};
use outrider_integration::{
    Batching, Error, ExportReply, ModelSession, ProjectResult, Run, TrackingSession, object,
};

use crate::config::Plan;
use crate::content::{Content, Place, REF_TYPE, mixed, organization, repo, user};
use crate::fault::{Failed, Faults, Sending};
use crate::leak::Leak;
use crate::models::{Repo, User};

/// An export that runs.
#[derive(Debug)]
pub(crate) struct Exporter {
    run: Run,
    plan: Plan,
    content: Content,
    faults: Faults,
    projects: Vec<ProjectResult>,
}

impl Exporter {
    pub(crate) fn new(run: Run, plan: Plan, faults: Faults) -> Self {
        let content = Content::new(plan.seed, plan.object_bytes, plan.skip_unchanged);
        Self { run, plan, content, faults, projects: Vec::new() }
    }

    pub(crate) async fn export(mut self) -> Result<ExportReply, Error> {
        self.log_in().await?;
        if !self.plan.pause.is_zero() {
            let until = Timestamp::now() + SignedDuration::try_from(self.plan.pause).unwrap_or_default();
            self.run.pause(until, "the made-up source allows no more for now").await?;
        }
        let organizations = self.run.tracking("organization", None).await?;
        for n in 0..self.plan.organizations {
            organizations.progress(n, self.plan.organizations).await?;
            self.organization(&organizations, n).await.map_err(|failed| match failed {
                Failed::Export(err) => err,
                Failed::Project(message) => Error::source(message),
            })?;
        }
        organizations.progress(self.plan.organizations, self.plan.organizations).await?;
        organizations.done().await?;
        Ok(ExportReply { projects: self.projects, new_config: None })
    }

    /// Takes access tokens as a source does that refuses all but the last. It says which, to see that nobody reads it.
    async fn log_in(&self) -> Result<(), Error> {
        let mut refused = None;
        for _ in 0..self.plan.access_tokens {
            let token = self.run.access_token(refused).await?;
            self.run.info(&format!("logging in with {}, {}", token.generation, token.access_token)).await;
            if refused == Some(token.generation) {
                return Err(Error::source(format!("access token {} came again", token.generation)));
            }
            refused = Some(token.generation);
        }
        Ok(())
    }

    async fn organization(&mut self, parent: &TrackingSession, n: u64) -> Result<(), Failed> {
        let Place { id, name } = organization(n);
        let session = parent.model("sourcecode.User", object(&id, &name)).await?;
        self.users(session, n, &id).await?;
        let session = parent.model("sourcecode.Repo", object(&id, &name)).await?;
        self.repos(session, n, &id).await
    }

    async fn users(
        &mut self,
        mut session: ModelSession,
        organization: u64,
        organization_id: &str,
    ) -> Result<(), Failed> {
        let sent = self.begin(&mut session)?;
        for n in sent..self.plan.users {
            let Place { id, name } = user(organization, n);
            let mut one = User {
                id: &id,
                ref_type: REF_TYPE,
                name: &name,
                organization_id,
                member: n % 10 != 9,
                hash: None,
                biography: "",
            };
            let place = mixed(self.plan.seed ^ mixed(organization) ^ n);
            let hash = self.content.hash(place);
            one.hash = hash.as_deref();
            one.biography = self.content.filling(place, &one);
            prepare(&self.run, &self.plan, &mut self.faults, &mut session, Sending::Common).await?;
            session.send(&one).await?;
            if self.plan.announce && n == sent {
                session.flush().await?;
                self.run.info("the first object was accepted").await;
            }
        }
        finish(session, sent, self.plan.users).await
    }

    async fn repos(
        &mut self,
        mut session: ModelSession,
        organization: u64,
        organization_id: &str,
    ) -> Result<(), Failed> {
        let sent = self.begin(&mut session)?;
        for n in 0..self.plan.repos {
            let place = repo(organization, n);
            if n >= sent {
                let mut one = Repo {
                    id: &place.id,
                    ref_type: REF_TYPE,
                    name: &place.name,
                    organization_id,
                    default_branch: "main",
                    hash: None,
                    description: "",
                };
                let place = mixed(organization ^ mixed(n));
                let hash = self.content.hash(place);
                one.hash = hash.as_deref();
                one.description = self.content.filling(place, &one);
                prepare(&self.run, &self.plan, &mut self.faults, &mut session, Sending::Common).await?;
                session.send(&one).await?;
            }
            session.progress(n, self.plan.repos).await?;
            self.project(&session, mixed(organization) ^ n, place).await?;
        }
        finish(session, sent, self.plan.repos).await
    }

    /// The pull requests of one repository, which may fail without the others.
    async fn project(&mut self, repos: &ModelSession, repo: u64, place: Place) -> Result<(), Failed> {
        let Place { id, name } = place;
        let session = repos.model("sourcecode.PullRequest", object(&id, &name)).await?;
        let name = self.plan.leak.as_ref().map_or(name, Leak::name);
        let result = match self.pull_requests(session, repo, &id).await {
            Ok(()) => ProjectResult::done(id, name),
            Err(Failed::Project(why)) => {
                self.run.warn(&format!("{name}: {why}")).await;
                ProjectResult::failed(id, name, why)
            }
            Err(failed) => return Err(failed),
        };
        self.projects.push(result);
        Ok(())
    }

    async fn pull_requests(
        &mut self,
        mut session: ModelSession,
        repo: u64,
        repo_id: &str,
    ) -> Result<(), Failed> {
        let (sent, total) = (self.begin(&mut session)?, self.plan.pull_requests);
        let mut json = String::new();
        for n in sent..total {
            prepare(&self.run, &self.plan, &mut self.faults, &mut session, Sending::Project).await?;
            self.content.pull_request(repo, repo_id, n, &mut json);
            session.send_unchecked(&json).await?;
        }
        finish(session, sent, total).await
    }

    /// How many objects of the session earlier runs have sent.
    fn begin(&self, session: &mut ModelSession) -> Result<u64, Error> {
        session.set_batching(Batching { objects: self.plan.batch, ..Batching::default() });
        if self.plan.skip_unchanged {
            return Ok(0);
        }
        Ok(session.last_processed()?.unwrap_or_default())
    }
}

/// What comes before each object: the delay, and the fault when its time has come.
async fn prepare(
    run: &Run,
    plan: &Plan,
    faults: &mut Faults,
    session: &mut ModelSession,
    sending: Sending,
) -> Result<(), Failed> {
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    faults.before(run, session, sending).await
}

/// Finishes a session after which `total` objects were sent in all runs; an earlier run may have sent more.
async fn finish(session: ModelSession, sent: u64, total: u64) -> Result<(), Failed> {
    if total > sent {
        session.done_with(&total).await?;
    } else {
        session.done().await?;
    }
    Ok(())
}
