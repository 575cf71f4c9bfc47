//! The config file of `outrider-aggregator`: where it listens, what it keeps, where it sends on to.

use std::net::SocketAddr;

use outrider_protocol::aggregator::{
    Bounds, Jetstream, NATS_ADDRESSES, NatsTls, Queue, ServerTls, Settings, is_stream_name, nats_addresses,
};
use outrider_protocol::collect::Credential;

use crate::collect::Author;
use crate::collect::outputs::{access, client_files, outputs};
use crate::config_read::{inside, quoted};
use crate::members::Members;
use crate::{ConfigFault, Root};

const FIELDS: &[&str] = &["listen", "tls", "pages", "data", "queue", "bounds", "prefix", "outputs"];
const TLS_FIELDS: &[&str] = &["certificate_file", "key_file", "client_ca_file"];
const BOUND_FIELDS: &[&str] =
    &["queue_bytes", "batch_points", "batch_bytes", "batch_ms", "streams", "answer_s", "retry_s"];
const QUEUE_FIELDS: &[(&str, &[&str])] = &[
    ("embedded", &["kind"]),
    (
        "jetstream",
        &[
            "kind",
            "address",
            "stream",
            "replicas",
            "duplicates_s",
            "user",
            "password",
            "password_file",
            "token",
            "token_file",
            "ca_file",
            "certificate_file",
            "key_file",
        ],
    ),
];
const ADDRESS: &str = "an address with a port, as 127.0.0.1:8000 or [::1]:8000";
const HOUR_S: u64 = 3600;

/// Reads the file's text. Relative paths in it begin at `folder`, the file's own.
///
/// # Errors
/// Everything that is wrong with it.
pub fn aggregator(text: &str, folder: &Root) -> Result<Settings, Vec<ConfigFault>> {
    let mut faults = Vec::new();
    let settings = read(text, folder, &mut faults);
    match settings {
        Some(settings) if faults.is_empty() => Ok(settings),
        _ => Err(faults),
    }
}

fn read(text: &str, folder: &Root, faults: &mut Vec<ConfigFault>) -> Option<Settings> {
    let mut members = Members::read("", text, FIELDS, faults)?;
    let listen =
        members.text("listen", ADDRESS, |text| address(&text)).unwrap_or(([127, 0, 0, 1], 8000).into());
    let pages = members.text("pages", ADDRESS, |text| address(&text));
    let queue = queue(&mut members, folder);
    let prefix = members.text("prefix", "a text, as enclave.", Ok).unwrap_or_default();
    let tls = tls(&mut members, folder);
    let mut bounds = Bounds::default();
    read_bounds(&mut members, &mut bounds);
    let outputs = outputs(&mut members, Author::Operator(folder));
    if outputs.is_empty() && members.faults().is_empty() {
        members.fault(ConfigFault::new("/outputs", "none", "at least one output"));
    }
    Some(Settings { listen, tls, pages, queue: queue?, bounds, prefix, outputs })
}

/// `data` is the folder of the embedded queue, and says nothing where the queue is elsewhere.
fn queue(members: &mut Members<'_>, folder: &Root) -> Option<Queue> {
    const FOLDER: &str = "the path of a folder";
    let Some(raw) = members.take("queue") else {
        return members.needed("data", FOLDER, |text| inside(folder, &text)).map(Queue::Embedded);
    };
    #[derive(serde::Deserialize)]
    struct Head {
        kind: Option<String>,
    }
    let place = members.place("queue");
    let word = serde_json::from_str::<Head>(raw.get()).ok().and_then(|it| it.kind);
    let known = word.as_deref().and_then(|word| QUEUE_FIELDS.iter().find(|it| it.0 == word));
    let Some((word, fields)) = known else {
        let found = word.map_or_else(|| "nothing, or no text".to_owned(), |it| quoted(&it));
        members.fault(ConfigFault::new(&format!("{place}/kind"), found, "embedded or jetstream"));
        // Only what it belongs to would say whether it is right.
        drop(members.take("data"));
        return None;
    };
    if *word == "embedded" {
        Members::read(&place, raw.get(), fields, members.faults())?;
        return members.needed("data", FOLDER, |text| inside(folder, &text)).map(Queue::Embedded);
    }
    if members.take("data").is_some() {
        let place = members.place("data");
        let expected = "nothing, as all that waits is in the stream";
        members.fault(ConfigFault::new(&place, "a folder", expected).advise("remove it"));
    }
    let mut inner = Members::read(&place, raw.get(), fields, members.faults())?;
    drop(inner.take("kind"));
    jetstream(&mut inner, folder).map(Queue::Jetstream)
}

fn jetstream(members: &mut Members<'_>, folder: &Root) -> Option<Jetstream> {
    let servers = members.needed("address", NATS_ADDRESSES, |text| nats_addresses(&text));
    let name = |text: String| if is_stream_name(&text) { Ok(text) } else { Err(quoted(&text)) };
    let stream = members.text("stream", "a name of letters, digits, - and _", name);
    let access = access(members, Author::Operator(folder));
    let (ca, identity) = client_files(members, Author::Operator(folder));
    let tls = (ca.is_some() || identity.is_some()).then_some(NatsTls { ca, identity });
    let mut read = Jetstream::at(servers.unwrap_or_default());
    members.number_into("replicas", 1, 5, &mut read.replicas);
    members.number_into("duplicates_s", 1, 24 * HOUR_S, &mut read.duplicates_s);
    read.stream = stream.unwrap_or(read.stream);
    let complete = !read.servers.is_empty();
    complete.then_some(Jetstream { access: access?, tls, ..read })
}

