//! Which prepared statement a text drops by SQL.

/// The name in `DEALLOCATE [PREPARE] name`, as PostgreSQL folds it; `None` for any other text, `DEALLOCATE ALL`
/// included. Such a statement among others is not found.
pub fn deallocated(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    let rest = keyword(text.trim_ascii(), b"deallocate")?;
    let rest = keyword(rest, b"prepare").unwrap_or(rest);
    let (name, rest) = identifier(rest)?;
    let over = matches!(rest.trim_ascii(), b"" | b";");
    over.then_some(name).flatten()
}

/// Whether a statement's text begins like one that drops prepared statements.
pub fn may_deallocate(text: &[u8]) -> bool {
    let word = text.trim_ascii_start();
    [&b"deallocate"[..], b"discard"].iter().any(|keyword| {
        word.get(..keyword.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(keyword))
    })
}

/// What follows a keyword and its space, or the quote that may follow it at once.
fn keyword<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(word.len())?;
    let ends = rest
        .first()
        .is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'"');
    (head.eq_ignore_ascii_case(word) && ends).then(|| rest.trim_ascii_start())
}

/// An identifier, `None` for the keyword ALL, and what follows it.
fn identifier(text: &[u8]) -> Option<(Option<Vec<u8>>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 128..);
        let length = text.iter().take_while(|byte| plain(byte)).count();
        let (name, rest) = text.split_at(length);
        let name = name.to_ascii_lowercase();
        return (length > 0).then(|| ((name != b"all").then_some(name), rest));
    };
    let mut name = Vec::new();
    let mut at = 0;
    loop {
        match (*quoted.get(at)?, quoted.get(at + 1)) {
            (b'"', Some(b'"')) => at += 1,
            (b'"', _) => return Some((Some(name), &quoted[at + 1..])),
            _ => {}
        }
        name.push(quoted[at]);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_postgresql_folds_it() {
        for (text, name) in [
            ("DEALLOCATE s1", "s1"),
            ("  deallocate prepare S1 ;\0", "s1"),
            ("DEALLOCATE \"S\"\"1\";", "S\"1"),
            ("DEALLOCATE\"x\"", "x"),
            ("deallocate \"all\"", "all"),
            ("DEALLOCATE prepare", "prepare"),
        ] {
            assert_eq!(
                deallocated(text.as_bytes()).as_deref(),
                Some(name.as_bytes()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_may_drop_is_told_by_its_first_word() {
        assert!(may_deallocate(b" DeAllocate ALL"));
        assert!(may_deallocate(b"DISCARD ALL"));
        assert!(!may_deallocate(b"SELECT 'discard'"));
        assert!(!may_deallocate(b"de"));
    }

    #[test]
    fn other_texts_drop_nothing_that_is_known() {
        for text in [
            "",
            "DEALLOCATE",
            "DEALLOCATE ALL",
            "DEALLOCATE s1; SELECT 1",
            "DEALLOCATE \"open",
            "SELECT 1",
            "DEALLOCATED s1",
        ] {
            assert_eq!(deallocated(text.as_bytes()), None, "{text}");
        }
    }
}
