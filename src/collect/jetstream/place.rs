//! The stream and its consumers as they have to be: made where they are missing, refused where they are something else.
//!
//! # Invariants
//! - Of a stream that is there, only the bound and the time of duplicates are changed; the aggregator that began last decides.
//! - A stream that was made for something else is left alone, and said so.
//! - No consumer is beyond the end of its stream. A server that is killed while its stream gets empty may begin to count at 1
//!   again (read in the source of 2.9.10), and a consumer of before would let pass what comes up to where it was: it is made
//!   anew, whoever's output it is of, and begins with the first that is there. Meanwhile another consumer waits for all of it,
//!   since a stream of this kind deletes what only a consumer waited for that is deleted.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use futures_util::TryStreamExt;
use uuid::Uuid;

use super::{Plan, chain_once};
use crate::plain::word;

/// The most batches of a consumer that are with aggregators at once. It bounds what comes twice after a kill.
const HELD: i64 = 1000;

/// How long a consumer stays that is there for a while only, where nobody deletes it.
const MEANWHILE: Duration = Duration::from_secs(60);

/// Why the stream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) why: String,
    /// Whether a person has to do something about it.
    pub(super) denied: bool,
}

impl Unusable {
    pub(super) fn later(operation: &str, err: &dyn std::error::Error) -> Self {
        Self { why: format!("{operation}: {}", chain_once(err)), denied: false }
    }
}

/// What a stream that is there is good for.
#[derive(Debug, PartialEq)]
enum Fit {
    AsItIs,
    With(Box<Config>),
    Not(Unusable),
}

/// What is asked for. All else is the server's own.
fn config(plan: &Plan) -> Config {
    Config {
        name: plan.settings.stream.clone(),
        subjects: vec![plan.subject()],
        retention: RetentionPolicy::Interest,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_bytes: i64::try_from(plan.most_bytes).unwrap_or(i64::MAX),
        num_replicas: plan.settings.replicas,
        duplicate_window: Duration::from_secs(plan.settings.duplicates_s),
        description: Some("What outrider-aggregator has received and not sent on".to_owned()),
        ..Config::default()
    }
}

fn fit(found: &Config, asked: &Config) -> Fit {
    let not = |found: String, expected: &str| {
        let why = format!(
            "the stream is there and is no queue of an aggregator: found {found}, expected {expected}; name another stream"
        );
        Fit::Not(Unusable { why, denied: true })
    };
    if found.subjects != asked.subjects {
        return not(format!("the subjects {:?}", found.subjects), &format!("{:?}", asked.subjects));
    }
    if found.retention != asked.retention {
        return not(format!("the retention {:?}", found.retention), "Interest");
    }
    if found.storage != asked.storage {
        return not(format!("the storage {:?}", found.storage), "File");
    }
    if found.discard != asked.discard {
        return not(format!("the discard policy {:?}", found.discard), "Old");
    }
    // A server says no bound as 0 or as -1.
    if found.max_age > Duration::ZERO || found.max_messages > 0 || found.max_messages_per_subject > 0 {
        return not("bounds in age or in messages".to_owned(), "a bound in bytes alone");
    }
    if found.no_ack {
        return not("that it acknowledges nothing".to_owned(), "acknowledgements");
    }
    if (found.max_bytes, found.duplicate_window) == (asked.max_bytes, asked.duplicate_window) {
        return Fit::AsItIs;
    }
    let (max_bytes, duplicate_window) = (asked.max_bytes, asked.duplicate_window);
    Fit::With(Box::new(Config { max_bytes, duplicate_window, ..found.clone() }))
}

