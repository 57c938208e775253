//! Commands that PostgreSQL runs only while nobody is connected to a database: DROP DATABASE, ALTER DATABASE … RENAME and
//! SET TABLESPACE, CREATE DATABASE with its template.
//!
//! Found from the beginning of a statement's text, and only there: PostgreSQL runs them alone. Everything else is left
//! after its first byte or word.

/// The database that must have no connections for this statement, as PostgreSQL folds its name. The text ends at its NUL.
pub(super) fn vacated(text: &[u8]) -> Option<String> {
    // Most statements begin with another word, and are looked at no further.
    let text = text.trim_ascii_start();
    let begins = |word: &str| {
        let head = text.get(..word.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
    };
    if !["create", "drop", "alter", "/*", "--"]
        .into_iter()
        .any(begins)
    {
        return None;
    }
    let end = text.iter().position(|byte| *byte == 0);
    let mut words = Words(&text[..end.unwrap_or(text.len())]);
    let command = words.word()?;
    let of_interest = ["create", "drop", "alter"].contains(&command.as_str());
    if !of_interest || words.word()? != "database" {
        return None;
    }
    match command.as_str() {
        "drop" => words.dropped(),
        "alter" => words.altered(),
        _ => words.template(),
    }
}

/// One token, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A keyword or a name, folded.
    Word(String),
    /// A name in quotation marks.
    Quoted(String),
    /// Anything else.
    Other,
}

impl Token {
    fn name(self) -> Option<String> {
        match self {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            Token::Other => None,
        }
    }
}

/// What is left of a text.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn dropped(&mut self) -> Option<String> {
        let first = self.next()?;
        if first != Token::Word("if".to_owned()) {
            return first.name();
        }
        self.next()?; // EXISTS
        self.next()?.name()
    }

    fn altered(&mut self) -> Option<String> {
        let name = self.next()?.name()?;
        match self.word()?.as_str() {
            "rename" => Some(name),
            "set" => (self.word()? == "tablespace").then_some(name),
            _ => None,
        }
    }

    fn template(&mut self) -> Option<String> {
        self.next()?.name()?;
        while let Some(token) = self.next() {
            if token == Token::Word("template".to_owned()) {
                let named = match self.next()? {
                    Token::Other => self.next()?,
                    token => token,
                };
                return match named {
                    Token::Word(default) if default == "default" => Some("template1".to_owned()),
                    named => named.name(),
                };
            }
        }
        Some("template1".to_owned())
    }

    fn word(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<Token> {
        self.skip_space();
        let (&first, rest) = self.0.split_first()?;
        match first {
            b'"' => {
                let (name, after) = quoted(rest, b'"')?;
                self.0 = after;
                Some(Token::Quoted(name))
            }
            b'\'' => {
                self.0 = quoted(rest, b'\'')?.1;
                Some(Token::Other)
            }
            _ if is_word(first) => {
                let length = self.0.iter().take_while(|byte| is_word(**byte)).count();
                let (word, after) = self.0.split_at(length);
                self.0 = after;
                let folded = String::from_utf8_lossy(word).to_ascii_lowercase();
                Some(Token::Word(folded))
            }
            _ => {
                self.0 = rest;
                Some(Token::Other)
            }
        }
    }

    /// White space and comments; those between `/*` and `*/` nest.
    fn skip_space(&mut self) {
        loop {
            self.0 = self.0.trim_ascii_start();
            if self.0.starts_with(b"--") {
                let end = self.0.iter().position(|byte| *byte == b'\n');
                self.0 = &self.0[end.unwrap_or(self.0.len())..];
            } else if self.0.starts_with(b"/*") {
                self.skip_comment();
            } else {
                return;
            }
        }
    }

    fn skip_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            depth = match self.0 {
                [b'/', b'*', ..] => depth + 1,
                [b'*', b'/', ..] => depth - 1,
                [_, rest @ ..] => {
                    self.0 = rest;
                    continue;
                }
                [] => return,
            };
            self.0 = &self.0[2..];
            if depth == 0 {
                return;
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// The text up to the closing mark, doubled ones taken for one, and what comes after it.
fn quoted(text: &[u8], mark: u8) -> Option<(String, &[u8])> {
    let mut name = Vec::new();
    let mut rest = text;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if byte != mark {
            name.push(byte);
        } else if rest.first() == Some(&mark) {
            name.push(mark);
            rest = &rest[1..];
        } else {
            return Some((String::from_utf8_lossy(&name).into_owned(), rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_database_is_named() {
        for (text, expected) in [
            ("DROP DATABASE shop", "shop"),
            ("drop database if exists Shop;", "shop"),
            (
                "  -- a note\n/* and /* one */ more */ DROP DATABASE \"Sh\"\"op\" WITH (FORCE)",
                "Sh\"op",
            ),
            ("DROP DATABASE if_any", "if_any"),
            ("ALTER DATABASE a RENAME TO b", "a"),
            ("ALTER DATABASE \"A b\" SET TABLESPACE fast", "A b"),
            ("CREATE DATABASE b TEMPLATE a", "a"),
            (
                "CREATE DATABASE b WITH OWNER = o ENCODING 'UTF8' TEMPLATE = \"A\" LOCALE 'C'",
                "A",
            ),
            ("CREATE DATABASE b OWNER 'template x' TEMPLATE a", "a"),
            ("CREATE DATABASE b", "template1"),
            ("CREATE DATABASE b TEMPLATE DEFAULT", "template1"),
            ("CREATE DATABASE template TEMPLATE=a", "a"),
        ] {
            assert_eq!(
                vacated(text.as_bytes()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn everything_else_is_left_alone() {
        for text in [
            "",
            ";",
            "SELECT 'DROP DATABASE shop'",
            "DROP TABLE database",
            "CREATE TABLE database (template text)",
            "ALTER DATABASE a SET work_mem = 1",
            "ALTER DATABASE a OWNER TO b",
            "DELETE FROM t",
            "-- DROP DATABASE shop",
            "/* DROP DATABASE shop",
            "DROP DATABASE",
            "DROP DATABASE \"shop",
            "COMMENT ON DATABASE a IS 'drop'",
        ] {
            assert_eq!(vacated(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(tail in prop::collection::vec(any::<u8>(), 0..60), kind in 0_usize..4) {
            let start = [&b"DROP DATABASE "[..], b"create database x ", b"/*", b"alter database "][kind];
            let _ = vacated(&[start, &tail].concat());
        }
    }
}
