//! A name of any text as a word: of a folder, of a consumer, in a header.

/// The name, with all that could lead elsewhere written as numbers.
pub(crate) fn word(name: &str) -> String {
    let is_plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
    let word = |it: u8| if is_plain(&it) { char::from(it).to_string() } else { format!("%{it:02x}") };
    name.bytes().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_and_two_names_are_two_words() {
        assert_eq!(word("a-B_9"), "a-B_9");
        assert_eq!(word("../a.b*>\r\n"), "%2e%2e%2fa%2eb%2a%3e%0d%0a");
        assert_ne!(word("a%2e"), word("a."));
    }
}
