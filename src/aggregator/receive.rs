//! Both protocols' receiving side: read, check, keep, answer.
//!
//! # Invariants
//! - Batches of a stream are kept one after another: the first that cannot be kept ends the stream, so that none after it
//!   is kept before it.
//! - Streams and calls at once are bounded, and each holds one message at most.

use std::pin::Pin;
use std::sync::Arc;

use outrider_collect::backlog::{BacklogError, Entry, Kept};
use outrider_collect::encode::points;
use outrider_collect::jetstream::JetstreamError;
use outrider_collect::store::{Store, StoreError};
use outrider_collect::wire;
use outrider_collect::wire::generated::collect as proto;
use outrider_collect::wire::generated::collect::collect_server::Collect;
use outrider_collect::wire::generated::publish::aggregator_server::Aggregator;
use outrider_collect::wire::generated::publish::{PublishRequest, PublishResponse};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::counts::Counts;

/// What both services are made of. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    store: Store,
    places: Arc<Semaphore>,
    most: usize,
    stop: watch::Receiver<bool>,
    counts: Arc<Counts>,
}

/// A place among those that are open.
struct Place {
    counts: Arc<Counts>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.open.subtract(1);
    }
}

impl Receiver {
    pub(crate) fn new(
        store: Store,
        streams: usize,
        stop: watch::Receiver<bool>,
        counts: Arc<Counts>,
    ) -> Self {
        Self { store, places: Arc::new(Semaphore::new(streams)), most: streams, stop, counts }
    }

    fn place(&self) -> Result<Place, Status> {
        let full =
            || Status::resource_exhausted(format!("{} streams and calls are open, the most", self.most));
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full())?;
        self.counts.open.add(1);
        Ok(Place { counts: Arc::clone(&self.counts), _permit: permit })
    }

    async fn keep(&self, batch: proto::Batch) -> Result<proto::Acknowledgement, Status> {
        let refused = |err: wire::WireError| {
            self.counts.refused.add(1);
            Status::invalid_argument(err.to_string())
        };
        let origin = wire::origin(&batch).map_err(refused)?;
        let sequence = batch.sequence;
        let bytes = batch.encode_to_vec();
        let count = wire::read(batch).map_err(refused)?.count();
        let points = u32::try_from(count).unwrap_or(u32::MAX);
        let kept = self.append(Entry { origin: Some(origin), points, bytes }).await?;
        Ok(proto::Acknowledgement { sequence, repeated: kept == Kept::Before })
    }

    async fn append(&self, entry: Entry) -> Result<Kept, Status> {
        let points = u64::from(entry.points);
        match self.store.append(entry).await {
            Ok(Kept::Now) => {
                self.counts.batches.add(1);
                self.counts.points.add(points);
                Ok(Kept::Now)
            }
            Ok(Kept::Before) => {
                self.counts.repeated.add(1);
                Ok(Kept::Before)
            }
            Err(err) => {
                self.counts.not_kept.add(1);
                Err(not_kept(&err))
            }
        }
    }

    /// Takes a stream's batches until it ends, one of them cannot be kept, or the end has come.
    async fn take(
        self,
        mut batches: Streaming<proto::Batch>,
        out: mpsc::Sender<Result<proto::Acknowledgement, Status>>,
        place: Place,
    ) {
        let mut stop = self.stop.clone();
        loop {
            let next = tokio::select! {
                next = batches.message() => next,
                () = async { drop(stop.wait_for(|it| *it).await) } => {
                    // Whoever left does not want to know.
                    drop(out.send(Err(Status::unavailable("the aggregator ends"))).await);
                    break;
                }
            };
            let answer = match next {
                Ok(None) => break,
                Ok(Some(batch)) => self.keep(batch).await,
                Err(status) => Err(status),
            };
            let last = answer.is_err();
            if out.send(answer).await.is_err() || last {
                break;
            }
        }
        drop(place);
    }
}

/// A full disk, or NATS that is away, is told in the log, by the one who may do something about it; the other end learns that
/// it has to wait.
fn not_kept(err: &StoreError) -> Status {
    tracing::error!(err = %err, "A batch was not kept, and not acknowledged; its sender has to send it again.");
    match err {
        StoreError::Disk(BacklogError::Disk { .. }) => {
            Status::resource_exhausted("the aggregator's disk refuses: nothing was kept")
        }
        // It would be too large for ever.
        StoreError::Stream(JetstreamError::TooLarge { .. }) => Status::invalid_argument(err.to_string()),
        _ => Status::unavailable("the aggregator cannot keep it now"),
    }
}

#[tonic::async_trait]
impl Collect for Receiver {
    type SendStream = Pin<Box<dyn Stream<Item = Result<proto::Acknowledgement, Status>> + Send>>;

    async fn send(
        &self,
        request: Request<Streaming<proto::Batch>>,
    ) -> Result<Response<Self::SendStream>, Status> {
        let place = self.place()?;
        let (out, answers) = mpsc::channel(1);
        tokio::spawn(self.clone().take(request.into_inner(), out, place));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

#[tonic::async_trait]
impl Aggregator for Receiver {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let _place = self.place()?;
        let tags = wire::publish::tags(|name| value(request.metadata(), name)).map_err(|err| {
            self.counts.refused.add(1);
            Status::invalid_argument(err.to_string())
        })?;
        let samples = [wire::publish::sample(request.get_ref(), tags)];
        let bytes = wire::batch("", 0, &samples, &[]).encode_to_vec();
        let points = u32::try_from(points(&samples)).unwrap_or(u32::MAX);
        self.append(Entry { origin: None, points, bytes }).await?;
        Ok(Response::new(PublishResponse {}))
    }
}

fn value(metadata: &MetadataMap, name: &str) -> Option<Result<String, ()>> {
    Some(metadata.get(name)?.to_str().map(str::to_owned).map_err(drop))
}
