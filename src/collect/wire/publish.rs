//! mini-collector's protocol: its fields as points, its metadata as tags, and back.
//!
//! # Invariants
//! - Points of it have the names of its fields: whoever kept its series finds them again.
//! - What is below zero was not measured, and has no point.
//! - `environment`, `service`, `container` and `host` have to be there; `app` and `database` may. `host` also comes as
//!   `host_name`, as newer collectors send it, since some gRPC libraries use `host` themselves. All else is left out.

use std::borrow::Cow;
use std::sync::Arc;

use super::generated::collect::Batch;
use super::generated::publish::PublishRequest;
use crate::model::{Kind, Metric, MetricRef, Number, Point, Sample, Source, Tags, Time, Unit};
use crate::original::Entry;

/// Tags that each call has.
const NEEDED: [&str; 4] = ["environment", "service", "container", "host"];
/// Tags that it may have.
const OPTIONAL: [&str; 2] = ["app", "database"];
/// The longest value of a tag.
const VALUE_BYTES: usize = 4096;

/// A call's metadata lack a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tag {tag} {found}; expected it in the metadata of the call, as a text of 1 to {VALUE_BYTES} bytes"
)]
pub struct TagError {
    /// Which.
    pub tag: &'static str,
    /// What is wrong with it.
    pub found: &'static str,
}

/// Tags of a call. `get` answers a value of the metadata, or an error where it is no text.
///
/// # Errors
/// When one that is needed is not there, or one is no text.
pub fn tags(get: impl Fn(&str) -> Option<Result<String, ()>>) -> Result<Tags, TagError> {
    let one = |tag: &'static str| {
        let found = get(tag).or_else(|| if tag == "host" { get("host_name") } else { None });
        match found {
            None => Ok(None),
            Some(Ok(text)) if text.is_empty() => Err(TagError { tag, found: "is empty" }),
            Some(Ok(text)) if text.len() > VALUE_BYTES => Err(TagError { tag, found: "is too long" }),
            Some(Ok(text)) => Ok(Some((tag, text))),
            Some(Err(())) => Err(TagError { tag, found: "is no text" }),
        }
    };
    let mut all = Vec::new();
    for tag in NEEDED {
        all.push(one(tag)?.ok_or(TagError { tag, found: "is missing" })?);
    }
    for tag in OPTIONAL {
        all.extend(one(tag)?);
    }
    Ok(Tags::new(all))
}

/// The tags of a source that go with a call.
///
/// # Errors
/// When the source lacks one.
pub fn metadata(tags: &Tags) -> Result<Vec<(&'static str, String)>, TagError> {
    let mut all = Vec::new();
    for tag in NEEDED {
        let value = tags.get(tag).filter(|it| !it.is_empty()).ok_or(TagError { tag, found: "is missing" })?;
        all.push((tag, value.to_owned()));
    }
    all.extend(OPTIONAL.iter().filter_map(|tag| Some((*tag, tags.get(tag)?.to_owned()))));
    Ok(all)
}

macro_rules! fields {
    ($($constant:ident = $name:literal $unit:ident)*) => {
        $(static $constant: Metric =
            Metric { name: Cow::Borrowed($name), unit: Unit::$unit, kind: Kind::Gauge };)*

        /// The names of its fields.
        pub static FIELDS: &[&str] = &[$($name),*];
    };
}

fields! {
    RUNNING = "running" Flag
    MILLI_CPU_USAGE = "milli_cpu_usage" MilliCpu
    MEMORY_TOTAL_MB = "memory_total_mb" One
    MEMORY_RSS_MB = "memory_rss_mb" One
    MEMORY_LIMIT_MB = "memory_limit_mb" One
    DISK_USAGE_MB = "disk_usage_mb" One
    DISK_LIMIT_MB = "disk_limit_mb" One
    DISK_READ_KBPS = "disk_read_kbps" PerSecond
    DISK_WRITE_KBPS = "disk_write_kbps" PerSecond
    DISK_READ_IOPS = "disk_read_iops" PerSecond
    DISK_WRITE_IOPS = "disk_write_iops" PerSecond
    PIDS_CURRENT = "pids_current" One
    PIDS_LIMIT = "pids_limit" One
}

/// What a call says.
#[must_use]
pub fn sample(said: &PublishRequest, tags: Tags) -> Sample {
    let whole = |metric, value| Some((metric, Number::Unsigned(value)));
    let measured = |metric, value: i64| u64::try_from(value).ok().map(|it| (metric, Number::Unsigned(it)));
    let points = [
        Some((&RUNNING, Number::Flag(said.running))),
        whole(&MILLI_CPU_USAGE, said.milli_cpu_usage),
        whole(&MEMORY_TOTAL_MB, said.memory_total_mb),
        whole(&MEMORY_RSS_MB, said.memory_rss_mb),
        whole(&MEMORY_LIMIT_MB, said.memory_limit_mb),
        measured(&DISK_USAGE_MB, said.disk_usage_mb),
        measured(&DISK_LIMIT_MB, said.disk_limit_mb),
        whole(&DISK_READ_KBPS, said.disk_read_kbps),
        whole(&DISK_WRITE_KBPS, said.disk_write_kbps),
        whole(&DISK_READ_IOPS, said.disk_read_iops),
        whole(&DISK_WRITE_IOPS, said.disk_write_iops),
        whole(&PIDS_CURRENT, said.pids_current),
        whole(&PIDS_LIMIT, said.pids_limit),
    ];
    let point = |(metric, number)| Point {
        metric: MetricRef::Known(metric),
        tags: Tags::default(),
        number,
        start: None,
    };
    let key = tags.get("container").unwrap_or_default().into();
    Sample {
        source: Arc::new(Source { key, tags }),
        time: Time::from_unix_nanos(said.unix_time.saturating_mul(1_000_000_000)),
        points: points.into_iter().flatten().map(point).collect(),
    }
}

/// The message of an entry. `milli_cpu_limit` is in no released version of the protocol, and left out.
#[must_use]
pub fn request(entry: &Entry) -> PublishRequest {
    PublishRequest {
        unix_time: entry.unix_time,
        running: entry.running,
        milli_cpu_usage: entry.milli_cpu_usage,
        memory_total_mb: entry.memory_total_mb,
        memory_rss_mb: entry.memory_rss_mb,
        memory_limit_mb: entry.memory_limit_mb,
        disk_usage_mb: entry.disk_usage_mb,
        disk_limit_mb: entry.disk_limit_mb,
        disk_read_kbps: entry.disk_read_kbps,
        disk_write_kbps: entry.disk_write_kbps,
        disk_read_iops: entry.disk_read_iops,
        disk_write_iops: entry.disk_write_iops,
        pids_current: entry.pids_current,
        pids_limit: entry.pids_limit,
    }
}

/// With a prefix before the names of its fields.
#[must_use]
pub fn renamed(mut batch: Batch, prefix: &str) -> Batch {
    if !prefix.is_empty() {
        for metric in batch.metrics.iter_mut().filter(|it| FIELDS.contains(&it.name.as_str())) {
            metric.name = format!("{prefix}{}", metric.name);
        }
    }
    batch
}
