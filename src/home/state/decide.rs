//! What is to be done next with a root's state: a pure function of which folders are there and of their schemas, asked after
//! every act until it says that nothing is.
//!
//! `ours` is the schema of the version that asks.
//!
//! | `state/` | beside it | act |
//! | --- | --- | --- |
//! | missing, or stray | kept, new with `ours` | take the new one: a migration was cut short at its end |
//! | | kept, another new one | discard the new one |
//! | | kept | take the kept one: putting it back was cut short |
//! | | new alone | take the new one |
//! | | neither | ready: it is a fresh one |
//! | older | new, or kept | discard it: it is of another state than this |
//! | | neither | migrate |
//! | `ours` | new | discard it: another version made it |
//! | | kept, and nothing on trial | discard it |
//! | | else | ready |
//! | newer | kept, which is not newer; an undone one | discard the undone one |
//! | | kept, which is not newer | set the state aside; the kept one is taken next |
//! | | else | refuse |
//!
//! A new one beside a state is never taken: the state may have been worked with since it was copied.
//!
//! A stray one has files but no `schema.json`, and lies beside a kept one. Every state that is put beside a kept one says its
//! schema; so this is no state, but what somebody wrote into the place while it was empty. It goes when another takes the
//! place.

use super::StateError;
use super::act::Folder;
use super::schema;
use crate::Root;
use crate::atomic::FileError;

/// Which folders are there, with their schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Nothing when it is missing, holds no file, or is a stray one.
    pub(super) state: Option<u32>,
    pub(super) new: Option<u32>,
    pub(super) kept: Option<u32>,
    pub(super) undone: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Ready,
    /// The state cannot be used.
    Refuse { found: u32 },
    /// Delete a folder: first its name, by one rename.
    Discard(Folder),
    /// Let a folder take the place of the state that is missing.
    Take(Folder),
    /// Let the state become the one that was undone.
    SetAside { found: u32 },
    /// Make a new state of a copy, then let the state become the kept one.
    Migrate { from: u32 },
}

impl Seen {
    pub(super) fn of(root: &Root) -> Result<Self, StateError> {
        let state = root.state();
        let has_files = super::holds_any(&state).map_err(FileError::at("list", &state))?;
        let is_stray = || Folder::Kept.of(root).exists() && !schema::path_in(&state).exists();
        let there = |folder: Folder| {
            let path = folder.of(root);
            if path.exists() { schema::read(&path).map(Some) } else { Ok(None) }
        };
        Ok(Self {
            state: if has_files && !is_stray() { Some(schema::read(&state)?) } else { None },
            new: there(Folder::New)?,
            kept: there(Folder::Kept)?,
            undone: Folder::Undone.of(root).exists(),
        })
    }
}

