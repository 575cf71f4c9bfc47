//! What an order of the backend about the section `collect` comes to: decisions only, no disk and no process.

use outrider_home::{CollectConfig, Config, ConfigFault, FileError, OrderedCollect};
use outrider_protocol::collect::ordered::{CollectOrder, CollectOrderReport};
use outrider_protocol::control::{EndState, Outcome};
use outrider_protocol::fault::{Fault, Retry, chain};
use outrider_protocol::integration::ConfigError;
use outrider_protocol::report::{ActionReport, Failure};

/// What is to be done about an order.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Keep this section.
    Keep(Box<CollectConfig>),
    /// Keep none.
    Clear,
    /// Change nothing, and answer this.
    Refuse(Box<Outcome>),
}

/// Judges an order by itself and by config.json. One that takes the section back is never refused: what is kept holds
/// secrets.
pub(crate) fn judge(order: &CollectOrder, config: &Config) -> Judged {
    let Some(section) = &order.section else { return Judged::Clear };
    if !config.backend_collect {
        let message =
            "the section `collect` is not taken: config.json of this host says `backend_collect`: false";
        let hint = "the operator of the host may remove that, or put the section into config.json";
        return Judged::Refuse(Box::new(failed(failure(message.to_owned(), hint, Fault::Caller), None)));
    }
    match CollectConfig::read_ordered(section.get()) {
        Ok(section) => Judged::Keep(Box::new(section)),
        Err(faults) => Judged::Refuse(Box::new(not_valid(&faults))),
    }
}

/// The answer when an order is carried out, and durable.
pub(crate) fn done(kept: Option<&OrderedCollect>, config: &Config) -> Outcome {
    let report = CollectOrderReport {
        errors: Vec::new(),
        kept: kept.is_some(),
        in_effect: config.collects(kept).map(|it| it.0),
        idle: kept.and(config.overrules_backend()).map(str::to_owned),
    };
    Outcome { state: EndState::Done, report: Some(ActionReport::ConfigureCollect(report)), error: None }
}

/// The answer when the disk refused.
pub(crate) fn not_kept(err: &FileError) -> Outcome {
    let message = format!("keep the section `collect`: {}", chain(err));
    let error = Failure {
        message,
        fault: Fault::Host,
        retry: Retry::Later,
        hint: Some("the agent's page tells what is kept; order it again once the disk is well".to_owned()),
        last_lines: Vec::new(),
    };
    failed(error, None)
}

fn not_valid(faults: &[ConfigFault]) -> Outcome {
    let errors: Vec<_> = faults.iter().map(error).collect();
    let told: Vec<_> = errors
        .iter()
        .map(|it| format!("{}: {}", if it.path.is_empty() { "the section" } else { &it.path }, it.message))
        .collect();
    let message = format!("the section `collect` cannot be used: {}", told.join("; "));
    let error =
        failure(message, "nothing was changed; order it again when all of this is right", Fault::Caller);
    failed(error, Some(CollectOrderReport { errors, ..CollectOrderReport::default() }))
}

fn error(fault: &ConfigFault) -> ConfigError {
    let ConfigFault { pointer, found, expected, advice } = fault;
    let advice = advice.as_ref().map(|it| format!("; {it}")).unwrap_or_default();
    ConfigError { path: pointer.clone(), message: format!("found {found}, expected {expected}{advice}") }
}

fn failure(message: String, hint: &str, fault: Fault) -> Failure {
    Failure { message, fault, retry: Retry::No, hint: Some(hint.to_owned()), last_lines: Vec::new() }
}

