//! Pages as fragments: the whole page when it is opened, then only what has changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use maud::{Markup, html};
use outrider_protocol::ids::{AgentId, CommandId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::login::Viewer;
use super::{agents, command, layout};
use crate::app::{LINES_AT_ONCE, Shared};
use crate::http_error::{ApiError, InPath, InQuery};
use crate::hub::Change;

/// Changes within this time are shown together: more often than this nobody can read.
const GATHER: Duration = Duration::from_millis(300);
/// A page is rendered anew at least this often: an agent goes away without a word.
const REFRESH: Duration = Duration::from_secs(15);

/// A part of a page that is replaced as a whole.
#[derive(Debug)]
pub(super) struct Fragment {
    id: &'static str,
    content: Markup,
}

impl Fragment {
    pub(super) fn new(id: &'static str, content: Markup) -> Self {
        Self { id, content }
    }
}

/// Which page.
#[derive(Debug, Clone)]
pub(super) enum Page {
    Agents,
    Agent(AgentId),
    Command(CommandId),
}

/// What a browser is to do.
#[derive(Serialize)]
struct Patch<'a> {
    /// Replace the content of these elements.
    set: HashMap<&'a str, &'a str>,
    /// Append to the log.
    log: &'a str,
}

/// What a page shows already.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Seen {
    /// The number of the last line of the log.
    #[serde(default)]
    line: u64,
}

impl Page {
    async fn fragments(&self, app: &Shared) -> Result<Vec<Fragment>, ApiError> {
        match self {
            Self::Agents => agents::all(app).await,
            Self::Agent(agent) => agents::one(app, agent).await,
            Self::Command(id) => command::fragments(app, id).await,
        }
    }

    /// Whether a change may show on the page.
    fn shows(&self, change: &Change) -> bool {
        match (self, change) {
            (Self::Command(shown), Change::Command(changed)) => shown == changed,
            (Self::Command(_), Change::Agents) => false,
            (Self::Agent(shown), Change::Measured(measured)) => shown == measured,
            (_, Change::Measured(_)) => false,
            _ => true,
        }
    }

    fn title(&self) -> String {
        match self {
            Self::Agents => "Agents".into(),
            Self::Agent(agent) => agent.to_string(),
            Self::Command(command) => command.to_string(),
        }
    }

    fn live_path(&self, last_line: u64) -> String {
        match self {
            Self::Agents => "/live".into(),
            Self::Agent(agent) => format!("/agents/{agent}/live"),
            Self::Command(command) => format!("/commands/{command}/live?line={last_line}"),
        }
    }

    async fn crumbs(&self, app: &Shared) -> Result<layout::Crumbs, ApiError> {
        let agent = match self {
            Self::Agents => return Ok(Vec::new()),
            Self::Agent(agent) => agent.clone(),
            Self::Command(id) => match app.store.command(id).await? {
                Some(command) => command.summary.agent,
                None => return Ok(Vec::new()),
            },
        };
        let mut crumbs = vec![(format!("/agents/{agent}"), agent.to_string())];
        if let Self::Command(id) = self {
            crumbs.push((format!("/commands/{id}"), id.to_string()));
        }
        Ok(crumbs)
    }
}

/// The whole page.
pub(super) async fn whole(app: &Shared, page: &Page) -> Result<Response, ApiError> {
    let fragments = page.fragments(app).await?;
    let lines = match page {
        Page::Command(id) => Some(app.store.log_lines(id, None, LINES_AT_ONCE).await?),
        _ => None,
    };
    let last = lines.as_ref().and_then(|lines| lines.last()).map_or(0, |line| line.number);
    let content = html! {
        @for fragment in &fragments {
            // Many files would push the log out of sight.
            @if let (Some(lines), "files") = (&lines, fragment.id) { (command::log_box(lines)) }
            div #(fragment.id) { (fragment.content) }
        }
    };
    let crumbs = page.crumbs(app).await?;
    Ok(layout::page(&page.title(), &crumbs, &page.live_path(last), &content).into_response())
}

pub(super) async fn agents(_: Viewer, State(app): State<Shared>) -> Response {
    updates(app, Page::Agents, 0)
}

pub(super) async fn agent(_: Viewer, State(app): State<Shared>, InPath(agent): InPath<AgentId>) -> Response {
    updates(app, Page::Agent(agent), 0)
}

pub(super) async fn command(
    _: Viewer,
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
    InQuery(seen): InQuery<Seen>,
    headers: HeaderMap,
) -> Response {
    // After a break the browser says which event it has seen last.
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    updates(app, Page::Command(command), resumed.unwrap_or(seen.line))
}

fn updates(app: Shared, page: Page, line: u64) -> Response {
    let state =
        Updates { changes: app.hub.watch_changes(), app, page, line, shown: HashMap::new(), first: true };
    let stream = futures_util::stream::unfold(state, async |mut updates| {
        let event = updates.next().await?;
        Some((Ok::<_, Infallible>(event), updates))
    });
    stream_response(stream)
}

fn stream_response(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let alive = KeepAlive::new().interval(REFRESH).text("alive");
    ([("x-accel-buffering", "no")], Sse::new(stream).keep_alive(alive)).into_response()
}

struct Updates {
    app: Shared,
    page: Page,
    changes: Receiver<Change>,
    /// The last line of the log that was sent.
    line: u64,
    /// What was sent last of each fragment.
    shown: HashMap<&'static str, String>,
    first: bool,
}

impl Updates {
    /// The next event; `None` when the backend stops or the page cannot be shown any more.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !std::mem::take(&mut self.first) {
                self.changed().await?;
            }
            if let Some(event) = self.render().await? {
                return Some(event);
            }
        }
    }

    /// Waits for a change, or for the time to look again.
    async fn changed(&mut self) -> Option<()> {
        let stopping = self.app.stopping.clone();
        let page = self.page.clone();
        let change = async {
            loop {
                match self.changes.recv().await {
                    Ok(change) if !page.shows(&change) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return Some(()),
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        tokio::select! {
            seen = change => seen?,
            () = tokio::time::sleep(REFRESH) => {}
            () = stopping.cancelled() => return None,
        }
        tokio::time::sleep(GATHER).await;
        Some(())
    }

    /// What is new since the last event. The inner `None`: nothing.
    async fn render(&mut self) -> Option<Option<Event>> {
        let fragments = self.page.fragments(&self.app).await.ok()?;
        let lines = match &self.page {
            Page::Command(id) => self.app.store.log_lines(id, Some(self.line), LINES_AT_ONCE).await.ok()?,
            _ => Vec::new(),
        };
        let more = lines.len() == LINES_AT_ONCE as usize;
        let mut changed = Vec::new();
        for Fragment { id, content } in fragments {
            let html = content.into_string();
            if self.shown.get(id) != Some(&html) {
                changed.push(id);
                self.shown.insert(id, html);
            }
        }
        if changed.is_empty() && lines.is_empty() {
            return Some(None);
        }
        self.line = lines.last().map_or(self.line, |line| line.number);
        // There are more lines: look again at once.
        self.first = more;
        let log = command::log_lines(&lines).into_string();
        let set = changed.iter().filter_map(|id| Some((*id, self.shown.get(id)?.as_str()))).collect();
        let event = Event::default().id(self.line.to_string()).json_data(Patch { set, log: &log }).ok()?;
        Some(Some(event))
    }
}
