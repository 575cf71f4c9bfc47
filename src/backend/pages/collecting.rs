//! Collecting on an agent's host: whether it runs, by whose section, what does not work, and what was ordered.

use jiff::Timestamp;
use maud::{Markup, html};
use outrider_protocol::collect::ordered::{CollectingParams, CollectingState, OrderedSection};

use super::parts::{ago, chip, failure};
use crate::admin::{AgentCollecting, CollectOrdered};

/// Nothing where an agent collects nothing and nobody ordered it to.
pub(super) fn collecting(of: &AgentCollecting) -> Markup {
    let told =
        of.told.as_ref().filter(|it| it.source.is_some() || it.ordered.is_some() || !it.troubles.is_empty());
    html! {
        @if told.is_some() || of.ordered.is_some() {
            h2 { "Collecting" }
            @if let Some(told) = told {
                (state(told, of.told_at))
                @if let Some(end) = &told.last_end {
                    div.notice.bad { p { "It ended by itself " (ago(end.at)) ": " strong { (end.error) } } }
                }
                @for it in &told.troubles { div.notice.bad { p { (it) } } }
                @if let Some(it) = &told.ordered { (kept(it)) }
            } @else if of.told.is_none() {
                p.dim { "The agent has not said whether it collects: it may be away, or older than this." }
            } @else {
                p.dim { "Nothing is collected on this host." }
            }
            @if let Some(it) = &of.ordered { (ordered(it)) }
        }
    }
}

/// An agent that is away, or was rolled back to a version that says nothing of this, still has what it said last.
fn state(told: &CollectingParams, at: Option<Timestamp>) -> Markup {
    let class = match told.state {
        CollectingState::Off => "queued",
        CollectingState::Running => "done",
        CollectingState::Waiting => "failed",
    };
    html! {
        dl.facts {
            div { dt { "State" } dd { span.chip.(class) { (told.state.word()) } } }
            @if let Some(source) = told.source { div { dt { "Section of" } dd { (source.word()) } } }
            @if let Some(since) = told.since { div { dt { "Since" } dd { (ago(since)) } } }
            @if let Some(at) = at { div { dt { "Told" } dd { (ago(at)) } } }
        }
    }
}

fn kept(it: &OrderedSection) -> Markup {
    let section = serde_json::to_string_pretty(&it.section).unwrap_or_default();
    html! {
        @if let Some(idle) = &it.idle { div.notice { p { "The section of this backend is not in effect: " (idle) } } }
        details {
            summary { "Section of this backend, kept " (ago(it.at)) " by " (it.command) }
            pre { (section) }
        }
    }
}

fn ordered(it: &CollectOrdered) -> Markup {
    let summary = &it.command.summary;
    let what = if it.clears { "Taken back" } else { "Ordered" };
    html! {
        p {
            (what) " by " a href=(format!("/commands/{}", summary.id)) { (summary.id) } " " (chip(summary.state))
        }
        @if let Some(error) = &it.command.error { (failure(error)) }
    }
}

#[cfg(test)]
mod tests {
    use outrider_protocol::collect::ordered::{CollectEnd, CollectSource};

    use super::*;

    fn shown(told: Option<CollectingParams>) -> String {
        let agent = "a1".parse().unwrap();
        let told_at = told.as_ref().map(|_| Timestamp::UNIX_EPOCH);
        collecting(&AgentCollecting { agent, told, told_at, ordered: None }).into_string()
    }

    #[test]
    fn nothing_is_shown_where_nothing_is_collected() {
        assert_eq!(shown(None), "");
        assert_eq!(shown(Some(CollectingParams::default())), "");
    }

    #[test]
    fn state_source_and_errors_are_shown_as_text() {
        let at = Timestamp::UNIX_EPOCH;
        let page = shown(Some(CollectingParams {
            source: Some(CollectSource::Config),
            state: CollectingState::Waiting,
            since: Some(at),
            last_end: Some(CollectEnd { at, error: "<script>".into() }),
            troubles: vec!["output o: no".into()],
            ordered: Some(OrderedSection {
                command: "c1".parse().unwrap(),
                at,
                section: serde_json::json!({ "interval_ms": 1000 }),
                idle: Some("config.json wins".into()),
            }),
        }));
        for part in [
            "waiting",
            "config.json",
            "Told",
            "&lt;script&gt;",
            "output o: no",
            "config.json wins",
            "interval_ms",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
