//! The variables of the original aggregator, and ours for what it had not.
//!
//! # Invariants
//! - Every fault is told at once, by the name of its variable, and no value of one that holds a secret.
//! - The first of Datadog, InfluxDB and text that is set is the output, as it was; `AGGREGATOR_TLS` is on when it is set,
//!   whatever to.

use std::net::SocketAddr;
use std::path::PathBuf;

use outrider_collect::settings::go_duration;
use outrider_protocol::aggregator::{
    Bounds, Jetstream, NATS_ADDRESSES, NatsTls, Queue, ServerTls, Settings, is_stream_name, nats_addresses,
};
use outrider_protocol::collect::{Access, Credential, InfluxStore, Output, Reach, To};
use serde::Deserialize;

const DATADOG: &str = "AGGREGATOR_DATADOG_CONFIGURATION";
const INFLUX: &str = "AGGREGATOR_INFLUXDB_CONFIGURATION";
const TEXT: &str = "AGGREGATOR_TEXT_CONFIGURATION";
const FREQUENCY: &str = "AGGREGATOR_MINIMUM_PUBLISH_FREQUENCY";
/// Where NATS is, in place of the folder.
const NATS: &str = "OUTRIDER_AGGREGATOR_NATS";
const NATS_STREAM: &str = "OUTRIDER_AGGREGATOR_NATS_STREAM";
const NATS_USER: &str = "OUTRIDER_AGGREGATOR_NATS_USER";
const NATS_PASSWORD_FILE: &str = "OUTRIDER_AGGREGATOR_NATS_PASSWORD_FILE";
const NATS_TOKEN_FILE: &str = "OUTRIDER_AGGREGATOR_NATS_TOKEN_FILE";
const NATS_CA_FILE: &str = "OUTRIDER_AGGREGATOR_NATS_CA_FILE";
/// Where the original listened.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8000);
/// What it put before the names of its fields for Datadog.
const PREFIX: &str = "enclave.";

