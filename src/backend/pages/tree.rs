//! The sessions of a command as nested rows with bars.

use std::collections::HashMap;

use maud::{Markup, html};
use outrider_protocol::ids::SessionId;
use outrider_protocol::integration::SessionKind;
use outrider_protocol::progress::{
    IntegrationProgress, IntegrationState, Progress, SessionProgress, SessionState,
};

use super::parts::{ago, bytes, clock, count, counted};

/// Finished sessions shown below one parent; the parent counts them all.
const FINISHED_SHOWN: usize = 5;
/// Open sessions shown below one parent.
const OPEN_SHOWN: usize = 50;
/// How deep the tree is shown; no integration nests as deep.
const DEEPEST: usize = 12;

type Children<'a> = HashMap<Option<SessionId>, Vec<&'a SessionProgress>>;

/// The whole tree.
pub(super) fn tree(progress: &Progress) -> Markup {
    let mut children: Children<'_> = HashMap::new();
    for session in &progress.sessions {
        children.entry(session.parent).or_default().push(session);
    }
    html! {
        @for integration in &progress.integrations {
            @let roots: Vec<&SessionProgress> = children
                .get(&None)
                .into_iter()
                .flatten()
                .copied()
                .filter(|session| session.integration == integration.integration)
                .collect();
            section.integration {
                (head(integration))
                @if !roots.is_empty() { (level(&roots, &children, None, 0)) }
            }
        }
    }
}

fn head(integration: &IntegrationProgress) -> Markup {
    let (class, word) = match integration.state {
        IntegrationState::Starting => ("queued", "starting"),
        IntegrationState::Running => ("running", "running"),
        IntegrationState::Paused => ("delivered", "paused"),
        IntegrationState::Done => ("done", "done"),
        IntegrationState::Failed => ("failed", "failed"),
        IntegrationState::Cancelled => ("cancelled", "cancelled"),
    };
    html! {
        div.row.integration-head {
            strong { (integration.integration) }
            span.chip.(class) { (word) }
            @if integration.state == IntegrationState::Paused { (pause(integration)) }
            span.count { (count(integration.objects)) " objects · " (bytes(integration.bytes)) }
        }
    }
}

/// Until when it waits, and for what: "until 12:30: rate limit of the source".
fn pause(integration: &IntegrationProgress) -> Markup {
    html! {
        span.pause {
            @if let Some(until) = integration.paused_until { "until " (clock(until)) }
            @if let Some(why) = &integration.paused_for {
                @if integration.paused_until.is_some() { ": " }
                (why)
            }
        }
    }
}

/// The sessions below one parent: what is open, and the last that finished.
fn level(sessions: &[&SessionProgress], children: &Children<'_>, done: Option<u64>, depth: usize) -> Markup {
    let is_open = |session: &&&SessionProgress| session.state == SessionState::Open;
    let open: Vec<_> = sessions.iter().filter(is_open).collect();
    let finished: Vec<_> = sessions.iter().filter(|session| !is_open(session)).collect();
    let known = done.unwrap_or(0).max(finished.len() as u64);
    let shown = finished.len().min(FINISHED_SHOWN);
    let hidden = known - shown as u64;
    html! {
        ul.tree {
            @if hidden > 0 { li.more { "✓ " (count(hidden)) @if shown > 0 { " more" } " finished" } }
            @for session in &finished[finished.len() - shown..] { (node(session, children, depth)) }
            @for session in open.iter().take(OPEN_SHOWN) { (node(session, children, depth)) }
            @if open.len() > OPEN_SHOWN { li.more { "… " (count((open.len() - OPEN_SHOWN) as u64)) " more open" } }
        }
    }
}

fn node(session: &SessionProgress, children: &Children<'_>, depth: usize) -> Markup {
    let class = match session.state {
        SessionState::Open => "open",
        SessionState::Done => "finished",
        SessionState::RolledBack => "dropped",
    };
    let below = children.get(&Some(session.session)).filter(|_| depth < DEEPEST);
    let is_open = session.state == SessionState::Open;
    html! {
        li.(class) {
            (row(session))
            @if let Some(below) = below.filter(|_| is_open) {
                (level(below, children, Some(session.children_done), depth + 1))
            } @else if session.children_done > 0 && is_open {
                ul.tree { li.more { "✓ " (count(session.children_done)) " finished" } }
            }
        }
    }
}

fn row(session: &SessionProgress) -> Markup {
    let is_open = session.state == SessionState::Open;
    html! {
        div.row {
            span.name {
                @match session.state {
                    SessionState::Open => span.mark.spin {},
                    SessionState::Done => span.mark { "✓" },
                    SessionState::RolledBack => span.mark { "✕" },
                }
                span.kind.(if session.kind == SessionKind::Model { "model" } else { "tracking" }) { (session.name) }
                @if let Some(object) = &session.object { " " span.object title=(object.id) { (object.name) } }
            }
            @if is_open {
                @match session.total {
                    Some(total) => progress value=(session.current.min(total)) max=(total.max(1)) {},
                    None => progress {},
                }
            }
            span.count { (counts(session)) }
        }
    }
}

/// Steps, finished sessions below, objects: what there is of them.
fn counts(session: &SessionProgress) -> String {
    let is_open = session.state == SessionState::Open;
    let mut counts = Vec::new();
    match session.total {
        Some(total) if is_open => counts.push(format!("{} / {}", count(session.current), count(total))),
        None if is_open && session.current > 0 => counts.push(count(session.current)),
        _ => {}
    }
    // Most sessions count their objects as steps: the same number twice says nothing.
    let is_said = !counts.is_empty() && session.current == session.objects;
    if session.kind == SessionKind::Model && !is_said {
        counts.push(counted(session.objects, "object"));
    }
    if !is_open && session.children_done > 0 {
        counts.push(format!("{} below", count(session.children_done)));
    }
    counts.join(" · ")
}

/// Says when somebody asked for an end that has not come yet.
pub(super) fn cancel_note(asked: jiff::Timestamp) -> Markup {
    html! { span.dim { "cancel asked for " (ago(asked)) } }
}
