//! How a process says that it gives up by the means of its language, found among the lines of its stderr.
//!
//! Go, Java and Rust say why before the trace of calls, Python and JavaScript after it. A trace may be longer than all that
//! is kept of a stderr, so a cry is looked for while the lines come and kept beside the last of them.
//!
//! **Invariant:** of any stderr at most [`LINES`] + 1 lines of [`LINE_BYTES`] are kept: those of the latest cry.
//!
//! **Invariant:** a cry is forgotten when so much that is no trace of it came after that the process has outlived it.

use std::fmt;

/// Lines of a cry that are kept.
const LINES: usize = 5;
/// The longest line of a cry, in bytes; it has to find room in a report together with the last lines.
const LINE_BYTES: usize = 1 << 10;
/// So many lines that belong to no trace are more than the last words after a cry.
const OUTLIVED: usize = 60;
/// How the mark begins in the place of lines that were left out. It is indented, so that nobody takes it for the message
/// that ends a list of calls.
const LEFT_OUT: &str = "  … (";
/// How lines begin that belong to a trace, beside those that are indented or end with a parenthesis.
const OF_A_TRACE: [&str; 7] =
    ["goroutine ", "created by ", "Caused by: ", "stack backtrace:", "note: ", "[signal ", "..."];

/// A language whose last words are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// `thread 'main' panicked at`, status 101, or SIGABRT where panics abort.
    Rust,
    /// `panic:` or `fatal error:`, status 2, or SIGABRT where it is told to.
    Go,
    /// `Traceback (most recent call last):`, status 1.
    Python,
    /// An uncaught error of Node, Deno or Bun, status 1 or 7; SIGABRT when its heap is full.
    JavaScript,
    /// `Exception in thread`, status 1.
    Java,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Go => "Go",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
            Self::Java => "Java",
        })
    }
}

/// A panic or an uncaught exception, as the process told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cry {
    pub(crate) language: Language,
    /// The number of each line among all of stderr, and the line; at least one.
    pub(crate) lines: Vec<(usize, String)>,
    /// Whether lines that follow may still be of it.
    open: bool,
}

/// Looks for the latest cry in lines as they come.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: usize,
    /// A line that is an error of JavaScript, which may prove to be the last one.
    error: Option<(usize, String)>,
    cry: Option<Cry>,
    /// Lines of no trace since the cry, or the error.
    since: usize,
}

impl Watch {
    /// How many lines there were.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// The latest cry.
    pub(crate) fn cry(&self) -> Option<&Cry> {
        self.cry.as_ref()
    }

    /// The next line.
    pub(crate) fn see(&mut self, line: &str) {
        let line = line.trim_end();
        let at = (self.seen, shortened(line));
        self.seen += 1;
        if let Some(language) = language_of(line) {
            // Node says at the very end that it ends, and long before why.
            let why = self.error.take().filter(|_| language == Language::JavaScript);
            let lines = why.into_iter().chain([at]).collect();
            (self.cry, self.since) = (Some(Cry { language, lines, open: true }), 0);
            return;
        }
        if is_error_of_javascript(line) {
            self.error = Some(at.clone());
        }
        if let Some(cry) = &mut self.cry {
            cry.hear(line, at);
        }
        if !is_of_a_trace(line) {
            self.since += 1;
        }
        if self.since > OUTLIVED {
            (self.cry, self.error, self.since) = (None, None, 0);
        }
    }
}

impl Cry {
    /// The latest among some lines.
    pub(crate) fn among(lines: &[String]) -> Option<Self> {
        let mut watch = Watch::default();
        lines.iter().for_each(|line| watch.see(line));
        watch.cry
    }

    /// What it says of the reason, in one line.
    pub(crate) fn words(&self) -> String {
        let all = || self.lines.iter().map(|(_, line)| line.as_str());
        let (first, last) = (all().next().unwrap_or_default(), all().next_back().unwrap_or_default());
        match (self.language, all().nth(1)) {
            // The message is on the line after the place.
            (Language::Rust, Some(message)) if first.ends_with(':') => format!("{first} {}", message.trim()),
            (Language::Rust | Language::Go | Language::Java, _) => first.to_owned(),
            (Language::Python, _) => last.to_owned(),
            (Language::JavaScript, _) => {
                all().rfind(|it| is_error_of_javascript(it)).unwrap_or(last).trim().to_owned()
            }
        }
    }

    /// A line that came after its first one.
    fn hear(&mut self, line: &str, at: (usize, String)) {
        let blank = line.trim().is_empty();
        let cut = line.starts_with(LEFT_OUT);
        let (belongs, last) = match self.language {
            Language::Rust => {
                let over = line.starts_with("note: ") || line.starts_with("stack backtrace:");
                (!blank && !cut && !over, blank || cut || over)
            }
            Language::Go => (!blank && !cut, blank || cut),
            // The first line that is no part of the list of calls.
            Language::Python => {
                let message = !blank && !line.starts_with(' ');
                (message, message)
            }
            Language::Java => (line.starts_with("Caused by: "), false),
            Language::JavaScript => (false, true),
        };
        if self.open && belongs {
            self.lines.push(at);
        }
        self.open &= !last && self.lines.len() < LINES;
    }
}

