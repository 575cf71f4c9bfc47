//! Downloads from servers that misbehave, each on a port of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;

/// What is fetched.
const LENGTH: usize = 300_000;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect()
}

fn target() -> Target {
    let sha256 = Sha256::digest(content()).iter().map(|it| format!("{it:02x}")).collect();
    Target { name: "outrider-1.0.0-linux-x86_64.tar.gz".into(), length: LENGTH as u64, sha256 }
}

/// How a server answers one request, which begins at a byte.
type Answer = fn(stream: &mut TcpStream, from: usize);

/// Answers each request with the next of these, and all further ones with the last. Notes where each begins.
fn serve(answers: &'static [Answer]) -> (Mirror, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/releases", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let from = begin(&mut stream);
            noted.lock().unwrap().push(from);
            answers[turn.min(answers.len() - 1)](&mut stream, from);
            drop(stream.shutdown(Shutdown::Both));
        }
    });
    (Mirror::named(&address, None).unwrap(), asked)
}

/// Reads a request; where it begins.
fn begin(stream: &mut TcpStream) -> usize {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap().to_lowercase();
    assert!(request.starts_with("get /releases/targets/"), "{request}");
    let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
    range.map_or(0, |it| it.trim_end_matches('-').parse().unwrap())
}

fn say(stream: &mut TcpStream, head: &str, body: &[u8]) {
    // A client that has heard enough may be gone.
    drop(stream.write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes()));
    drop(stream.write_all(body));
}

fn whole(stream: &mut TcpStream, _from: usize) {
    say(stream, &format!("200 OK\r\ncontent-length: {LENGTH}"), &content());
}

fn rest(stream: &mut TcpStream, from: usize) {
    if from == 0 {
        return whole(stream, from);
    }
    let length = LENGTH - from;
    let head = format!(
        "206 Partial Content\r\ncontent-length: {length}\r\ncontent-range: bytes {from}-{}/{LENGTH}",
        LENGTH - 1
    );
    say(stream, &head, &content()[from..]);
}

/// Sends a third of what was asked for, and is gone.
fn cut(stream: &mut TcpStream, from: usize) {
    let head = match from {
        0 => format!("200 OK\r\ncontent-length: {LENGTH}"),
        _ => format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{LENGTH}", LENGTH - 1),
    };
    let part = (LENGTH - from) / 3;
    say(stream, &head, &content()[from..from + part]);
}

fn missing(stream: &mut TcpStream, _from: usize) {
    say(stream, "404 Not Found\r\ncontent-length: 0", b"");
}

fn busy(stream: &mut TcpStream, _from: usize) {
    say(stream, "429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0", b"");
}

fn endless(stream: &mut TcpStream, _from: usize) {
    let zeros = vec![0; 64 << 10];
    say(stream, "200 OK", &zeros);
    while stream.write_all(&zeros).is_ok() {}
}

fn garbled(stream: &mut TcpStream, _from: usize) {
    let mut content = content();
    content[LENGTH / 2] ^= 1;
    say(stream, &format!("200 OK\r\ncontent-length: {LENGTH}"), &content);
}

async fn fetch(mirrors: &[Mirror], into: &Path, within: u64) -> (Result<(), DownloadError>, Vec<News>) {
    let target = target();
    let what = Download { mirrors, target: &target, into, rate: 0, within: Duration::from_secs(within) };
    let mut heard = Vec::new();
    let fetched = download(&what, |it| heard.push(it)).await;
    (fetched, heard)
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("part");
    let (mirror, asked) = serve(&[cut, cut, rest]);
    let (fetched, heard) = fetch(&[mirror], &into, 60).await;
    fetched.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), content());
    assert_eq!(*asked.lock().unwrap(), [0, 100_000, 166_666]);
    assert_eq!(heard.iter().filter(|it| matches!(it, News::Again { .. })).count(), 2);
    assert!(matches!(heard.last(), Some(News::Have { bytes, .. }) if *bytes == LENGTH as u64));
}

#[tokio::test]
async fn a_server_without_ranges_is_begun_anew_with_and_bodies_are_not_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("part");
    let (mirror, asked) = serve(&[cut, whole]);
    fetch(&[mirror], &into, 60).await.0.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), content());
    assert_eq!(*asked.lock().unwrap(), [0, 100_000]);
}

#[tokio::test]
async fn what_another_run_has_fetched_is_gone_on_with_and_what_is_whole_is_only_verified() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("part");
    std::fs::write(&into, &content()[..1000]).unwrap();
    let (mirror, asked) = serve(&[rest]);
    let mirrors = [mirror];
    fetch(&mirrors, &into, 60).await.0.unwrap();
    fetch(&mirrors, &into, 60).await.0.unwrap();
    assert_eq!(*asked.lock().unwrap(), [1000], "the second run asked for nothing");
}

#[tokio::test]
async fn another_mirror_is_taken_when_one_has_not_the_file_or_something_else() {
    for bad in [&[missing as Answer], &[endless as Answer], &[garbled as Answer]] {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("part");
        let (first, _) = serve(bad);
        let (second, _) = serve(&[rest]);
        let (fetched, heard) = fetch(&[first, second], &into, 60).await;
        fetched.unwrap();
        assert_eq!(std::fs::read(&into).unwrap(), content());
        assert!(matches!(heard.iter().find(|it| matches!(it, News::Again { .. })), Some(News::Again { .. })));
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_left_alone_as_long_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let (mirror, asked) = serve(&[busy, rest]);
    let (fetched, heard) = fetch(&[mirror], &dir.path().join("part"), 60).await;
    fetched.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 2);
    let Some(News::Again { error, pause }) = heard.first() else { panic!("{heard:?}") };
    assert!(error.contains("429") && *pause == Duration::from_secs(1), "{error} {pause:?}");
}

#[tokio::test]
async fn where_nothing_helps_the_reason_says_whether_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("part");
    let (mirror, _) = serve(&[missing]);
    let (fetched, _) = fetch(&[mirror], &into, 60).await;
    let err = fetched.unwrap_err();
    assert!(matches!(&err, DownloadError::Nowhere { why, .. } if why.contains("404")), "{err}");
    assert!(!err.is_retryable());

    let (mirror, _) = serve(&[garbled]);
    let (fetched, _) = fetch(&[mirror], &into, 60).await;
    let err = fetched.unwrap_err();
    assert!(matches!(err, DownloadError::Mismatch { .. }) && !err.is_retryable(), "{err}");
    assert!(!into.exists(), "what turned out to be something else is not kept");

    let (mirror, _) = serve(&[busy]);
    let (fetched, _) = fetch(&[mirror], &into, 1).await;
    let err = fetched.unwrap_err();
    assert!(matches!(err, DownloadError::TooLong { .. }) && err.is_retryable(), "{err}");
}

#[tokio::test]
async fn a_folder_is_a_mirror_and_a_rate_is_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    let target = target();
    std::fs::create_dir(dir.path().join("targets")).unwrap();
    std::fs::write(dir.path().join(target.path()), content()).unwrap();
    let mirrors = [Mirror::named(dir.path().to_str().unwrap(), None).unwrap()];
    let into = dir.path().join("part");
    // Half a second's worth.
    let rate = 2 * LENGTH as u64;
    let what =
        Download { mirrors: &mirrors, target: &target, into: &into, rate, within: Duration::from_secs(60) };
    let began = Instant::now();
    download(&what, drop).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(std::fs::read(&into).unwrap(), content());
}
