//! Upgrades of an agent: the one in progress, how the last ones ended, and the form that orders one.

use std::time::Duration;

use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use outrider_protocol::action::Order;
use outrider_protocol::ids::AgentId;
use outrider_protocol::report::Failure;
use outrider_protocol::upgrade::{Build, UpgradeOrder, UpgradeProgress, UpgradeReport, UpgradeState};
use serde::Deserialize;

use super::PageError;
use super::login::Viewer;
use super::parts::{ago, bytes, chip, clock, last_lines, span};
use super::tree::cancel_note;
use crate::admin::{Agent, NewCommand};
use crate::app::Shared;
use crate::http_error::{ApiError, InPath};
use crate::moment::{self, moment};
use crate::orders;
use crate::store::StoredUpgrade;

/// What a person filled in. A box that is not ticked is not sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    version: String,
    start: String,
    until: String,
    allow_downgrade: Option<String>,
    force: Option<String>,
}

impl Wanted {
    fn order(&self, agent: AgentId, now: Timestamp) -> Result<NewCommand, ApiError> {
        let time = |what: &str, text: &str| match text.trim() {
            "" => Ok(None),
            text => {
                moment(text, now).map(Some).map_err(|err| ApiError::bad_request(format!("{what}: {err}")))
            }
        };
        let order = UpgradeOrder {
            version: Some(self.version.trim()).filter(|it| !it.is_empty()).map(str::to_owned),
            start_at: time("Not before", &self.start)?,
            allow_downgrade: self.allow_downgrade.is_some(),
            force: self.force.is_some(),
            ..UpgradeOrder::default()
        };
        let expires_at = time("Not after", &self.until)?;
        Ok(NewCommand { expires_at, ..NewCommand::new(agent, Order::Upgrade(order)) })
    }
}

pub(super) async fn order(
    _: Viewer,
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
    Form(wanted): Form<Wanted>,
) -> Result<Response, PageError> {
    let command = orders::take(&app, wanted.order(agent, Timestamp::now())?).await?;
    Ok(Redirect::to(&format!("/commands/{command}")).into_response())
}

/// The form. It says nothing that changes, so that it is not replaced while somebody fills it in.
pub(super) fn form(agent: &Agent) -> Markup {
    html! {
        @if agent.revoked_at.is_none() {
            details.order {
                summary { "Upgrade this agent …" }
                @if agent.build.is_none() {
                    p.dim { "It has not said which build it runs: it may be of a kind that cannot be upgraded from here." }
                }
                form method="post" action=(format!("/agents/{}/upgrade", agent.id)) {
                    label { "Version" input name="version" placeholder="the newest" autocomplete="off"; }
                    label { "Not before" input name="start" placeholder="at once" title=(moment::EXAMPLES) autocomplete="off"; }
                    label { "Not after" input name="until" placeholder="a week later" title=(moment::EXAMPLES) autocomplete="off"; }
                    label.box { input type="checkbox" name="allow_downgrade"; "an older version may be installed" }
                    label.box { input type="checkbox" name="force"; "try a version again that was rolled back on its host" }
                    button { "Upgrade" }
                }
                p.dim { "Times: " (moment::EXAMPLES) "." }
            }
        }
    }
}

/// Where an upgrade is, by the best word there is: its report, the end of its command, what its agent last said.
fn state_of(upgrade: &StoredUpgrade) -> Markup {
    let told = upgrade.progress.as_ref().map(|it| it.state);
    match (&upgrade.report, told) {
        (Some(report), _) => state_chip(report.state),
        (None, Some(state)) if state.is_end() || !upgrade.state.is_end() => state_chip(state),
        _ => chip(upgrade.state),
    }
}

fn is_over(upgrade: &StoredUpgrade) -> bool {
    upgrade.state.is_end()
        || upgrade.report.is_some()
        || upgrade.progress.as_ref().is_some_and(|it| it.state.is_end())
}

fn class(state: UpgradeState) -> &'static str {
    match state {
        UpgradeState::Done | UpgradeState::AlreadyCurrent => "done",
        UpgradeState::RolledBack | UpgradeState::Failed => "failed",
        UpgradeState::Cancelled | UpgradeState::Expired | UpgradeState::Superseded => "cancelled",
        UpgradeState::Requested | UpgradeState::Scheduled => "delivered",
        _ => "running",
    }
}

fn state_chip(state: UpgradeState) -> Markup {
    html! { span.chip.(class(state)) { (state.word()) } }
}

/// What an upgrade is to, as far as that is known.
fn target(upgrade: &StoredUpgrade) -> String {
    let to = upgrade.report.as_ref().and_then(|it| it.to.as_ref());
    let to = to.or_else(|| upgrade.progress.as_ref()?.to.as_ref());
    match (to, &upgrade.order.version) {
        (Some(build), _) => build.to_string(),
        (None, Some(version)) => version.clone(),
        (None, None) => "the newest version".into(),
    }
}

/// The upgrades of an agent: those in progress first, then how the last ones ended.
pub(super) fn all(upgrades: &[StoredUpgrade]) -> Markup {
    let (over, open): (Vec<_>, Vec<_>) = upgrades.iter().partition(|it| is_over(it));
    html! {
        @if !upgrades.is_empty() { h2 { "Upgrades" } }
        @for upgrade in open { (panel(upgrade, true)) }
        @if !over.is_empty() { (ends(&over)) }
    }
}

