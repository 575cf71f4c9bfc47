//! The way to the backend: TLS with a certificate of one's own, and an HTTP proxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{BACKEND, Running, outrider, printed, run, until};

/// The backend's command line for the backend in `dir`, with its answer as JSON.
fn ask(dir: &Path, args: &[&str]) -> Option<Value> {
    let mut command = Command::new(BACKEND);
    command.args(args).arg("--json").arg("--data").arg(dir.join("backend"));
    if dir.join("cert.pem").exists() {
        command.arg("--ca-file").arg(dir.join("cert.pem"));
    }
    let output = run(&mut command);
    if output.status.success() { serde_json::from_slice(&output.stdout).ok() } else { None }
}

fn serve(dir: &Path, more: &[&str]) -> (Running, String) {
    let mut serve = Command::new(BACKEND);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.join("backend")).args(more);
    let backend = Running::start(&mut serve, &dir.join("backend.out"));
    let url = until("the backend to listen", || {
        let text = std::fs::read_to_string(dir.join("backend/backend.json")).ok()?;
        let address: Value = serde_json::from_str(&text).ok()?;
        Some(address["url"].as_str()?.to_owned())
    });
    (backend, url)
}

fn code(dir: &Path) -> String {
    until("an enrollment code", || Some(ask(dir, &["code", "create"])?["code"].as_str()?.to_owned()))
}

fn online(dir: &Path) {
    until("the agent to be online", || (ask(dir, &["agents"])?[0]["online"] == true).then_some(()));
}

#[test]
fn a_private_certificate_is_trusted_when_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let (_backend, url) = serve(dir, &["--tls-cert", cert, "--tls-key", key]);
    assert!(url.starts_with("https://"), "{url}");

    let root = dir.join("root");
    let code = code(dir);
    let enroll = |more: &[&str]| {
        run(outrider(&root).args(["enroll", &code, "--backend", &url, "--no-service"]).args(more))
    };
    let stranger = enroll(&[]);
    assert_eq!(stranger.status.code(), Some(1), "{}", printed(&stranger));
    assert!(printed(&stranger).to_lowercase().contains("certificate"), "{}", printed(&stranger));
    let enrolled = enroll(&["--ca-file", cert]);
    assert!(enrolled.status.success(), "{}", printed(&enrolled));
    let _service = Running::start(outrider(&root).arg("service-run"), &dir.join("service.out"));
    online(dir);
}

/// A proxy for plain HTTP that notes what it is asked.
fn proxy(seen: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, seen) = (client.unwrap(), seen.clone());
            std::thread::spawn(move || forward(client, &seen));
        }
    });
    format!("http://{address}")
}

/// Forwards one connection to the server that its first request names.
fn forward(client: TcpStream, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    seen.lock().ok()?.push(first.clone());
    let server = first.split("http://").nth(1)?.split('/').next()?.to_owned();
    let server = TcpStream::connect(server).ok()?;
    let (mut up, mut down) = (server.try_clone().ok()?, (server, client));
    let back = std::thread::spawn(move || {
        drop(std::io::copy(&mut down.0, &mut down.1));
        down.1.shutdown(Shutdown::Both)
    });
    up.write_all(first.as_bytes()).ok()?;
    let mut buffer = [0; 16_384];
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        seen.lock().ok()?.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
        up.write_all(&buffer[..read]).ok()?;
    }
    drop(back);
    Some(())
}

#[test]
fn an_http_proxy_is_honoured() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_backend, url) = serve(dir, &[]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let proxy = proxy(seen.clone());
    let root = dir.join("root");
    let through = || {
        let mut command = outrider(&root);
        command.env("http_proxy", &proxy).env_remove("no_proxy").env_remove("NO_PROXY");
        command
    };
    let enrolled = run(through().args(["enroll", &code(dir), "--backend", &url, "--no-service"]));
    assert!(enrolled.status.success(), "{}", printed(&enrolled));
    let _service = Running::start(through().arg("service-run"), &dir.join("service.out"));
    online(dir);
    for call in ["/agent/v1/enroll", "/agent/v1/rpc", "/agent/v1/orders"] {
        let called = || seen.lock().unwrap().iter().any(|part| part.contains(&format!("{url}{call}")));
        until("a call through the proxy", || called().then_some(()));
    }
}
