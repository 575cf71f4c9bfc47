//! The tree of sessions of a command, a row a node; the latest state of a node wins.

use std::collections::BTreeSet;

use outrider_protocol::ids::CommandId;
use outrider_protocol::progress::{Progress, SessionProgress, SessionState};
use outrider_protocol::upgrade::UpgradeProgress;
use sqlx::SqliteTransaction;

use super::{During, Store, StoreError, count, from_json, to_json};

/// How much of a tree is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeBounds {
    /// Finished sessions below one parent; the parent itself counts them all.
    pub(crate) finished_per_parent: u32,
    /// Sessions of a command.
    pub(crate) sessions: u32,
}

impl Store {
    /// Merges changed nodes into a command's tree.
    pub(crate) async fn merge_progress(
        &self,
        command: &CommandId,
        progress: &Progress,
        bounds: TreeBounds,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "store a command's progress";
        let mut tx = self.begin().await.during(WHAT)?;
        for node in &progress.integrations {
            sqlx::query(
                "INSERT INTO progress_integration (command, integration, node) VALUES ($1, $2, $3)
                 ON CONFLICT (command, integration) DO UPDATE SET node = excluded.node",
            )
            .bind(command.as_str())
            .bind(node.integration.as_str())
            .bind(to_json(node, WHAT)?)
            .execute(&mut *tx)
            .await
            .during(WHAT)?;
        }
        for node in &progress.sessions {
            upsert_session(&mut tx, command, node).await?;
        }
        if let Some(upgrade) = &progress.upgrade {
            set_upgrade(&mut tx, command, upgrade.clone()).await?;
        }
        let parents: BTreeSet<Option<u64>> = progress
            .sessions
            .iter()
            .filter(|node| node.state != SessionState::Open)
            .map(|node| node.parent.map(|parent| parent.0))
            .collect();
        for parent in &parents {
            prune_siblings(&mut tx, command, *parent, bounds.finished_per_parent).await?;
        }
        if !parents.is_empty() {
            prune_orphans(&mut tx, command).await?;
            prune_all(&mut tx, command, bounds.sessions).await?;
        }
        tx.commit().await.during(WHAT)
    }

    /// A command's tree, parents before children.
    pub(crate) async fn progress(&self, command: &CommandId) -> Result<Progress, StoreError> {
        const WHAT: &str = "read a command's progress";
        let integrations: Vec<(String,)> =
            sqlx::query_as("SELECT node FROM progress_integration WHERE command = $1 ORDER BY integration")
                .bind(command.as_str())
                .fetch_all(&self.read)
                .await
                .during(WHAT)?;
        let sessions: Vec<(String,)> =
            sqlx::query_as("SELECT node FROM progress_session WHERE command = $1 ORDER BY session")
                .bind(command.as_str())
                .fetch_all(&self.read)
                .await
                .during(WHAT)?;
        let upgrade: Option<(Option<String>,)> = sqlx::query_as("SELECT upgrade FROM command WHERE id = $1")
            .bind(command.as_str())
            .fetch_optional(&self.read)
            .await
            .during(WHAT)?;
        Ok(Progress {
            integrations: integrations
                .iter()
                .map(|(node,)| from_json(node, WHAT))
                .collect::<Result<_, _>>()?,
            sessions: sessions.iter().map(|(node,)| from_json(node, WHAT)).collect::<Result<_, _>>()?,
            upgrade: upgrade.and_then(|(it,)| it).map(|it| from_json(&it, WHAT)).transpose()?,
        })
    }
}

/// Keeps the latest of an attempt. What it upgrades to stays known, though not every later word repeats it.
async fn set_upgrade(
    tx: &mut SqliteTransaction<'_>,
    command: &CommandId,
    mut upgrade: UpgradeProgress,
) -> Result<(), StoreError> {
    const WHAT: &str = "store how far an upgrade is";
    if upgrade.to.is_none() {
        let before: Option<(Option<String>,)> = sqlx::query_as("SELECT upgrade FROM command WHERE id = $1")
            .bind(command.as_str())
            .fetch_optional(&mut **tx)
            .await
            .during(WHAT)?;
        let before: Option<UpgradeProgress> =
            before.and_then(|(it,)| it).map(|it| from_json(&it, WHAT)).transpose()?;
        upgrade.to = before.filter(|it| it.attempt == upgrade.attempt).and_then(|it| it.to);
    }
    sqlx::query("UPDATE command SET upgrade = $2 WHERE id = $1")
        .bind(command.as_str())
        .bind(to_json(&upgrade, WHAT)?)
        .execute(&mut **tx)
        .await
        .during(WHAT)?;
    Ok(())
}

async fn upsert_session(
    tx: &mut SqliteTransaction<'_>,
    command: &CommandId,
    node: &SessionProgress,
) -> Result<(), StoreError> {
    const WHAT: &str = "store a session's progress";
    sqlx::query(
        "INSERT INTO progress_session (command, session, parent, is_open, node) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (command, session) DO UPDATE SET is_open = excluded.is_open, node = excluded.node",
    )
    .bind(command.as_str())
    .bind(count(node.session.0))
    .bind(node.parent.map(|parent| count(parent.0)))
    .bind(i64::from(node.state == SessionState::Open))
    .bind(to_json(node, WHAT)?)
    .execute(&mut **tx)
    .await
    .during(WHAT)?;
    Ok(())
}

/// Keeps the last finished sessions below one parent.
async fn prune_siblings(
    tx: &mut SqliteTransaction<'_>,
    command: &CommandId,
    parent: Option<u64>,
    keep: u32,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM progress_session
         WHERE command = $1 AND COALESCE(parent, -1) = $2 AND is_open = 0 AND session <= (
             SELECT session FROM progress_session
             WHERE command = $1 AND COALESCE(parent, -1) = $2 AND is_open = 0
             ORDER BY session DESC LIMIT 1 OFFSET $3)",
    )
    .bind(command.as_str())
    .bind(parent.map_or(-1, count))
    .bind(i64::from(keep))
    .execute(&mut **tx)
    .await
    .during("shorten a command's progress")?;
    Ok(())
}

/// Removes finished sessions whose parent is gone, down to the leaves.
async fn prune_orphans(tx: &mut SqliteTransaction<'_>, command: &CommandId) -> Result<(), StoreError> {
    loop {
        let done = sqlx::query(
            "DELETE FROM progress_session
             WHERE command = $1 AND is_open = 0 AND parent IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM progress_session p
                               WHERE p.command = $1 AND p.session = progress_session.parent)",
        )
        .bind(command.as_str())
        .execute(&mut **tx)
        .await
        .during("shorten a command's progress")?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
    }
}

/// Keeps the newest sessions of a command.
async fn prune_all(tx: &mut SqliteTransaction<'_>, command: &CommandId, keep: u32) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM progress_session
         WHERE command = $1 AND is_open = 0 AND session <= (
             SELECT session FROM progress_session WHERE command = $1 ORDER BY session DESC LIMIT 1 OFFSET $2)",
    )
    .bind(command.as_str())
    .bind(i64::from(keep))
    .execute(&mut **tx)
    .await
    .during("shorten a command's progress")?;
    Ok(())
}
