//! The OpenAPI document of the admin API. `schemas/openapi.json` is this, written down; a test compares the two, and
//! another one asks the running server for each path.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::admin::{
    About, Agent, AgentCollecting, AgentIntegrations, CancelCommand, Code, Command, CommandFilter,
    CommandSummary, CrashFilter, CreatedCode, File, FileFilter, LogRange, LoginLink, NewCode, NewCommand,
    NumberedLine, OAuthInfo, OAuthRegistration, StoredCrash, WatchQuery, Watched,
};
use outrider_protocol::bulk::HttpError;
use outrider_protocol::progress::Progress;

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut api = Api::new();
    api.operation("get", "/about", "about", "The backend's version.", |op| op.reply::<About>());
    agents_and_codes(&mut api);
    integrations(&mut api);
    collecting(&mut api);
    commands(&mut api);
    api.operation("get", "/files", "listFiles", "Uploaded files, the newest first.", |op| {
        op.query::<FileFilter>().reply::<Vec<File>>()
    });
    api.operation(
        "get",
        "/files/{agent}/{export}/{model}/{number}",
        "downloadFile",
        "One file as it lies on disk: gzip or Zstandard, a JSON object a line.",
        |op| op.bytes(),
    );
    api.operation("post", "/logins", "createLogin", "A link that logs one browser in, once.", |op| {
        op.reply::<LoginLink>()
    });
    api.operation("get", "/openapi.json", "openapi", "This document.", |op| op.reply::<Value>());
    api.finish()
}

fn agents_and_codes(api: &mut Api) {
    api.operation("get", "/agents", "listAgents", "All agents, by the name of their host.", |op| {
        op.reply::<Vec<Agent>>()
    });
    api.operation("get", "/agents/{agent}", "showAgent", "One agent.", |op| op.reply::<Agent>());
    api.operation(
        "delete",
        "/agents/{agent}",
        "revokeAgent",
        "Take an agent's token back. What it sent stays.",
        |op| op.reply::<Agent>(),
    );
    api.operation("get", "/codes", "listCodes", "Enrollment codes, the newest first.", |op| {
        op.reply::<Vec<Code>>()
    });
    api.operation("post", "/codes", "createCode", "Make an enrollment code. It is told this once.", |op| {
        op.body::<NewCode>().reply::<CreatedCode>()
    });
    api.operation(
        "delete",
        "/codes/{code}",
        "revokeCode",
        "Take an enrollment code back, by its id.",
        |op| op.reply::<Code>(),
    );
}

fn integrations(api: &mut Api) {
    const ONE: &str = "/agents/{agent}/integrations/{integration}";
    const OAUTH: &str = "/agents/{agent}/integrations/{integration}/oauth";
    api.operation(
        "get",
        "/agents/{agent}/integrations",
        "listIntegrations",
        "The integrations of an agent: installed on its host, and configured here.",
        |op| op.reply::<AgentIntegrations>(),
    );
    api.operation(
        "delete",
        ONE,
        "removeIntegration",
        "Remove a configured integration, with its sealed secrets and what is registered for its access tokens.",
        |op| op.reply::<AgentIntegrations>(),
    );
    api.operation(
        "put",
        OAUTH,
        "registerOAuth",
        "Register how access tokens are made for an integration. Its secrets are told this once.",
        |op| op.body::<OAuthRegistration>().reply::<OAuthInfo>(),
    );
    api.operation("delete", OAUTH, "removeOAuth", "Remove such a registration.", |op| {
        op.reply::<Vec<OAuthInfo>>()
    });
    api.operation("get", "/crashes", "listCrashes", "Crashes that agents told of, the newest first.", |op| {
        op.query::<CrashFilter>().reply::<Vec<StoredCrash>>()
    });
}

fn collecting(api: &mut Api) {
    const COLLECT: &str = "/agents/{agent}/collect";
    api.operation(
        "get",
        COLLECT,
        "showCollecting",
        "Whether an agent collects, by whose section, and the section of this backend that it keeps, without secrets.",
        |op| op.reply::<AgentCollecting>(),
    );
    api.operation(
        "put",
        COLLECT,
        "orderCollecting",
        "Order a section `collect`, as it would stand in config.json, but that it names no file of the host. The agent keeps \
         it until another is ordered or it is taken back; a section of its config.json wins as a whole. The command that is \
         answered says what became of it.",
        |op| op.body::<Map<String, Value>>().reply::<Command>(),
    );
    api.operation(
        "delete",
        COLLECT,
        "clearCollecting",
        "Take that section back, by a command as well.",
        |op| op.reply::<Command>(),
    );
}

