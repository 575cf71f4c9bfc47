//! The sessions of a running export, or the states of an upgrade: bars in a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use outrider_protocol::ids::{IntegrationId, SessionId};
use outrider_protocol::progress::{
    IntegrationProgress, IntegrationState, Progress, SessionProgress, SessionState,
};
use outrider_protocol::upgrade::{UpgradeProgress, UpgradeState};

use crate::output::{bytes, count, line, visible};
use crate::upgrading::told;

/// Rows of bars at most: a terminal has 24 lines, and some of them are the log's.
const ROWS: usize = 16;
/// Columns of a label; the templates of the bars say the same.
const LABEL: usize = 44;
/// Finished sessions shown below one parent.
const FINISHED_SHOWN: usize = 3;
/// A plain line about the same open session comes at most this often.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// How far something is, as one row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    depth: usize,
    label: String,
    current: u64,
    total: Option<u64>,
    note: String,
}

/// Of what a line was said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Integration(IntegrationId),
    Session(SessionId),
    /// In this state, with this fault.
    Upgrade(UpgradeState, Option<String>),
}

/// Shows progress as it comes.
#[derive(Debug)]
pub(crate) enum Live {
    Bars { all: MultiProgress, rows: Vec<ProgressBar> },
    Lines { said: HashMap<Said, (String, Instant)> },
    Quiet,
}

impl Live {
    /// Bars where somebody looks, else lines.
    pub(crate) fn new(in_terminal: bool) -> Self {
        if in_terminal {
            Self::Bars { all: MultiProgress::new(), rows: Vec::new() }
        } else {
            Self::Lines { said: HashMap::new() }
        }
    }

    /// Writes a line above the bars.
    pub(crate) fn line(&self, text: &str) {
        match self {
            Self::Bars { all, .. } => all.suspend(|| line(text)),
            Self::Lines { .. } | Self::Quiet => line(text),
        }
    }

    /// Shows the tree as it is now.
    pub(crate) fn update(&mut self, progress: &Progress) {
        match self {
            Self::Bars { all, rows } => update_bars(all, rows, &tree(progress)),
            Self::Lines { said } => say_changes(said, progress),
            Self::Quiet => {}
        }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&mut self) {
        if let Self::Bars { rows, .. } = self {
            rows.drain(..).for_each(|row| row.finish_and_clear());
        }
    }
}

/// Rows are reused by their place: what moves up is drawn anew there.
fn update_bars(all: &MultiProgress, bars: &mut Vec<ProgressBar>, rows: &[Row]) {
    while bars.len() > rows.len() {
        if let Some(bar) = bars.pop() {
            bar.finish_and_clear();
            all.remove(&bar);
        }
    }
    while bars.len() < rows.len() {
        bars.push(all.add(ProgressBar::new(0)));
    }
    for (bar, row) in bars.iter().zip(rows) {
        bar.set_style(style(row));
        bar.set_prefix(fitting(row));
        bar.set_message(visible(&row.note).into_owned());
        if let Some(total) = row.total {
            bar.set_length(total);
        }
        bar.set_position(row.current);
    }
}

fn style(row: &Row) -> ProgressStyle {
    let template = match row.total {
        Some(_) => "{prefix:44!} {bar:24} {human_pos:>9}/{human_len:<9} {msg}",
        None => "{prefix:44!} {msg}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸─")
}

/// The tree as rows, parents before children, finished sessions thinned out.
fn tree(progress: &Progress) -> Vec<Row> {
    let mut children: HashMap<Option<SessionId>, Vec<&SessionProgress>> = HashMap::new();
    for session in &progress.sessions {
        children.entry(session.parent).or_default().push(session);
    }
    let mut rows: Vec<Row> = progress.upgrade.iter().map(upgrade_row).collect();
    for integration in &progress.integrations {
        rows.push(integration_row(integration));
        let roots = children.get(&None).into_iter().flatten();
        let own: Vec<&SessionProgress> =
            roots.copied().filter(|session| session.integration == integration.integration).collect();
        add_sessions(&mut rows, &own, &children, 1);
    }
    if rows.len() > ROWS {
        let more = rows.len() - (ROWS - 1);
        rows.truncate(ROWS - 1);
        rows.push(Row {
            depth: 1,
            label: format!("… {more} more"),
            current: 0,
            total: None,
            note: String::new(),
        });
    }
    rows
}

