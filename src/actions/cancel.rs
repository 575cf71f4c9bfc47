//! One cancel signal with a reason, for everything that runs in an action.

use tokio::sync::watch;

/// A cheap handle on the signal. Once given it stays, with the first reason.
#[derive(Debug, Clone)]
pub struct Cancel(watch::Sender<Option<String>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Cancel {
    /// Gives the signal.
    pub fn cancel(&self, reason: &str) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(reason.to_owned());
            }
            first
        });
    }

    /// Waits for the signal and returns its reason.
    pub async fn cancelled(&self) -> String {
        let mut watch = self.0.subscribe();
        match watch.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // Not reached: the sender is in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.borrow().is_some()
    }
}
