//! The agent's calls, one function each.

use jiff::Timestamp;
use outrider_protocol::collect::ordered::CollectingParams;
use outrider_protocol::control::{
    Accepted, CollectingChanged, CommandParams, Crashed, CrashedParams, Ended, EndedParams, Hello,
    HelloParams, HelloReply, Integrations, Log, LogParams, Measured, MeasuredParams, OAuthAccessToken, Ping,
    PingParams, Poll, ProgressChanged, ProgressParams, Running,
};
use outrider_protocol::fault::{ErrorData, Fault, Retry, RpcError, chain, code};
use outrider_protocol::ids::{AgentId, CommandId};
use outrider_protocol::integration::Empty;
use outrider_protocol::report::{ActionReport, DescribeReport};
use outrider_protocol::{Call, Raw, version};

use super::orders;
use crate::app::{App, Shared};
use crate::hub::Change;
use crate::store::{EndFault, Reported, SealedConfig, StoreError};
use crate::{janitor, oauth};

/// The longest text that an agent may give as an id or a version, in bytes.
const LONGEST_ID: usize = 128;

type Answer<M> = Result<<M as Call>::Reply, RpcError>;

/// Finds the call by its name and answers it.
pub(super) async fn dispatch(
    app: &Shared,
    agent: &AgentId,
    method: &str,
    params: &str,
) -> Result<Raw, RpcError> {
    match method {
        Hello::NAME => reply::<Hello>(hello(app, agent, read::<Hello>(params)?).await),
        Ping::NAME => reply::<Ping>(ping(app, agent, &read::<Ping>(params)?).await),
        Poll::NAME => reply::<Poll>(orders::poll(app, agent, read::<Poll>(params)?).await),
        Accepted::NAME => reply::<Accepted>(accepted(app, agent, &read::<Accepted>(params)?).await),
        Running::NAME => reply::<Running>(running(app, agent, &read::<Running>(params)?).await),
        ProgressChanged::NAME => {
            reply::<ProgressChanged>(progress(app, agent, &read::<ProgressChanged>(params)?).await)
        }
        Log::NAME => reply::<Log>(log(app, agent, read::<Log>(params)?).await),
        Ended::NAME => reply::<Ended>(ended(app, agent, read::<Ended>(params)?).await),
        Integrations::NAME => {
            reply::<Integrations>(integrations(app, agent, &read::<Integrations>(params)?).await)
        }
        Measured::NAME => reply::<Measured>(measured(app, agent, read::<Measured>(params)?)),
        CollectingChanged::NAME => {
            let params = read::<CollectingChanged>(params)?;
            reply::<CollectingChanged>(collecting(app, agent, &params).await)
        }
        Crashed::NAME => reply::<Crashed>(crashed(app, agent, &read::<Crashed>(params)?).await),
        OAuthAccessToken::NAME => {
            let params = read::<OAuthAccessToken>(params)?;
            reply::<OAuthAccessToken>(oauth::access_token(app, agent, params).await)
        }
        other => {
            let shown: String = other.chars().take(60).collect();
            Err(RpcError::new(code::METHOD_NOT_FOUND, format!("link A has no method {shown:?}")))
        }
    }
}

fn read<M: Call>(params: &str) -> Result<M::Params, RpcError> {
    serde_json::from_str(params)
        .map_err(|err| RpcError::new(code::INVALID_PARAMS, format!("the parameters of {}: {err}", M::NAME)))
}

fn reply<M: Call>(answer: Answer<M>) -> Result<Raw, RpcError> {
    serde_json::value::to_raw_value(&answer?)
        .map_err(|err| RpcError::new(code::INTERNAL, format!("write the answer to {}: {err}", M::NAME)))
}

async fn hello(app: &App, agent: &AgentId, params: HelloParams) -> Answer<Hello> {
    let protocol = version::CONTROL.meet(params.protocol).map_err(|err| {
        RpcError::new(code::VERSION, format!("the backend and agent {agent} cannot talk: {err}"))
    })?;
    let now = Timestamp::now();
    app.store.agent_said_hello(agent, &params).await.map_err(|err| storage(&err))?;
    app.store.agent_seen(agent, now).await.map_err(|err| storage(&err))?;
    reconcile(app, agent, &params.commands, now).await?;
    tracing::info!(%agent, version = params.version, host = params.host.hostname, "Agent connected.");
    app.hub.changed(Change::Agents);
    let files = app.store.count_files(agent).await.map_err(|err| storage(&err))?;
    let ping_every_ms = u64::try_from(app.limits.ping.as_millis()).unwrap_or(u64::MAX);
    Ok(HelloReply { protocol, agent: agent.clone(), ping_every_ms, files: Some(files) })
}

/// Compares the commands that an agent lists with those that it accepted.
async fn reconcile(app: &App, agent: &AgentId, listed: &[CommandId], now: Timestamp) -> Result<(), RpcError> {
    let lost_after = app.limits.lost_after;
    let lost = app.store.interrupt_forgotten(agent, listed, lost_after, now).await;
    let lost = lost.map_err(|err| storage(&err))?;
    for command in lost {
        tracing::warn!(%agent, %command,
            "The agent no longer lists a command and told no outcome; it counts as interrupted.");
        app.hub.changed(Change::Command(command));
        app.hub.changed(Change::Agents);
    }
    Ok(())
}

async fn ping(app: &App, agent: &AgentId, params: &PingParams) -> Answer<Ping> {
    reconcile(app, agent, &params.commands, Timestamp::now()).await?;
    if app.store.agent_pinged(agent, params).await.map_err(|err| storage(&err))? {
        app.hub.changed(Change::Agents);
    }
    Ok(Empty {})
}

