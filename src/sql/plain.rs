//! The statements that nearly every query is, told by a scan of their bytes: what reads and writes rows and says no word
//! that could leave anything behind. It decides one way only: what it does not call plain is looked at by the lexer.

/// Bytes at which a word of interest may stand: the `_` of set_config, the `v` of advisory, the `m` of temp, the `&` of
/// `U&"…"`, and the semicolon. All others are passed over by one look into this table.
const ANCHOR: [bool; 256] = {
    let mut anchor = [false; 256];
    let bytes = b"_vVmM&;";
    let mut at = 0;
    while at < bytes.len() {
        anchor[bytes[at] as usize] = true;
        at += 1;
    }
    anchor
};

/// Statements that leave nothing unless a word in them says so.
const VERBS: [&[u8]; 12] = [
    b"select", b"insert", b"update", b"delete", b"with", b"begin", b"commit", b"merge", b"values",
    b"show", b"start", b"end",
];

/// Whether a text, with or without the NUL behind it, is one statement that surely leaves nothing.
pub(super) fn is_plain(text: &[u8]) -> bool {
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    let Some(text) = after_comments(text) else {
        return false;
    };
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    let (verb, rest) = text.split_at(length);
    // "select1" is another word, and so is "select_".
    let whole = rest
        .first()
        .is_none_or(|byte| !matches!(byte, b'_' | b'$' | b'0'..=b'9' | 128..));
    if verb.eq_ignore_ascii_case(b"rollback") {
        return matches!(rest.trim_ascii(), b"" | b";");
    }
    whole && VERBS.iter().any(|known| verb.eq_ignore_ascii_case(known)) && says_nothing(rest)
}

/// Skips white space, comments and parentheses in front; `None` where that is not done quickly.
fn after_comments(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        if let Some(inside) = text.strip_prefix(b"(") {
            text = inside;
        } else if let Some(comment) = text.strip_prefix(b"/*") {
            let end = memchr::memchr(b'*', comment)?;
            // One that nests, or has a star inside, is for the lexer.
            let inside = comment.get(..end)?;
            let rest = comment.get(end + 1..)?.strip_prefix(b"/")?;
            if memchr::memchr(b'/', inside).is_some() {
                return None;
            }
            text = rest;
        } else if let Some(comment) = text.strip_prefix(b"--") {
            text = &comment[memchr::memchr2(b'\n', b'\r', comment)?..];
        } else {
            return Some(text);
        }
    }
}

fn says_nothing(text: &[u8]) -> bool {
    let mut start = 0;
    while let Some(offset) = text[start..]
        .iter()
        .position(|byte| ANCHOR[usize::from(*byte)])
    {
        let at = start + offset;
        start = at + 1;
        let suspicious = match text[at] | 0x20 {
            // `_` in this lower case.
            0x7f => around(text, at, 3, b"set_config"),
            b'v' => around(text, at, 2, b"advisory"),
            b'm' => around(text, at, 2, b"temp") && ends_temporary(&text[at + 2..]),
            b'&' => text.get(at + 1) == Some(&b'"'),
            _ => !text[start..].trim_ascii_start().is_empty(),
        };
        if suspicious {
            return false;
        }
    }
    true
}

/// Whether what follows `temp` leaves it the word, or one of those that begin with it: not "template".
fn ends_temporary(after: &[u8]) -> bool {
    let other = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'$' | 128..);
    !after.first().is_some_and(other)
        || after
            .get(..5)
            .is_some_and(|ending| ending.eq_ignore_ascii_case(b"orary"))
}

/// Whether `word` stands at `at`, `before` bytes of it in front; letters of either case.
fn around(text: &[u8], at: usize, before: usize, word: &[u8]) -> bool {
    at.checked_sub(before)
        .and_then(|start| text.get(start..start + word.len()))
        .is_some_and(|found| found.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_and_writes_rows_is_plain() {
        for text in [
            "select 1",
            "SELECT * FROM member WHERE created_at > $1;  \0",
            "/* app */ -- why\n (select 1)",
            "INSERT INTO t VALUES ('it''s')",
            "begin",
            "ROLLBACK ;",
            "values(1)",
            "select a&b from movies",
            "select attempt, temps from template, temperature",
        ] {
            assert!(is_plain(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_may_leave_something_is_not() {
        for text in [
            "",
            "set x = 1",
            "select set_config('a', 'b', false)",
            "select pg_ADVISORY_lock(1)",
            "select 1 into temp t",
            "select 1 into TEMPORARY t",
            "select 1 into pg_temp_3.t",
            "select 1; set x = 1",
            "select U&\"x\"()",
            "selection",
            "select_ 1",
            "rollback to s",
            "/* a /* b */ */ select 1",
            "/* open",
        ] {
            assert!(!is_plain(text.as_bytes()), "{text}");
        }
    }
}
