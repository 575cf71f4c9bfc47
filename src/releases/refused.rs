//! What the crate `tough` says when it refuses a repository, in our words.

use std::error::Error;

use tough::error::Error as Tough;
use tough::schema::{self, RoleType};

use crate::error::{Role, TrustError};
use crate::transport::Metadata;

/// The error for a refusal. What the source itself said comes first: `tough` only passes it on.
pub(crate) fn refused(err: Tough, transport: &Metadata) -> TrustError {
    if let Some(failed) = transport.failure() {
        return failed.into();
    }
    match err {
        // Roots come one by one.
        Tough::OlderMetadata { role: RoleType::Root, current_version, new_version, .. } => {
            TrustError::Mismatch {
                what: "the next root".into(),
                found: format!("version {new_version}"),
                expected: format!("version {}", current_version.saturating_add(1)),
            }
        }
        Tough::OlderMetadata { role, current_version, new_version, .. } => {
            rollback(role.into(), new_version, current_version)
        }
        Tough::OlderSnapshotInTimestamp { snapshot_new, snapshot_old, .. } => {
            rollback(Role::Snapshot, snapshot_new, snapshot_old)
        }
        Tough::SnapshotRoleRollback { old_role_version, new_role_version, .. } => {
            rollback(Role::Targets, new_role_version, old_role_version)
        }
        Tough::VersionMismatch { role, fetched, expected, .. } => TrustError::Mismatch {
            what: format!("the {role} metadata"),
            found: format!("version {fetched}"),
            expected: format!("version {expected}"),
        },
        Tough::VerifyMetadata { role, source, .. } => unsigned(role.into(), source),
        Tough::VerifyTrustedMetadata { source, .. } => unsigned(Role::Root, source),
        Tough::ParseMetadata { role, source, .. } => {
            TrustError::Unreadable { role: role.into(), source: source.into() }
        }
        Tough::ParseTrustedMetadata { source, .. } => TrustError::BadEmbeddedRoot { source },
        Tough::MaxUpdatesExceeded { max_root_updates, .. } => TrustError::Endless {
            what: "the chain of new roots".into(),
            most: format!("{max_root_updates} roots"),
        },
        Tough::Transport { source, url, .. } => transported(url.path(), source),
        err @ (Tough::TimestampMetaLength { .. } | Tough::MissingSnapshotMeta { .. }) => {
            TrustError::Unreadable { role: Role::Timestamp, source: err.into() }
        }
        err @ (Tough::SnapshotTargetsMetaMissing { .. } | Tough::SnapshotRoleMissing { .. }) => {
            TrustError::Unreadable { role: Role::Snapshot, source: err.into() }
        }
        err => TrustError::internal(err),
    }
}

fn rollback(role: Role, found: u64, seen: u64) -> TrustError {
    TrustError::Rollback { role, found, seen }
}

fn unsigned(role: Role, err: schema::Error) -> TrustError {
    match err {
        schema::Error::SignatureThreshold { threshold, valid: 0, .. } => {
            TrustError::WrongKey { role, needed: threshold }
        }
        schema::Error::SignatureThreshold { threshold, valid, .. } => {
            TrustError::BelowThreshold { role, found: valid, needed: threshold }
        }
        err => TrustError::Unreadable { role, source: err.into() },
    }
}

/// `tough` puts what its own checks of a stream say inside of the transport's error.
fn transported(path: &str, err: tough::TransportError) -> TrustError {
    let what = path.trim_start_matches('/').to_owned();
    match err.source().and_then(|it| it.downcast_ref::<Tough>()) {
        Some(Tough::HashMismatch { calculated, expected, .. }) => TrustError::Mismatch {
            what,
            found: format!("SHA-256 {calculated}"),
            expected: format!("SHA-256 {expected}"),
        },
        // The limit that the next higher role has signed: what comes is not what it named.
        Some(Tough::MaxSizeExceeded { max_size, .. }) => {
            TrustError::Endless { what, most: format!("{max_size} bytes") }
        }
        _ => TrustError::internal(err),
    }
}

impl From<RoleType> for Role {
    fn from(role: RoleType) -> Self {
        match role {
            RoleType::Root => Self::Root,
            RoleType::Snapshot => Self::Snapshot,
            RoleType::Timestamp => Self::Timestamp,
            // Delegated roles are lists of files too.
            RoleType::Targets | RoleType::DelegatedTargets => Self::Targets,
        }
    }
}

impl From<Role> for RoleType {
    fn from(role: Role) -> Self {
        match role {
            Role::Root => Self::Root,
            Role::Targets => Self::Targets,
            Role::Snapshot => Self::Snapshot,
            Role::Timestamp => Self::Timestamp,
        }
    }
}