fn add_sessions(
    rows: &mut Vec<Row>,
    sessions: &[&SessionProgress],
    children: &HashMap<Option<SessionId>, Vec<&SessionProgress>>,
    depth: usize,
) {
    let finished = sessions.iter().filter(|session| session.state != SessionState::Open).count();
    let mut hidden = finished.saturating_sub(FINISHED_SHOWN);
    for session in sessions {
        if session.state != SessionState::Open && hidden > 0 {
            hidden -= 1;
            continue;
        }
        rows.push(session_row(session, depth));
        if session.state == SessionState::Open
            && let Some(below) = children.get(&Some(session.session))
        {
            add_sessions(rows, below, children, depth + 1);
        }
    }
}

fn upgrade_row(progress: &UpgradeProgress) -> Row {
    let total = progress.percent.filter(|_| progress.state == UpgradeState::Downloading).map(|_| 100);
    let current = u64::from(progress.percent.unwrap_or(0));
    Row { depth: 0, label: "upgrade".into(), current, total, note: told(progress, Timestamp::now()) }
}

fn integration_row(integration: &IntegrationProgress) -> Row {
    let state = integration_state(integration);
    let note = format!("{state}, {} objects, {}", count(integration.objects), bytes(integration.bytes));
    Row { depth: 0, label: integration.integration.to_string(), current: 0, total: None, note }
}

fn integration_state(integration: &IntegrationProgress) -> String {
    match integration.state {
        IntegrationState::Starting => "starting".into(),
        IntegrationState::Running => "running".into(),
        IntegrationState::Paused => paused(integration),
        IntegrationState::Done => "done".into(),
        IntegrationState::Failed => "failed".into(),
        IntegrationState::Cancelled => "cancelled".into(),
    }
}

/// `paused until 12:30 UTC: rate limit of the source`.
fn paused(integration: &IntegrationProgress) -> String {
    let until = integration.paused_until.map(|until| format!(" until {}", until.strftime("%H:%M UTC")));
    let why = integration.paused_for.as_ref().map(|why| format!(": {why}"));
    format!("paused{}{}", until.unwrap_or_default(), why.unwrap_or_default())
}

fn session_row(session: &SessionProgress, depth: usize) -> Row {
    let mut notes = Vec::new();
    match session.state {
        SessionState::Open if session.total.is_none() && session.current > 0 => {
            notes.push(count(session.current));
        }
        SessionState::Open => {}
        SessionState::Done => notes.push("done".into()),
        SessionState::RolledBack => notes.push("dropped".into()),
    }
    if session.objects > 0 {
        notes.push(format!("{} objects", count(session.objects)));
    }
    if session.children_done > 0 {
        notes.push(format!("{} finished below", count(session.children_done)));
    }
    let total = session.total.filter(|_| session.state == SessionState::Open);
    Row { depth, label: label(session), current: session.current, total, note: notes.join(", ") }
}

fn label(session: &SessionProgress) -> String {
    match &session.object {
        Some(object) => format!("{} {}", session.name, object.name),
        None => session.name.clone(),
    }
}

/// A label that fits into its place: a long one goes without the model's area.
fn fitting(row: &Row) -> String {
    let label = match row.label.split_once('.') {
        Some((area, rest)) if row.label.len() + 2 * row.depth > LABEL && !area.contains(' ') => rest,
        _ => &row.label,
    };
    format!("{}{}", "  ".repeat(row.depth), visible(label))
}

/// A line for each state of an upgrade and each fault, and now and then one for how far its download is.
fn say_upgrade(said: &mut HashMap<Said, (String, Instant)>, upgrade: &UpgradeProgress, now: Timestamp) {
    let text = told(upgrade, now);
    let key = Said::Upgrade(upgrade.state, upgrade.retry_error.clone());
    if said.get(&key).is_none_or(|(last, at)| *last != text && at.elapsed() >= LINE_EVERY) {
        line(&text);
        said.insert(key, (text, Instant::now()));
    }
}

