//! Finds the backend to talk to: by its data folder on this machine, or by address and token.

use std::path::PathBuf;

use outrider_backend::DataFolder;
use outrider_backend::client::{Client, ClientError};
use outrider_protocol::exit::Exit;
use outrider_protocol::ids::{AgentId, CommandId};

use crate::output::line;
use crate::report::Error;

/// Where the backend is.
#[derive(Debug, clap::Args)]
pub(crate) struct BackendFlags {
    /// The backend's data folder [default: the platform's data folder for outrider-backend]
    #[arg(long, global = true, env = "OUTRIDER_BACKEND_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The backend's address [default: where the backend of the data folder listens]
    #[arg(long, global = true, env = "OUTRIDER_BACKEND", value_name = "URL")]
    backend: Option<String>,
    /// A file with the backend's admin token [default: admin-token in the data folder]
    #[arg(long, global = true, env = "OUTRIDER_BACKEND_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file of certificates (PEM) to trust besides the system's
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl BackendFlags {
    /// The data folder.
    pub(crate) fn data(&self) -> Result<DataFolder, Error> {
        let path = match &self.data {
            Some(path) => std::path::absolute(path)
                .map_err(|err| Error::usage(format!("--data {}: {err}", path.display())))?,
            None => directories::ProjectDirs::from("", "", "outrider-backend")
                .map(|dirs| dirs.data_local_dir().to_owned())
                .ok_or_else(|| {
                    Error::usage("this system names no data folder for programs: say where with --data DIR")
                })?,
        };
        Ok(DataFolder::at(path))
    }

    /// A client of the backend.
    pub(crate) fn connect(&self) -> Result<Client, Error> {
        let url = match &self.backend {
            Some(url) => url.clone(),
            None => {
                self.data()?
                    .address()
                    .map_err(|err| {
                        Error::failure(&err)
                            .hint("name a backend on another machine with --backend URL --token-file FILE")
                    })?
                    .url
            }
        };
        let token = match &self.token_file {
            Some(path) => outrider_backend::read_token(path),
            None => self.data()?.admin_token(),
        };
        let token = token.map_err(|err| Error::failure(&err))?;
        Ok(Client::new(&url, &token, self.ca_file.as_deref())?)
    }
}

/// The agent that is meant: by its id or a beginning of it, or the only one there is.
pub(crate) async fn find_agent(client: &Client, text: Option<&str>) -> Result<AgentId, Error> {
    let agents = client.agents().await?;
    let usable = || agents.iter().filter(|agent| agent.revoked_at.is_none());
    let names = || usable().map(|agent| agent.id.as_str()).collect::<Vec<_>>().join(", ");
    let Some(text) = text else {
        let mut all = usable();
        return match (all.next(), all.next()) {
            (Some(agent), None) => Ok(agent.id.clone()),
            (None, _) => Err(Error::failed("the backend has no agent yet").hint(
                "make a code with `outrider-backend code create` and enroll one with `outrider enroll CODE`",
            )),
            _ => Err(Error::usage(format!("there are several agents; say which with --agent: {}", names()))),
        };
    };
    if let Some(agent) = agents.iter().find(|agent| agent.id.as_str() == text) {
        return Ok(agent.id.clone());
    }
    let mut matching = usable().filter(|agent| agent.id.as_str().starts_with(text));
    match (matching.next(), matching.next()) {
        (Some(agent), None) => Ok(agent.id.clone()),
        (None, _) => {
            Err(Error::failed(format!("no agent's id begins with {text:?}; there are: {}", names())))
        }
        _ => Err(Error::usage(format!("several agents' ids begin with {text:?}; say more of: {}", names()))),
    }
}

/// The command that is meant: by its id, or by a beginning or end of it.
pub(crate) async fn find_command(client: &Client, text: &str) -> Result<CommandId, Error> {
    /// The shortest part of an id that may stand for the whole.
    const SHORTEST: usize = 4;
    /// As many of the newest commands are looked at.
    const NEWEST: u32 = 1000;
    let bad = |err: &dyn std::error::Error| Error::usage(err.to_string());
    let given: CommandId = text.parse().map_err(|err| bad(&err))?;
    let filter = outrider_backend::admin::CommandFilter { limit: Some(NEWEST), ..Default::default() };
    let commands = client.commands(&filter).await?;
    if text.len() < SHORTEST || commands.iter().any(|command| command.id == given) {
        return Ok(given);
    }
    let is_part = |id: &CommandId| id.as_str().starts_with(text) || id.as_str().ends_with(text);
    let mut matching = commands.into_iter().map(|command| command.id).filter(is_part);
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(Error::usage(format!("several commands' ids begin or end with {text:?}; say more")))
        }
        // It may be older than those that were looked at.
        (None, _) => Ok(given),
    }
}

pub(crate) async fn login(client: &Client) -> Result<Exit, Error> {
    line(&client.login_link().await?);
    Ok(Exit::Ok)
}

impl From<ClientError> for Error {
    fn from(err: ClientError) -> Self {
        let hint = match &err {
            ClientError::Unreachable { .. } => {
                Some("start one with `outrider-backend serve`, or name another with --backend")
            }
            other => other.hint(),
        };
        let error = Self::failure(&err);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
