//! The number that says which schema a state has, and the steps from each to the next.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StateError;
use super::error::MigrateError;
use crate::atomic::{self, FileError};

/// Takes the copy of a state, in this folder, from one schema to the next.
type Migration = fn(&Path) -> Result<(), MigrateError>;

/// The first takes schema 1 to 2.
const MIGRATIONS: &[Migration] = &[];

/// The schema that this version's state has.
pub const SCHEMA: u32 = 1;
const _: () =
    assert!(SCHEMA as usize == 1 + MIGRATIONS.len(), "each schema but the first has a migration to it");

/// How much of a file that is not understood is repeated in a message, in characters.
const SHOWN: usize = 80;

/// What stands in `schema.json`. Later versions may say more there.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    schema: u32,
}

/// What a version knows of schemas.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    /// The one that it works with.
    pub(super) number: u32,
    played: Option<Played>,
}

impl Schema {
    /// That of this program.
    pub(super) fn own() -> Self {
        match Played::of_this_program() {
            Some(played) => Self { number: SCHEMA.max(played.schema), played: Some(played) },
            None => Self { number: SCHEMA, played: None },
        }
    }

    /// Takes a copy from a schema to this one.
    pub(super) fn migrate(&self, folder: &Path, from: u32) -> Result<(), StateError> {
        for step in from..self.number {
            let migration = MIGRATIONS.get(usize::try_from(step - 1).unwrap_or(usize::MAX));
            let done = match (migration, &self.played) {
                (Some(migration), _) => migration(folder),
                (None, Some(played)) => played.migrate(folder, step),
                (None, None) => Err(format!("there is no step from schema {step}").into()),
            };
            done.map_err(|err| StateError::Migration { from, to: self.number, err })?;
        }
        Ok(())
    }
}

/// Where a state says its schema.
pub(super) fn path_in(state: &Path) -> PathBuf {
    state.join("schema.json")
}

/// The schema of a state that is there.
pub(super) fn read(state: &Path) -> Result<u32, StateError> {
    let path = path_in(state);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Versions before there was such a file.
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(1),
        Err(err) => return Err(FileError::at("read", &path)(err).into()),
    };
    match serde_json::from_slice(&text) {
        Ok(Written { schema }) if schema > 0 => Ok(schema),
        _ => {
            let found = String::from_utf8_lossy(&text).chars().take(SHOWN).collect::<String>();
            Err(StateError::Unreadable { path, found: format!("{found:?}") })
        }
    }
}

/// Says a state's schema in it, durably.
pub(super) fn write(state: &Path, schema: u32) -> Result<(), FileError> {
    let text = serde_json::to_vec(&Written { schema }).unwrap_or_default();
    atomic::write(&path_in(state), &text, atomic::PRIVATE)
}

/// A later schema that a program only plays, so that tests have versions between which the state is migrated: a file
/// `played-state-schema` beside the program says its number and what its migrations do. No program that was built for use
/// looks for it.
#[derive(Debug, Clone)]
struct Played {
    schema: u32,
    does: String,
}

impl Played {
    fn of_this_program() -> Option<Self> {
        if !cfg!(debug_assertions) {
            return None;
        }
        let file = std::env::current_exe().ok()?.with_file_name("played-state-schema");
        let text = std::fs::read_to_string(file).ok()?;
        let (schema, does) = text.trim().split_once(' ')?;
        Some(Self { schema: schema.parse().ok()?, does: does.to_owned() })
    }

    /// `well`; `fails`; `dies`, the first time, as by a kill.
    fn migrate(&self, folder: &Path, from: u32) -> Result<(), MigrateError> {
        std::fs::write(folder.join(format!("played-{from}")), "a table that schema 1 does not know")?;
        match self.does.as_str() {
            "fails" => Err("it is played to fail".into()),
            "dies" => {
                let died = folder.with_file_name("played-death");
                if std::fs::File::create_new(died).is_ok() {
                    std::process::abort();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
impl Schema {
    /// One that is played.
    pub(super) fn played(schema: u32, does: &str) -> Self {
        let played = (schema > SCHEMA).then(|| Played { schema, does: does.to_owned() });
        Self { number: schema, played }
    }
}
