//! Where the program of an integration lies.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};

use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::IntegrationName;
use outrider_protocol::report::Failure;

/// Looks an integration up as `integration-NAME` or `NAME` in each folder, in order.
///
/// # Errors
/// When there is none; the message names every folder that was searched, and what was found instead.
pub(crate) fn locate(name: &IntegrationName, folders: &[PathBuf]) -> Result<PathBuf, Box<Failure>> {
    let names = [format!("integration-{name}{EXE_SUFFIX}"), format!("{name}{EXE_SUFFIX}")];
    let candidates = folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    if let Some(found) = candidates.into_iter().find(|path| path.is_file()) {
        return Ok(found);
    }
    let searched: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let known: Vec<_> = installed(folders).into_iter().map(String::from).collect();
    Err(Box::new(Failure {
        message: format!(
            "integration \"{name}\" is not installed: found neither {} nor {} in {}",
            names[0],
            names[1],
            searched.join(", ")
        ),
        fault: Fault::Caller,
        retry: Retry::No,
        hint: Some(if known.is_empty() {
            "put the integration's program into one of these folders, or name its folder with --integrations-dir"
                .into()
        } else {
            format!("installed are: {}", known.join(", "))
        }),
        last_lines: Vec::new(),
    }))
}

/// The integrations that stand in the folders, by name.
pub(crate) fn installed(folders: &[PathBuf]) -> Vec<IntegrationName> {
    let mut names: Vec<_> = folders.iter().flat_map(|folder| programs(folder)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn programs(folder: &Path) -> Vec<IntegrationName> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let name = file.strip_prefix("integration-")?.strip_suffix(EXE_SUFFIX)?;
            IntegrationName::new(name).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_wins_and_a_missing_one_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        for folder in [&first, &second] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join(format!("integration-git{EXE_SUFFIX}")), "").unwrap();
        }
        let folders = [first.clone(), second.clone()];
        let git = IntegrationName::new("git").unwrap();
        assert_eq!(locate(&git, &folders).unwrap(), first.join(format!("integration-git{EXE_SUFFIX}")));

        let failure = locate(&IntegrationName::new("gitt").unwrap(), &folders).unwrap_err();
        assert!(failure.message.contains("\"gitt\" is not installed"), "{}", failure.message);
        assert!(failure.message.contains(&second.display().to_string()), "{}", failure.message);
        assert_eq!(failure.hint.as_deref(), Some("installed are: git"));
    }
}
