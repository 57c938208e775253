//! PostgreSQL's tokens as pieces of a text that is there as a whole.
//!
//! [`lexer`](super::lexer) takes a text in pieces and copies what it keeps; here every token is a slice of the text, nothing
//! is copied, and what cannot be told apart is one opaque token to the end. Source: `src/backend/parser/scan.l`.

/// Encodings of clients in which a backslash may be a later byte of a character (mbutils.c, `PG_ENCODING_BE_LAST`). PostgreSQL
/// converts a text before it looks at it.
pub const TRAILING_BACKSLASH: [&str; 7] = [
    "SJIS",
    "BIG5",
    "GBK",
    "UHC",
    "GB18030",
    "JOHAB",
    "SHIFT_JIS_2004",
];

/// How the server reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// What a backslash is in `'…'`.
    backslash: Backslash,
    /// The second byte of a character may be one that means something by itself.
    trailing_ascii: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backslash {
    /// A character like any other: `standard_conforming_strings` is on.
    Plain,
    /// The beginning of an escape: it is off.
    Escape,
    /// Not known: a literal that has one is not understood.
    Unknown,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or keyword without quotes.
    Word,
    /// An identifier in quotes, with them.
    Quoted,
    /// A string, a number, a parameter, or whatever is not understood.
    Literal,
    /// An operator.
    Operator,
    /// Any other character, or `::`, `:=`, `..`, `=>`.
    Symbol,
    /// A comment, with its marks.
    Comment,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a [u8],
}

/// The tokens of a text, comments included.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
}

