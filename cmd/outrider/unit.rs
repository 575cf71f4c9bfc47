//! The unit for systemd. It is written here and not by the library, which cannot quote paths and sets no limit of starts.

use std::ffi::OsStr;
use std::path::Path;

/// A unit that runs a program for ever. systemd gives a service up that is started five times in ten seconds; a version on
/// trial that crashes, and the one before that comes after it, may need more, and an agent that was given up could not even be
/// upgraded: so there is no such limit, and a second between two starts.
pub(crate) fn unit(program: &Path, args: &[impl AsRef<OsStr>], folder: &Path, for_system: bool) -> String {
    let words = args.iter().map(|it| quoted(it.as_ref()));
    let command: Vec<_> = std::iter::once(quoted(program.as_os_str())).chain(words).collect();
    let target = if for_system { "multi-user.target" } else { "default.target" };
    format!(
        "[Unit]\n\
         Description=Outrider agent\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={}\n\
         WorkingDirectory={}\n\
         Restart=always\n\
         OOMPolicy=continue\n\
         RestartSec=1\n\
         \n\
         [Install]\n\
         WantedBy={target}\n",
        command.join(" "),
        // A path to the end of the line, of which nothing but `%` is special.
        folder.display().to_string().replace('%', "%%"),
    )
}

/// A word as systemd reads it: within quotes, with `\`, `"`, `%` and `$` made harmless.
fn quoted(word: &OsStr) -> String {
    let mut text = String::from("\"");
    for it in word.to_string_lossy().chars() {
        match it {
            '\\' | '"' => text.extend(['\\', it]),
            '%' | '$' => text.extend([it, it]),
            it if it.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(it))),
            it => text.push(it),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_odd_characters_are_one_word_each_and_starts_have_no_limit() {
        let folder = Path::new("/srv/the \"agents\"/100%");
        let args = ["--root", "/srv/the \"agents\"/100%", "service-run"];
        let text = unit(&folder.join("outrider-launcher"), &args, folder, true);
        let line = r#"ExecStart="/srv/the \"agents\"/100%%/outrider-launcher" "--root" "/srv/the \"agents\"/100%%" "service-run""#;
        assert!(text.lines().any(|it| it == line), "{text}");
        assert!(text.contains("\nWorkingDirectory=/srv/the \"agents\"/100%%\n"), "{text}");
        assert!(text.contains("\nStartLimitIntervalSec=0\n"), "{text}");
        assert!(text.ends_with("WantedBy=multi-user.target\n"), "{text}");
        assert!(unit(folder, &args, folder, false).ends_with("WantedBy=default.target\n"));
        assert_eq!(quoted(OsStr::new("a\\b$c\nd")), r#""a\\b$$c\x0ad""#);
    }
}
