//! Enrollment codes.

use jiff::Timestamp;
use sqlx::FromRow;

use super::{During, Store, StoreError, time};
use crate::admin::{Code, CodeState, CreatedCode, NewCode};
use crate::secret;

#[derive(FromRow)]
struct Row {
    id: String,
    uses: i64,
    used: i64,
    customer_id: Option<String>,
    note: Option<String>,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
}

impl Row {
    fn into_code(self, now: Timestamp) -> Code {
        let state = if self.revoked_at.is_some() {
            CodeState::Revoked
        } else if self.used >= self.uses {
            CodeState::UsedUp
        } else if self.expires_at <= now.as_millisecond() {
            CodeState::Expired
        } else {
            CodeState::Active
        };
        let small = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        Code {
            id: self.id,
            state,
            uses: small(self.uses),
            used: small(self.used),
            customer_id: self.customer_id,
            note: self.note,
            created_at: time(self.created_at),
            expires_at: time(self.expires_at),
        }
    }
}

impl Store {
    pub(crate) async fn create_code(
        &self,
        new: NewCode,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<CreatedCode, StoreError> {
        const WHAT: &str = "store an enrollment code";
        let code = secret::code().during(WHAT)?;
        let row = Row {
            id: format!("code-{}", secret::random_text(6).during(WHAT)?),
            uses: i64::from(new.uses),
            used: 0,
            customer_id: new.customer_id,
            note: new.note,
            created_at: now.as_millisecond(),
            expires_at: expires_at.as_millisecond(),
            revoked_at: None,
        };
        sqlx::query(
            "INSERT INTO code (id, hash, uses, customer_id, note, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&row.id)
        .bind(secret::code_hash(&code).as_bytes().to_vec())
        .bind(row.uses)
        .bind(&row.customer_id)
        .bind(&row.note)
        .bind(row.created_at)
        .bind(row.expires_at)
        .execute(&self.write)
        .await
        .during(WHAT)?;
        Ok(CreatedCode { code, stored: row.into_code(now) })
    }

    /// All codes, the newest first.
    pub(crate) async fn codes(&self, now: Timestamp) -> Result<Vec<Code>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, uses, used, customer_id, note, created_at, expires_at, revoked_at
             FROM code ORDER BY created_at DESC, id LIMIT 1000",
        )
        .fetch_all(&self.read)
        .await
        .during("list enrollment codes")?;
        Ok(rows.into_iter().map(|row| row.into_code(now)).collect())
    }

    /// Takes a code back. `None`: there is none of that id.
    pub(crate) async fn revoke_code(&self, id: &str, now: Timestamp) -> Result<Option<Code>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "UPDATE code SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1
             RETURNING id, uses, used, customer_id, note, created_at, expires_at, revoked_at",
        )
        .bind(id)
        .bind(now.as_millisecond())
        .fetch_optional(&self.write)
        .await
        .during("revoke an enrollment code")?;
        Ok(row.map(|row| row.into_code(now)))
    }
}
