//! Going through what is stored, for people who look.

use std::ops::ControlFlow;

use crate::{Checkpoints, SessionPath, StoreError};

use super::{Range, TABLE};

impl Checkpoints {
    /// Calls `visit` with each path and its value, as JSON, in the order of the paths as JSON, until it breaks off: all
    /// values, or those of a session and everything below it. What is seen is the store at one moment; no more than one
    /// value is held in memory.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn walk(
        &self,
        below: Option<&SessionPath>,
        visit: &mut dyn FnMut(&SessionPath, &str) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.ready()?;
        let range = below.map(|path| self.key(path).map(|key| Range::of(&key))).transpose()?;
        let mut strange = None;
        let mut see = |key: &str, text: &str| match serde_json::from_str(key) {
            Ok(path) => visit(&path, text).is_continue(),
            Err(err) => {
                strange = Some(self.unreadable(key.to_owned(), err));
                false
            }
        };
        self.store.read(|transaction| {
            let table = transaction.open_table(TABLE)?;
            let rows = match &range {
                None => table.range::<&str>(..)?,
                Some(range) => {
                    let own = table.get(range.own.as_str())?;
                    if own.is_some_and(|text| !see(&range.own, text.value())) {
                        return Ok(());
                    }
                    table.range(range.first.as_str()..range.end.as_str())?
                }
            };
            for row in rows {
                let (key, text) = row?;
                if !see(key.value(), text.value()) {
                    break;
                }
            }
            Ok(())
        })?;
        strange.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrider_protocol::ids::IntegrationId;

    use super::*;
    use crate::Root;

    #[test]
    fn everything_is_seen_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        root.create().unwrap();
        let store = Checkpoints::open(&root, Duration::ZERO).unwrap();
        let of = |id: &str| SessionPath::of(IntegrationId::new(id).unwrap());
        let paths = [
            of("git").join("repository", Some("a".into())),
            of("git").join("repository", Some("a".into())).join("m", None),
            of("git").join("repository", Some("ab".into())),
            of("git2").join("repository", Some("a".into())),
        ];
        let value = |n: usize| serde_json::value::to_raw_value(&n).unwrap();
        let rows: Vec<_> = paths.iter().enumerate().map(|(n, path)| (path.clone(), Some(value(n)))).collect();
        store.commit(&rows).unwrap();
        let seen = |below: Option<&SessionPath>, most: usize| {
            let mut seen = Vec::new();
            let mut visit = |path: &SessionPath, value: &str| {
                seen.push((path.clone(), value.to_owned()));
                if seen.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            store.walk(below, &mut visit).unwrap();
            let mut values: Vec<_> = seen
                .into_iter()
                .map(|(path, value)| {
                    assert_eq!(path, paths[value.parse::<usize>().unwrap()]);
                    value
                })
                .collect();
            values.sort();
            values.concat()
        };
        assert_eq!(seen(None, 9), "0123");
        assert_eq!(seen(Some(&of("git")), 9), "012");
        assert_eq!(seen(Some(&paths[0]), 9), "01");
        assert_eq!(seen(Some(&of("none")), 9), "");
        assert_eq!(seen(None, 2).len(), 2);
        assert_eq!(seen(Some(&paths[0]), 1), "0");
    }
}