fn commands(api: &mut Api) {
    api.operation("get", "/commands", "listCommands", "Commands, the newest first.", |op| {
        op.query::<CommandFilter>().reply::<Vec<CommandSummary>>()
    });
    api.operation("post", "/commands", "createCommand", "Order something of an agent.", |op| {
        op.body::<NewCommand>().reply::<Command>()
    });
    api.operation("get", "/commands/{command}", "showCommand", "One command with its outcome.", |op| {
        op.reply::<Command>()
    });
    api.operation(
        "post",
        "/commands/{command}/cancel",
        "cancelCommand",
        "End a command early: at once while it is queued, by its agent afterwards.",
        |op| op.body::<CancelCommand>().reply::<Command>(),
    );
    api.operation(
        "get",
        "/commands/{command}/progress",
        "showProgress",
        "The tree of a command's sessions.",
        |op| op.reply::<Progress>(),
    );
    api.operation("get", "/commands/{command}/logs", "showLogs", "Lines of a command's log.", |op| {
        op.query::<LogRange>().reply::<Vec<NumberedLine>>()
    });
    api.operation(
        "get",
        "/commands/{command}/watch",
        "watchCommand",
        "A command, its progress and new lines of its log: answered when something changed, or after `wait_ms`.",
        |op| op.query::<WatchQuery>().reply::<Watched>(),
    );
}

struct Api {
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

/// One operation while it is described.
struct Operation<'a> {
    generator: &'a mut SchemaGenerator,
    value: Map<String, Value>,
    parameters: Vec<Value>,
}

impl Api {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        });
        Self { generator: settings.into_generator(), paths: Map::new() }
    }

    fn operation(
        &mut self,
        method: &str,
        path: &str,
        id: &str,
        summary: &str,
        describe: impl FnOnce(Operation<'_>) -> Operation<'_>,
    ) {
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = in_path
            .map(|name| {
                let schema = if name == "number" {
                    json!({"type": "integer", "minimum": 0})
                } else {
                    json!({"type": "string"})
                };
                json!({ "name": name, "in": "path", "required": true, "schema": schema })
            })
            .collect();
        let error = self.generator.subschema_for::<HttpError>();
        let mut value = Map::new();
        value.insert("operationId".into(), id.into());
        value.insert("summary".into(), summary.into());
        value.insert(
            "responses".into(),
            json!({ "default": {
                "description": "An error.",
                "content": { "application/json": { "schema": error } },
            }}),
        );
        let mut op = describe(Operation { generator: &mut self.generator, value, parameters });
        if !op.parameters.is_empty() {
            op.value.insert("parameters".into(), op.parameters.into());
        }
        let entry = self.paths.entry(format!("/admin/v1{path}")).or_insert_with(|| json!({}));
        if let Value::Object(entry) = entry {
            entry.insert(method.into(), op.value.into());
        }
    }

    fn finish(mut self) -> Value {
        let schemas = self.generator.take_definitions(true);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Outrider backend: admin API",
                "version": "1",
                "description": "For operators and programs. Agents have an API and credentials of their own.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "security": [{ "adminToken": [] }],
            "paths": self.paths,
            "components": {
                "securitySchemes": { "adminToken": {
                    "type": "http", "scheme": "bearer",
                    "description": "The content of the file admin-token in the backend's data folder.",
                }},
                "schemas": schemas,
            },
        })
    }
}

impl Operation<'_> {
    fn body<T: JsonSchema>(mut self) -> Self {
        let schema = self.generator.subschema_for::<T>();
        self.value
            .insert("requestBody".into(), json!({ "content": { "application/json": { "schema": schema } } }));
        self
    }

    fn reply<T: JsonSchema>(mut self) -> Self {
        let schema = self.generator.subschema_for::<T>();
        self.ok(json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } }));
        self
    }

    fn bytes(mut self) -> Self {
        self.ok(json!({ "description": "The file.", "content": { "application/gzip": {}, "application/zstd": {} } }));
        self
    }

    fn ok(&mut self, response: Value) {
        if let Some(Value::Object(responses)) = self.value.get_mut("responses") {
            responses.insert("200".into(), response);
        }
    }

    /// One parameter for each member of an object's schema.
    fn query<T: JsonSchema>(mut self) -> Self {
        let schema = T::json_schema(self.generator).to_value();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            self.parameters.push(json!({ "name": name, "in": "query", "required": false, "schema": schema }));
        }
        self
    }
}
