//! What an integration says of itself when it is greeted.

use outrider_protocol::ids::{BadId, Model};
use outrider_protocol::integration::ModelInfo;

/// What the agent holds the objects of a model to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    WithId,
    SkipUnchanged,
}

/// What an integration says of itself.
#[derive(Debug, Clone)]
pub struct About {
    pub(crate) name: String,
    pub(crate) version: String,
    models: Vec<(String, Kind)>,
    pub(crate) onboard_kinds: Vec<String>,
    pub(crate) config_schema: Option<serde_json::Value>,
    pub(crate) features: Vec<String>,
}

impl About {
    /// An integration of this name (that of its program without `integration-`) and version.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            models: Vec::new(),
            onboard_kinds: Vec::new(),
            config_schema: None,
            features: Vec::new(),
        }
    }

    /// Models that it may export, named `area.Type`. The agent rejects an object of theirs that has no text member `id`.
    #[must_use]
    pub fn models<S: Into<String>>(mut self, models: impl IntoIterator<Item = S>) -> Self {
        self.models.extend(models.into_iter().map(|it| (it.into(), Kind::WithId)));
        self
    }

    /// Models of which the agent leaves out what the backend has already. Their objects carry the text members `id` and
    /// `hash`; the hash changes whenever the object does. An object without `hash` is always sent.
    #[must_use]
    pub fn models_skip_unchanged<S: Into<String>>(mut self, models: impl IntoIterator<Item = S>) -> Self {
        self.models.extend(models.into_iter().map(|it| (it.into(), Kind::SkipUnchanged)));
        self
    }

    /// Models whose objects need no `id`.
    #[must_use]
    pub fn models_without_id<S: Into<String>>(mut self, models: impl IntoIterator<Item = S>) -> Self {
        self.models.extend(models.into_iter().map(|it| (it.into(), Kind::Any)));
        self
    }

    /// Kinds of onboarding data that [`crate::Integration::onboard`] offers: `users`, `repos`, `projects`, or others.
    #[must_use]
    pub fn onboard_kinds<S: Into<String>>(mut self, kinds: impl IntoIterator<Item = S>) -> Self {
        self.onboard_kinds.extend(kinds.into_iter().map(Into::into));
        self
    }

    /// JSON Schema of the configuration. Mark secrets with `"writeOnly": true`.
    #[must_use]
    pub fn config_schema(mut self, schema: serde_json::Value) -> Self {
        self.config_schema = Some(schema);
        self
    }

    /// An ability beyond the protocol's version, by name.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<String>) -> Self {
        self.features.push(feature.into());
        self
    }

    pub(crate) fn model_infos(&self) -> Result<Vec<ModelInfo>, BadId> {
        self.models
            .iter()
            .map(|(model, kind)| {
                Ok(ModelInfo {
                    model: Model::new(model.as_str())?,
                    needs_id: *kind != Kind::Any,
                    skip_unchanged: *kind == Kind::SkipUnchanged,
                })
            })
            .collect()
    }
}