fn tls(members: &mut Members<'_>, folder: &Root) -> Option<ServerTls> {
    let place = members.place("tls");
    let raw = members.take("tls")?;
    let mut inner = Members::read(&place, raw.get(), TLS_FIELDS, members.faults())?;
    let expected = "the path of a file of PEM";
    let certificate = inner.needed("certificate_file", expected, |text| inside(folder, &text));
    let key = inner.needed("key_file", expected, |text| inside(folder, &text));
    let client_ca = inner.text("client_ca_file", expected, |text| inside(folder, &text));
    Some(ServerTls {
        certificate: Credential::File(certificate?),
        key: Credential::File(key?),
        client_ca: client_ca.map(Credential::File),
    })
}

fn read_bounds(members: &mut Members<'_>, bounds: &mut Bounds) {
    let place = members.place("bounds");
    let Some(raw) = members.take("bounds") else { return };
    let Some(mut inner) = Members::read(&place, raw.get(), BOUND_FIELDS, members.faults()) else { return };
    inner.number_into("queue_bytes", 1 << 20, 1 << 50, &mut bounds.queue_bytes);
    inner.number_into("batch_points", 1, 1_000_000, &mut bounds.batch_points);
    inner.number_into("batch_bytes", 1024, 64 << 20, &mut bounds.batch_bytes);
    inner.number_into("batch_ms", 0, HOUR_S * 1000, &mut bounds.batch_ms);
    inner.number_into("streams", 1, 100_000, &mut bounds.streams);
    inner.number_into("answer_s", 1, HOUR_S, &mut bounds.answer_s);
    inner.number_into("retry_s", 1, HOUR_S, &mut bounds.retry_s);
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| quoted(text))
}

#[cfg(test)]
mod tests {
    use outrider_protocol::collect::To;

    use super::*;

    fn told(text: &str) -> String {
        let faults = aggregator(text, &Root::at("/etc/outrider")).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_file_is_read_with_paths_beside_it() {
        let text = r#"{ "listen": "0.0.0.0:9000", "data": "kept", "bounds": { "batch_ms": 0 },
            "tls": { "certificate_file": "c.pem", "key_file": "/k.pem" },
            "outputs": [{ "kind": "stdout" }, { "kind": "publish", "address": "old:8000" }] }"#;
        let found = aggregator(text, &Root::at("/etc/outrider")).unwrap();
        assert_eq!((found.listen.port(), found.bounds.batch_ms), (9000, 0));
        assert_eq!(found.queue, Queue::Embedded("/etc/outrider/kept".into()));
        let tls = found.tls.unwrap();
        assert_eq!(tls.certificate, Credential::File("/etc/outrider/c.pem".into()));
        assert_eq!((tls.key, tls.client_ca), (Credential::File("/k.pem".into()), None));
        assert_eq!(found.outputs[1].to, To::Publish { address: "old:8000".into(), tls: None });
    }

    #[test]
    fn a_stream_takes_the_place_of_the_folder() {
        let text = r#"{ "queue": { "kind": "jetstream", "address": "tls://n1:4222,nats://n2:4222", "stream": "s",
            "user": "u", "password_file": "p", "ca_file": "ca.pem", "replicas": 3, "duplicates_s": 600 },
            "outputs": [{ "kind": "stdout" }] }"#;
        let Queue::Jetstream(found) = aggregator(text, &Root::at("/etc/outrider")).unwrap().queue else {
            panic!("no stream");
        };
        assert_eq!(found.servers, ["tls://n1:4222", "nats://n2:4222"]);
        assert_eq!((found.stream.as_str(), found.replicas, found.duplicates_s), ("s", 3, 600));
        let secret = Credential::File("/etc/outrider/p".into());
        assert_eq!(found.access, outrider_protocol::collect::Access::Basic("u".into(), secret));
        assert_eq!(found.tls, Some(NatsTls { ca: Some("/etc/outrider/ca.pem".into()), identity: None }));
        let embedded =
            r#"{ "queue": { "kind": "embedded" }, "data": "d", "outputs": [{ "kind": "stdout" }] }"#;
        let found = aggregator(embedded, &Root::at("/etc/outrider")).unwrap();
        assert_eq!(found.queue, Queue::Embedded("/etc/outrider/d".into()));
    }

    #[test]
    fn what_is_wrong_with_a_stream_is_told_without_its_secrets() {
        let text = r#"{ "data": "d", "queue": { "kind": "jetstream", "address": "nats://u:hunter22@n:1", "stream": "a.b",
            "user": "u", "token": "hunter23", "key_file": "k", "bytes": 1 }, "outputs": [{ "kind": "stdout" }] }"#;
        let told = told(text);
        let places = [
            "/data",
            "/queue/address",
            "/queue/stream",
            "/queue/key_file",
            "/queue/bytes",
            "/queue: found parts",
        ];
        for place in places {
            assert!(told.contains(place), "{place}\n{told}");
        }
        assert!(!told.contains("hunter"), "{told}");
        let told = self::told(r#"{ "queue": { "kind": "kafka" }, "outputs": [{ "kind": "stdout" }] }"#);
        assert_eq!(told, "/queue/kind: found \"kafka\", expected embedded or jetstream");
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let text = r#"{ "listen": "8000", "bounds": { "streams": 0 }, "tls": {}, "outputs": [{ "kind": "x" }], "q": 1 }"#;
        let told = told(text);
        for place in ["/listen", "/bounds/streams", "/tls/key_file", "/outputs/0/kind", "/data", "/q"] {
            assert!(told.contains(&format!("{place}: found")), "{place}\n{told}");
        }
    }

    #[test]
    fn one_output_is_needed() {
        let told = told(r#"{ "data": "d" }"#);
        assert!(told.contains("/outputs: found none, expected at least one output"), "{told}");
    }
}
