//! Link A, bulk: enrollment and uploads, plain HTTP on the backend's origin.
//!
//! **Enroll**: `POST` [`ENROLL_PATH`] with [`EnrollRequest`], answered with [`EnrollReply`] or an [`HttpError`].
//!
//! **Upload** of one spool file, at [`upload_path`], with `Authorization: Bearer TOKEN`:
//! - `HEAD` answers how much the backend has, in [`UPLOAD_OFFSET`]; and [`UPLOAD_COMPLETE`]` = ?1` when it has a whole file of
//!   this name, with its hash in [`SHA256`] (which older backends leave out): it may be another file than the agent's, of
//!   before the agent's root was restored from a copy. 404 means nothing yet.
//! - `PATCH` with [`UPLOAD_OFFSET`], [`UPLOAD_LENGTH`], [`SHA256`], [`OBJECTS`], [`RAW_BYTES`], [`COMPRESSION`] and [`INTEGRATION`]
//!   appends the body at that offset. 409 says that the offset is not what the backend has (its header says what is).
//!   The answer to the last byte is [`UPLOAD_COMPLETE`]` = ?1`, after the whole file was synced and its hash compared;
//!   422 says that the hash was wrong, and the backend has forgotten the file; or that it has another file of this name.
//!
//! **Releases**: below [`RELEASES_PATH`] the backend is a mirror of signed releases, by `GET` and `HEAD`, for anybody: what lies
//! there is verified by its signatures alone. `Range` gives a part, `If-Range` with the `ETag` of the first part that of
//! the same file only; there is no content encoding.

use serde::{Deserialize, Serialize};

use crate::action::SealedFile;
use crate::control::HostInfo;
use crate::ids::AgentId;

/// Where an agent enrolls.
pub const ENROLL_PATH: &str = "/agent/v1/enroll";
/// Below which the backend serves signed releases.
pub const RELEASES_PATH: &str = "/releases/";
/// Header: the place in the file, in bytes.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// Header: the file's size in bytes.
pub const UPLOAD_LENGTH: &str = "upload-length";
/// Header: `?1` when the backend has the whole file, verified and durable; otherwise `?0`.
pub const UPLOAD_COMPLETE: &str = "upload-complete";
/// Header: the file's SHA-256, in lower-case hex.
pub const SHA256: &str = "outrider-sha256";
/// Header: how many objects the file holds.
pub const OBJECTS: &str = "outrider-objects";
/// Header: the objects' JSON in bytes, before compression.
pub const RAW_BYTES: &str = "outrider-raw-bytes";
/// Header: whose objects they are.
pub const INTEGRATION: &str = "outrider-integration";

/// Header: how the file is compressed, `gzip` or `zstd`; gzip where it is missing.
pub const COMPRESSION: &str = "outrider-compression";

/// Where a spool file is uploaded: `/agent/v1/uploads/EXPORT/MODEL/NUMBER`.
#[must_use]
pub fn upload_path(file: &SealedFile) -> String {
    format!("/agent/v1/uploads/{}/{}/{}", file.export, file.model, file.number)
}

/// Asks to become an agent of the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnrollRequest {
    /// The enrollment code.
    pub code: String,
    /// The agent's version.
    pub version: String,
    /// Where it runs.
    pub host: HostInfo,
    /// Which releases it wants: `stable`, `edge`, `dev`.
    pub channel: String,
    /// Made up by the agent and kept until the backend answers, so that a repeated request, whose answer was lost,
    /// does not use a code twice.
    pub request: String,
}

/// The agent's identity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnrollReply {
    /// The agent's id.
    pub agent: AgentId,
    /// The secret with which it calls from now on.
    pub token: String,
    /// Whose agent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
}

impl std::fmt::Debug for EnrollReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollReply")
            .field("agent", &self.agent)
            .field("token", &"***")
            .finish_non_exhaustive()
    }
}

/// The body of every answer of the backend's HTTP API that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HttpError {
    /// What happened.
    pub message: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
