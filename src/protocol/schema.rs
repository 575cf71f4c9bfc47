//! JSON Schemas of every message, generated from the types. The files in `schemas/` are this, written down.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{Call, Notice, action, bulk, collect, control, integration};

/// One file of `schemas/`: its name and its content.
#[derive(Debug)]
pub struct SchemaFile {
    /// As `integration.json`.
    pub name: &'static str,
    /// The schema.
    pub schema: Value,
}

/// The schema of each link, with all its messages under `$defs` and, for each method, its parameters and reply under
/// `x-methods`.
#[must_use]
pub fn files() -> Vec<SchemaFile> {
    vec![
        SchemaFile { name: "control.json", schema: control_link() },
        SchemaFile { name: "action.json", schema: action_link() },
        SchemaFile { name: "integration.json", schema: integration_link() },
        SchemaFile { name: "bulk.json", schema: bulk_link() },
    ]
}

struct Link {
    generator: SchemaGenerator,
    methods: serde_json::Map<String, Value>,
}

impl Link {
    fn new() -> Self {
        Self { generator: SchemaSettings::draft2020_12().into_generator(), methods: serde_json::Map::new() }
    }

    fn call<C: Call<Params: JsonSchema, Reply: JsonSchema>>(mut self, from: &str) -> Self {
        let (params, reply) = (self.of::<C::Params>(), self.of::<C::Reply>());
        self.methods.insert(C::NAME.into(), json!({ "from": from, "params": params, "reply": reply }));
        self
    }

    fn notice<N: Notice<Params: JsonSchema>>(mut self, from: &str) -> Self {
        let params = self.of::<N::Params>();
        self.methods.insert(N::NAME.into(), json!({ "from": from, "params": params }));
        self
    }

    fn message<T: JsonSchema>(mut self) -> Self {
        self.of::<T>();
        self
    }

    fn of<T: JsonSchema>(&mut self) -> Schema {
        self.generator.subschema_for::<T>()
    }

    fn finish(mut self, title: &str) -> Value {
        self.of::<crate::fault::RpcError>();
        let definitions = self.generator.take_definitions(true);
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": title,
            "$defs": definitions,
            "x-methods": self.methods,
        })
    }
}

fn control_link() -> Value {
    Link::new()
        .call::<control::Hello>("agent")
        .call::<control::Ping>("agent")
        .call::<control::Poll>("agent")
        .call::<control::Accepted>("agent")
        .call::<control::Running>("agent")
        .call::<control::ProgressChanged>("agent")
        .call::<control::Log>("agent")
        .call::<control::Ended>("agent")
        .call::<control::Integrations>("agent")
        .call::<control::Measured>("agent")
        .call::<control::CollectingChanged>("agent")
        .call::<control::Crashed>("agent")
        .call::<control::OAuthAccessToken>("agent")
        .message::<control::Envelope>()
        .finish("Link A: backend and service")
}

fn action_link() -> Value {
    Link::new()
        .call::<action::Initialize>("service")
        .call::<action::Run>("service")
        .call::<action::Sealed>("action")
        .call::<action::OAuthAccessToken>("action")
        .notice::<action::Cancel>("service")
        .notice::<action::ProgressChanged>("action")
        .notice::<action::Log>("action")
        .notice::<action::ChildStarted>("action")
        .notice::<action::ChildEnded>("action")
        .notice::<action::ChildDied>("action")
        .call::<collect::Collect>("service")
        .notice::<collect::Collecting>("action")
        .finish("Link B: service and action")
}

fn integration_link() -> Value {
    Link::new()
        .call::<integration::Initialize>("agent")
        .call::<integration::Export>("agent")
        .call::<integration::ValidateConfig>("agent")
        .call::<integration::OnboardExport>("agent")
        .call::<integration::Shutdown>("agent")
        .notice::<integration::Cancel>("agent")
        .call::<integration::SessionStart>("integration")
        .call::<integration::SessionSend>("integration")
        .call::<integration::SessionDone>("integration")
        .call::<integration::SessionRollback>("integration")
        .call::<integration::OAuthAccessToken>("integration")
        .call::<integration::Pause>("integration")
        .call::<integration::Resume>("integration")
        .notice::<integration::SessionProgress>("integration")
        .notice::<integration::Log>("integration")
        .finish("Link C: action and integration")
}

fn bulk_link() -> Value {
    Link::new()
        .message::<bulk::EnrollRequest>()
        .message::<bulk::EnrollReply>()
        .message::<bulk::HttpError>()
        .finish("Link A, bulk: enrollment and uploads")
}
