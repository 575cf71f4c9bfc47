//! What the aggregator says of itself: `/metrics` as Prometheus reads it, and `/healthz`.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use outrider_collect::outputs::Inlet;
use outrider_collect::store::{Batches, Store};
use outrider_protocol::collect::OutputReport;

use crate::counts::Counts;

#[derive(Clone)]
struct Shown {
    inlet: Inlet,
    store: Store,
    counts: Arc<Counts>,
}

pub(crate) fn router(inlet: Inlet, store: Store, counts: Arc<Counts>) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(health)).with_state(Shown {
        inlet,
        store,
        counts,
    })
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let reports = shown.inlet.report();
    let names: Vec<_> = reports.iter().map(|it| it.name.clone()).collect();
    let text = text(&shown.counts, shown.store.bytes(), &reports, &shown.store.batches(&names));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// Well as long as batches can be kept: an output that is away is what it is there for.
async fn health(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.store.check().await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(err) => (StatusCode::SERVICE_UNAVAILABLE, format!("{err}\n")),
    }
}

/// Name, kind, help, and each row's labels with its number.
type Family<'a> = (&'a str, &'a str, &'a str, Vec<(String, u64)>);

fn text(counts: &Counts, bytes: u64, outputs: &[OutputReport], batches: &[Batches]) -> String {
    let mut text = String::new();
    let of = |number: u64| vec![(String::new(), number)];
    let each = |number: fn(&OutputReport) -> u64| {
        let one = |it: &OutputReport| (format!("{{output=\"{}\"}}", escaped(&it.name)), number(it));
        outputs.iter().map(one).collect()
    };
    let of_batches = |number: fn(&Batches) -> u64| {
        let one = |it: &Batches| (format!("{{output=\"{}\"}}", escaped(&it.output)), number(it));
        batches.iter().map(one).collect()
    };
    let families: [Family<'_>; 15] = [
        ("received_batches_total", "counter", "Batches and calls that were kept.", of(counts.batches.get())),
        ("received_points_total", "counter", "Points and events that were kept.", of(counts.points.get())),
        (
            "repeated_batches_total",
            "counter",
            "Batches that had been kept before.",
            of(counts.repeated.get()),
        ),
        (
            "refused_batches_total",
            "counter",
            "Batches and calls refused for what they are.",
            of(counts.refused.get()),
        ),
        (
            "not_kept_batches_total",
            "counter",
            "Batches and calls that the disk or NATS refused.",
            of(counts.not_kept.get()),
        ),
        ("open_streams", "gauge", "Streams and calls that are open.", of(counts.open.get())),
        ("backlog_bytes", "gauge", "Bytes that wait on the disk or at NATS.", of(bytes)),
        ("output_sent_points_total", "counter", "Points that an output took.", each(|it| it.sent)),
        ("output_refused_points_total", "counter", "Points that an output refused.", each(|it| it.refused)),
        (
            "output_dropped_points_total",
            "counter",
            "Points that an output will not get.",
            each(|it| it.dropped),
        ),
        (
            "output_left_out_points_total",
            "counter",
            "Points that have no form an output takes: events without a number.",
            each(|it| it.left_out),
        ),
        ("output_waiting_points", "gauge", "Points that wait for an output.", each(|it| it.waiting)),
        (
            "output_waiting_batches",
            "gauge",
            "Batches that wait for an output at NATS.",
            of_batches(|it| it.waiting),
        ),
        (
            "output_dropped_batches_total",
            "counter",
            "Batches at NATS that an output will not get.",
            of_batches(|it| it.dropped),
        ),
        (
            "output_failing",
            "gauge",
            "Whether an output takes nothing.",
            each(|it| u64::from(it.failing.is_some())),
        ),
    ];
    for (name, kind, help, rows) in families.into_iter().filter(|it| !it.3.is_empty()) {
        let name = format!("outrider_aggregator_{name}");
        // Writing to a text never fails.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, number) in rows {
            let _ = writeln!(text, "{name}{labels} {number}");
        }
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_as_prometheus_reads_them() {
        let counts = Counts::default();
        counts.points.add(7);
        let report = OutputReport { name: "a\"b".into(), waiting: 3, ..OutputReport::default() };
        let batches = Batches { output: "s".into(), waiting: 2, dropped: 9 };
        let without = text(&counts, 5, std::slice::from_ref(&report), &[]);
        assert!(!without.contains("batches{") && !without.contains("waiting_batches"), "{without}");
        let text = text(&counts, 5, &[report], &[batches]);
        for line in [
            "# TYPE outrider_aggregator_received_points_total counter",
            "outrider_aggregator_received_points_total 7",
            "outrider_aggregator_backlog_bytes 5",
            "outrider_aggregator_output_waiting_points{output=\"a\\\"b\"} 3",
            "outrider_aggregator_output_waiting_batches{output=\"s\"} 2",
            "outrider_aggregator_output_dropped_batches_total{output=\"s\"} 9",
            "outrider_aggregator_output_failing{output=\"a\\\"b\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
