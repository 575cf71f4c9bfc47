//! The outputs in the section `collect`, and in an aggregator's configuration.

use std::path::PathBuf;

use outrider_protocol::Raw;
use outrider_protocol::collect::{Access, Credential, InfluxStore, LinkTls, OtlpProtocol, Output, To};

use super::author::Author;
use crate::ConfigFault;
use crate::config_read::{one_line, quoted};
use crate::members::{Members, child, kind};

const OUTPUT_FIELDS: &[(&str, &[&str])] = &[
    ("stdout", &[]),
    ("json_lines", &["path", "file_bytes", "files_kept"]),
    ("statsd", &["address"]),
    (
        "influx",
        &[
            "url",
            "measurement",
            "database",
            "retention",
            "user",
            "password",
            "password_file",
            "org",
            "bucket",
            "token",
            "token_file",
            "ca_file",
        ],
    ),
    ("datadog", &["url", "api_key", "api_key_file", "ca_file"]),
    ("remote_write", &["url", "user", "password", "password_file", "token", "token_file", "ca_file"]),
    ("otlp", &["url", "protocol", "user", "password", "password_file", "token", "token_file", "ca_file"]),
    (
        "elasticsearch",
        &[
            "url",
            "index",
            "user",
            "password",
            "password_file",
            "token",
            "token_file",
            "api_key",
            "api_key_file",
            "ca_file",
        ],
    ),
    ("aggregator", &["address", "tls", "ca_file", "certificate_file", "key_file"]),
    ("publish", &["address", "tls", "ca_file", "certificate_file", "key_file"]),
];
const KINDS: &str =
    "stdout, json_lines, statsd, influx, datadog, remote_write, otlp, elasticsearch, aggregator or publish";
/// Those that the backend may order.
const KINDS_ORDERED: &str = "statsd, influx, datadog, remote_write, otlp, elasticsearch, aggregator or publish, as the backend orders it";
const PEM: &str = "the path of a file of PEM";
/// What waits on the disk for an aggregator where nothing else is said.
const QUEUE_BYTES: u64 = 256 << 20;
/// Points that wait for an output where nothing else is said: some minutes of a host with a hundred containers, in some
/// tens of megabytes.
const QUEUE_POINTS: u64 = 200_000;
const GIB: u64 = 1 << 30;

pub(crate) fn outputs(members: &mut Members<'_>, author: Author<'_>) -> Vec<Output> {
    let place = members.place("outputs");
    let Some(raw) = members.take("outputs") else { return Vec::new() };
    let Ok(elements) = serde_json::from_str::<Vec<Raw>>(raw.get()) else {
        members.fault(ConfigFault::new(&place, kind(raw.get()), "an array of outputs"));
        return Vec::new();
    };
    let mut outputs: Vec<Output> = Vec::new();
    for (at, raw) in elements.iter().enumerate() {
        let place = child(&place, &at.to_string());
        let Some(output) = output(&place, raw, author, members.faults()) else { continue };
        if outputs.iter().any(|it| it.name == output.name) {
            let found = format!("{:?} a second time", output.name);
            let fault = ConfigFault::new(&child(&place, "name"), found, "a name of its own for each output");
            members.fault(fault.advise("give it a `name`"));
        }
        outputs.push(output);
    }
    outputs
}

fn output(place: &str, raw: &Raw, author: Author<'_>, faults: &mut Vec<ConfigFault>) -> Option<Output> {
    #[derive(serde::Deserialize)]
    struct Head {
        kind: Option<String>,
    }
    let word = serde_json::from_str::<Head>(raw.get()).ok().and_then(|it| it.kind);
    let known = word.as_deref().and_then(|word| OUTPUT_FIELDS.iter().find(|it| it.0 == word));
    let Some((word, own)) = known else {
        let found = word.map_or_else(|| "nothing, or no text".to_owned(), |it| quoted(&it));
        faults.push(ConfigFault::new(&child(place, "kind"), found, KINDS));
        return None;
    };
    if let Some(found) = author.refuses(word) {
        faults.push(ConfigFault::new(&child(place, "kind"), found, KINDS_ORDERED));
        return None;
    }
    let fields: Vec<_> =
        ["kind", "name", "queue_points", "queue_bytes"].iter().chain(own.iter()).copied().collect();
    let mut members = Members::read(place, raw.get(), &fields, faults)?;
    drop(members.take("kind"));
    let name = members.text("name", "a name of one line", one_line).unwrap_or_else(|| (*word).to_owned());
    let mut queue_points = usize::try_from(QUEUE_POINTS).unwrap_or(usize::MAX);
    members.number_into("queue_points", 1, 100_000_000, &mut queue_points);
    // No other number is in the range: nothing was said.
    let mut queue_bytes = if *word == "aggregator" { QUEUE_BYTES.min(author.queue_most()) } else { 0 };
    members.number_into("queue_bytes", 1 << 20, author.queue_most(), &mut queue_bytes);
    let queue_bytes = Some(queue_bytes).filter(|it| *it > 0);
    let to = match *word {
        "json_lines" => json_lines(&mut members, author),
        "statsd" => {
            let address = members.needed("address", "host:port, as 127.0.0.1:8125", address);
            address.map(|address| To::Statsd { address })
        }
        "influx" => influx(&mut members, author),
        "datadog" => datadog(&mut members, author),
        "remote_write" => {
            let example = "the receiver's whole address, as https://prometheus.example/api/v1/write";
            let url = members.needed("url", example, url);
            access(&mut members, author).zip(url).map(|(access, url)| To::RemoteWrite { url, access })
        }
        "otlp" => {
            let url = members.needed(
                "url",
                "the receiver's address, as http://127.0.0.1:4318, or :4317 for gRPC",
                url,
            );
            let expected = "http or grpc";
            let protocol = members.text("protocol", expected, |text| match text.as_str() {
                "http" => Ok(OtlpProtocol::Http),
                "grpc" => Ok(OtlpProtocol::Grpc),
                _ => Err(quoted(&text)),
            });
            let protocol = protocol.unwrap_or(OtlpProtocol::Http);
            access(&mut members, author).zip(url).map(|(access, url)| To::Otlp { url, protocol, access })
        }
        "elasticsearch" => elasticsearch(&mut members, author),
        "aggregator" => aggregator(&mut members, author),
        "publish" => publish(&mut members, author),
        _ => Some(To::Stdout),
    };
    // The links have one too, which is read with the rest of their TLS.
    let ca_file = members.knows("ca_file").then(|| author.path(&mut members, "ca_file", PEM)).flatten();
    Some(Output { name, queue_points, queue_bytes, ca_file, reach: author.reach(), to: to? })
}

