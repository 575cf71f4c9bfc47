//! What becomes of a file after one try.

use super::*;

fn file() -> Sealed {
    Sealed {
        export: "e1".into(),
        origin: "git".into(),
        model: "m".into(),
        number: 0,
        records: 1,
        raw_bytes: 1,
        bytes: 1,
        sha256: String::new(),
        path: "0.json.gz".into(),
    }
}

#[tokio::test]
async fn a_file_whose_upload_panicked_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let http = Http::anonymous("http://127.0.0.1:1", None, &limits).unwrap();
    let (events, _happened) = mpsc::channel(8);
    let root = Root::at(dir.path());
    let spool = open(root.spool()).unwrap();
    let mut uploads = Uploads::new(http, Timing::new(&limits), (&root, &limits), spool, events);
    uploads.add(file());
    let taken = uploads.queue.pop_front().unwrap();
    uploads.ended(tried(taken, async { panic!("a bug") }).await).await;
    assert!(uploads.queue.is_empty());
    uploads.resting.values_mut().for_each(|it| it.until = Instant::now());
    uploads.wake_rested();
    assert_eq!(uploads.queue.len(), 1);
}
