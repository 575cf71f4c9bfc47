//! One-time login links and the sessions of browsers.

use jiff::Timestamp;

use super::{During, Store, StoreError};
use crate::secret::{self, Hash};

/// What a pass opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// A session, once.
    Link,
    /// The pages.
    Session,
}

impl Pass {
    fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Session => "session",
        }
    }
}

impl Store {
    /// Makes a pass; its secret is told this once.
    pub(crate) async fn issue_pass(&self, pass: Pass, expires_at: Timestamp) -> Result<String, StoreError> {
        const WHAT: &str = "store a login";
        let secret = secret::token().during(WHAT)?;
        sqlx::query("INSERT INTO web_pass (hash, kind, expires_at) VALUES ($1, $2, $3)")
            .bind(Hash::of(&secret).as_bytes().to_vec())
            .bind(pass.as_str())
            .bind(expires_at.as_millisecond())
            .execute(&self.write)
            .await
            .during(WHAT)?;
        Ok(secret)
    }

    /// Uses a one-time link up. Answers whether it was good.
    pub(crate) async fn redeem_link(&self, secret: &str, now: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM web_pass WHERE hash = $1 AND kind = 'link' AND expires_at > $2")
            .bind(Hash::of(secret).as_bytes().to_vec())
            .bind(now.as_millisecond())
            .execute(&self.write)
            .await
            .during("use a login link")?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether a browser's session is good.
    pub(crate) async fn session_is_good(&self, secret: &str, now: Timestamp) -> Result<bool, StoreError> {
        let found: Option<(i64,)> = sqlx::query_as(
            "SELECT expires_at FROM web_pass WHERE hash = $1 AND kind = 'session' AND expires_at > $2",
        )
        .bind(Hash::of(secret).as_bytes().to_vec())
        .bind(now.as_millisecond())
        .fetch_optional(&self.read)
        .await
        .during("look up a login")?;
        Ok(found.is_some())
    }

    /// Ends a browser's session.
    pub(crate) async fn end_session(&self, secret: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM web_pass WHERE hash = $1")
            .bind(Hash::of(secret).as_bytes().to_vec())
            .execute(&self.write)
            .await
            .during("end a login")?;
        Ok(())
    }

    /// Forgets passes whose time is over.
    pub(crate) async fn forget_passes(&self, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM web_pass WHERE expires_at <= $1")
            .bind(now.as_millisecond())
            .execute(&self.write)
            .await
            .during("forget old logins")?;
        Ok(())
    }
}