fn failed(error: Failure, report: Option<CollectOrderReport>) -> Outcome {
    Outcome {
        state: EndState::Failed,
        report: report.map(ActionReport::ConfigureCollect),
        error: Some(error),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use outrider_home::Root;
    use outrider_protocol::collect::ordered::CollectSource;

    use super::*;

    fn config(members: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let text = format!(
            r#"{{"version":1,"agent":"a","backend":"http://127.0.0.1:1","token":"not-a-real-agent-token"{members}}}"#
        );
        outrider_home::atomic::write(&root.config_path(), text.as_bytes(), outrider_home::atomic::PRIVATE)
            .unwrap();
        Config::load(&root).unwrap()
    }

    fn order(section: &str) -> CollectOrder {
        serde_json::from_str(&format!(r#"{{"section":{section}}}"#)).unwrap()
    }

    fn kept(section: &str) -> OrderedCollect {
        let section = CollectConfig::read_ordered(section).unwrap();
        OrderedCollect { command: "c1".parse().unwrap(), at: Timestamp::UNIX_EPOCH, section }
    }

    fn report(outcome: &Outcome) -> &CollectOrderReport {
        match &outcome.report {
            Some(ActionReport::ConfigureCollect(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_section_is_kept_and_none_clears() {
        let config = config("");
        assert!(matches!(judge(&order("{}"), &config), Judged::Keep(_)));
        assert!(matches!(judge(&order("null"), &config), Judged::Clear));
    }

    #[test]
    fn everything_that_is_wrong_is_answered_at_once_and_every_file_is_refused() {
        let section = r#"{"interval_ms": 1, "cgroup_path": "/etc", "proc_path": "/p", "mount_path": "/", "target": {"below": "/../.."},
            "outputs": [
                {"kind": "json_lines", "path": "/etc/cron.d/x"}, {"kind": "stdout"},
                {"kind": "otlp", "url": "http://h", "token_file": "/etc/shadow"},
                {"kind": "datadog", "api_key": "k", "api_key_file": "/etc/shadow"},
                {"kind": "aggregator", "address": "h:1", "ca_file": "/c", "certificate_file": "/c", "key_file": "/k",
                 "queue_bytes": 1099511627776}],
            "apis": [{"name": "a", "ca_file": "/c", "client_cert_file": "/c", "client_key_file": "/k",
                "systems": [{"name": "s", "login": {"kind": "basic", "user": "u", "password_file": "/p"},
                    "vdcs": [{"name": "v", "nodes": ["h:1"]}]}],
                "apis": [{"name": "b", "level": "system", "path": "/b"}]}]}"#;
        let Judged::Refuse(outcome) = judge(&order(section), &config("")) else { panic!("it is taken") };
        assert_eq!(outcome.state, EndState::Failed);
        let paths: Vec<_> = report(&outcome).errors.iter().map(|it| it.path.as_str()).collect();
        let message = &outcome.error.as_ref().unwrap().message;
        for place in [
            "/interval_ms",
            "/cgroup_path",
            "/proc_path",
            "/mount_path",
            "/target/below",
            "/outputs/0/kind",
            "/outputs/1/kind",
            "/outputs/2/token_file",
            "/outputs/3/api_key_file",
            "/outputs/4/ca_file",
            "/outputs/4/certificate_file",
            "/outputs/4/key_file",
            "/outputs/4/queue_bytes",
            "/apis/0/ca_file",
            "/apis/0/client_cert_file",
            "/apis/0/client_key_file",
            "/apis/0/systems/0/login/password_file",
        ] {
            assert!(paths.contains(&place), "{place}: {paths:?}");
            assert!(message.contains(&format!("{place}: found ")), "{place}: {message}");
        }
        assert!(!message.contains("shadow") && !message.contains("cron"), "{message}");
    }

    #[test]
    fn the_section_of_config_json_wins_and_the_answer_says_so() {
        let done = |kept: Option<&OrderedCollect>, config: &Config| {
            let outcome = done(kept, config);
            assert_eq!(outcome.state, EndState::Done);
            report(&outcome).clone()
        };
        let section = kept("{}");
        let it = done(Some(&section), &config(""));
        assert_eq!((it.kept, it.in_effect, it.idle), (true, Some(CollectSource::Backend), None));
        let it = done(Some(&section), &config(r#","collect":{"interval_ms":1000}"#));
        assert_eq!((it.kept, it.in_effect), (true, Some(CollectSource::Config)));
        assert!(it.idle.unwrap().contains("wins as a whole"));
        let it = done(None, &config(r#","collect":{}"#));
        assert_eq!((it.kept, it.in_effect, it.idle), (false, Some(CollectSource::Config), None));
        let it = done(None, &config(""));
        assert_eq!((it.kept, it.in_effect), (false, None));
    }

    #[test]
    fn an_operator_who_forbids_it_is_obeyed_and_what_is_kept_can_be_taken_back() {
        let config = config(r#","backend_collect":false"#);
        let Judged::Refuse(outcome) = judge(&order("{}"), &config) else { panic!("it is taken") };
        assert!(outcome.error.unwrap().message.contains("backend_collect"));
        assert!(matches!(judge(&order("null"), &config), Judged::Clear));
        assert!(config.collects(Some(&kept("{}"))).is_none());
        assert!(config.overrules_backend().unwrap().contains("backend_collect"));
    }
}
