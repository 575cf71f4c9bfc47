//! The agent's configuration, read anew for each command: a person may have changed it since the service started.

use outrider_home::Config;
use outrider_protocol::fault::chain;
use outrider_protocol::report::Failure;

use super::Setup;

impl Setup {
    /// Takes over what config.json says now and a command depends on. One that cannot be used changes nothing, and is
    /// said in the log.
    ///
    /// The way to the backend, and what the whole service has once (`commands_at_once`, the uploads, its log), stay as
    /// they were when it started.
    ///
    /// # Errors
    /// What is wrong with config.json, as one sentence.
    pub(super) fn reload(&mut self) -> Result<(), String> {
        let read = Config::load(&self.root).map_err(|err| chain(&err)).and_then(|read| self.same_agent(read));
        match read {
            Ok(read) => {
                self.config = read;
                Ok(())
            }
            Err(fault) => {
                tracing::error!(fault, "config.json cannot be used; going on with what it said before.");
                Err(fault)
            }
        }
    }

    /// Orders of one backend are not to be carried out with the configuration for another.
    fn same_agent(&self, read: Config) -> Result<Config, String> {
        let ours = &self.config;
        if (&read.agent, &read.backend) == (&ours.agent, &ours.backend) {
            return Ok(read);
        }
        Err(format!(
            "config.json is for agent {} of {} now, and the service runs for agent {} of {}: restart the service",
            read.agent, read.backend, ours.agent, ours.backend
        ))
    }
}

/// Adds to a command's failure what was wrong with config.json when it started.
pub(super) fn advise(error: &mut Failure, fault: &str) {
    let fault = format!("config.json could not be used: {fault}");
    error.hint = Some(match error.hint.take() {
        Some(hint) => format!("{hint}; {fault}"),
        None => fault,
    });
}
