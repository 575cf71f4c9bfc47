//! Versions that are the real agent with one thing wrong, and a machine that is lied to. What is wrong stands in a script
//! that becomes the agent; where that is not enough, in a library that is loaded into it (`ill.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use outrider_upgrade::Manifest;

use super::world::{World, identity, make_program, programs};
use crate::support::{printed, run};

/// Made once for all tests of a process.
static LIBRARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The library that lies.
pub(super) fn library() -> PathBuf {
    let mut made = LIBRARY.lock().unwrap();
    made.get_or_insert_with(|| {
        let library = tempfile::tempdir().unwrap().keep().join("ill.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance/upgrade/ill.c");
        let compiled = run(Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .args(["-ldl", "-lpthread"]));
        assert!(compiled.status.success(), "{}", printed(&compiled));
        library
    })
    .clone()
}

impl World {
    /// Publishes the real agent as a version with something wrong: `first` is shell that runs before it becomes the agent's
    /// service, with the version's folder as `$here` and the root as `$OUTRIDER_ROOT`.
    pub(super) fn publish_ill(&self, version: &str, first: &str) {
        let folder = self.stack.dir.path().join(format!("contents-{version}"));
        let inner = folder.join("inner");
        fs::create_dir_all(&folder).unwrap();
        let copied = run(Command::new("cp").arg("-r").arg(programs()).arg(&inner));
        assert!(copied.status.success(), "{}", printed(&copied));
        fs::rename(inner.join("outrider-launcher"), folder.join("outrider-launcher")).unwrap();
        // By the manifest beside it the program knows which build it is.
        let it = identity(version);
        fs::write(inner.join("manifest.yaml"), Manifest::older(it.release(), it.hash).unwrap().to_yaml())
            .unwrap();
        let script = format!(
            "#!/bin/sh\nhere=${{0%/*}}\n[ \"$1\" = service-run ] || exec \"$here/inner/outrider\" \"$@\"\n{first}\n\
             exec \"$here/inner/outrider\" \"$@\"\n"
        );
        make_program(&folder.join("outrider"), &script);
        self.publish(version, &folder);
    }

    /// The same, with this variable set for the library that lies.
    pub(super) fn publish_lied_to(&self, version: &str, variable: &str) {
        let library = library();
        self.publish_ill(version, &format!("export {variable} LD_PRELOAD={}", library.display()));
    }
}
