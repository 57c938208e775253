//! PostgreSQL's tokens, as far as a light look needs them.
//!
//! A state machine over bytes, so that a text may come in pieces of any size: what it finds does not depend on where they
//! are cut. Comments nest, literals are told apart (`'…'`, `E'…'`, `$tag$…$tag$`), identifiers are folded as PostgreSQL
//! folds ASCII. Source: `src/backend/parser/scan.l`.

/// Longer identifiers are cut, as PostgreSQL does (`NAMEDATALEN`).
const NAME: usize = 63;

/// So much of a literal is kept; the bodies of most DO blocks fit.
const LITERAL: usize = 8192;

/// A token. White space and comments are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier or keyword without quotes, in lower case.
    Word(&'a [u8]),
    /// An identifier in quotes, without them.
    Quoted(&'a [u8]),
    /// An identifier whose characters may be written as escapes (`U&"…"`): what it names is not known.
    Escaped,
    /// A literal without its quotes, as it was written; and whether this is all of it.
    Literal(&'a [u8], bool),
    /// A number or a parameter (`$1`).
    Number(&'a [u8]),
    /// Any other byte.
    Symbol(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Between,
    Word,
    Number,
    /// In `'…'`; with backslashes as escapes or without.
    Literal {
        escapes: bool,
    },
    /// Behind a backslash in one with escapes.
    Backslash,
    /// Behind a `'` in a literal: another one is a quote in it.
    LiteralQuote {
        escapes: bool,
    },
    /// In `"…"`, and whether it has escapes.
    Identifier {
        escapes: bool,
    },
    IdentifierQuote {
        escapes: bool,
    },
    /// Behind `U&`.
    Unicode,
    /// Behind a `$`, in what may be a dollar quote's tag.
    DollarTag,
    /// In `$tag$…`, behind so many bytes of a closing tag.
    Dollar {
        matched: usize,
    },
    Minus,
    Slash,
    LineComment,
    /// So deep in comments.
    BlockComment {
        depth: u32,
    },
    BlockStar {
        depth: u32,
    },
    BlockSlash {
        depth: u32,
    },
    /// Behind the NUL that ends a text.
    Over,
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    state: State,
    /// The token under way.
    text: Vec<u8>,
    /// Not all of it is kept.
    cut: bool,
    /// The dollar quote's tag, with both of its dollars.
    tag: Vec<u8>,
    /// A literal without `E` had a backslash: with `standard_conforming_strings` off it would end elsewhere.
    backslash: bool,
    /// A backslash was taken for one that stands behind a byte beyond ASCII: in some encodings it is half of a character.
    trailing: bool,
    /// The last byte of the literal under way is beyond ASCII.
    beyond: bool,
}

impl Lexer {
    /// Looks at the next piece.
    pub(super) fn feed(&mut self, piece: &[u8], sink: &mut impl FnMut(Token<'_>)) {
        let mut at = 0;
        while at < piece.len() {
            at += self.step(&piece[at..], sink);
        }
    }

    /// The text is over.
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(Token<'_>)) {
        self.feed(&[0], sink);
    }

    /// Whether a literal without `E` had a backslash.
    pub(super) fn had_backslash(&self) -> bool {
        self.backslash
    }

    /// Whether a backslash that means something stands behind a byte beyond ASCII.
    pub(super) fn had_trailing_backslash(&self) -> bool {
        self.trailing
    }

    /// Looks at what stands in front; returns how many bytes of it are done with. None are where the state changes only.
    fn step(&mut self, piece: &[u8], sink: &mut impl FnMut(Token<'_>)) -> usize {
        let byte = piece[0];
        match self.state {
            State::Over => return piece.len(),
            State::Between => return self.begin(byte, sink),
            State::Word => {
                let length = piece.iter().take_while(|byte| in_word(**byte)).count();
                if length == 0 {
                    return self.end_word(byte, sink);
                }
                self.keep_folded(&piece[..length]);
                return length;
            }
            State::Number => {
                if byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' {
                    self.keep(&[byte], NAME);
                    return 1;
                }
                self.emit(|text, _| Token::Number(text), sink);
                return 0;
            }
            State::Literal { escapes } => return self.literal(piece, escapes),
            State::Backslash => {
                self.keep(&[byte], LITERAL);
                self.state = State::Literal { escapes: true };
            }
            State::LiteralQuote { escapes } => {
                if byte != b'\'' {
                    self.emit(|text, whole| Token::Literal(text, whole), sink);
                    return 0;
                }
                self.keep(b"'", LITERAL);
                self.state = State::Literal { escapes };
            }
            State::Identifier { escapes } => {
                let length = memchr::memchr(b'"', piece).unwrap_or(piece.len());
                self.keep(&piece[..length], NAME);
                if length < piece.len() {
                    self.state = State::IdentifierQuote { escapes };
                    return length + 1;
                }
                return length;
            }
            State::IdentifierQuote { escapes } => {
                if byte != b'"' {
                    if escapes {
                        self.emit(|_, _| Token::Escaped, sink);
                    } else {
                        self.emit(|text, _| Token::Quoted(text), sink);
                    }
                    return 0;
                }
                self.keep(b"\"", NAME);
                self.state = State::Identifier { escapes };
            }
            State::Unicode => return self.unicode(byte, sink),
            State::DollarTag => return self.dollar_tag(byte, sink),
            State::Dollar { matched } => return self.dollar(piece, matched, sink),
            State::Minus if byte == b'-' => self.state = State::LineComment,
            State::Slash if byte == b'*' => self.state = State::BlockComment { depth: 1 },
            State::Minus => return self.symbol(b'-', sink),
            State::Slash => return self.symbol(b'/', sink),
            State::LineComment => {
                let end = memchr::memchr3(b'\n', b'\r', 0, piece);
                if end.is_some() {
                    self.state = State::Between;
                }
                return end.unwrap_or(piece.len());
            }
            State::BlockComment { depth } => {
                let Some(at) = memchr::memchr3(b'*', b'/', 0, piece) else {
                    return piece.len();
                };
                self.state = match piece[at] {
                    b'*' => State::BlockStar { depth },
                    b'/' => State::BlockSlash { depth },
                    _ => State::Over,
                };
                return at + 1;
            }
            State::BlockStar { depth } => match byte {
                b'/' if depth == 1 => self.state = State::Between,
                b'/' => self.state = State::BlockComment { depth: depth - 1 },
                b'*' => {}
                _ => {
                    self.state = State::BlockComment { depth };
                    return 0;
                }
            },
            State::BlockSlash { depth } => {
                let depth = depth.saturating_add(u32::from(byte == b'*'));
                let again = byte != b'*';
                self.state = State::BlockComment { depth };
                return usize::from(!again);
            }
        }
        1
    }

    /// A token, or white space, begins with this byte.
    fn begin(&mut self, byte: u8, sink: &mut impl FnMut(Token<'_>)) -> usize {
        self.text.clear();
        self.cut = false;
        match byte {
            0 => self.state = State::Over,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {}
            b'\'' => self.state = State::Literal { escapes: false },
            b'"' => self.state = State::Identifier { escapes: false },
            b'$' => self.state = State::DollarTag,
            b'-' => self.state = State::Minus,
            b'/' => self.state = State::Slash,
            b'0'..=b'9' => {
                self.text.push(byte);
                self.state = State::Number;
            }
            _ if in_word(byte) => {
                self.state = State::Word;
                return 0;
            }
            _ => sink(Token::Symbol(byte)),
        }
        1
    }

    /// A word is over. One letter before a quote says how the literal is written.
    fn end_word(&mut self, byte: u8, sink: &mut impl FnMut(Token<'_>)) -> usize {
        match (self.text.as_slice(), byte) {
            (b"e", b'\'') => self.state = State::Literal { escapes: true },
            (b"n" | b"b" | b"x", b'\'') => self.state = State::Literal { escapes: false },
            (b"u", b'&') => self.state = State::Unicode,
            _ => {
                self.emit(|text, _| Token::Word(text), sink);
                return 0;
            }
        }
        self.text.clear();
        1
    }

    fn unicode(&mut self, byte: u8, sink: &mut impl FnMut(Token<'_>)) -> usize {
        match byte {
            b'\'' => self.state = State::Literal { escapes: false },
            b'"' => self.state = State::Identifier { escapes: true },
            _ => {
                sink(Token::Word(b"u"));
                return self.symbol(b'&', sink);
            }
        }
        1
    }

    fn literal(&mut self, piece: &[u8], escapes: bool) -> usize {
        let end = memchr::memchr3(b'\'', b'\\', 0, piece);
        let length = end.unwrap_or(piece.len());
        self.keep(&piece[..length], LITERAL);
        let beyond = match piece[..length].last() {
            Some(last) => *last >= 128,
            None => self.beyond,
        };
        self.beyond = false;
        match piece.get(length) {
            None => {
                self.beyond = beyond;
                return length;
            }
            Some(b'\'') => self.state = State::LiteralQuote { escapes },
            Some(b'\\') if escapes => {
                self.trailing |= beyond;
                self.state = State::Backslash;
            }
            Some(b'\\') => {
                self.backslash = true;
                self.keep(b"\\", LITERAL);
            }
            Some(_) => self.state = State::Over,
        }
        length + 1
    }

    fn dollar_tag(&mut self, byte: u8, sink: &mut impl FnMut(Token<'_>)) -> usize {
        let first = self.text.is_empty();
        match byte {
            b'$' => {
                self.tag.clear();
                self.tag.push(b'$');
                self.tag.extend_from_slice(&self.text);
                self.tag.push(b'$');
                self.text.clear();
                self.state = State::Dollar { matched: 0 };
            }
            b'0'..=b'9' if first => {
                self.text.extend_from_slice(&[b'$', byte]);
                self.state = State::Number;
            }
            // A tag is not cut: it must be found again as it is. What is longer is no tag that anybody writes.
            _ if in_word(byte) && self.text.len() < LITERAL => self.text.push(byte),
            _ => {
                sink(Token::Symbol(b'$'));
                if first {
                    self.state = State::Between;
                } else {
                    self.text.make_ascii_lowercase();
                    self.state = State::Word;
                }
                return 0;
            }
        }
        1
    }

    fn dollar(&mut self, piece: &[u8], matched: usize, sink: &mut impl FnMut(Token<'_>)) -> usize {
        let byte = piece[0];
        if matched == 0 {
            let length = memchr::memchr2(b'$', 0, piece).unwrap_or(piece.len());
            self.keep(&piece[..length], LITERAL);
            match piece.get(length) {
                None => return length,
                Some(0) => self.state = State::Over,
                Some(_) => self.state = State::Dollar { matched: 1 },
            }
            return length + 1;
        }
        if byte == self.tag[matched] {
            if matched + 1 == self.tag.len() {
                self.emit(|text, whole| Token::Literal(text, whole), sink);
            } else {
                self.state = State::Dollar {
                    matched: matched + 1,
                };
            }
            return 1;
        }
        // What was taken for the closing tag is text. A dollar here may begin the tag.
        let tag = std::mem::take(&mut self.tag);
        self.keep(&tag[..matched], LITERAL);
        self.tag = tag;
        self.state = State::Dollar { matched: 0 };
        0
    }

    fn symbol(&mut self, symbol: u8, sink: &mut impl FnMut(Token<'_>)) -> usize {
        sink(Token::Symbol(symbol));
        self.state = State::Between;
        0
    }

    fn emit(
        &mut self,
        token: impl FnOnce(&[u8], bool) -> Token<'_>,
        sink: &mut impl FnMut(Token<'_>),
    ) {
        sink(token(&self.text, !self.cut));
        self.text.clear();
        self.cut = false;
        self.state = State::Between;
    }

    fn keep(&mut self, bytes: &[u8], most: usize) {
        let room = most - self.text.len().min(most);
        self.cut |= bytes.len() > room;
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn keep_folded(&mut self, bytes: &[u8]) {
        let start = self.text.len();
        self.keep(bytes, NAME);
        self.text[start..].make_ascii_lowercase();
    }
}

/// Whether a byte may stand in an identifier. Those beyond ASCII all may.
fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 128..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lexer = Lexer::default();
        let mut sink = |token: Token<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.push(match token {
                Token::Word(word) => text(word),
                Token::Quoted(name) => format!("\"{}\"", text(name)),
                Token::Escaped => "U&".to_owned(),
                Token::Literal(literal, _) => format!("'{}'", text(literal)),
                Token::Number(number) => format!("#{}", text(number)),
                Token::Symbol(symbol) => char::from(symbol).to_string(),
            });
        };
        for piece in pieces {
            lexer.feed(piece, &mut sink);
        }
        lexer.finish(&mut sink);
        found
    }

    #[test]
    fn tokens_are_told_apart() {
        for (text, expected) in [
            ("SET x = 1", "set|x|=|#1"),
            ("a--b\nc", "a|c"),
            ("a/* x /* y */ 'z' */b", "a|b"),
            ("a/***/b/**//c", "a|b|/|c"),
            ("a - -b", "a|-|-|b"),
            ("'it''s'';'x", "'it's';'|x"),
            (r"'a\' E'a\'b' x", r"'a\'|'a'b'|x"),
            ("e 'a' B'1' n'x'", "e|'a'|'1'|'x'"),
            ("\"A\"\"b\" Ab", "\"A\"b\"|ab"),
            ("U&\"d\\0061t\" U&'x' u & v", "U&|'x'|u|&|v"),
            ("$$a;$b$$ x", "'a;$b'|x"),
            ("$q$a$$b$q$c", "'a$$b'|c"),
            ("$q$ $q $q$", "' $q '"),
            ("$1 a$1 $ $a b", "#$1|a$1|$|$|a|b"),
            ("1.5e3 ABC\0 never", "#1.5e3|abc"),
            ("'open", ""),
        ] {
            assert_eq!(tokens(&[text.as_bytes()]).join("|"), expected, "{text}");
            // Byte by byte.
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(tokens(&bytes).join("|"), expected, "{text}");
        }
    }
}
