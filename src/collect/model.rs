//! What everything here speaks of: points of metrics, measured of a source at a time.
//!
//! ```text
//! Sample ── source: Source (what was measured, with the tags of all its points)
//!    │      time    (wall clock, nanoseconds)
//!    └───── points: Point { metric: Metric { name, unit, kind }, tags, number, start }
//!
//! Event ─── source, time, name (of the API), fields: an object of JSON
//! ```
//!
//! # Invariants
//! - A number is finite: `Number::float` refuses what is not, so that no encoder meets a NaN.
//! - What has no value has no point. An unlimited limit is absent, never 2^64.
//! - A counter only grows from its `start`; when it was reset, its start is later than before. A gauge has no start.
//! - A source's `key` tells it from all others of its host that ever were: what comes back under the same name is
//!   another source, so its counters are never joined to those of its predecessor.
//! - The types are plain: no clock, no I/O, no encoding. Names and tags are shared, never copied for a sample.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time of the wall clock, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// So many nanoseconds after 1970 began.
    #[must_use]
    pub fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The clock's time; one that stands before 1970 or after 2262 is 1970.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or_default())
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn unix_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since 1970, rounded down.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The time so much earlier.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// One instant on both clocks: the wall's for people, the monotonic one for rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What the sample is stamped with.
    pub wall: Time,
    /// Since any fixed instant; it never goes back.
    pub monotonic: Duration,
}

/// How a metric's values relate to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A sum that grows from its start.
    Counter,
    /// A value of its time.
    Gauge,
}

/// What a metric is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Things.
    One,
    /// Yes or no.
    Flag,
    /// Bytes.
    Bytes,
    /// Time in nanoseconds.
    Nanoseconds,
    /// A point in time, in seconds since 1970.
    UnixSeconds,
    /// Thousandths of a processor.
    MilliCpu,
    /// Of a hundred.
    Percent,
    /// Bytes in each second.
    BytesPerSecond,
    /// Things in each second.
    PerSecond,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Metric {
    /// Words joined by dots: `container.cpu.usage`.
    pub name: Cow<'static, str>,
    /// What it is counted in.
    pub unit: Unit,
    /// How its values relate.
    pub kind: Kind,
}

/// A metric of the catalogue, or one that is only known since something was received.
#[derive(Debug, Clone)]
pub enum MetricRef {
    /// Of the catalogue.
    Known(&'static Metric),
    /// Told by others.
    Told(Arc<Metric>),
}

impl std::ops::Deref for MetricRef {
    type Target = Metric;

    fn deref(&self) -> &Metric {
        match self {
            Self::Known(metric) => metric,
            Self::Told(metric) => metric,
        }
    }
}

impl PartialEq for MetricRef {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// From 0.
    Unsigned(u64),
    /// Whole.
    Signed(i64),
    /// Finite; made by [`Number::float`].
    Float(f64),
    /// Yes or no.
    Flag(bool),
}

impl Number {
    /// A finite number; none of what is not.
    #[must_use]
    pub fn float(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Float(value))
    }

    /// As what most receivers take. Whole numbers beyond 2^53 are rounded.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "receivers of floats have no more")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Float(value) => value,
            Self::Flag(value) => f64::from(u8::from(value)),
        }
    }
}

/// What tells series of one metric apart: names with values, in the order in which they were given.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Tags(Option<Arc<[Tag]>>);

/// A name with its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag {
    /// As `device`.
    pub name: Cow<'static, str>,
    /// As `8:0`.
    pub value: Box<str>,
}

impl Tags {
    /// Of names with values. A name that comes twice keeps its last value, in its first place.
    pub fn new<N: Into<Cow<'static, str>>, V: Into<Box<str>>>(all: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut tags: Vec<Tag> = Vec::new();
        for (name, value) in all {
            let (name, value) = (name.into(), value.into());
            match tags.iter_mut().find(|it| it.name == name) {
                Some(tag) => tag.value = value,
                None => tags.push(Tag { name, value }),
            }
        }
        Self((!tags.is_empty()).then(|| tags.into()))
    }

    /// One after another.
    pub fn iter(&self) -> std::slice::Iter<'_, Tag> {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|it| it.name == name).map(|it| &*it.value)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl<'a> IntoIterator for &'a Tags {
    type Item = &'a Tag;
    type IntoIter = std::slice::Iter<'a, Tag>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|it| (&it.name, &it.value))).finish()
    }
}

/// A value of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What it is.
    pub metric: MetricRef,
    /// Of this point, beside those of its source.
    pub tags: Tags,
    /// How much.
    pub number: Number,
    /// Since when a counter counts, where that is known.
    pub start: Option<Time>,
}

/// What is measured: a container, a process, a host, an API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// Tells it from all others of its host that ever were.
    pub key: Box<str>,
    /// Of all its points.
    pub tags: Tags,
}

/// What was measured of a source at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Of what.
    pub source: Arc<Source>,
    /// When.
    pub time: Time,
    /// What.
    pub points: Vec<Point>,
}

impl Sample {
    /// The number of a metric, where it has no tags of its own.
    #[must_use]
    pub fn number(&self, metric: &Metric) -> Option<Number> {
        let point = self.points.iter().find(|it| it.tags.is_empty() && *it.metric == *metric)?;
        Some(point.number)
    }
}

/// What an API said at one time: one object of its answer, as it came or as its mapping made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Which API of which target, with the common fields of all its events as tags.
    pub source: Arc<Source>,
    /// What kind of event it is: the name of the API.
    pub name: Box<str>,
    /// When: a field of the answer, or the time of the poll.
    pub time: Time,
    /// What.
    pub fields: serde_json::Map<String, serde_json::Value>,
}