/// The mark in the place of lines that were left out.
pub(crate) fn left_out(lines: usize) -> String {
    format!("{LEFT_OUT}{lines} lines left out)")
}

fn shortened(line: &str) -> String {
    if line.len() <= LINE_BYTES {
        return line.to_owned();
    }
    format!("{}…", &line[..line.floor_char_boundary(LINE_BYTES)])
}

fn is_of_a_trace(line: &str) -> bool {
    line.is_empty()
        || line.starts_with(char::is_whitespace)
        || line.ends_with(')')
        || OF_A_TRACE.iter().any(|it| line.starts_with(it))
}

/// The language of which a line announces the end.
fn language_of(line: &str) -> Option<Language> {
    let begins = |starts: &[&str]| starts.iter().any(|it| line.starts_with(it));
    if line.starts_with("thread ") && line.contains(" panicked at ") {
        Some(Language::Rust)
    } else if begins(&["panic: ", "fatal error: "]) {
        Some(Language::Go)
    } else if begins(&["Traceback (most recent call last)"]) {
        Some(Language::Python)
    } else if begins(&["Exception in thread "]) {
        Some(Language::Java)
    } else if begins(&["Node.js v", "FATAL ERROR: ", "error: Uncaught ", "Uncaught ", "Bun v"]) {
        Some(Language::JavaScript)
    } else {
        None
    }
}

/// Whether a line is as `TypeError: x is not a function`.
fn is_error_of_javascript(line: &str) -> bool {
    let line = line
        .trim_start_matches("error: ")
        .trim_start_matches("Uncaught ")
        .trim_start_matches("(in promise) ");
    let name = line.split([':', ' ']).next().unwrap_or_default();
    name.ends_with("Error") || line.starts_with("FATAL ERROR: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(text: &str) -> Watch {
        let mut watch = Watch::default();
        text.lines().for_each(|line| watch.see(line));
        watch
    }

    fn lines(text: &str) -> String {
        let watch = watched(text);
        let lines = watch.cry().into_iter().flat_map(|it| &it.lines);
        lines.map(|(number, line)| format!("{number}:{line}")).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn the_lines_that_say_why_are_kept_from_around_a_trace_of_any_length() {
        let frames = "    at f (a.js:1)\n".repeat(500);
        let go = format!("panic: boom\n\tpanic: again\n\ngoroutine 1 [running]:\n{}", "f()\n".repeat(500));
        let rust =
            format!("x\nthread 'a' (1) panicked at a.rs:1:1:\nboom\n  left: 1\nstack backtrace:\n{frames}");
        let java = format!("Exception in thread \"main\" E: no\n{frames}Caused by: F: deep\n{frames}");
        let python = format!("Traceback (most recent call last):\n{frames}ValueError: no\nbye");
        let node = format!("TypeError: no\n{frames}\nNode.js v20");
        let rows = [
            (go, "0:panic: boom|1:\tpanic: again"),
            (rust, "1:thread 'a' (1) panicked at a.rs:1:1:|2:boom|3:  left: 1"),
            (java, "0:Exception in thread \"main\" E: no|501:Caused by: F: deep"),
            (python, "0:Traceback (most recent call last):|501:ValueError: no"),
            (node, "0:TypeError: no|502:Node.js v20"),
        ];
        for (text, expected) in rows {
            assert_eq!(lines(&text), expected);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_latest_cry_counts() {
        let long = format!("panic: {}\n", "ä".repeat(5000));
        let many = format!("{long}{}", "more\n".repeat(50));
        let watch = watched(&many);
        let kept = &watch.cry().unwrap().lines;
        assert_eq!(kept.len(), LINES);
        assert!(kept[0].1.len() <= LINE_BYTES + '…'.len_utf8(), "{}", kept[0].1.len());
        assert!(
            lines(&format!("{many}Exception in thread \"a\" E\n")).ends_with(":Exception in thread \"a\" E")
        );
    }

    #[test]
    fn a_process_that_talks_on_has_outlived_its_cry() {
        let cry = "Traceback (most recent call last):\n  File \"a.py\"\nValueError: no\n";
        assert!(watched(&format!("{cry}{}", "going on\n".repeat(OUTLIVED - 1))).cry().is_some());
        assert!(watched(&format!("{cry}{}", "going on\n".repeat(OUTLIVED + 1))).cry().is_none());
        let watch = watched(&format!("TypeError: old\n{}Node.js v20", "going on\n".repeat(OUTLIVED + 1)));
        assert_eq!(watch.cry().unwrap().words(), "Node.js v20");
    }
}
