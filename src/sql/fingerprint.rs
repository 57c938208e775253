//! What queries have in common that differ in their literals only. `docs/fingerprints.md` has the rules.
//!
//! A text is hashed token by token, in one pass, without a copy. Literals count as one thing, so do lists of equal items
//! and of one item: each level of brackets has a hash of its own, and an item that equals the one before it adds nothing.
//! The same pass writes the text that is shown ([`super::normalise`]), so both agree about what was left out.

use std::fmt;

use super::naming::Naming;
use super::tokens::{Dialect, Kind, Token, Tokens};

/// Brackets deeper than this are hashed as they come.
const DEPTH: usize = 24;

/// FNV-1a's (64 bit).
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Names a kind of query: equal texts but for literals, white space, comments and the case of words have one, in every
/// version and on every machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

/// What one look at a text finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// There is a comment, which may hold tags.
    pub commented: bool,
}

/// One look at a statement's text. It allocates nothing and takes time in proportion to the text.
pub fn look(text: &[u8], dialect: Dialect) -> Look {
    walk(text, dialect, &mut Nothing)
}

/// Who is shown the tokens that count.
pub(super) trait Sink {
    /// A token as it is, and whether it begins a clause.
    fn token(&mut self, token: Token<'_>, keyword: bool);
    /// A literal, or something that is treated as one.
    fn literal(&mut self);
    /// A comma is about to come, so many brackets deep.
    fn comma(&mut self, depth: usize);
    /// What came since that comma equals what stood before it.
    fn repeated(&mut self, depth: usize);
}

struct Nothing;

impl Sink for Nothing {
    fn token(&mut self, _: Token<'_>, _: bool) {}
    fn literal(&mut self) {}
    fn comma(&mut self, _: usize) {}
    fn repeated(&mut self, _: usize) {}
}

/// The hash of one level of brackets.
#[derive(Debug, Clone, Copy)]
struct Level {
    list: u64,
    item: u64,
    /// The item before the last comma.
    before: Option<u64>,
}

const EMPTY: Level = Level {
    list: OFFSET,
    item: OFFSET,
    before: None,
};

/// What a token is hashed as, so that `a` and `'a'` differ.
#[derive(Clone, Copy)]
enum Tag {
    Word = 1,
    Literal = 2,
    Operator = 3,
    Symbol = 4,
    Brackets = 5,
    Item = 6,
}

struct Hasher {
    levels: [Level; DEPTH],
    depth: usize,
    /// Brackets beyond that.
    beyond: usize,
}

pub(super) fn walk(text: &[u8], dialect: Dialect, sink: &mut impl Sink) -> Look {
    let mut hasher = Hasher {
        levels: [EMPTY; DEPTH],
        depth: 0,
        beyond: 0,
    };
    let mut naming = Naming::default();
    let mut commented = false;
    // Whether a sign would be between two operands, and the signs that are not.
    let (mut operand, mut signs) = (false, Signs::default());
    let mut ends = 0_usize;
    for token in Tokens::new(text, dialect) {
        if token.kind == Kind::Comment {
            commented = true;
            continue;
        }
        // At the end of a statement they say nothing.
        if token.text == b";" {
            ends += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut ends) {
            std::mem::take(&mut signs).keep(&mut hasher, sink);
            operand = false;
            let (kind, text) = (Kind::Symbol, &b";"[..]);
            hasher.symbol(Token { kind, text }, sink);
        }
        if token.kind == Kind::Operator && !operand && matches!(token.text, b"-" | b"+") {
            signs.push(token.text == b"-");
            continue;
        }
        let mut folded = [0; 63];
        let word = fold(token, &mut folded);
        let value = match token.kind {
            Kind::Literal => {
                naming.on_literal();
                true
            }
            Kind::Quoted => naming.is_name(word, true),
            Kind::Word => naming.is_name(word, false) || naming.is_constant(word),
            _ => false,
        };
        let before = std::mem::take(&mut signs);
        if value {
            // The signs of a literal are part of it.
            hasher.token(Tag::Literal, b"");
            sink.literal();
            operand = true;
            continue;
        }
        before.keep(&mut hasher, sink);
        operand = match token.kind {
            Kind::Symbol => {
                hasher.symbol(token, sink);
                matches!(token.text, b")" | b"]")
            }
            Kind::Word if begins_clause(word) => {
                hasher.keyword(word, sink);
                sink.token(token, true);
                false
            }
            Kind::Word | Kind::Quoted => {
                hasher.token(Tag::Word, word);
                sink.token(token, false);
                true
            }
            Kind::Operator | Kind::Literal | Kind::Comment => {
                hasher.token(Tag::Operator, token.text);
                sink.token(token, false);
                false
            }
        };
    }
    signs.keep(&mut hasher, sink);
    Look {
        fingerprint: Fingerprint(hasher.finish(sink)),
        commented,
    }
}

/// Signs in front of something, of which it is not known yet whether it is a literal.
#[derive(Default)]
struct Signs {
    /// The last in the lowest bit; a minus is 1. More than 64 are as good as 64.
    minus: u64,
    count: u32,
}

impl Signs {
    fn push(&mut self, minus: bool) {
        self.minus = self.minus << 1 | u64::from(minus);
        self.count = (self.count + 1).min(u64::BITS);
    }

