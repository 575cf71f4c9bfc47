//! A secret where it is needed: as it was given, or out of its file, which is read each time.

use outrider_protocol::collect::Credential;

/// The secret itself; of a file, without the line end.
///
/// # Errors
/// When the file cannot be read, or holds something else than one line.
pub(crate) fn read(credential: &Credential) -> Result<String, String> {
    let path = match credential {
        Credential::Given(text) => return Ok(text.clone()),
        Credential::File(path) => path,
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|err| format!("read the secret in {shown}: {err}"))?;
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_control) {
        return Err(format!(
            "read the secret in {shown}: found no text on one line; write nothing else into it"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_file_is_read_without_its_line_end_and_a_missing_one_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let error = read(&Credential::File(path.clone())).unwrap_err();
        assert!(error.contains("key: No such file"), "{error}");
        std::fs::write(&path, "hunter22\n").unwrap();
        assert_eq!(read(&Credential::File(path.clone())).unwrap(), "hunter22");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let error = read(&Credential::File(path)).unwrap_err();
        assert!(error.contains("found no text on one line") && !error.contains("two"), "{error}");
    }
}