fn json_lines(members: &mut Members<'_>, author: Author<'_>) -> Option<To> {
    let place = members.place("path");
    let is_there = members.has("path");
    let path = author.path(members, "path", "the path of a file");
    if !is_there {
        members.fault(ConfigFault::new(&place, "nothing", "the path of a file"));
    }
    let (mut file_bytes, mut files_kept) = (64 << 20, 5);
    members.number_into("file_bytes", 4096, 1024 * GIB, &mut file_bytes);
    members.number_into("files_kept", 0, 1000, &mut files_kept);
    Some(To::JsonLines { path: path?, file_bytes, files_kept })
}

fn influx(members: &mut Members<'_>, author: Author<'_>) -> Option<To> {
    let url = members.needed("url", "the address of an InfluxDB, as http://127.0.0.1:8086", url);
    let measurement = members.text("measurement", "a measurement's name", one_line);
    let mut text = |name, expected| members.text(name, expected, one_line);
    let database = text("database", "a database's name");
    let retention = text("retention", "a retention policy's name");
    let user = text("user", "a user's name");
    let org = text("org", "an organisation's name");
    let bucket = text("bucket", "a bucket's name");
    let password = credential(members, "password", "password_file", author);
    let token = credential(members, "token", "token_file", author);
    let store = match (database, org, bucket, token) {
        (Some(database), None, None, None) => {
            let login = match (user, password) {
                (None, None) => None,
                (user, password) => Some((user.unwrap_or_default(), password?)),
            };
            InfluxStore::V1 { database, retention, login }
        }
        (None, Some(org), Some(bucket), Some(token)) if user.is_none() && retention.is_none() => {
            InfluxStore::V2 { org, bucket, token }
        }
        _ => {
            let place = members.place("");
            let expected = "`database` (version 1, with `retention`, `user` and `password` or `password_file` where \
                            they are needed), or `org`, `bucket` and `token` or `token_file` (version 2)";
            members.fault(ConfigFault::new(
                place.trim_end_matches('/'),
                "neither or parts of both",
                expected,
            ));
            return None;
        }
    };
    let measurement = measurement.unwrap_or_else(|| "outrider".to_owned());
    Some(To::Influx { url: url?, measurement, store })
}

fn datadog(members: &mut Members<'_>, author: Author<'_>) -> Option<To> {
    let address = members.text("url", "the address of Datadog's API, as https://api.datadoghq.eu", url);
    let key = credential(members, "api_key", "api_key_file", author);
    if key.is_none() {
        let place = members.place("api_key");
        members.fault(ConfigFault::new(&place, "nothing", "an API key here, or in the file `api_key_file`"));
    }
    let url = address.unwrap_or_else(|| "https://api.datadoghq.com".to_owned());
    Some(To::Datadog { url, key: key? })
}

const AGGREGATOR: &str = "the aggregator's host:port, as 10.0.0.7:8000";

fn aggregator(members: &mut Members<'_>, author: Author<'_>) -> Option<To> {
    let address = members.needed("address", AGGREGATOR, address);
    let tls = link_tls(members, author);
    Some(To::Aggregator { address: address?, tls })
}

fn publish(members: &mut Members<'_>, author: Author<'_>) -> Option<To> {
    let address = members.needed("address", AGGREGATOR, address);
    let tls = link_tls(members, author);
    Some(To::Publish { address: address?, tls })
}

