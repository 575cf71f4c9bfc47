//! The latest samples in short, for people to look at: of the busiest sources, what is first asked about them.
//!
//! # Invariants
//! - Bounded: [`SOURCES`] sources, and of each only the metrics listed here, as whole numbers.
//! - No more than a look: whoever needs every sample has an output for it.

use std::cmp::Reverse;

use jiff::Timestamp;
use outrider_protocol::collect::Reading;

use crate::catalogue::{
    CPU_USED, IO_READ_RATE, IO_WRITE_RATE, MEMORY_USAGE, PIDS, PROCESS_CPU_USED, PROCESS_RSS, PROCESS_THREADS,
};
use crate::model::{Metric, MetricRef, Sample, Source};

/// The most sources.
pub const SOURCES: usize = 12;
/// The longest name of a source, in characters.
const NAME: usize = 80;
/// Of a container's id: as its runtime shows it.
const SHORT_ID: usize = 12;

/// What is looked at; the first two say how busy a source is.
static LOOKED_AT: [&Metric; 8] = [
    &CPU_USED,
    &PROCESS_CPU_USED,
    &MEMORY_USAGE,
    &PROCESS_RSS,
    &IO_READ_RATE,
    &IO_WRITE_RATE,
    &PIDS,
    &PROCESS_THREADS,
];

/// The busiest sources of a round, the busiest first.
#[must_use]
pub fn latest(samples: &[Sample]) -> Vec<Reading> {
    let mut busiest: Vec<_> = samples.iter().filter_map(|it| Some((busy(it)?, it))).collect();
    busiest.sort_by_key(|(busy, sample)| (Reverse(*busy), sample.source.key.clone()));
    busiest.truncate(SOURCES);
    busiest.into_iter().filter_map(|(_, sample)| reading(sample)).collect()
}

/// Processor and memory; nothing where neither is known.
fn busy(sample: &Sample) -> Option<(u64, u64)> {
    let of = |metrics: &[&'static Metric]| metrics.iter().find_map(|it| value(sample, it));
    let (processor, memory) = (of(&LOOKED_AT[..2]), of(&LOOKED_AT[2..4]));
    (processor.is_some() || memory.is_some())
        .then(|| (processor.unwrap_or_default(), memory.unwrap_or_default()))
}

fn reading(sample: &Sample) -> Option<Reading> {
    let at = Timestamp::from_nanosecond(sample.time.unix_nanos().into()).ok()?;
    let values = LOOKED_AT
        .iter()
        .filter_map(|metric| Some((metric.name.clone().into_owned(), value(sample, metric)?)))
        .collect();
    Some(Reading { source: name(&sample.source), at, values })
}

/// Metrics of the catalogue are one each, so that the place tells them apart; names would cost more.
fn value(sample: &Sample, metric: &'static Metric) -> Option<u64> {
    let is_it = |it: &MetricRef| matches!(it, MetricRef::Known(known) if std::ptr::eq(*known, metric));
    let point = sample.points.iter().find(|it| it.tags.is_empty() && is_it(&it.metric))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates at both ends")]
    Some(point.number.as_f64().round() as u64)
}

/// What a person knows it by.
fn name(source: &Source) -> String {
    let text = if let Some(container) = source.tags.get("container") {
        format!("container {}", container.chars().take(SHORT_ID).collect::<String>())
    } else if let Some(process) = source.tags.get("process") {
        format!("{process} ({})", source.tags.get("pid").unwrap_or_default())
    } else {
        source.tags.get("cgroup").unwrap_or(&source.key).to_owned()
    };
    text.chars().take(NAME).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Number, Point, Tags, Time};

    fn sample(tags: &[(&'static str, &str)], values: &[(&'static Metric, f64)]) -> Sample {
        let key = tags.iter().map(|it| it.1).collect::<Vec<_>>().join("/").into();
        let points = values.iter().map(|(metric, value)| Point {
            metric: MetricRef::Known(metric),
            tags: Tags::default(),
            number: Number::Float(*value),
            start: None,
        });
        let source = Arc::new(Source { key, tags: Tags::new(tags.iter().copied()) });
        Sample { source, time: Time::from_unix_nanos(1_500_000_000), points: points.collect() }
    }

    #[test]
    fn the_busiest_come_first_under_the_names_that_people_know() {
        let samples = [
            sample(&[("cgroup", "/idle")], &[(&CPU_USED, 0.4), (&MEMORY_USAGE, 4096.0)]),
            sample(
                &[("cgroup", "/docker/x"), ("container", "0123456789abcdef")],
                &[(&CPU_USED, 1500.6), (&IO_READ_RATE, 3.0), (&PIDS, 7.0)],
            ),
            sample(&[("process", "cron"), ("pid", "12")], &[(&PROCESS_RSS, 1e6)]),
            sample(&[("cgroup", "/gone")], &[]),
        ];
        let found = latest(&samples);
        let names: Vec<_> = found.iter().map(|it| it.source.as_str()).collect();
        assert_eq!(names, ["container 0123456789ab", "cron (12)", "/idle"]);
        let values: Vec<_> = found[0].values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let expected =
            [("container.cpu.used", 1501), ("container.io.read.rate", 3), ("container.pids.current", 7)];
        assert_eq!(values, expected);
        assert_eq!(found[0].at.to_string(), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn what_is_told_is_bounded() {
        let long = "x".repeat(500);
        let samples: Vec<_> = (0..100)
            .map(|at| sample(&[("cgroup", &format!("{at}{long}"))], &[(&CPU_USED, f64::from(at))]))
            .collect();
        let found = latest(&samples);
        assert_eq!(found.len(), SOURCES);
        assert!(found[0].source.starts_with("99x") && found[0].source.len() == NAME);
        let negative = [sample(&[("cgroup", "/a")], &[(&CPU_USED, -5.0)])];
        assert_eq!(latest(&negative)[0].values["container.cpu.used"], 0);
    }
}
