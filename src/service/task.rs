//! Tasks whose panics do not pass silently.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// The future's output; `None` after a panic, which is then in the log.
pub(crate) async fn guarded<T>(name: &'static str, work: impl Future<Output = T>) -> Option<T> {
    // What the work shared is behind locks that recover from a panic, or goes down with the task.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(output) => Some(output),
        Err(panic) => {
            tracing::error!(
                task = name,
                panic = text(panic.as_ref()),
                "A task of the service panicked: this is a bug."
            );
            None
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_none() {
        assert_eq!(guarded("test", async { 5 }).await, Some(5));
        assert_eq!(guarded("test", async { panic!("number {}", 5) }).await, None::<()>);
    }
}