/// What is to be done next. `keep` says that an upgrade is on trial.
pub(super) fn decide(seen: &Seen, ours: u32, keep: bool) -> Next {
    let Some(found) = seen.state else {
        return match (seen.new, seen.kept) {
            (Some(new), Some(_)) if new != ours => Next::Discard(Folder::New),
            (Some(_), _) => Next::Take(Folder::New),
            (None, Some(_)) => Next::Take(Folder::Kept),
            (None, None) => Next::Ready,
        };
    };
    if found > ours {
        return match seen.kept {
            Some(kept) if kept <= ours && seen.undone => Next::Discard(Folder::Undone),
            Some(kept) if kept <= ours => Next::SetAside { found },
            _ => Next::Refuse { found },
        };
    }
    let is_older = found < ours;
    if seen.new.is_some() {
        Next::Discard(Folder::New)
    } else if seen.kept.is_some() && (is_older || !keep) {
        Next::Discard(Folder::Kept)
    } else if is_older {
        Next::Migrate { from: found }
    } else {
        Next::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Vec<Seen> {
        let any = [None, Some(1), Some(2), Some(3)];
        let mut all = Vec::new();
        for state in any {
            for new in any {
                for kept in any {
                    for undone in [false, true] {
                        all.push(Seen { state, new, kept, undone });
                    }
                }
            }
        }
        all
    }

    /// What an act leaves, as its parts do that a crash can come between.
    fn after(seen: Seen, next: Next, ours: u32) -> Vec<Seen> {
        let without = |folder: Folder| match folder {
            Folder::New => Seen { new: None, ..seen },
            Folder::Kept => Seen { kept: None, ..seen },
            Folder::Undone => Seen { undone: false, ..seen },
            Folder::State | Folder::Scrap => panic!("never discarded: {seen:?}"),
        };
        match next {
            Next::Ready | Next::Refuse { .. } => vec![],
            Next::Discard(folder) => vec![without(folder)],
            Next::Take(Folder::New) => vec![Seen { state: seen.new, ..without(Folder::New) }],
            Next::Take(_) => vec![Seen { state: seen.kept, ..without(Folder::Kept) }],
            Next::SetAside { .. } => vec![Seen { state: None, undone: true, ..seen }],
            Next::Migrate { .. } => {
                let made = Seen { new: Some(ours), ..seen };
                vec![seen, made, Seen { state: None, kept: seen.state, ..made }]
            }
        }
    }

    #[test]
    fn from_everywhere_every_start_ends_ready_or_refuses_and_deletes_no_state() {
        let mut cases = 0;
        for seen in folders() {
            for (ours, keep) in [1, 2, 3].into_iter().flat_map(|it| [(it, false), (it, true)]) {
                let (mut now, mut steps) = (seen, 0);
                let end = loop {
                    let next = decide(&now, ours, keep);
                    if let Next::Discard(Folder::Kept) = next {
                        assert!(now.state.is_some(), "{seen:?} by {ours}: the only state is deleted");
                    }
                    let Some(last) = after(now, next, ours).pop() else { break next };
                    now = last;
                    steps += 1;
                    assert!(steps < super::super::act::MOST_ACTS, "{seen:?} by {ours}: never done");
                };
                match end {
                    Next::Ready => assert!(
                        now.state.is_none_or(|it| it == ours) && now.new.is_none(),
                        "{seen:?} by {ours}: {now:?}"
                    ),
                    Next::Refuse { found } => assert!(found > ours && now.state == Some(found)),
                    other => panic!("{other:?} is no end"),
                }
                let had_any = seen.state.or(seen.new).or(seen.kept).is_some();
                assert_eq!(had_any, now.state.is_some(), "{seen:?} by {ours}: {now:?}");
                cases += 1;
            }
        }
        println!("{cases} roots were settled");
    }

    #[test]
    fn the_version_before_finds_its_state_wherever_the_new_one_was_cut_short() {
        let old = Seen { state: Some(1), new: None, kept: None, undone: false };
        let (mut places, mut now) = (vec![old], old);
        while let Some(parts) = Some(after(now, decide(&now, 2, true), 2)).filter(|it| !it.is_empty()) {
            now = parts[parts.len() - 1];
            places.extend(parts);
        }
        assert_eq!(now, Seen { state: Some(2), kept: Some(1), ..old });
        println!("{} places where the new version is cut short", places.len());
        for place in places {
            assert_eq!(settled(place, 2, true), now, "the new version goes on from {place:?}");
            let back = settled(place, 1, false);
            assert_eq!((back.state, back.new, back.kept), (Some(1), None, None), "{place:?}");
        }
        let committed = settled(now, 2, false);
        assert_eq!(committed, Seen { kept: None, ..now });
        assert_eq!(decide(&committed, 1, false), Next::Refuse { found: 2 }, "there is no way back any more");
    }

    fn settled(mut now: Seen, ours: u32, keep: bool) -> Seen {
        while let Some(next) = after(now, decide(&now, ours, keep), ours).pop() {
            now = next;
        }
        now
    }
}