/// The stream, made where it is not there. Its bound is set by the first look of a process alone, so that no connection that
/// is lost and found sets back what another aggregator has set since.
pub(super) async fn stream(context: &Context, plan: &Plan, is_first: bool) -> Result<Stream, Unusable> {
    let asked = config(plan);
    match context.get_stream(&asked.name).await {
        Ok(stream) => match fit(&stream.cached_info().config, &asked) {
            Fit::AsItIs => Ok(stream),
            Fit::Not(unusable) => Err(unusable),
            // Another aggregator that began later has its own bound.
            Fit::With(_) if !is_first => Ok(stream),
            Fit::With(config) => {
                let updated = context.update_stream(*config).await;
                updated.map_err(|err| Unusable::later("change its bound", &err))?;
                Ok(stream)
            }
        },
        Err(err) if is_missing(&err.kind()) => {
            context.create_stream(asked).await.map_err(|err| Unusable::later("make it", &err))
        }
        Err(err) => Err(Unusable::later("look for it", &err)),
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(err) if err.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// An output's name as that of a consumer. NATS takes a percent sign and then formats subjects with it.
fn name(output: &str) -> String {
    word(output).replace('%', "=")
}

/// The consumer of an output. A new one begins with what comes next.
pub(super) async fn consumer(stream: &Stream, output: &str, plan: &Plan) -> Result<PullConsumer, Unusable> {
    let name = name(output);
    // Not as `New`: a server that was killed before it noted where that begins would begin after what waits by then.
    let next = stream.cached_info().state.last_sequence + 1;
    let asked = pull::Config {
        durable_name: Some(name.clone()),
        description: Some(description()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ack_policy: AckPolicy::Explicit,
        ack_wait: plan.answer,
        max_ack_pending: HELD,
        ..pull::Config::default()
    };
    let found = stream.get_or_create_consumer(&name, asked).await;
    let found =
        found.map_err(|err| Unusable::later(&format!("find or make the consumer {name:?} in it"), &err))?;
    if let Some(odd) = unfit(&found.cached_info().config) {
        let why = format!(
            "the consumer {name:?} is there and is none of an aggregator: it {odd}; expected a pull consumer that \
             acknowledges each batch, filters nothing and delivers again without end; delete it, or name the output otherwise"
        );
        return Err(Unusable { why, denied: true });
    }
    Ok(found)
}

/// Of a consumer that is made now, and of no other.
fn description() -> String {
    format!("What an output of outrider-aggregator has not got yet, {}", Uuid::new_v4())
}

/// All consumers of a stream.
pub(super) async fn consumers(stream: &Stream) -> Result<Vec<consumer::Info>, Unusable> {
    let all = stream.consumers().try_collect().await;
    all.map_err(|err| Unusable::later("list its consumers", &err))
}

/// Makes those consumers anew that are beyond the end of the stream.
pub(super) async fn renew_consumers(stream: &Stream) -> Result<(), Unusable> {
    let mut beyond = consumers(stream).await?;
    // Asked afterwards: what comes meanwhile is delivered meanwhile.
    let info = stream.get_info().await.map_err(|err| Unusable::later("look at it", &err))?;
    let last = info.state.last_sequence;
    beyond.retain(|it| it.delivered.stream_sequence > last && unfit(&it.config).is_none());
    if beyond.is_empty() {
        return Ok(());
    }
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: info.state.first_sequence.max(1) };
    let waits = pull::Config {
        durable_name: Some(format!("meanwhile-{}", Uuid::new_v4())),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        inactive_threshold: MEANWHILE,
        ..pull::Config::default()
    };
    let waits = stream.create_consumer(waits).await;
    let waits = waits.map_err(|err| Unusable::later("make a consumer in it for a while", &err))?;
    let mut made = Ok(());
    for old in beyond {
        made = renew(stream, old, deliver_policy, last).await;
        if made.is_err() {
            break;
        }
    }
    // Where that fails, it goes by itself.
    drop(stream.delete_consumer(&waits.cached_info().name).await);
    made
}

async fn renew(
    stream: &Stream,
    old: consumer::Info,
    deliver_policy: DeliverPolicy,
    last: u64,
) -> Result<(), Unusable> {
    let failed = |err: &dyn std::error::Error| {
        Unusable::later(&format!("make the consumer {:?} in it anew", old.name), err)
    };
    // Another aggregator may have done so.
    let now = stream.consumer_info(&old.name).await.map_err(|err| failed(&err))?;
    if now.config.description != old.config.description || now.delivered.stream_sequence <= last {
        return Ok(());
    }
    stream.delete_consumer(&old.name).await.map_err(|err| failed(&err))?;
    let description = Some(description());
    let config = consumer::Config { deliver_policy, description, ..old.config.clone() };
    stream.create_consumer(config).await.map(drop).map_err(|err| failed(&err))
}

/// Which of all that ever had its name: when it was made does not tell that, since a server says another moment after its next
/// start.
pub(super) fn which(consumer: &PullConsumer) -> &str {
    consumer.cached_info().config.description.as_deref().unwrap_or_default()
}

/// What a consumer that is there does, and one of ours does not.
fn unfit(config: &consumer::Config) -> Option<&'static str> {
    if config.deliver_subject.is_some() {
        Some("pushes")
    } else if config.ack_policy != AckPolicy::Explicit {
        Some("does not acknowledge each batch")
    } else if !config.filter_subject.is_empty() {
        Some("filters subjects")
    } else if config.headers_only {
        Some("delivers headers alone")
    } else if config.max_deliver > 0 {
        Some("gives up after some deliveries")
    } else if config.memory_storage {
        Some("is in memory")
    } else if config.durable_name.is_none() || !config.inactive_threshold.is_zero() {
        Some("is not kept for ever")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(most_bytes: u64) -> Plan {
        let settings = outrider_protocol::aggregator::Jetstream::at(vec!["nats://n:4222".into()]);
        let second = Duration::from_secs(1);
        Plan { settings, outputs: vec!["a".into()], most_bytes, connect: second, answer: second }
    }

    #[test]
    fn a_stream_of_ours_is_used_and_only_its_bounds_are_changed() {
        let asked = config(&plan(5));
        assert_eq!(asked.subjects, ["outrider.batches"]);
        // The server fills in what was not asked for.
        let found = Config { max_messages: -1, num_replicas: 3, ..asked.clone() };
        assert_eq!(fit(&found, &asked), Fit::AsItIs);
        let larger = config(&plan(6));
        let Fit::With(changed) = fit(&found, &larger) else { panic!() };
        assert_eq!(*changed, Config { max_bytes: 6, ..found });
        assert_eq!(config(&plan(u64::MAX)).max_bytes, i64::MAX);
    }

    #[test]
    fn a_consumer_is_named_as_its_output_without_what_subjects_cannot_carry() {
        assert_eq!(name("influx-1_a"), "influx-1_a");
        assert_eq!(name("a slow.one%"), "a=20slow=2eone=25");
        assert_ne!(name("a=20b"), name("a b"));
    }

    #[test]
    fn a_consumer_that_would_lose_batches_is_left_alone() {
        let ours = consumer::Config {
            durable_name: Some("a".into()),
            ack_policy: AckPolicy::Explicit,
            // As the server says no bound.
            max_deliver: -1,
            ..consumer::Config::default()
        };
        assert_eq!(unfit(&ours), None);
        for (found, word) in [
            (consumer::Config { deliver_subject: Some("x".into()), ..ours.clone() }, "pushes"),
            (consumer::Config { ack_policy: AckPolicy::All, ..ours.clone() }, "acknowledge"),
            (consumer::Config { filter_subject: "outrider.x".into(), ..ours.clone() }, "filters"),
            (consumer::Config { headers_only: true, ..ours.clone() }, "headers"),
            (consumer::Config { max_deliver: 3, ..ours.clone() }, "gives up"),
            (consumer::Config { inactive_threshold: Duration::from_secs(1), ..ours.clone() }, "for ever"),
            (consumer::Config { memory_storage: true, ..ours.clone() }, "in memory"),
            (consumer::Config { durable_name: None, ..ours }, "for ever"),
        ] {
            assert!(unfit(&found).is_some_and(|it| it.contains(word)), "{word}");
        }
    }

    #[test]
    fn a_stream_of_somebody_else_is_left_alone() {
        let asked = config(&plan(5));
        for (found, word) in [
            (Config { subjects: vec!["orders.>".into()], ..asked.clone() }, "orders"),
            (Config { retention: RetentionPolicy::Limits, ..asked.clone() }, "Limits"),
            (Config { storage: StorageType::Memory, ..asked.clone() }, "Memory"),
            (Config { discard: DiscardPolicy::New, ..asked.clone() }, "New"),
            (Config { max_messages: 7, ..asked.clone() }, "messages"),
            (Config { no_ack: true, ..asked.clone() }, "acknowledge"),
        ] {
            let Fit::Not(unusable) = fit(&found, &asked) else { panic!("{word}") };
            assert!(unusable.denied && unusable.why.contains(word), "{}", unusable.why);
            assert!(unusable.why.contains("name another stream"), "{}", unusable.why);
        }
    }
}
