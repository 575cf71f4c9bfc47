//! Secrets of sources between the backend, which has their ciphertext, and the integration, which needs them.

use std::collections::HashMap;

use outrider_home::Root;
use outrider_home::keys::{self, KeyError};
use outrider_logs::secret_members;
use outrider_protocol::action::IntegrationConfig;
use outrider_protocol::fault::{Fault, Retry, chain};
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::report::Failure;
use serde_json::value::RawValue;

/// Puts the secrets of integrations back into their configurations. Those of which that fails are told, and stay as they
/// are.
pub(crate) fn open_all(
    root: &Root,
    integrations: &mut [IntegrationConfig],
) -> HashMap<IntegrationId, Failure> {
    let mut unopened = HashMap::new();
    for integration in integrations.iter_mut().filter(|it| it.secrets.is_some()) {
        match keys::open(root, integration) {
            Ok(opened) => *integration = opened,
            Err(err) => drop(unopened.insert(integration.id(), failure(&err))),
        }
    }
    unopened
}

/// The configuration with its secrets encrypted for this host; which those are, its schema says as well.
pub(crate) fn seal(
    root: &Root,
    integration: &IntegrationConfig,
    schema: Option<&RawValue>,
) -> Result<IntegrationConfig, Box<Failure>> {
    let secrets = secret_members(&integration.config, schema);
    keys::seal(root, integration, &secrets).map_err(|err| Box::new(failure(&err)))
}

fn failure(err: &KeyError) -> Failure {
    let (fault, retry) = match err {
        KeyError::File(_) | KeyError::Cipher { .. } => (Fault::Host, Retry::Later),
        KeyError::NoKey { .. } | KeyError::OtherKey { .. } => (Fault::Host, Retry::No),
        _ => (Fault::Caller, Retry::No),
    };
    Failure { message: chain(err), fault, retry, hint: err.hint().map(str::to_owned), last_lines: Vec::new() }
}
