//! PgBouncer's file of users: lines of `"user" "secret"`.
//!
//! Read as PgBouncer 1.25 reads it (`load_auth_file`): white space between entries, comments from `;` to the end of the line,
//! `""` for a quote inside quotes, whatever follows an entry on its line is ignored, and of two entries for one user the
//! last counts. Where PgBouncer stops reading at a mistake, nothing of the file is taken here.

use super::users::StoredError;
use crate::secret::Secret;

/// What is wrong with a file of users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserlistError {
    /// Not `"user" "secret"`.
    #[error("line {line}: expected \"user\" \"secret\"")]
    Syntax {
        /// Where the entry begins.
        line: usize,
    },
    /// The user has no name.
    #[error("line {line}: the user has no name")]
    NoName {
        /// Where the entry begins.
        line: usize,
    },
    /// The secret is none.
    #[error("line {line}: {source}")]
    Secret {
        /// Where the entry begins.
        line: usize,
        /// Why not.
        source: StoredError,
    },
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) user: String,
    pub(super) secret: Secret,
}

/// The entries, in the file's order.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, UserlistError> {
    let mut entries = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(is_space);
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        if rest.is_empty() {
            return Ok(entries);
        }
        if !rest.starts_with(';') {
            let syntax = || UserlistError::Syntax { line };
            let (user, after) = quoted(rest).ok_or_else(syntax)?;
            // As there: whatever stands between the two is passed over.
            let secret_at = after.find('"').ok_or_else(syntax)?;
            let (secret, after) = quoted(&after[secret_at..]).ok_or_else(syntax)?;
            if user.is_empty() {
                return Err(UserlistError::NoName { line });
            }
            let secret = Secret::from(secret);
            entries.push(Entry { line, user, secret });
            rest = after;
        }
        rest = rest.find('\n').map_or("", |end| &rest[end..]);
    }
}

/// C's `isspace`.
fn is_space(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\x0b'
}

/// Takes a quoted text from the front.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut content = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        content.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                content.push('"');
                rest = after;
            }
            None => return Some((content, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        let entries = parse(text).unwrap();
        entries.into_iter().map(|entry| entry.user).collect()
    }

    #[test]
    fn entries_comments_and_quotes() {
        let text = "; a comment with \"quotes\"\n\n  \"ann\" \"secret\" ignored \"too\"\n\"b\"\"ob\"\t\"md5\"\n\
                    ;\"carl\" \"x\"\n\"dora\"\"\" \"a\"\"b\"\r\n\"eve\" \"\"";
        assert_eq!(names(text), ["ann", "b\"ob", "dora\"", "eve"]);
        let entries = parse(text).unwrap();
        let secrets: Vec<_> = entries.iter().map(|entry| entry.secret.expose()).collect();
        assert_eq!(secrets, ["secret", "md5", "a\"b", ""]);
        assert_eq!(entries[3].line, 7);
        assert_eq!(names(""), [] as [&str; 0]);
        assert_eq!(names("; only a comment"), [] as [&str; 0]);
    }

    #[test]
    fn mistakes_are_found_with_their_line() {
        for (text, line) in [
            ("ann secret", 1),
            ("\n\n\"ann\"", 3),
            ("\"a\" \"b\"\n\"ann\" secret", 2),
            ("\"ann", 1),
            ("\"ann\" \"secret", 1),
            ("# no comment of PgBouncer's", 1),
        ] {
            assert_eq!(parse(text), Err(UserlistError::Syntax { line }), "{text}");
        }
        let nameless = Err(UserlistError::NoName { line: 1 });
        assert_eq!(parse("\"\" \"x\""), nameless);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[\"; a\né]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read(user in "[^\0]{1,20}", secret in "[^\0]{0,20}") {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let line = format!("{} {}\n", quote(&user), quote(&secret));
            let entries = parse(&line).unwrap();
            prop_assert_eq!(&entries[0].user, &user);
            prop_assert_eq!(entries[0].secret.expose(), &secret);
            prop_assert!(entries.len() == 1);
        }
    }
}