/// TLS where it is asked for, or there is any of its files; mutual TLS where there are a certificate and its key.
fn link_tls(members: &mut Members<'_>, author: Author<'_>) -> Option<LinkTls> {
    let asked = members.flag("tls");
    let (ca, identity) = client_files(members, author);
    let identity = identity.map(|(certificate, key)| (Credential::File(certificate), Credential::File(key)));
    let has_files = ca.is_some() || identity.is_some();
    if asked == Some(false) && has_files {
        let place = members.place("tls");
        members.fault(ConfigFault::new(&place, "false", "true, or none of the files of TLS"));
    }
    let is_on = asked.unwrap_or(has_files);
    is_on.then(|| LinkTls { ca: ca.map(Credential::File), identity })
}

/// The files of a client of TLS: the authorities, and its own certificate with the key of that.
pub(crate) fn client_files(
    members: &mut Members<'_>,
    author: Author<'_>,
) -> (Option<PathBuf>, Option<(PathBuf, PathBuf)>) {
    let mut file = |name| author.path(members, name, PEM);
    let (ca, certificate, key) = (file("ca_file"), file("certificate_file"), file("key_file"));
    if certificate.is_some() != key.is_some() {
        let place = members.place("key_file");
        let expected = "`certificate_file` and `key_file`, both or neither";
        members.fault(ConfigFault::new(&place, "one of two files", expected));
    }
    (ca, certificate.zip(key))
}

fn elasticsearch(members: &mut Members<'_>, author: Author<'_>) -> Option<To> {
    let url = members.needed("url", "the cluster's address, as https://elastic.example:9200", url);
    let index =
        members.text("index", "the name of a data stream or an index, as metrics-outrider-%Y.%m", index);
    let access = access(members, author);
    Some(To::Elasticsearch {
        url: url?,
        index: index.unwrap_or_else(|| "outrider".to_owned()),
        access: access?,
    })
}

/// A name as Elasticsearch takes it, with the parts of a date.
fn index(text: String) -> Result<String, String> {
    let name = ["%Y", "%m", "%d"].iter().fold(text.clone(), |it, part| it.replace(part, "0"));
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let fits = !name.is_empty() && name.len() <= 200 && name.chars().all(is_good);
    if fits && !name.starts_with(['-', '_', '.']) { Ok(text) } else { Err(quoted(&text)) }
}

/// One way in: name and password, a token, or an API key where there are such.
pub(crate) fn access(members: &mut Members<'_>, author: Author<'_>) -> Option<Access> {
    let user = members.text("user", "a user's name", one_line);
    let password = credential(members, "password", "password_file", author);
    let token = credential(members, "token", "token_file", author);
    let key =
        members.knows("api_key").then(|| credential(members, "api_key", "api_key_file", author)).flatten();
    match (user, password, token, key) {
        (None, None, None, None) => Some(Access::Open),
        (Some(user), Some(password), None, None) => Some(Access::Basic(user, password)),
        (None, None, Some(token), None) => Some(Access::Bearer(token)),
        (None, None, None, Some(key)) => Some(Access::ApiKey(key)),
        _ => {
            let place = members.place("");
            let expected = if members.knows("api_key") {
                "one of them: `user` with `password`, `token`, or (for Elasticsearch) `api_key`"
            } else {
                "one of them: `user` with `password`, or `token`"
            };
            members.fault(ConfigFault::new(
                place.trim_end_matches('/'),
                "parts of several ways in",
                expected,
            ));
            None
        }
    }
}

/// A secret in the file, or the path of the file that holds it.
pub(super) fn credential(
    members: &mut Members<'_>,
    name: &str,
    file: &str,
    author: Author<'_>,
) -> Option<Credential> {
    let secret = |text: String| {
        let fits = !text.is_empty() && !text.contains(char::is_control) && text.len() <= 4096;
        // Not repeated: it may be the secret, mistyped.
        if fits {
            Ok(text)
        } else {
            Err("an empty text, a long one, or one with control characters".to_owned())
        }
    };
    let given = members.text(name, "a secret of one line", secret).map(Credential::Given);
    let path: Option<PathBuf> = author.path(members, file, "the path of a file");
    match (given, path) {
        (Some(given), Some(_)) => {
            let place = members.place(file);
            members.fault(ConfigFault::new(&place, "a second place of the secret", "one of them"));
            Some(given)
        }
        (given, path) => given.or(path.map(Credential::File)),
    }
}

pub(super) fn address(text: String) -> Result<String, String> {
    let is_one = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !text.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok_and(|it| it > 0)
    });
    if is_one { Ok(text) } else { Err(quoted(&text)) }
}

/// An address that may have a path.
pub(super) fn url(text: String) -> Result<String, String> {
    if text.contains('@') {
        // Not repeated: what stands before the @ is a password.
        return Err("an address with a user name or password in it".to_owned());
    }
    let url =
        url::Url::parse(&text).map_err(|err| format!("{}, which is no address ({err})", quoted(&text)))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{}, whose scheme is {:?}", quoted(&text), url.scheme()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{}, with something after the path", quoted(&text)));
    }
    Ok(text)
}