    fn keep(self, hasher: &mut Hasher, sink: &mut impl Sink) {
        for place in (0..self.count).rev() {
            let text: &[u8] = if self.minus >> place & 1 == 1 {
                b"-"
            } else {
                b"+"
            };
            hasher.token(Tag::Operator, text);
            let kind = Kind::Operator;
            sink.token(Token { kind, text }, false);
        }
    }
}

impl Hasher {
    #[inline]
    fn token(&mut self, tag: Tag, bytes: &[u8]) {
        let level = &mut self.levels[self.depth];
        level.item = mix(level.item, tag, bytes);
    }

    fn symbol(&mut self, token: Token<'_>, sink: &mut impl Sink) {
        match token.text {
            b"," => {
                self.end_item(sink);
                sink.comma(self.depth);
                sink.token(token, false);
            }
            b"(" | b"[" => {
                sink.token(token, false);
                if self.depth + 1 == DEPTH {
                    self.beyond += 1;
                    self.token(Tag::Symbol, token.text);
                } else {
                    self.depth += 1;
                    self.levels[self.depth] = EMPTY;
                }
            }
            b")" | b"]" if self.beyond == 0 && self.depth > 0 => {
                let list = self.end_list(sink);
                self.depth -= 1;
                self.token(Tag::Brackets, &list.to_le_bytes());
                self.token(Tag::Symbol, token.text);
                sink.token(token, false);
            }
            _ => {
                if matches!(token.text, b")" | b"]") {
                    self.beyond = self.beyond.saturating_sub(1);
                }
                self.token(Tag::Symbol, token.text);
                sink.token(token, false);
            }
        }
    }

    /// A word that begins a clause ends the list before it.
    fn keyword(&mut self, word: &[u8], sink: &mut impl Sink) {
        self.end_item(sink);
        let level = &mut self.levels[self.depth];
        level.list = mix(level.list, Tag::Word, word);
        level.before = None;
    }

    fn end_item(&mut self, sink: &mut impl Sink) {
        let level = &mut self.levels[self.depth];
        let item = std::mem::replace(&mut level.item, OFFSET);
        if level.before == Some(item) {
            return sink.repeated(self.depth);
        }
        if item != OFFSET || level.before.is_some() {
            level.list = mix(level.list, Tag::Item, &item.to_le_bytes());
        }
        level.before = Some(item);
    }

    fn end_list(&mut self, sink: &mut impl Sink) -> u64 {
        self.end_item(sink);
        self.levels[self.depth].list
    }

    fn finish(mut self, sink: &mut impl Sink) -> u64 {
        let mut list = self.end_list(sink);
        while self.depth > 0 {
            self.depth -= 1;
            self.token(Tag::Brackets, &list.to_le_bytes());
            list = self.end_list(sink);
        }
        list
    }
}

#[inline]
fn mix(hash: u64, tag: Tag, bytes: &[u8]) -> u64 {
    let mut hash = (hash ^ tag as u64).wrapping_mul(PRIME);
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    // Where one token ends and the next begins.
    (hash ^ 0xff).wrapping_mul(PRIME)
}

/// The name that a word stands for, and nothing for what is no word: in lower case if it is not quoted, as PostgreSQL folds ASCII, and no longer than its names are.
fn fold<'a>(token: Token<'a>, folded: &'a mut [u8; 63]) -> &'a [u8] {
    let text = token.text;
    match token.kind {
        Kind::Word => {
            let length = text.len().min(folded.len());
            let folded = &mut folded[..length];
            folded.copy_from_slice(&text[..length]);
            folded.make_ascii_lowercase();
            folded
        }
        Kind::Quoted => {
            let begin = memchr::memchr(b'"', text).map_or(0, |at| at + 1);
            let end = text.len().saturating_sub(1).max(begin);
            &text[begin..end]
        }
        _ => &[],
    }
}

/// Whether a word, in lower case, stands before a list or an expression, and so is no operand of a sign behind it.
fn begins_clause(word: &[u8]) -> bool {
    matches!(
        word,
        b"select"
            | b"from"
            | b"where"
            | b"group"
            | b"order"
            | b"by"
            | b"having"
            | b"limit"
            | b"offset"
            | b"values"
            | b"returning"
            | b"set"
            | b"using"
            | b"on"
            | b"and"
            | b"or"
            | b"not"
            | b"in"
            | b"is"
            | b"like"
            | b"ilike"
            | b"between"
            | b"case"
            | b"when"
            | b"then"
            | b"else"
            | b"join"
            | b"union"
            | b"intersect"
            | b"except"
            | b"all"
            | b"any"
            | b"some"
            | b"distinct"
            | b"with"
            | b"insert"
            | b"into"
            | b"update"
            | b"delete"
            | b"array"
            | b"window"
            | b"partition"
            | b"for"
            | b"fetch"
            | b"default"
            | b"as"
    )
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
