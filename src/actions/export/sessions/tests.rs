//! The table of sessions: paths, misuse, rollbacks.

use super::*;

/// Starts a session that is shown as it is.
fn start(
    table: &mut Sessions,
    integration: &IntegrationId,
    params: SessionStartParams,
) -> Result<(SessionId, SessionPath), Misuse> {
    table.start(integration, params, &str::to_owned)
}

fn git() -> IntegrationId {
    IntegrationId::new("git").unwrap()
}

fn params(
    kind: SessionKind,
    name: &str,
    parent: Option<SessionId>,
    object: Option<&str>,
) -> SessionStartParams {
    let object = object.map(|id| SessionObject { id: id.into(), name: id.to_uppercase() });
    SessionStartParams { kind, name: name.into(), parent, object }
}

fn tree() -> (Sessions, SessionId, SessionId) {
    let mut table = Sessions::default();
    let (root, _) =
        start(&mut table, &git(), params(SessionKind::Tracking, "repository", None, None)).unwrap();
    let (commits, _) =
        start(&mut table, &git(), params(SessionKind::Model, "sourcecode.Commit", Some(root), Some("a/b")))
            .unwrap();
    (table, root, commits)
}

#[test]
fn a_path_holds_names_and_ids_apart() {
    let (mut table, root, _) = tree();
    let (_, path) =
        start(&mut table, &git(), params(SessionKind::Model, "a.B", Some(root), Some("x/y"))).unwrap();
    assert_eq!(path.parts, [("repository".into(), None), ("a.B".into(), Some("x/y".into()))]);
}

#[test]
fn the_same_path_opens_once_at_a_time() {
    let (mut table, root, commits) = tree();
    let again = params(SessionKind::Model, "sourcecode.Commit", Some(root), Some("a/b"));
    let err = start(&mut table, &git(), again.clone()).unwrap_err();
    assert!(matches!(err, Misuse::OpenTwice { open, .. } if open == commits), "{err}");
    table.close(commits, SessionState::Done);
    start(&mut table, &git(), again).unwrap();
}

#[test]
fn the_same_names_under_two_integrations_never_meet() {
    let (mut table, ..) = tree();
    let other = IntegrationId::new("other").unwrap();
    let (id, _) = start(&mut table, &other, params(SessionKind::Tracking, "repository", None, None)).unwrap();
    assert_eq!(table.sending(&git(), id), Err(Misuse::NotYours(id)));
}

#[test]
fn misuse_is_told_apart() {
    let (mut table, root, commits) = tree();
    assert!(matches!(table.sending(&git(), root), Err(Misuse::Tracking { .. })));
    assert!(matches!(table.sending(&git(), SessionId(99)), Err(Misuse::NotOpen(_))));
    assert!(matches!(table.finish(&git(), root), Err(Misuse::OpenChildren { open: 1, .. })));
    let bare = params(SessionKind::Tracking, "x", Some(root), None);
    assert_eq!(start(&mut table, &git(), bare), Err(Misuse::NoObject(root)));
    let unnamed = params(SessionKind::Model, "Commit", Some(root), Some("1"));
    assert!(matches!(start(&mut table, &git(), unnamed), Err(Misuse::NoModel(_))));
    table.sending(&git(), commits).unwrap();
    assert!(matches!(table.finish(&git(), commits), Err(Misuse::StillSending { waiting: 1, .. })));
    table.sent(commits, 3, 0);
    let closing = table.finish(&git(), commits).unwrap();
    assert_eq!(closing.model.map(|(_, objects)| objects), Some(3));
    assert!(matches!(table.finish(&git(), commits), Err(Misuse::Finishing { .. })));
}

#[test]
fn a_rollback_takes_everything_below_with_it() {
    let (mut table, root, commits) = tree();
    assert_eq!(table.subtree(&git(), root).unwrap(), [commits, root]);
    assert_eq!(table.of(&git()), [commits, root]);
}

#[test]
fn a_hundred_thousand_short_sessions_leave_a_short_story() {
    let (mut table, root, commits) = tree();
    table.close(commits, SessionState::Done);
    for n in 0..100_000 {
        let object = n.to_string();
        let (id, _) =
            start(&mut table, &git(), params(SessionKind::Model, "a.B", Some(root), Some(&object))).unwrap();
        table.close(id, SessionState::Done);
    }
    let changes = table.take_changes();
    assert_eq!(changes.len() as u64, SHOWN_CHILDREN + 1);
    assert_eq!(changes[0].children_done, 100_001);
    assert_eq!((table.open.len(), table.paths.len()), (1, 1));
}
