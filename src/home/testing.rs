//! What the tests share: fresh roots, and roots as a kill leaves them.

use std::path::PathBuf;

use crate::Root;

/// A fresh root in a folder that goes away with the test.
pub(crate) fn fresh() -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path().join("root"));
    root.create().unwrap();
    (folder, root)
}

/// A second root whose state is that of the first as a process that is killed now would leave it.
pub(crate) fn as_after_a_kill(root: &Root) -> (tempfile::TempDir, Root) {
    let (folder, copy) = fresh();
    for file in std::fs::read_dir(root.state()).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), copy.state().join(file.file_name())).unwrap();
        }
    }
    (folder, copy)
}

pub(crate) fn fixtures(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config").join(kind)
}
