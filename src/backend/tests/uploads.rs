//! Uploads: whole, in parts, cut, wrong, twice.

use std::sync::LazyLock;

use futures_util::StreamExt as _;
use outrider_protocol::action::{Compression, SealedFile};
use reqwest::StatusCode;

use super::harness::{Rig, compressed, sealed, within};
use crate::Limits;
use crate::admin::FileFilter;

/// Three objects in 300 bytes, compressed to more than 64.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| compressed(&lines(3, 300), Compression::Gzip));

/// So many lines with so many bytes that do not compress well.
fn lines(lines: usize, bytes: usize) -> Vec<u8> {
    let mut seed = 7u32;
    let mut text: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'!' + u8::try_from(seed >> 26).unwrap()
    })
    .take(bytes)
    .collect();
    for line in 1..=lines {
        text[bytes * line / lines - 1] = b'\n';
    }
    text
}

#[tokio::test]
async fn a_file_comes_in_parts_and_is_there_once() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let file = sealed(&command, 1, &CONTENT);
    assert_eq!(agent.head(&file).await, (StatusCode::NOT_FOUND, 0, false));
    assert_eq!(agent.patch(&file, 0, &CONTENT[..20]).await, (StatusCode::OK, 20, false));
    assert_eq!(agent.head(&file).await, (StatusCode::OK, 20, false));
    assert_eq!(agent.patch(&file, 7, &CONTENT[7..]).await, (StatusCode::CONFLICT, 20, false));
    assert_eq!(agent.patch(&file, 20, &CONTENT[20..]).await, (StatusCode::OK, file.bytes, true));
    assert_eq!(agent.head(&file).await, (StatusCode::OK, file.bytes, true));
    // Once more, as if the answer had been lost.
    assert_eq!(agent.patch(&file, 20, &CONTENT[20..]).await, (StatusCode::OK, file.bytes, true));
    let files = rig.client.files(&FileFilter::default()).await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].objects, files[0].raw_bytes, files[0].bytes), (3, 300, file.bytes));
    assert_eq!(rig.client.download(&files[0]).await.unwrap(), *CONTENT);
    assert_eq!(std::fs::read(&files[0].path).unwrap(), *CONTENT);
    let counted = rig.client.command(&command).await.unwrap().summary;
    assert_eq!((counted.files, counted.objects, counted.bytes), (1, 3, file.bytes));
}

#[tokio::test]
async fn whoever_asks_for_a_whole_file_is_told_which_one_is_here_and_another_is_refused() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let file = sealed(&command, 1, &CONTENT);
    agent.patch(&file, 0, &CONTENT[..20]).await;
    assert_eq!(agent.known_hash(&file).await, None, "not before it was verified");
    agent.patch(&file, 20, &CONTENT[20..]).await;
    assert_eq!(agent.known_hash(&file).await.as_ref(), Some(&file.sha256));
    let content = compressed(&lines(3, 299), Compression::Gzip);
    let other = SealedFile { raw_bytes: 299, ..sealed(&command, 1, &content) };
    assert_eq!(agent.known_hash(&other).await.as_ref(), Some(&file.sha256));
    let answer = agent.patch_request(&other, 0).body(content).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let said = answer.text().await.unwrap();
    assert!(said.contains(&format!("another file of this name, with SHA-256 {}", file.sha256)), "{said}");
    assert_eq!(agent.known_hash(&file).await, Some(file.sha256));
}

#[tokio::test]
async fn a_file_with_a_wrong_hash_is_forgotten() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let file = sealed(&command, 1, &CONTENT);
    let mut wrong = CONTENT.to_vec();
    wrong[5] ^= 1;
    assert_eq!(agent.patch(&file, 0, wrong).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(agent.head(&file).await, (StatusCode::NOT_FOUND, 0, false));
    assert_eq!(agent.patch(&file, 0, &CONTENT[..]).await, (StatusCode::OK, file.bytes, true));
}

#[tokio::test]
async fn an_upload_that_was_cut_goes_on_where_it_was_cut() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let content = compressed(&lines(1000, 6_000_000), Compression::Gzip);
    let file = SealedFile { objects: 1000, raw_bytes: 6_000_000, ..sealed(&command, 1, &content) };
    let some = content[..1_000_000].to_vec();
    let cut = futures_util::stream::iter([Ok(some), Err(std::io::Error::other("cut"))]);
    let body = reqwest::Body::wrap_stream(cut.boxed());
    agent.patch_request(&file, 0).body(body).send().await.unwrap_err();
    // What came before the cut may still be on its way into the file: a refusal says where to go on.
    let (mut have, mut complete) = (0, false);
    within(async {
        while !complete {
            let rest = content[usize::try_from(have).unwrap()..].to_vec();
            (_, have, complete) = agent.patch(&file, have, rest).await;
        }
    })
    .await;
    assert_eq!((have, complete), (file.bytes, true));
}