/// A variable that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentFault {
    /// None says where to.
    #[error(
        "none of {DATADOG}, {INFLUX} and {TEXT} is set; set one of them, or name a file with --config FILE"
    )]
    NoOutput,
    /// It does not hold what it has to.
    #[error("{variable} cannot be read ({why}); set it to {expected}")]
    Broken {
        /// Its name.
        variable: &'static str,
        /// What is wrong, without its value.
        why: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// Not there, or empty.
    #[error("{0} is not set, and AGGREGATOR_TLS is; set it to a text of PEM")]
    Tls(&'static str),
}

#[derive(Deserialize)]
struct Datadog {
    api_key: String,
    series_url: Option<String>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
struct Influx {
    address: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    database: String,
}

/// Reads them; `get` is asked for each by its whole name.
///
/// # Errors
/// All faults at once.
pub fn from_environment(
    data: PathBuf,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Settings, Vec<EnvironmentFault>> {
    let mut faults = Vec::new();
    let mut settings = Settings {
        listen: LISTEN,
        tls: None,
        pages: None,
        queue: Queue::Embedded(data),
        bounds: Bounds { batch_ms: 15_000, ..Bounds::default() },
        prefix: String::new(),
        outputs: Vec::new(),
    };
    match output(&get, &mut settings) {
        Ok(output) => settings.outputs.push(output),
        Err(fault) => faults.push(fault),
    }
    match jetstream(&get) {
        Ok(None) => {}
        Ok(Some(found)) => settings.queue = Queue::Jetstream(found),
        Err(fault) => faults.push(fault),
    }
    if let Some(text) = get(FREQUENCY).filter(|it| !it.is_empty()) {
        match go_duration(&text).and_then(|it| u64::try_from(it.as_millis()).ok()) {
            Some(millis) => settings.bounds.batch_ms = millis,
            None => faults.push(EnvironmentFault::Broken {
                variable: FREQUENCY,
                why: "it is no duration".to_owned(),
                expected: "a duration such as 15s",
            }),
        }
    }
    if get("AGGREGATOR_TLS").is_some() {
        let mut pem = |name: &'static str| {
            let text = get(name).filter(|it| !it.is_empty());
            Credential::Given(text.unwrap_or_else(|| {
                faults.push(EnvironmentFault::Tls(name));
                String::new()
            }))
        };
        settings.tls = Some(ServerTls {
            certificate: pem("AGGREGATOR_TLS_CERTIFICATE"),
            key: pem("AGGREGATOR_TLS_KEY"),
            client_ca: Some(pem("AGGREGATOR_TLS_CA_CERTIFICATE")),
        });
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// The stream, where there is an address. Secrets come from files alone.
fn jetstream(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Jetstream>, EnvironmentFault> {
    let get = |name: &str| get(name).filter(|it| !it.is_empty());
    let broken = |variable, why, expected| EnvironmentFault::Broken { variable, why, expected };
    let Some(text) = get(NATS) else { return Ok(None) };
    let servers =
        nats_addresses(&text).map_err(|found| broken(NATS, format!("found {found}"), NATS_ADDRESSES))?;
    let mut found = Jetstream::at(servers);
    if let Some(name) = get(NATS_STREAM) {
        if !is_stream_name(&name) {
            let why = "it is no name of a stream".to_owned();
            return Err(broken(NATS_STREAM, why, "a name of letters, digits, - and _"));
        }
        found.stream = name;
    }
    let file = |name: &str| get(name).map(|it| Credential::File(it.into()));
    found.access = match (get(NATS_USER), file(NATS_PASSWORD_FILE), file(NATS_TOKEN_FILE)) {
        (None, None, None) => Access::Open,
        (Some(user), Some(password), None) => Access::Basic(user, password),
        (None, None, Some(token)) => Access::Bearer(token),
        _ => {
            let why = "it is one part of several ways in".to_owned();
            return Err(broken(
                NATS_USER,
                why,
                "a user's name together with OUTRIDER_AGGREGATOR_NATS_PASSWORD_FILE, or set OUTRIDER_AGGREGATOR_NATS_TOKEN_FILE alone",
            ));
        }
    };
    found.tls = get(NATS_CA_FILE).map(|it| NatsTls { ca: Some(it.into()), identity: None });
    Ok(Some(found))
}

fn output(
    get: &impl Fn(&str) -> Option<String>,
    settings: &mut Settings,
) -> Result<Output, EnvironmentFault> {
    let output = |name: &str, to| Output {
        name: name.to_owned(),
        queue_points: 1,
        queue_bytes: None,
        ca_file: None,
        reach: Reach::Anywhere,
        to,
    };
    if let Some(text) = get(DATADOG) {
        let expected = "a JSON object with `api_key`, and perhaps `series_url` and `timeout`";
        let read: Datadog = parsed(DATADOG, &text, expected)?;
        if let Some(timeout) = read.timeout.as_deref().and_then(go_duration) {
            settings.bounds.answer_s = timeout.as_secs().clamp(1, 3600);
        }
        PREFIX.clone_into(&mut settings.prefix);
        let url = read.series_url.as_deref().map_or("https://api.datadoghq.com", base);
        let to = To::Datadog { url: url.to_owned(), key: Credential::Given(read.api_key) };
        return Ok(output("datadog", to));
    }
    if let Some(text) = get(INFLUX) {
        let expected = "a JSON object with `address` and `database`, and perhaps `username` and `password`";
        let read: Influx = parsed(INFLUX, &text, expected)?;
        let login = (!read.username.is_empty()).then_some((read.username, Credential::Given(read.password)));
        let store = InfluxStore::V1 { database: read.database, retention: None, login };
        let url = read.address.trim_end_matches('/').to_owned();
        return Ok(output("influxdb", To::Influx { url, measurement: "metrics".to_owned(), store }));
    }
    get(TEXT).map(|_| output("text", To::Stdout)).ok_or(EnvironmentFault::NoOutput)
}

/// The address without what belongs to the first version of Datadog's API.
fn base(url: &str) -> &str {
    let plain = url.split_once('?').map_or(url, |it| it.0);
    plain.trim_end_matches('/').trim_end_matches("/api/v1/series")
}

fn parsed<T: for<'de> Deserialize<'de>>(
    variable: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<T, EnvironmentFault> {
    serde_json::from_str(text).map_err(|err| {
        // The message of the error may repeat a value, which may be the key.
        let what = match err.classify() {
            serde_json::error::Category::Data => "a member is missing, or is no text",
            _ => "it is no JSON",
        };
        EnvironmentFault::Broken { variable, why: format!("{what}, at character {}", err.column()), expected }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Settings, Vec<EnvironmentFault>> {
        from_environment("/data".into(), |name| set.iter().find(|it| it.0 == name).map(|it| it.1.to_owned()))
    }

    #[test]
    fn an_existing_deployment_moves_over() {
        let influx = r#"{"address":"http://db:8086/","username":"u","password":"p","database":"d"}"#;
        let found = read(&[(INFLUX, influx), (FREQUENCY, "3s")]).unwrap();
        let login = Some(("u".to_owned(), Credential::Given("p".to_owned())));
        let store = InfluxStore::V1 { database: "d".into(), retention: None, login };
        let to = To::Influx { url: "http://db:8086".into(), measurement: "metrics".into(), store };
        assert_eq!(found.outputs[0].to, to);
        assert_eq!((found.listen.port(), found.bounds.batch_ms, found.prefix.as_str()), (8000, 3000, ""));

        let datadog =
            r#"{"api_key":"k","timeout":"7s","retry_count":"3","series_url":"http://dd/api/v1/series"}"#;
        let found = read(&[(INFLUX, influx), (DATADOG, datadog)]).unwrap();
        let to = To::Datadog { url: "http://dd".into(), key: Credential::Given("k".into()) };
        assert_eq!(found.outputs.len(), 1, "the first one wins");
        assert_eq!((&found.outputs[0].to, found.prefix.as_str()), (&to, "enclave."));
        assert_eq!((found.bounds.answer_s, found.bounds.batch_ms), (7, 15_000));
        assert_eq!(read(&[(TEXT, "")]).unwrap().outputs[0].to, To::Stdout);
    }

    #[test]
    fn a_stream_is_named_by_variables_of_ours() {
        let found = read(&[
            (TEXT, ""),
            (NATS, "nats://n:4222"),
            (NATS_STREAM, "s"),
            (NATS_TOKEN_FILE, "/t"),
            (NATS_CA_FILE, "/ca"),
        ])
        .unwrap();
        let expected = Jetstream {
            stream: "s".into(),
            access: Access::Bearer(Credential::File("/t".into())),
            tls: Some(NatsTls { ca: Some("/ca".into()), identity: None }),
            ..Jetstream::at(vec!["nats://n:4222".into()])
        };
        assert_eq!(found.queue, Queue::Jetstream(expected));
        assert_eq!(read(&[(TEXT, "")]).unwrap().queue, Queue::Embedded("/data".into()));
        for wrong in [(NATS, "nats://u:hunter22@n:1"), (NATS_STREAM, "a.b"), (NATS_USER, "u")] {
            let faults = read(
                &[(TEXT, ""), (NATS, "nats://n:4222"), wrong]
                    .map(|it| if it.0 == wrong.0 { wrong } else { it }),
            )
            .unwrap_err();
            let told = faults[0].to_string();
            assert!(faults.len() == 1 && told.starts_with(wrong.0) && !told.contains("hunter22"), "{told}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once_and_no_secret_with_it() {
        let faults = read(&[
            (DATADOG, r#"{"api_key":17,"x":"hunter22"}"#),
            ("AGGREGATOR_TLS", "no"),
            (FREQUENCY, "1"),
        ])
        .unwrap_err();
        let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(faults.len(), 5, "{text}");
        assert!(text.contains(DATADOG) && !text.contains("17") && !text.contains("hunter22"), "{text}");
        assert!(text.contains("AGGREGATOR_TLS_KEY is not set"), "{text}");
        assert_eq!(read(&[]).unwrap_err(), [EnvironmentFault::NoOutput]);
    }
}
