//! Sources that never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt as _, stream};
use tough::{Bytes, async_trait};

use super::world::{World, first};
use crate::error::TrustError;
use crate::fetch::{ByteStream, Fetch, FetchError, Folder};

/// Gives one file without an end, in pieces of a size, and counts what was taken of it.
#[derive(Debug)]
struct Endless {
    folder: Folder,
    name: String,
    piece: usize,
    taken: Arc<AtomicU64>,
}

#[async_trait]
impl Fetch for Endless {
    async fn fetch(&self, name: &str, most: u64) -> Result<ByteStream, FetchError> {
        if !name.ends_with(&self.name) {
            return self.folder.fetch(name, most).await;
        }
        let (taken, piece) = (Arc::clone(&self.taken), Bytes::from(vec![b' '; self.piece]));
        Ok(Box::pin(stream::repeat_with(move || {
            taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(piece.clone())
        })))
    }
}

impl Endless {
    fn of(world: &World, name: &str, piece: usize) -> Self {
        let name = name.to_owned();
        Self { folder: Folder::new(world.repo()), name, piece, taken: Arc::default() }
    }
}

pub(super) async fn metadata() -> usize {
    let (world, _) = World::with_history();
    let agent = world.seen("agent").await;
    let mut cases = 0;
    for name in ["2.root.json", "timestamp.json", "3.snapshot.json", "3.targets.json"] {
        for piece in [1, 1000, 1 << 20] {
            let source = Endless::of(&world, name, piece);
            let taken = Arc::clone(&source.taken);
            let endless = |err: &TrustError| matches!(err, TrustError::Endless { .. });
            agent.refuses(&format!("{name} by {piece}"), Arc::new(source), endless).await;
            let most = crate::transport::TARGETS + piece as u64;
            assert!(taken.load(Ordering::Relaxed) <= most, "{name}: {taken:?}");
            cases += 1;
        }
    }
    cases
}

pub(super) async fn targets() -> usize {
    let (world, _) = World::with_history();
    let agent = world.seen("agent").await;
    let mut cases = 0;
    for (name, piece) in
        [(".files.json", 7), (".files.json", 1 << 20), (".tar.gz", 1000), (".tar.gz", 1 << 20)]
    {
        let source = Endless::of(&world, name, piece);
        let taken = Arc::clone(&source.taken);
        let trust = agent.open_by(Arc::new(source)).await.unwrap();
        let release = first(&trust);
        let target = if name == ".tar.gz" { &release.archives[0].target } else { &release.files };
        let mut pieces = Box::pin(trust.stream(target).await.unwrap());
        let mut got = 0;
        let err = loop {
            match pieces.next().await.unwrap() {
                Ok(piece) => got += piece.len() as u64,
                Err(err) => break err,
            }
        };
        assert!(matches!(err, TrustError::Endless { .. }), "{err:?}");
        assert!(got <= target.length && pieces.next().await.is_none());
        assert!(taken.load(Ordering::Relaxed) <= target.length + 2 * piece as u64);
        cases += 1;
    }
    cases
}