#[tokio::test]
async fn a_part_survives_a_restart_of_the_backend() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let file = sealed(&command, 1, &CONTENT);
    agent.patch(&file, 0, &CONTENT[..20]).await;
    let rig = Rig::in_folder(rig.stop().await, Limits::default()).await;
    let agent = agent.at(&rig.url);
    assert_eq!(agent.head(&file).await, (StatusCode::OK, 20, false));
    assert_eq!(agent.patch(&file, 20, &CONTENT[20..]).await, (StatusCode::OK, file.bytes, true));
}

#[tokio::test]
async fn more_bytes_than_announced_and_files_too_large_are_refused() {
    let rig = Rig::with(Limits { file_bytes: 1000, ..Limits::default() }).await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let mut file = sealed(&command, 1, &CONTENT);
    file.bytes = 10;
    assert_eq!(agent.patch(&file, 0, &CONTENT[..]).await.0, StatusCode::BAD_REQUEST);
    file.bytes = 1001;
    assert_eq!(agent.patch(&file, 0, &CONTENT[..]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn two_agents_may_have_files_of_the_same_name() {
    let rig = Rig::new().await;
    let (one, two) = (rig.agent().await, rig.agent_again("request-of-the-second").await);
    let command = rig.order(&one).await.summary.id;
    let file = sealed(&command, 1, &CONTENT);
    assert!(one.patch(&file, 0, &CONTENT[..]).await.2);
    assert_eq!(two.head(&file).await, (StatusCode::NOT_FOUND, 0, false));
    assert!(two.patch(&file, 0, &CONTENT[..]).await.2);
    assert_eq!(rig.client.files(&FileFilter::default()).await.unwrap().len(), 2);
    assert_eq!(rig.client.command(&command).await.unwrap().summary.files, 1);
}

#[tokio::test]
async fn a_file_whose_counts_are_not_as_announced_is_refused_with_both_numbers() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let right = sealed(&command, 1, &CONTENT);
    for wrong in [SealedFile { objects: 4, ..right.clone() }, SealedFile { raw_bytes: 299, ..right.clone() }]
    {
        let answer = agent.patch_request(&wrong, 0).body(CONTENT.clone()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let said = answer.text().await.unwrap();
        let (objects, bytes) = (wrong.objects, wrong.raw_bytes);
        assert!(said.contains("3 objects in") && said.contains(" 300 bytes"), "{said}");
        assert!(said.contains(&format!("the agent said {objects} objects in {bytes} bytes")), "{said}");
        assert_eq!(agent.head(&wrong).await, (StatusCode::NOT_FOUND, 0, false));
        assert_eq!(agent.hello(Vec::new()).await.files, Some(0));
    }
    assert!(agent.patch(&right, 0, &CONTENT[..]).await.2);
}

#[tokio::test]
async fn a_zstd_file_is_kept_as_such_and_counted() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let content = compressed(&lines(3, 300), Compression::Zstd);
    let file = SealedFile { compression: Compression::Zstd, ..sealed(&command, 1, &content) };
    assert_eq!(agent.patch(&file, 0, content[..20].to_vec()).await, (StatusCode::OK, 20, false));
    assert_eq!(agent.head(&file).await, (StatusCode::OK, 20, false));
    for _ in 0..2 {
        assert_eq!(agent.patch(&file, 20, content[20..].to_vec()).await, (StatusCode::OK, file.bytes, true));
        assert_eq!(agent.hello(Vec::new()).await.files, Some(1));
    }
    let files = rig.client.files(&FileFilter::default()).await.unwrap();
    assert_eq!(files[0].compression, Compression::Zstd);
    assert!(files[0].path.ends_with("/sourcecode.Repo/1.json.zst"), "{}", files[0].path);
    assert_eq!(std::fs::read(&files[0].path).unwrap(), content);
    let gzip = sealed(&command, 2, &CONTENT);
    assert!(agent.patch(&gzip, 0, &CONTENT[..]).await.2);
    assert_eq!(agent.hello(Vec::new()).await.files, Some(2));
    let files = rig.client.files(&FileFilter::default()).await.unwrap();
    assert!(files.iter().any(|file| file.path.ends_with("/2.json.gz")));
}
