//! Whether an integration that failed is started again, and when.

use std::time::Duration;

use backon::BackoffBuilder as _;
use outrider_home::Limits;
use outrider_protocol::fault::Retry;
use outrider_protocol::report::{Failure, IntegrationOutcome, IntegrationReport};

/// The longest pause between two starts, however often it failed.
const LONGEST: Duration = Duration::from_secs(3600);

/// The starts of one integration in one export.
#[derive(Debug)]
pub(crate) struct Attempts {
    left: u32,
    pauses: backon::ExponentialBackoff,
}

impl Attempts {
    pub(crate) fn new(limits: &Limits) -> Self {
        let pauses = backon::ExponentialBuilder::default()
            .with_min_delay(limits.retry_first())
            .with_max_delay(LONGEST)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build();
        Self { left: limits.integration_attempts.saturating_sub(1), pauses }
    }

    /// How long to wait before it is started again; nothing when it is not.
    pub(crate) fn next(&mut self, report: &IntegrationReport) -> Option<(Duration, Failure)> {
        let error = report.error.as_ref()?;
        if report.state != IntegrationOutcome::Failed || error.retry != Retry::Later || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some((self.pauses.next()?, error.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrider_protocol::fault::Fault;

    #[test]
    fn only_what_may_pass_is_tried_again_and_ever_later() {
        let limits = Limits { integration_attempts: 4, ..Limits::default() };
        let mut report = super::super::empty_report(&serde_json::from_str(r#"{"name":"mock"}"#).unwrap());
        let failed = |retry| super::super::failure("no".into(), Fault::Source, retry);
        report.state = IntegrationOutcome::Failed;
        report.error = Some(*failed(Retry::No));
        assert!(Attempts::new(&limits).next(&report).is_none());
        report.error = Some(*failed(Retry::Later));
        let mut attempts = Attempts::new(&limits);
        let pauses: Vec<_> = std::iter::from_fn(|| attempts.next(&report)).map(|it| it.0).collect();
        assert_eq!(pauses.len(), 3);
        for (pause, first) in pauses.iter().zip([5, 10, 20]) {
            let first = Duration::from_secs(first);
            assert!((first..=2 * first).contains(pause), "{pauses:?}");
        }
        report.state = IntegrationOutcome::Cancelled;
        assert!(Attempts::new(&limits).next(&report).is_none());
    }
}
