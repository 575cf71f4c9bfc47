//! The list of uploaded files.

use jiff::Timestamp;
use outrider_protocol::action::{Compression, SealedFile};
use outrider_protocol::ids::{AgentId, CommandId, ExportId, IntegrationId, Model};
use sqlx::FromRow;

use super::{During, Store, StoreError, count, time, uncount};
use crate::admin::{File, FileFilter};
use crate::counts::Received;

#[derive(FromRow)]
struct Row {
    agent: String,
    export: String,
    model: String,
    number: i64,
    integration: String,
    objects: i64,
    raw_bytes: i64,
    bytes: i64,
    sha256: String,
    compression: String,
    received_at: i64,
}

impl Row {
    fn into_file(self) -> Result<File, StoreError> {
        const WHAT: &str = "read a file's entry";
        Ok(File {
            agent: AgentId::new(self.agent).during(WHAT)?,
            export: ExportId::new(self.export).during(WHAT)?,
            integration: IntegrationId::new(self.integration).during(WHAT)?,
            model: Model::new(self.model).during(WHAT)?,
            number: uncount(self.number),
            objects: uncount(self.objects),
            raw_bytes: uncount(self.raw_bytes),
            bytes: uncount(self.bytes),
            sha256: self.sha256,
            compression: compression(&self.compression)?,
            received_at: time(self.received_at),
            path: String::new(),
        })
    }
}

/// Which file, as its agent names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FileKey {
    pub(crate) agent: AgentId,
    pub(crate) export: ExportId,
    pub(crate) model: Model,
    pub(crate) number: u64,
}

/// What this backend has of a command's export.
#[derive(Debug, Default)]
pub(crate) struct OfCommand {
    /// How many files.
    pub(crate) files: u64,
    /// The objects in them.
    pub(crate) objects: Received,
}

impl Store {
    /// Enters a file that is complete and durable. Once: a second entry changes nothing.
    pub(crate) async fn add_file(
        &self,
        agent: &AgentId,
        file: &SealedFile,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO file (agent, export, model, number, integration, objects, raw_bytes, bytes, sha256,
                               received_at, compression)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
        )
        .bind(agent.as_str())
        .bind(file.export.as_str())
        .bind(file.model.as_str())
        .bind(count(file.number))
        .bind(file.integration.as_str())
        .bind(count(file.objects))
        .bind(count(file.raw_bytes))
        .bind(count(file.bytes))
        .bind(&file.sha256)
        .bind(now.as_millisecond())
        .bind(word(file.compression))
        .execute(&self.write)
        .await
        .during("enter an uploaded file")?;
        Ok(())
    }

    /// How many files of an agent are complete.
    pub(crate) async fn count_files(&self, agent: &AgentId) -> Result<u64, StoreError> {
        let (files,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM file WHERE agent = $1")
            .bind(agent.as_str())
            .fetch_one(&self.read)
            .await
            .during("count an agent's files")?;
        Ok(uncount(files))
    }

    /// How much of a command's export is here, by integration and model.
    pub(crate) async fn received(
        &self,
        agent: &AgentId,
        command: &CommandId,
    ) -> Result<OfCommand, StoreError> {
        const WHAT: &str = "count the files of an export";
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "SELECT integration, model, COUNT(*), SUM(objects) FROM file WHERE agent = $1 AND export = $2
             GROUP BY integration, model",
        )
        .bind(agent.as_str())
        .bind(command.as_str())
        .fetch_all(&self.read)
        .await
        .during(WHAT)?;
        let mut all = OfCommand::default();
        for (integration, model, files, objects) in rows {
            let key = (IntegrationId::new(integration).during(WHAT)?, Model::new(model).during(WHAT)?);
            all.files += uncount(files);
            all.objects.insert(key, uncount(objects));
        }
        Ok(all)
    }

    /// One file's entry.
    pub(crate) async fn file(&self, key: &FileKey) -> Result<Option<File>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT * FROM file WHERE agent = $1 AND export = $2 AND model = $3 AND number = $4",
        )
        .bind(key.agent.as_str())
        .bind(key.export.as_str())
        .bind(key.model.as_str())
        .bind(count(key.number))
        .fetch_optional(&self.read)
        .await
        .during("look up an uploaded file")?;
        row.map(Row::into_file).transpose()
    }

    /// Files, the newest first.
    pub(crate) async fn files(&self, filter: &FileFilter) -> Result<Vec<File>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM file WHERE ($1 IS NULL OR agent = $1) AND ($2 IS NULL OR export = $2)
             ORDER BY received_at DESC, export DESC, model, number DESC LIMIT $3",
        )
        .bind(filter.agent.as_ref().map(AgentId::as_str))
        .bind(filter.export.as_ref().map(ExportId::as_str))
        .bind(i64::from(filter.limit.unwrap_or(1000).min(10_000)))
        .fetch_all(&self.read)
        .await
        .during("list uploaded files")?;
        rows.into_iter().map(Row::into_file).collect()
    }
}

fn word(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

fn compression(word: &str) -> Result<Compression, StoreError> {
    match word {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        other => Err(StoreError::Unknown { what: "read how a file is compressed", found: other.into() }),
    }
}
