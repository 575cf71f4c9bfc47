//! Which events are logged: one level for Outrider's own, or a list of targets and levels for anything.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// A filter that is not valid.
#[derive(Debug, thiserror::Error)]
#[error(
    "{found:?} is no valid choice of what to log: expected `LEVEL` or `TARGET=LEVEL`, several with commas between, \
     where a level is off, error, warn, info, debug or trace"
)]
pub struct BadFilter {
    /// What was found.
    pub found: String,
    /// What is wrong with it.
    #[source]
    err: tracing_subscriber::filter::ParseError,
}

/// What `text` asks for. A level alone is for Outrider's own events; of libraries only warnings are told then.
pub(crate) fn filter(text: &str) -> Result<Targets, BadFilter> {
    if let Ok(level) = text.trim().parse::<LevelFilter>() {
        return Ok(Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("outrider", level));
    }
    text.replace(' ', "").parse().map_err(|err| BadFilter { found: text.to_owned(), err })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lets_through(text: &str, target: &str, level: tracing::Level) -> bool {
        filter(text).unwrap().would_enable(target, &level)
    }

    #[test]
    fn a_level_alone_is_for_our_own_events() {
        assert!(lets_through("info", "outrider_service::uplink", tracing::Level::INFO));
        assert!(!lets_through("info", "outrider_service::uplink", tracing::Level::DEBUG));
        assert!(lets_through("debug", "hyper_util::client", tracing::Level::WARN));
        assert!(!lets_through("debug", "hyper_util::client", tracing::Level::INFO));
        assert!(!lets_through("off", "hyper_util::client", tracing::Level::ERROR));
    }

    #[test]
    fn a_list_names_targets() {
        let text = "warn, outrider_service=trace";
        assert!(lets_through(text, "outrider_service::uplink", tracing::Level::TRACE));
        assert!(!lets_through(text, "outrider_peer", tracing::Level::INFO));
    }

    #[test]
    fn a_bad_filter_is_quoted() {
        let err = filter("outrider=loud").unwrap_err().to_string();
        assert!(err.contains("\"outrider=loud\""), "{err}");
    }
}