/// One upgrade while it is in progress; nothing once it is over.
pub(super) fn in_progress(upgrade: &StoredUpgrade) -> Markup {
    html! { @if !is_over(upgrade) { (panel(upgrade, false)) } }
}

/// Whether an upgrade has come so far that it is not cancelled any more.
pub(super) fn is_switched(progress: Option<&UpgradeProgress>) -> bool {
    progress.is_some_and(|it| it.state.is_switched())
}

/// Whether the end of its window does not matter any more.
fn has_begun(upgrade: &StoredUpgrade) -> bool {
    let waits = |state| matches!(state, UpgradeState::Requested | UpgradeState::Scheduled);
    upgrade.progress.as_ref().is_some_and(|it| !waits(it.state))
}

fn panel(upgrade: &StoredUpgrade, with_link: bool) -> Markup {
    let command = format!("/commands/{}", upgrade.command);
    html! {
        section.integration.upgrade {
            div.row.integration-head {
                strong { "to " (target(upgrade)) }
                (state_of(upgrade))
                @if let Some(progress) = &upgrade.progress { (far(progress)) }
                @if with_link {
                    a href=(command) { "log" }
                    @if let Some(asked) = upgrade.cancel_requested_at {
                        (cancel_note(asked))
                    } @else if !is_switched(upgrade.progress.as_ref()) {
                        form method="post" action=(format!("{command}/cancel")) { button.danger { "Cancel" } }
                    }
                }
            }
            @if let Some(progress) = &upgrade.progress { (retry(progress)) }
            @if is_switched(upgrade.progress.as_ref()) {
                p.dim { "The new version has to prove itself now; if it cannot, the one before comes back by itself." }
            } @else if let Some(expires) = upgrade.expires_at.filter(|_| !has_begun(upgrade)) {
                p.dim { "It may begin until " (clock(expires)) "." }
            }
        }
    }
}

/// How far it is: the start that it waits for, or the bar of its download.
fn far(progress: &UpgradeProgress) -> Markup {
    html! {
        @match progress.state {
            UpgradeState::Scheduled => { @if let Some(at) = progress.scheduled_at { span.pause { "until " (clock(at)) } } }
            UpgradeState::Downloading => {
                @if let Some(percent) = progress.percent {
                    progress value=(percent.min(100)) max="100" {}
                    span.count {
                        (percent.min(100)) " %"
                        @if let Some(rate) = progress.bytes_per_s { " · " (bytes(rate)) "/s" }
                    }
                } @else {
                    progress {}
                }
            }
            _ => {}
        }
    }
}

fn retry(progress: &UpgradeProgress) -> Markup {
    html! {
        @if let Some(error) = &progress.retry_error {
            p.pause {
                "It is tried again"
                @if let Some(until) = progress.retry_until { " until " (clock(until)) }
                ": " (error)
            }
        }
    }
}

fn ends(over: &[&StoredUpgrade]) -> Markup {
    html! {
        table.cards {
            thead { tr { th { "Upgrade" } th { "State" } th { "Reason" } th { "When" } } }
            tbody {
                @for upgrade in over {
                    tr {
                        td.main { a href=(format!("/commands/{}", upgrade.command)) { (from_to(upgrade)) } }
                        td data-label="State" { (state_of(upgrade)) }
                        td data-label="Reason" { @match reason(upgrade) { Some(why) => (why), None => span.dim { "–" } } }
                        td data-label="When" { (ago(upgrade.ended_at.unwrap_or(upgrade.created_at))) }
                    }
                }
            }
        }
    }
}

fn from_to(upgrade: &StoredUpgrade) -> String {
    match upgrade.report.as_ref().and_then(|it| it.from.as_ref()) {
        Some(from) => format!("{from} → {}", target(upgrade)),
        None => format!("to {}", target(upgrade)),
    }
}

/// Why it ended so; nothing of one that ended well.
fn reason(upgrade: &StoredUpgrade) -> Option<String> {
    match &upgrade.report {
        Some(report) if report.state.is_good() => None,
        Some(UpgradeReport { reason: Some(reason), failed_at, .. }) => {
            Some(failed_at.map_or_else(String::new, |at| format!("while {}: ", at.word())) + reason)
        }
        _ => upgrade.error.as_ref().map(|error| error.message.clone()),
    }
}

/// How an attempt ended, with what can be done about it.
pub(super) fn outcome(report: &UpgradeReport, error: Option<&Failure>) -> Markup {
    let mood = match class(report.state) {
        "done" => "good",
        "failed" => "bad",
        _ => "neutral",
    };
    let name =
        |build: &Option<Build>| build.as_ref().map_or_else(|| "not known".to_owned(), Build::to_string);
    let took = Duration::try_from(report.ended_at.duration_since(report.started_at)).unwrap_or_default();
    html! {
        div.notice.(mood) {
            p { strong { (report.outcome()) } }
            p.dim { "From " (name(&report.from)) " to " (name(&report.to)) ", " (span(took)) "." }
            @if report.retryable { p { "The same order may do better later." } }
            @if let Some(error) = error {
                @if let Some(hint) = &error.hint { p { (hint) } }
                (last_lines(&error.last_lines))
            }
        }
    }
}
