//! The mirror of releases as an agent's download, or anybody else, meets it.

use std::path::PathBuf;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{Rig, within};
use crate::{Settings, StartError, start};

const PACKAGE: &str = "targets/outrider-1.4.2-linux-x86_64.tar.gz";

/// A backend with one package of 1,000,000 bytes, and one metadata file.
async fn rig() -> (Rig, Vec<u8>) {
    let rig = Rig::new().await;
    let content: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let releases = rig.dir.path().join("data/releases");
    std::fs::create_dir_all(releases.join("targets")).unwrap();
    std::fs::create_dir_all(releases.join("metadata")).unwrap();
    std::fs::write(releases.join(PACKAGE), &content).unwrap();
    std::fs::write(releases.join("metadata/timestamp.json"), "{}").unwrap();
    (rig, content)
}

async fn ask(
    rig: &Rig,
    method: &str,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let headers =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    let method: reqwest::Method = method.parse().unwrap();
    let request =
        reqwest::Client::new().request(method, format!("{}/releases/{path}", rig.url)).headers(headers);
    let answer = within(request.send()).await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, answer.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn a_package_is_sent_whole_as_it_lies_on_disk_to_anybody() {
    let (rig, content) = rig().await;
    let (status, headers, body) = ask(&rig, "GET", PACKAGE, &[("accept-encoding", "gzip, br")]).await;
    assert_eq!((status, body == content), (StatusCode::OK, true));
    assert_eq!(headers["content-length"], "1000000");
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(headers.get("content-encoding").is_none() && headers.get("set-cookie").is_none());
    let tag = headers["etag"].to_str().unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag} is no strong tag");
    let (status, head, body) = ask(&rig, "HEAD", PACKAGE, &[("range", "bytes=5-")]).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 0));
    for name in ["content-length", "etag", "accept-ranges"] {
        assert_eq!(head[name], headers[name], "{name}");
    }
    let (status, headers, body) = ask(&rig, "GET", "metadata/timestamp.json", &[]).await;
    assert_eq!((status, body.as_slice()), (StatusCode::OK, &b"{}"[..]));
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers["cache-control"].to_str().unwrap().contains("no-cache"));
}

#[tokio::test]
async fn a_broken_download_goes_on_with_the_same_file_only() {
    let (rig, content) = rig().await;
    let (status, headers, first) = ask(&rig, "GET", PACKAGE, &[("range", "bytes=0-399999")]).await;
    assert_eq!(
        (status, &headers["content-range"]),
        (StatusCode::PARTIAL_CONTENT, &"bytes 0-399999/1000000".parse().unwrap())
    );
    let tag = headers["etag"].to_str().unwrap().to_owned();
    let rest = [("range", "bytes=400000-"), ("if-range", tag.as_str())];
    let (status, headers, second) = ask(&rig, "GET", PACKAGE, &rest).await;
    assert_eq!(
        (status, &headers["content-length"]),
        (StatusCode::PARTIAL_CONTENT, &"600000".parse().unwrap())
    );
    assert!([first, second].concat() == content);
    let (status, headers, body) = ask(&rig, "GET", PACKAGE, &[("range", "bytes=-10")]).await;
    assert_eq!(
        (status, &headers["content-range"]),
        (StatusCode::PARTIAL_CONTENT, &"bytes 999990-999999/1000000".parse().unwrap())
    );
    assert_eq!(body, &content[999_990..]);
    let (status, _, body) = ask(&rig, "GET", PACKAGE, &[("if-none-match", &tag)]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    // Another file of the same name and size: nothing of the first one is continued with it.
    let other = rig.dir.path().join("data/releases/.new");
    std::fs::write(&other, vec![7; 1_000_000]).unwrap();
    std::fs::rename(&other, rig.dir.path().join("data/releases").join(PACKAGE)).unwrap();
    let (status, headers, body) = ask(&rig, "GET", PACKAGE, &rest).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 1_000_000));
    assert_ne!(headers["etag"], tag.as_str());
    assert!(body.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_part_behind_the_end_is_refused_with_the_size() {
    let (rig, _) = rig().await;
    let (status, headers, body) = ask(&rig, "GET", PACKAGE, &[("range", "bytes=1000000-")]).await;
    assert_eq!(
        (status, &headers["content-range"]),
        (StatusCode::RANGE_NOT_SATISFIABLE, &"bytes */1000000".parse().unwrap())
    );
    assert!(String::from_utf8(body).unwrap().contains("the file has 1000000 bytes"));
}

#[tokio::test]
async fn nothing_is_listed_and_nothing_is_written() {
    let (rig, _) = rig().await;
    for path in ["", "targets", "targets/", "nothing.tar.gz"] {
        let (status, _, body) = ask(&rig, "GET", path, &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path:?}");
        assert!(!String::from_utf8(body).unwrap().contains("1.4.2"), "{path:?}");
    }
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        assert_eq!(ask(&rig, method, PACKAGE, &[]).await.0, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
}

/// The status of an answer to a path that no client would send as it stands.
async fn raw(url: &str, path: &str) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    (answer.split(' ').nth(1).unwrap().to_owned(), answer)
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let (rig, _) = rig().await;
    let token = crate::DataFolder::at(rig.dir.path().join("data")).admin_token().unwrap();
    std::fs::write(rig.dir.path().join("data/releases/.hidden"), &token).unwrap();
    let outside = rig.dir.path().join("data/admin-token").display().to_string();
    let mut paths = [
        "../admin-token",
        "..%2fadmin-token",
        "%2e%2e/admin-token",
        "%2e%2e%2fadmin-token",
        "targets/../../admin-token",
        "targets/%2e%2e/%2e%2e/admin-token",
        "..%5cadmin-token",
        "%252e%252e/admin-token",
        "./metadata/timestamp.json",
        ".hidden",
        "targets/../.hidden",
        "a%00b",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend([outside.clone(), outside.replace('/', "%2f"), format!("targets/{outside}")]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../admin-token", rig.dir.path().join("data/releases/token")).unwrap();
        std::os::unix::fs::symlink("..", rig.dir.path().join("data/releases/up")).unwrap();
        paths.extend(["token".to_owned(), "up/admin-token".to_owned()]);
    }
    for path in paths {
        let (status, answer) = raw(&rig.url, &format!("/releases/{path}")).await;
        assert_eq!(status, "404", "{path}: {answer}");
        assert!(!answer.contains(&token), "{path}");
    }
    assert_eq!(raw(&rig.url, "/releases/metadata/timestamp.json").await.0, "200");
}

#[tokio::test]
async fn a_backend_does_not_start_that_would_give_its_data_away() {
    let dir = tempfile::tempdir().unwrap();
    let data: PathBuf = dir.path().join("data");
    let mut settings = Settings::new(data.clone(), "127.0.0.1:0".parse().unwrap());
    settings.releases = Some(dir.path().to_owned());
    let err = start(settings.clone()).await.unwrap_err();
    assert!(matches!(err, StartError::Releases { .. }), "{err}");
    assert!(err.to_string().contains("the backend's data folder lies in it"), "{err}");
    // One of its own, elsewhere, is served.
    let mirror = dir.path().join("mirror");
    std::fs::create_dir(&mirror).unwrap();
    std::fs::write(mirror.join("a.json"), "{}").unwrap();
    settings.releases = Some(mirror);
    let backend = start(settings).await.unwrap();
    let url = backend.url();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(backend.run_until(async move { drop(stopped.await) }));
    assert_eq!(raw(&url, "/releases/a.json").await.0, "200");
    stop.send(()).unwrap();
    within(task).await.unwrap().unwrap();
}
