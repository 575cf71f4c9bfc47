//! Puts the root of trust for releases into the program: the file that `OUTRIDER_RELEASES_ROOT` names at the build, if it does.

fn main() {
    println!("cargo::rerun-if-env-changed=OUTRIDER_RELEASES_ROOT");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let root = std::env::var_os("OUTRIDER_RELEASES_ROOT").filter(|it| !it.is_empty());
    let bytes = root.map_or_else(Vec::new, |path| {
        println!("cargo::rerun-if-changed={}", path.display());
        std::fs::read(&path)
            .unwrap_or_else(|err| panic!("OUTRIDER_RELEASES_ROOT: read {}: {err}", path.display()))
    });
    if let Err(err) = std::fs::write(out.join("releases-root.json"), bytes) {
        panic!("write to OUT_DIR: {err}");
    }
}