impl Dialect {
    /// As the server reported `standard_conforming_strings` and `client_encoding`; `None` is not known.
    pub fn reported(conforming: Option<&str>, encoding: Option<&str>) -> Self {
        // One that is not known may.
        let trailing = encoding.is_none_or(|name| {
            let mut known = TRAILING_BACKSLASH.iter();
            known.any(|known| name.eq_ignore_ascii_case(known))
        });
        Self {
            backslash: match conforming {
                Some("on") => Backslash::Plain,
                Some("off") => Backslash::Escape,
                _ => Backslash::Unknown,
            },
            trailing_ascii: trailing,
        }
    }
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a [u8], dialect: Dialect) -> Self {
        // A text ends at its first NUL, as PostgreSQL's does.
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        Self {
            text: &text[..end],
            at: 0,
            dialect,
        }
    }

    /// How far the text was read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The end of the identifier whose first byte is at the mark.
    fn word(&self) -> usize {
        let mut end = self.at + 1;
        if !self.dialect.trailing_ascii {
            let rest = self.text[end..].iter();
            return end + rest.take_while(|byte| in_word(**byte)).count();
        }
        end = self.at;
        while let Some(byte) = self.text.get(end) {
            match byte {
                0x80.. => end += 2,
                byte if in_word(*byte) => end += 1,
                _ => break,
            }
        }
        end.min(self.text.len())
    }

    /// The end of a string whose opening quote is at this place; the end of the text if it has none.
    fn string(&self, quote: usize, backslash: Backslash) -> usize {
        let mut at = quote + 1;
        loop {
            at = self.string_end(at, backslash);
            // Strings with a line end and nothing but white space between them are one.
            let rest = &self.text[at..];
            let blank = rest.iter().take_while(|byte| is_space(**byte)).count();
            let broken = rest[..blank]
                .iter()
                .any(|byte| matches!(byte, b'\n' | b'\r'));
            if !broken || rest.get(blank) != Some(&b'\'') {
                return at;
            }
            at += blank + 1;
        }
    }

    fn string_end(&self, from: usize, backslash: Backslash) -> usize {
        let (text, mut at) = (self.text, from);
        while at < text.len() {
            // Bytes beyond ASCII matter in few encodings only.
            if self.dialect.trailing_ascii && text[at] >= 0x80 {
                at += 2;
                continue;
            }
            if !self.dialect.trailing_ascii {
                let found = match backslash {
                    Backslash::Plain => memchr::memchr(b'\'', &text[at..]),
                    _ => memchr::memchr2(b'\'', b'\\', &text[at..]),
                };
                match found {
                    Some(found) => at += found,
                    None => return text.len(),
                }
            }
            match text[at] {
                b'\'' if text.get(at + 1) == Some(&b'\'') => at += 2,
                b'\'' => return at + 1,
                b'\\' if backslash == Backslash::Escape => at += 2,
                b'\\' if backslash == Backslash::Unknown => return text.len(),
                _ => at += 1,
            }
        }
        text.len()
    }

    /// The end of a dollar quote at the mark, if it is one.
    fn dollar(&self) -> Option<usize> {
        let rest = &self.text[self.at + 1..];
        let length = rest
            .iter()
            .position(|byte| !(in_word(*byte) && *byte != b'$'))?;
        if rest[length] != b'$' || rest.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let tag = &self.text[self.at..self.at + length + 2];
        let body = self.at + tag.len();
        let end = memchr::memmem::find(&self.text[body..], tag);
        Some(end.map_or(self.text.len(), |end| body + end + tag.len()))
    }

    /// The end of a number at the mark. Whatever follows it without a break is part of it.
    fn number(&self) -> usize {
        let (text, mut at) = (self.text, self.at);
        while let Some(byte) = text.get(at) {
            match byte {
                // `1..2` is a range of PL/pgSQL.
                b'.' if text.get(at + 1) == Some(&b'.') => break,
                b'+' | b'-' if is_exponent(&text[self.at..at]) => at += 1,
                b'.' | b'$' | b'_' | 0x80.. => at += 1,
                byte if byte.is_ascii_alphanumeric() => at += 1,
                _ => break,
            }
        }
        at
    }

    fn block_comment(&self) -> usize {
        let (mut at, mut depth) = (self.at + 2, 1_usize);
        while depth > 0 {
            let Some(found) = memchr::memchr2(b'*', b'/', &self.text[at.min(self.text.len())..])
            else {
                return self.text.len();
            };
            at += found;
            match (self.text[at], self.text.get(at + 1)) {
                (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
                (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
                _ => at += 1,
            }
        }
        at
    }

    /// The end of an operator at the mark. It ends where a comment begins, and with a sign only if it has a character that no
    /// operator of arithmetic has.
    fn operator(&self) -> usize {
        let rest = &self.text[self.at..];
        let mut length = rest.iter().take_while(|byte| is_operator(**byte)).count();
        for at in 1..length {
            if matches!(rest.get(at..at + 2), Some(b"--" | b"/*")) {
                length = at;
                break;
            }
        }
        let special = |byte: &u8| b"~!@#%^&|`?".contains(byte);
        while length > 1
            && matches!(rest[length - 1], b'+' | b'-')
            && !rest[..length - 1].iter().any(special)
        {
            length -= 1;
        }
        self.at + length
    }

    fn quoted(&self, quote: usize) -> usize {
        let mut at = quote + 1;
        while let Some(found) = memchr::memchr(b'"', &self.text[at.min(self.text.len())..]) {
            at += found + 1;
            if self.text.get(at) != Some(&b'"') {
                return at;
            }
            at += 1;
        }
        self.text.len()
    }

    /// A string with a letter or two before its quote, or a quoted identifier with `U&` before it.
    fn prefixed(&self) -> Option<(Kind, usize)> {
        let (one, two, three) = (self.peek(0), self.peek(1), self.peek(2));
        let conforming = self.dialect.backslash;
        match (one, two, three) {
            (b'e' | b'E', b'\'', _) => {
                Some((Kind::Literal, self.string(self.at + 1, Backslash::Escape)))
            }
            (b'b' | b'B' | b'x' | b'X', b'\'', _) => {
                Some((Kind::Literal, self.string(self.at + 1, Backslash::Plain)))
            }
            (b'n' | b'N', b'\'', _) => Some((Kind::Literal, self.string(self.at + 1, conforming))),
            // Refused where backslashes are escapes.
            (b'u' | b'U', b'&', b'\'') => {
                Some((Kind::Literal, self.string(self.at + 2, conforming)))
            }
            (b'u' | b'U', b'&', b'"') => Some((Kind::Quoted, self.quoted(self.at + 2))),
            _ => None,
        }
    }

    fn token(&self) -> (Kind, usize) {
        let (byte, next) = (self.peek(0), self.peek(1));
        match byte {
            b'\'' => (Kind::Literal, self.string(self.at, self.dialect.backslash)),
            b'"' => {
                let end = self.quoted(self.at);
                let whole = end > self.at + 1 && self.text[end - 1] == b'"';
                (if whole { Kind::Quoted } else { Kind::Literal }, end)
            }
            b'0'..=b'9' => (Kind::Literal, self.number()),
            b'.' if next.is_ascii_digit() => (Kind::Literal, self.number()),
            b'$' if next.is_ascii_digit() => (Kind::Literal, self.at + 1 + self.digits()),
            b'$' => match self.dollar() {
                Some(end) => (Kind::Literal, end),
                None => (Kind::Symbol, self.at + 1),
            },
            b'-' if next == b'-' => {
                let end = memchr::memchr2(b'\n', b'\r', &self.text[self.at..]);
                let end = end.map_or(self.text.len(), |end| self.at + end);
                (Kind::Comment, end)
            }
            b'/' if next == b'*' => (Kind::Comment, self.block_comment()),
            b':' if matches!(next, b':' | b'=') => (Kind::Symbol, self.at + 2),
            b'.' if next == b'.' => (Kind::Symbol, self.at + 2),
            b'=' if next == b'>' && !is_operator(self.peek(2)) => (Kind::Symbol, self.at + 2),
            byte if is_operator(byte) => (Kind::Operator, self.operator()),
            byte if begins_word(byte) => match self.prefixed() {
                Some(found) => found,
                None => (Kind::Word, self.word()),
            },
            _ => (Kind::Symbol, self.at + 1),
        }
    }

    /// Whatever follows the `$` of a parameter without a break.
    fn digits(&self) -> usize {
        let rest = self.text[self.at + 1..].iter();
        rest.take_while(|byte| in_word(**byte)).count()
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    #[inline]
    fn next(&mut self) -> Option<Token<'a>> {
        while is_space(self.peek(0)) {
            self.at += 1;
        }
        if self.at >= self.text.len() {
            return None;
        }
        let (kind, end) = self.token();
        let text = &self.text[self.at..end];
        self.at = end;
        Some(Token { kind, text })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?".contains(&byte)
}

/// Whether a sign may follow: `1e` of `1e-5`, and not of `0x1e`.
fn is_exponent(number: &[u8]) -> bool {
    let Some((b'e' | b'E', mantissa)) = number.split_last() else {
        return false;
    };
    mantissa
        .iter()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Dialect = Dialect {
        backslash: Backslash::Plain,
        trailing_ascii: false,
    };

    fn texts(text: &[u8], dialect: Dialect) -> Vec<String> {
        Tokens::new(text, dialect)
            .map(|token| String::from_utf8_lossy(token.text).into_owned())
            .collect()
    }

    #[track_caller]
    fn tokens(text: &str, expected: &[&str]) {
        assert_eq!(texts(text.as_bytes(), PLAIN), expected, "{text}");
    }

    #[test]
    fn strings_of_every_kind_are_one_token() {
        tokens("'a''b' x", &["'a''b'", "x"]);
        tokens(r"'a\' x", &[r"'a\'", "x"]);
        tokens(r"E'a\'b' x", &[r"E'a\'b'", "x"]);
        tokens(
            "b'01'X'ff'n'x' U&'a' y",
            &["b'01'", "X'ff'", "n'x'", "U&'a'", "y"],
        );
        tokens("'a' \n 'b' x", &["'a' \n 'b'", "x"]);
        tokens("'a' 'b'", &["'a'", "'b'"]);
        tokens("$$a'b$$ $t$ $$ $t$ x", &["$$a'b$$", "$t$ $$ $t$", "x"]);
        tokens("$1 $2::text", &["$1", "$2", "::", "text"]);
        tokens("a$1$ b", &["a$1$", "b"]);
    }

    #[test]
    fn what_has_no_end_is_one_token_to_the_end() {
        for text in ["'a; b c", "E'a\\' b", "$x$ a b", "\"a b", "/* a /* b */ c"] {
            let whole = format!("x {text}");
            tokens(&whole, &["x", text]);
        }
    }

    #[test]
    fn a_backslash_is_what_the_server_says() {
        let text = br"'a\' d' c";
        let of = |conforming| texts(text, Dialect::reported(conforming, Some("UTF8")));
        assert_eq!(of(Some("on")), [r"'a\'", "d", "' c"]);
        assert_eq!(of(Some("off")), [r"'a\' d'", "c"]);
        assert_eq!(of(None), [r"'a\' d' c"]);
    }

    #[test]
    fn the_second_byte_of_a_character_means_nothing() {
        // In SJIS, 0x83 0x5c is one character.
        let text = b"'\x83\x5c' x";
        let of = |encoding| {
            let dialect = Dialect::reported(Some("off"), Some(encoding));
            Tokens::new(text, dialect).count()
        };
        assert_eq!((of("SJIS"), of("UTF8")), (2, 1));
    }

    #[test]
    fn numbers_in_every_notation() {
        for number in [
            "0", "12.5", ".5", "1e10", "1.5E-7", "1e+3", "0x1F", "0b101", "1_000", "123abc", "5.",
        ] {
            tokens(&format!("a={number},b"), &["a", "=", number, ",", "b"]);
        }
        tokens("1..2", &["1", "..", "2"]);
        tokens("0x1e-5", &["0x1e", "-", "5"]);
    }

    #[test]
    fn operators_end_where_postgresqls_do() {
        tokens("a=-1", &["a", "=", "-", "1"]);
        tokens("a@-1", &["a", "@-", "1"]);
        tokens("a->>'b'", &["a", "->>", "'b'"]);
        tokens("a*/*c*/b", &["a", "*", "/*c*/", "b"]);
        tokens("a<--b", &["a", "<", "--b"]);
        tokens("f(x=>1)", &["f", "(", "x", "=>", "1", ")"]);
    }

    #[test]
    fn comments_nest() {
        tokens(
            "a /* b /* c */ d */ e -- f\n g",
            &["a", "/* b /* c */ d */", "e", "-- f", "g"],
        );
    }

    #[test]
    fn a_text_ends_at_its_nul() {
        assert_eq!(texts(b"a\0 b", PLAIN), ["a"]);
    }
}
