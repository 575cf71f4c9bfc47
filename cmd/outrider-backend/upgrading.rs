//! `command upgrade`: makes the order of flags, and says how far it is.

use jiff::Timestamp;
use outrider_backend::admin::NewCommand;
use outrider_backend::client::Client;
use outrider_backend::moment::shown;
use outrider_protocol::action::Order;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeProgress, UpgradeState};

use crate::args::Upgrade;
use crate::connect::find_agent;
use crate::output::bytes;
use crate::report::Error;

/// What is sent to the backend.
pub(crate) async fn into_new(flags: Upgrade, client: &Client) -> Result<NewCommand, Error> {
    let agent = find_agent(client, flags.agent.as_deref()).await?;
    let order = UpgradeOrder {
        version: flags.version,
        sources: flags.source,
        start_at: flags.start,
        allow_downgrade: flags.allow_downgrade,
        force: flags.force,
        ..UpgradeOrder::default()
    };
    Ok(NewCommand { expires_at: flags.until, ..NewCommand::new(agent, Order::Upgrade(order)) })
}

/// Where an upgrade is, in a line: `downloading 1.4.2 (0123abcd), 42 %, 3.1 MiB/s`.
pub(crate) fn told(progress: &UpgradeProgress, now: Timestamp) -> String {
    let mut text = progress.state.word().to_owned();
    if let Some(to) = &progress.to {
        text = format!("{text} {to}");
    }
    match progress.state {
        UpgradeState::Scheduled => {
            if let Some(at) = progress.scheduled_at {
                text = format!("{text} until {}", shown(at, now));
            }
        }
        UpgradeState::Downloading => {
            if let Some(percent) = progress.percent {
                text = format!("{text}, {percent} %");
            }
            if let Some(rate) = progress.bytes_per_s {
                text = format!("{text}, {}/s", bytes(rate));
            }
        }
        _ => {}
    }
    if let Some(error) = &progress.retry_error {
        let until = progress.retry_until.map(|at| format!(" until {}", shown(at, now)));
        text = format!("{text}; tried again{}: {error}", until.unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use outrider_protocol::upgrade::Build;

    use super::*;

    #[test]
    fn a_line_says_where_an_upgrade_is() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let mut progress = UpgradeProgress {
            attempt: "c1".into(),
            state: UpgradeState::Scheduled,
            to: None,
            scheduled_at: Some("2026-11-25T12:30:00Z".parse().unwrap()),
            percent: None,
            bytes_per_s: None,
            retry_error: None,
            retry_until: None,
        };
        assert_eq!(told(&progress, now), "scheduled until 12:30:00 UTC");
        progress.state = UpgradeState::Downloading;
        progress.to = Some(Build { version: "1.4.2".into(), snapshot: false, hash: "0123abcd".into() });
        (progress.percent, progress.bytes_per_s) = (Some(42), Some(3 << 20));
        assert_eq!(told(&progress, now), "downloading 1.4.2 (0123abcd), 42 %, 3.00 MiB/s");
        progress.retry_error = Some("connection reset".into());
        progress.retry_until = Some("2026-11-27T10:00:00Z".parse().unwrap());
        assert_eq!(
            told(&progress, now),
            "downloading 1.4.2 (0123abcd), 42 %, 3.00 MiB/s; tried again until 2026-11-27 10:00:00 UTC: connection reset"
        );
        progress = UpgradeProgress { state: UpgradeState::Watching, retry_error: None, ..progress };
        assert_eq!(told(&progress, now), "watching 1.4.2 (0123abcd)");
    }
}
