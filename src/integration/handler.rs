//! What an author implements.

use outrider_protocol::Raw;
use outrider_protocol::integration::{ExportReply, ValidateConfigReply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::about::About;
use crate::context::Context;
use crate::error::Error;
use crate::run::Run;

/// An integration: what its author implements, with `async fn`s. One call runs at a time.
pub trait Integration: Send + Sync + 'static {
    /// Its configuration. With `#[serde(deny_unknown_fields)]` a misspelt name is told to the person who wrote it.
    type Config: DeserializeOwned + Send + 'static;

    /// What it says of itself. Called for every greeting; cheap.
    fn about(&self) -> About;

    /// Exports everything that is new. One project's failure belongs into its [`crate::ProjectResult`]; an error fails the
    /// whole export of this integration (what was `done` by then is kept).
    fn export(
        &self,
        run: Run,
        config: Self::Config,
    ) -> impl Future<Output = Result<ExportReply, Error>> + Send;

    /// Tries the configuration against the source. Faults may come as [`ValidateConfigReply::errors`] or as
    /// [`Error::Config`]; both reach the person as the same list. Without an own implementation a configuration that
    /// can be read is valid.
    fn validate(
        &self,
        context: Context,
        config: Self::Config,
    ) -> impl Future<Output = Result<ValidateConfigReply, Error>> + Send {
        drop((context, config));
        std::future::ready(Ok(ValidateConfigReply { errors: Vec::new(), source: None }))
    }

    /// Makes the list of a kind that [`About::onboard_kinds`] names (others are refused before). Each record has at least
    /// `id` and `name`; make them with [`record`].
    fn onboard(
        &self,
        context: Context,
        kind: &str,
        config: Self::Config,
    ) -> impl Future<Output = Result<Vec<Raw>, Error>> + Send {
        drop((context, config));
        std::future::ready(Err(Error::NotSupported { what: format!("onboarding data of kind {kind:?}") }))
    }
}

/// A value as raw JSON: a record of [`Integration::onboard`], or the new configuration of an [`ExportReply`].
///
/// # Errors
/// [`Error::Serialize`] when the value has no JSON.
pub fn record(value: &(impl Serialize + ?Sized)) -> Result<Raw, Error> {
    serde_json::value::to_raw_value(value)
        .map_err(|err| Error::Serialize { what: "a record".to_owned(), err })
}