/// A line for each session that began or ended, and now and then one for how far it is.
fn say_changes(said: &mut HashMap<Said, (String, Instant)>, progress: &Progress) {
    if let Some(upgrade) = &progress.upgrade {
        say_upgrade(said, upgrade, Timestamp::now());
    }
    for integration in &progress.integrations {
        let key = Said::Integration(integration.integration.clone());
        let state = integration_state(integration);
        let last = said.get(&key);
        // A wait, and its end: of all else the sessions tell.
        let is_paused = integration.state == IntegrationState::Paused;
        if (is_paused || last.is_some()) && last.is_none_or(|(last, _)| *last != state) {
            line(&format!("{}: {state}", integration.integration));
            said.insert(key, (state, Instant::now()));
        }
    }
    for session in &progress.sessions {
        let row = session_row(session, 0);
        let far =
            row.total.map_or(String::new(), |total| format!("{}/{} ", count(row.current), count(total)));
        let text = format!("{}: {}: {far}{}", session.integration, row.label, row.note);
        let text = text.trim_end_matches([' ', ':', ',']).to_owned();
        let due = match said.get(&Said::Session(session.session)) {
            None => true,
            Some((last, at)) => {
                *last != text && (session.state != SessionState::Open || at.elapsed() >= LINE_EVERY)
            }
        };
        if due {
            line(&text);
            said.insert(Said::Session(session.session), (text, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrider_protocol::integration::{SessionKind, SessionObject};

    fn session(id: u64, parent: Option<u64>, state: SessionState) -> SessionProgress {
        SessionProgress {
            session: SessionId(id),
            parent: parent.map(SessionId),
            integration: "git".parse().unwrap(),
            kind: SessionKind::Model,
            name: "sourcecode.Commit".into(),
            object: Some(SessionObject { id: id.to_string(), name: format!("repo-{id}") }),
            state,
            current: 5,
            total: Some(10),
            objects: 5,
            children_done: 0,
        }
    }

    #[test]
    fn open_sessions_are_nested_and_finished_ones_thinned_out() {
        let mut sessions = vec![session(1, None, SessionState::Open)];
        sessions.extend((2..8).map(|id| session(id, Some(1), SessionState::Done)));
        sessions.push(session(8, Some(1), SessionState::Open));
        let integration = IntegrationProgress {
            integration: "git".parse().unwrap(),
            state: IntegrationState::Running,
            paused_until: None,
            paused_for: None,
            objects: 35,
            bytes: 3500,
        };
        let rows = tree(&Progress { integrations: vec![integration], sessions, ..Progress::default() });
        let shown: Vec<(usize, &str)> = rows.iter().map(|row| (row.depth, row.label.as_str())).collect();
        assert_eq!(shown[0], (0, "git"));
        assert_eq!(shown[1], (1, "sourcecode.Commit repo-1"));
        assert_eq!(shown.len(), 2 + FINISHED_SHOWN + 1);
        assert_eq!(shown.last(), Some(&(2, "sourcecode.Commit repo-8")));
    }

    #[test]
    fn each_state_of_an_upgrade_is_said_once_and_each_fault() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let mut upgrade = UpgradeProgress {
            attempt: "c1".into(),
            state: UpgradeState::Downloading,
            to: None,
            scheduled_at: None,
            percent: Some(1),
            bytes_per_s: None,
            retry_error: None,
            retry_until: None,
        };
        let mut said = HashMap::new();
        let mut lines = |upgrade: &UpgradeProgress| {
            say_upgrade(&mut said, upgrade, now);
            said.len()
        };
        assert_eq!(lines(&upgrade), 1);
        upgrade.percent = Some(2);
        assert_eq!(lines(&upgrade), 1);
        upgrade.retry_error = Some("connection reset".into());
        assert_eq!(lines(&upgrade), 2);
        (upgrade.state, upgrade.percent, upgrade.retry_error) = (UpgradeState::Verifying, None, None);
        assert_eq!(lines(&upgrade), 3);
        assert_eq!(lines(&upgrade), 3);
        let row =
            upgrade_row(&UpgradeProgress { state: UpgradeState::Downloading, percent: Some(42), ..upgrade });
        assert_eq!((row.current, row.total), (42, Some(100)));
    }

    #[test]
    fn a_pause_says_until_when_and_why() {
        let mut integration = IntegrationProgress {
            integration: "hub".parse().unwrap(),
            state: IntegrationState::Paused,
            paused_until: Some("2026-11-24T12:30:00Z".parse().unwrap()),
            paused_for: Some("rate limit of the source".into()),
            objects: 1,
            bytes: 2,
        };
        assert_eq!(integration_state(&integration), "paused until 12:30 UTC: rate limit of the source");
        integration.paused_until = None;
        integration.paused_for = Some("spool full".into());
        assert_eq!(integration_state(&integration), "paused: spool full");
        let mut said = HashMap::new();
        let mut told = |state| {
            integration.state = state;
            let progress = Progress { integrations: vec![integration.clone()], ..Progress::default() };
            say_changes(&mut said, &progress);
            said.values().next().map(|(text, _)| text.clone())
        };
        assert_eq!(told(IntegrationState::Running), None);
        assert_eq!(told(IntegrationState::Paused).as_deref(), Some("paused: spool full"));
        assert_eq!(told(IntegrationState::Running).as_deref(), Some("running"));
    }
}
