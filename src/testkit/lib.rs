//! What the tests of several crates need: the other end of a link by hand, data from `fixtures/`, and a disk that loses what
//! was not synced. For tests only.
//!
//! **Invariant:** whatever waits here gives up after [`PATIENCE`] and fails the test with what it waited for; nothing
//! waits for a moment to pass.
//!
//! **Invariant:** this crate speaks raw lines: it does not use the code that it helps to test.

mod fixtures;
pub mod lossy;
mod raw_end;

use std::time::Duration;

pub use fixtures::{fixture, fixtures};
pub use raw_end::{Asked, RawEnd, raw_link};

/// How long a test waits for what must happen. Long, since a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often [`until`] looks.
const LOOK: Duration = Duration::from_millis(2);

/// Waits for a future, which is to be ready by itself.
///
/// # Panics
/// With `what` after [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// With `what` after [`PATIENCE`].
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}
