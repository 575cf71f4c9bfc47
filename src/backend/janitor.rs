//! What has to be done from time to time: commands that waited too long expire, configurations of ended ones and old
//! records go.

use outrider_protocol::fault::chain;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use crate::app::Shared;
use crate::hub::Change;
use crate::store::StoreError;

/// How often commands are expired. People notice within a second or two, and it costs one indexed look.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// How many of those until old records are removed.
const SWEEP_EVERY: u32 = 600;

/// Works until the backend stops.
pub(crate) async fn run(app: Shared) {
    let mut every = tokio::time::interval(EXPIRE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0u32;
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = app.stopping.cancelled() => return,
        }
        if let Err(err) = expire(&app).await {
            tracing::error!(error = chain(&err), "Commands cannot be expired.");
        }
        if let Err(err) = drop_configs(&app).await {
            tracing::error!(error = chain(&err), "Configurations of ended commands cannot be removed.");
        }
        if round.is_multiple_of(SWEEP_EVERY)
            && let Err(err) = sweep(&app).await
        {
            tracing::error!(error = chain(&err), "Old records cannot be removed.");
        }
        round = round.wrapping_add(1);
    }
}

async fn expire(app: &Shared) -> Result<(), StoreError> {
    for command in app.store.expire_commands(Timestamp::now()).await? {
        tracing::info!(%command, "Command expired: its agent did not come for it.");
        app.hub.changed(Change::Command(command));
    }
    Ok(())
}

/// Takes the configurations out of the orders of all commands that have ended.
pub(crate) async fn drop_configs(app: &Shared) -> Result<(), StoreError> {
    while app.store.drop_configs().await? > 0 {
        app.unfolded.store(true, Ordering::Relaxed);
    }
    // Until the log was folded whole: where somebody reads just now, it is tried again.
    if app.unfolded.load(Ordering::Relaxed) && app.store.fold_log().await? {
        app.unfolded.store(false, Ordering::Relaxed);
    }
    Ok(())
}

async fn sweep(app: &Shared) -> Result<(), StoreError> {
    let now = Timestamp::now();
    app.store.forget_passes(now).await?;
    let keep = i64::try_from(app.limits.keep_commands.as_millis()).unwrap_or(i64::MAX);
    let before = now.as_millisecond().saturating_sub(keep);
    let removed = app.store.forget_commands(before).await?;
    if removed > 0 {
        tracing::info!(removed, "Old commands removed.");
    }
    Ok(())
}
