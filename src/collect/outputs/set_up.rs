//! What outputs are set up with: the HTTP client, the place of a backlog, and where its news go.

use std::sync::Arc;

use outrider_protocol::collect::{Output, Reach};
use outrider_protocol::fault::chain;

use super::shared::Shared;
use super::{News, SetupError, Tell, Timing};
use crate::backlog::{TellBacklog, Told};
use crate::jetstream::TellDropped;
use crate::reach::Resolver;

/// Clients of HTTP. One serves all outputs but those that believe authorities of their own, and there is none where no
/// output speaks HTTP: each holds all the system's authorities in memory.
pub(super) struct Clients {
    timing: Timing,
    shared: Option<reqwest::Client>,
}

impl Clients {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, shared: None }
    }

    pub(super) fn of(&mut self, output: &Output) -> Result<reqwest::Client, SetupError> {
        if output.ca_file.is_some() {
            return client(self.timing, output);
        }
        if let Some(shared) = &self.shared {
            return Ok(shared.clone());
        }
        Ok(self.shared.insert(client(self.timing, output)?).clone())
    }

    pub(super) fn connect(&self) -> std::time::Duration {
        self.timing.connect
    }
}

/// It believes the authorities that are named for the output beside those of the system.
fn client(timing: Timing, output: &Output) -> Result<reqwest::Client, SetupError> {
    // Whoever set one before us chose it for the whole process; there is nothing to do about it here.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = reqwest::Client::builder();
    if let Some(path) = &output.ca_file {
        let wrong =
            |why: String| SetupError::Authority { name: output.name.clone(), path: path.clone(), why };
        let pem = std::fs::read(path).map_err(|err| wrong(err.to_string()))?;
        let all = reqwest::Certificate::from_pem_bundle(&pem).map_err(|err| wrong(chain(&err)))?;
        if all.is_empty() {
            return Err(wrong("found no certificate of PEM".to_owned()));
        }
        builder = builder.tls_certs_merge(all);
    }
    if output.reach == Reach::NoMetadata {
        // A proxy that the environment names would look names up by itself.
        builder = builder.no_proxy();
    }
    builder
        .user_agent(concat!("outrider/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timing.connect)
        .dns_resolver(Arc::new(Resolver(output.reach)))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(SetupError::Client)
}

/// Drops are told by the outputs that they are of, all else by the first of them.
pub(super) fn telling(all: Vec<Arc<Shared>>, tell: &Tell) -> TellBacklog {
    let tell = Arc::clone(tell);
    Arc::new(move |told| {
        let news = match told {
            Told::Dropped { cursor, points } => {
                if let Some(shared) = all.iter().find(|it| it.name() == cursor) {
                    shared.count_dropped(usize::try_from(points).unwrap_or(usize::MAX));
                }
                return;
            }
            Told::NotKept { points, why } => {
                for shared in &all {
                    shared.fails(why.clone(), false);
                    shared.count_dropped(usize::try_from(points).unwrap_or(usize::MAX));
                }
                return;
            }
            Told::SetAside { to, why } => News::SetAside { to, why },
            Told::Damaged { batches } => News::Damaged { batches },
        };
        tell(all.first().map_or("", |it| it.name()), news);
    })
}

/// Batches that a stream dropped are told by the outputs that they are of.
pub(super) fn telling_batches(all: Vec<Arc<Shared>>) -> TellDropped {
    Arc::new(move |output, batches| {
        if let Some(shared) = all.iter().find(|it| it.name() == output) {
            shared.count_dropped_batches(usize::try_from(batches).unwrap_or(usize::MAX));
        }
    })
}
