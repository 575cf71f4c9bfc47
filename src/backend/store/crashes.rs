//! The crashes that agents told of: each once, the newest kept.

use jiff::Timestamp;
use outrider_protocol::control::CrashedParams;
use outrider_protocol::crash::Crash;
use outrider_protocol::ids::AgentId;

use super::{During, Store, StoreError, from_json, time, to_json};
use crate::admin::{CrashFilter, StoredCrash};

/// Crashes kept of one agent.
const MOST: i64 = 500;
/// Lines kept of what a process said last: the newest.
const MOST_LINES: usize = 100;
/// Bytes kept of a line, and of every other text of a crash.
const LONGEST_TEXT: usize = 4096;

impl Store {
    /// Keeps a crash. Answers whether it is news.
    pub(crate) async fn add_crash(
        &self,
        agent: &AgentId,
        told: &CrashedParams,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const WHAT: &str = "store a crash";
        let mut tx = self.begin().await.during(WHAT)?;
        let done = sqlx::query(
            "INSERT INTO crash (agent, id, crash_json, received_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(agent.as_str())
        .bind(&told.id)
        .bind(to_json(&bounded(&told.crash), WHAT)?)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await
        .during(WHAT)?;
        sqlx::query(
            "DELETE FROM crash WHERE agent = $1
             AND seq <= (SELECT seq FROM crash WHERE agent = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)",
        )
        .bind(agent.as_str())
        .bind(MOST)
        .execute(&mut *tx)
        .await
        .during(WHAT)?;
        tx.commit().await.during(WHAT)?;
        Ok(done.rows_affected() > 0)
    }

    /// Crashes, the newest first.
    pub(crate) async fn crashes(&self, filter: &CrashFilter) -> Result<Vec<StoredCrash>, StoreError> {
        const WHAT: &str = "list crashes";
        let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
            "SELECT agent, id, crash_json, received_at FROM crash WHERE $1 IS NULL OR agent = $1
             ORDER BY seq DESC LIMIT $2",
        )
        .bind(filter.agent.as_ref().map(AgentId::as_str))
        .bind(i64::from(filter.limit.unwrap_or(100).min(1000)))
        .fetch_all(&self.read)
        .await
        .during(WHAT)?;
        let stored = |(agent, id, crash, received_at): (String, String, String, i64)| {
            Ok(StoredCrash {
                agent: AgentId::new(agent).during(WHAT)?,
                id,
                crash: from_json(&crash, WHAT)?,
                received_at: time(received_at),
            })
        };
        rows.into_iter().map(stored).collect()
    }
}

/// As much of a crash as is kept. It is cut rather than refused: an agent would tell it again for ever.
fn bounded(crash: &Crash) -> Crash {
    let lines = &crash.last_lines;
    Crash {
        component: cut(&crash.component),
        detail: cut(&crash.detail),
        version: cut(&crash.version),
        last_lines: lines[lines.len().saturating_sub(MOST_LINES)..].iter().map(|line| cut(line)).collect(),
        ..crash.clone()
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end < text.len() { format!("{}…", &text[..end]) } else { text.into() }
}
