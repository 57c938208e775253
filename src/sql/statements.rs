//! A text of several statements, taken apart.

use super::tokens::{Dialect, Kind, Tokens};

/// Calls `each` with every statement of a text, in order; those that are empty are left out. Of a text without any it is called
/// once, with the text.
pub fn statements<'a>(text: &'a [u8], dialect: Dialect, mut each: impl FnMut(&'a [u8])) {
    // Nearly all texts are one statement.
    if memchr::memchr(b';', text).is_none() {
        return each(text);
    }
    let (mut begin, mut found) = (0, false);
    // Whether the statement has a token, how deep in brackets it is, and in a body of SQL (`BEGIN ATOMIC … END`).
    let (mut any, mut depth, mut body) = (false, 0_usize, 0_usize);
    let mut after_begin = false;
    let mut tokens = Tokens::new(text, dialect);
    while let Some(token) = tokens.next() {
        let is = |word: &[u8]| token.kind == Kind::Word && token.text.eq_ignore_ascii_case(word);
        match (token.kind, token.text) {
            (Kind::Comment, _) => continue,
            (Kind::Symbol, b"(") => depth += 1,
            (Kind::Symbol, b")") => depth = depth.saturating_sub(1),
            (Kind::Symbol, b";") if depth == 0 && body == 0 => {
                let end = tokens.position() - 1;
                if any {
                    each(&text[begin..end]);
                    found = true;
                }
                (begin, any, after_begin) = (tokens.position(), false, false);
                continue;
            }
            _ if body == 0 && after_begin && is(b"atomic") => body = 1,
            _ if body > 0 && is(b"case") => body += 1,
            _ if body > 0 && is(b"end") => body -= 1,
            _ => {}
        }
        after_begin = is(b"begin");
        any = true;
    }
    if any || !found {
        each(&text[begin..tokens.position().max(begin)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn apart(text: &str, expected: &[&str]) {
        let mut found = Vec::new();
        let dialect = Dialect::reported(Some("on"), Some("UTF8"));
        statements(text.as_bytes(), dialect, |one| {
            found.push(String::from_utf8_lossy(one).trim().to_owned());
        });
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_text_is_taken_apart_where_postgresql_does() {
        apart("SELECT 1", &["SELECT 1"]);
        apart("SELECT 1;", &["SELECT 1"]);
        apart(
            " ; SELECT 1;; ;SELECT 2 -- ;",
            &["SELECT 1", "SELECT 2 -- ;"],
        );
        apart(
            "SELECT ';' , $$;$$ AS \";\"; B",
            &["SELECT ';' , $$;$$ AS \";\"", "B"],
        );
        apart(
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); B",
            &[
                "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
                "B",
            ],
        );
        let function = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END";
        apart(
            &format!("{function}; BEGIN; COMMIT"),
            &[function, "BEGIN", "COMMIT"],
        );
        apart("", &[""]);
        apart(" ; -- nothing", &["-- nothing"]);
    }
}
