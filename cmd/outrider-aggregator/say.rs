//! What the program says on stderr, a line each.

use outrider_aggregator::Aggregator;
use outrider_collect::outputs::News;
use outrider_protocol::collect::OutputReport;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins the log. stdout is for an output. What the client of NATS has to say the outputs say, and once.
pub(crate) fn start() {
    let lines = tracing_subscriber::fmt::layer();
    let lines = lines.with_ansi(false).with_target(false).with_writer(std::io::stderr);
    let told = Targets::new().with_default(Level::INFO).with_target("async_nats", LevelFilter::OFF);
    tracing_subscriber::registry().with(lines.with_filter(told)).init();
}

pub(crate) fn started(aggregator: &Aggregator) {
    let pages = aggregator.pages().map(|it| it.to_string());
    tracing::info!(listen = %aggregator.address(), pages, "The aggregator takes what collectors measure.");
}

pub(crate) fn ended(reports: &[OutputReport]) {
    for it in reports {
        tracing::info!(
            output = it.name,
            sent = it.sent,
            waiting = it.waiting,
            dropped = it.dropped,
            refused = it.refused,
            "An output has ended; what waits for it outlives this."
        );
    }
}

/// What an output has to tell.
pub(crate) fn news(output: &str, news: News) {
    match news {
        News::Fails { why, denied: true } => {
            tracing::error!(
                output,
                why,
                "An output refuses the key or the address; what was received waits."
            );
        }
        News::Fails { why, denied: false } => {
            tracing::warn!(output, why, "An output takes nothing; what was received waits.");
        }
        News::Works { since } => tracing::info!(output, failed_since = %since, "An output works again."),
        News::Refused { points, why } => {
            tracing::warn!(output, points, why, "An output refuses points for what they are.");
        }
        News::Dropped { points } => {
            tracing::warn!(
                output,
                points,
                "Points were dropped, the oldest first: more waited than queue_bytes."
            );
        }
        News::DroppedBatches { batches } => {
            tracing::warn!(
                output,
                batches,
                "Batches were dropped, the oldest first: the stream held more than queue_bytes."
            );
        }
        News::SetAside { to, why } => {
            let to = to.display();
            tracing::error!(%to, why, "The file of what waited was damaged; it is set aside, and an empty one begun.");
        }
        News::Damaged { batches } => {
            tracing::error!(batches, "Batches on the disk are not what was written; they are left out.");
        }
    }
}