async fn accepted(app: &App, agent: &AgentId, params: &CommandParams) -> Answer<Accepted> {
    match app.store.command_accepted(agent, &params.command, Timestamp::now()).await.map_err(refused)? {
        Reported::Known => {}
        Reported::New => app.hub.changed(Change::Command(params.command.clone())),
        Reported::TellAgent => app.hub.orders_changed(agent),
    }
    Ok(Empty {})
}

async fn running(app: &App, agent: &AgentId, params: &CommandParams) -> Answer<Running> {
    app.store.command_running(agent, &params.command, params.at, Timestamp::now()).await.map_err(refused)?;
    app.hub.changed(Change::Command(params.command.clone()));
    Ok(Empty {})
}

async fn progress(app: &App, agent: &AgentId, params: &ProgressParams) -> Answer<ProgressChanged> {
    app.store.check_command(agent, &params.command).await.map_err(refused)?;
    app.store
        .merge_progress(&params.command, &params.progress, app.tree_bounds())
        .await
        .map_err(|err| storage(&err))?;
    app.hub.changed(Change::Command(params.command.clone()));
    Ok(Empty {})
}

async fn log(app: &App, agent: &AgentId, params: LogParams) -> Answer<Log> {
    app.store.check_command(agent, &params.command).await.map_err(refused)?;
    let command = params.command.clone();
    if app.store.append_log(params, app.log_bounds()).await.map_err(|err| storage(&err))? {
        app.hub.changed(Change::Command(command));
    }
    Ok(Empty {})
}

async fn ended(app: &Shared, agent: &AgentId, mut params: EndedParams) -> Answer<Ended> {
    let sealed = take_sealed(&mut params);
    let news = app.store.command_ended(agent, &params, sealed.as_ref(), Timestamp::now()).await;
    let news = news.map_err(refused)?;
    if sealed.is_some()
        && let Err(err) = janitor::drop_configs(app).await
    {
        // It is tried again within a second.
        tracing::error!(
            error = chain(&err),
            "The plain configuration of a sealed one cannot be removed yet."
        );
    }
    if news == Reported::New {
        let error = params.outcome.error.as_ref().map(|failure| failure.message.as_str());
        tracing::info!(%agent, command = %params.command, state = ?params.outcome.state, error, "Command ended.");
        app.hub.changed(Change::Command(params.command.clone()));
        app.hub.changed(Change::Agents);
    }
    Ok(Empty {})
}

/// Takes the sealed configuration out of a report: it is kept on its own, if at all.
fn take_sealed(params: &mut EndedParams) -> Option<SealedConfig> {
    let Some(ActionReport::ValidateConfig(report)) = &mut params.outcome.report else { return None };
    let integration = report.sealed.take().filter(|_| report.errors.is_empty())?;
    Some(SealedConfig {
        integration,
        version: report.integration_version.chars().take(LONGEST_ID).collect(),
        source: report.source.clone(),
    })
}

async fn integrations(app: &App, agent: &AgentId, report: &DescribeReport) -> Answer<Integrations> {
    app.store.set_installed(agent, report, Timestamp::now()).await.map_err(|err| storage(&err))?;
    tracing::info!(%agent, installed = report.integrations.len(), broken = report.failed.len(),
        "The agent told of its integrations.");
    app.hub.changed(Change::Agents);
    Ok(Empty {})
}

fn measured(app: &App, agent: &AgentId, params: MeasuredParams) -> Answer<Measured> {
    app.plots.take(agent, params.readings);
    app.hub.changed(Change::Measured(agent.clone()));
    Ok(Empty {})
}

async fn collecting(app: &App, agent: &AgentId, params: &CollectingParams) -> Answer<CollectingChanged> {
    let news = app.store.set_collecting(agent, params, Timestamp::now()).await;
    if news.map_err(|err| storage(&err))? {
        app.hub.changed(Change::Agents);
    }
    Ok(Empty {})
}

async fn crashed(app: &App, agent: &AgentId, told: &CrashedParams) -> Answer<Crashed> {
    if told.id.is_empty() || told.id.len() > LONGEST_ID {
        let found = told.id.len();
        let message = format!("the crash's id has {found} bytes; expected 1 to {LONGEST_ID}");
        return Err(RpcError::new(code::INVALID_PARAMS, message));
    }
    if app.store.add_crash(agent, told, Timestamp::now()).await.map_err(|err| storage(&err))? {
        let crash = &told.crash;
        tracing::warn!(%agent, component = crash.component, cause = %crash.cause, detail = crash.detail,
            "A process of an agent died.");
        app.hub.changed(Change::Agents);
    }
    Ok(Empty {})
}

fn refused(fault: EndFault) -> RpcError {
    match fault {
        EndFault::Store(err) => storage(&err),
        fault @ EndFault::NotYours { .. } => {
            let hint = "it may have been removed here since, or the backend's data folder was replaced";
            RpcError {
                code: code::NO_COMMAND,
                ..RpcError::failed(Fault::Caller, Retry::No, fault.to_string()).hint(hint)
            }
        }
    }
}

/// The backend's store failed: nothing was taken, and the agent is to say it again.
pub(super) fn storage(err: &StoreError) -> RpcError {
    tracing::error!(error = chain(err), "The store failed.");
    let data = ErrorData { fault: Some(Fault::Backend), retry: Some(Retry::Later), ..ErrorData::default() };
    RpcError {
        code: code::STORAGE,
        message: "the backend could not store this; its log says why".into(),
        data: Some(data),
    }
}
