//! What the first words of a statement say. PostgreSQL's grammar (`src/backend/parser/gram.y`), as far as it matters here.

use super::classify::Action;
use super::lexer::{Lexer, Token};

/// A token that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Word(String),
    Quoted(String),
    Literal(String, bool),
    Symbol(u8),
    Opaque,
}

impl Piece {
    pub(super) fn of(token: Token<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match token {
            Token::Word(word) => Piece::Word(text(word)),
            Token::Quoted(name) => Piece::Quoted(text(name)),
            Token::Literal(literal, whole) => Piece::Literal(text(literal), whole),
            Token::Symbol(symbol) => Piece::Symbol(symbol),
            Token::Escaped | Token::Number(_) => Piece::Opaque,
        }
    }

    pub(super) fn word(word: &str) -> Self {
        Piece::Word(word.to_owned())
    }

    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Piece::Word(found) if found == word)
    }
}

/// Skips any of these words.
pub(super) fn skip<'a>(mut pieces: &'a [Piece], words: &[&str]) -> &'a [Piece] {
    while let Some((first, rest)) = pieces.split_first() {
        if !words.iter().any(|word| first.is(word)) {
            break;
        }
        pieces = rest;
    }
    pieces
}

/// A name that stands in front, as PostgreSQL knows it, and what follows.
pub(super) fn name(pieces: &[Piece]) -> Option<(String, &[Piece])> {
    let (first, rest) = pieces.split_first()?;
    match first {
        Piece::Word(name) | Piece::Quoted(name) => Some((name.clone(), rest)),
        // `U&"…"`: not known, and like no other.
        Piece::Opaque => Some(("\0".to_owned(), rest)),
        _ => None,
    }
}

/// A parameter's name, which may have dots.
pub(super) fn parameter(pieces: &[Piece]) -> Option<(String, &[Piece])> {
    let (mut found, mut rest) = name(pieces)?;
    while let Some((Piece::Symbol(b'.'), after)) = rest.split_first() {
        let (part, after) = name(after)?;
        found = format!("{found}.{part}");
        rest = after;
    }
    Some((found.to_lowercase(), rest))
}

pub(super) fn one_or_all(rest: &[Piece], action: fn(Option<String>) -> Action) -> Action {
    match name(rest) {
        Some(_) if rest[0].is("all") => action(None),
        Some((name, _)) => action(Some(name)),
        None => Action::Other,
    }
}

pub(super) fn set(rest: &[Piece]) -> Action {
    let local = rest.first().is_some_and(|word| word.is("local"));
    let session = rest.first().is_some_and(|word| word.is("session"));
    let second = |word: &str| rest.get(1).is_some_and(|piece| piece.is(word));
    let rest = match () {
        () if local => &rest[1..],
        () if session && second("characteristics") => return Action::SetCharacteristics,
        () if session && !second("authorization") => &rest[1..],
        () => rest,
    };
    let Some(first) = rest.first() else {
        return Action::Other;
    };
    if local || first.is("transaction") || first.is("constraints") {
        return Action::SetLocal;
    }
    let of = |name: &str, value: &[Piece], unset: &[&str]| {
        let unsets = value
            .first()
            .is_none_or(|value| unset.iter().any(|word| value.is(word)));
        match unsets {
            true => Action::Reset(name.to_owned()),
            false => Action::Set(name.to_owned()),
        }
    };
    let after = &rest[1..];
    let second = |word: &str| after.first().is_some_and(|piece| piece.is(word));
    match () {
        () if first.is("time") && second("zone") => {
            of("timezone", &after[1..], &["default", "local"])
        }
        () if first.is("xml") && second("option") => Action::Set("xmloption".to_owned()),
        () if first.is("session") && second("authorization") => {
            of("session_authorization", &after[1..], &["default"])
        }
        () if first.is("names") => of("client_encoding", after, &["default"]),
        () if first.is("schema") => Action::Set("search_path".to_owned()),
        () if first.is("role") && !matches!(after.first(), Some(Piece::Symbol(b'='))) => {
            let after = skip(after, &["to"]);
            match after.first() {
                Some(none) if none.is("none") => Action::NoRole,
                _ => of("role", after, &["default"]),
            }
        }
        () => {
            let Some((name, rest)) = parameter(rest) else {
                return Action::Other;
            };
            match rest {
                [to, default] if default.is("default") && !matches!(to, Piece::Symbol(b'.')) => {
                    Action::Reset(name)
                }
                _ => Action::Set(name),
            }
        }
    }
}

pub(super) fn reset(rest: &[Piece]) -> Action {
    match rest {
        [all] if all.is("all") => Action::ResetAll,
        [time, zone] if time.is("time") && zone.is("zone") => Action::Reset("timezone".to_owned()),
        [session, authorization] if session.is("session") && authorization.is("authorization") => {
            Action::Reset("session_authorization".to_owned())
        }
        [transaction, ..] if transaction.is("transaction") => Action::SetLocal,
        _ => parameter(rest).map_or(Action::Other, |(name, _)| Action::Reset(name)),
    }
}

pub(super) fn prepare(rest: &[Piece]) -> Action {
    match name(rest) {
        // A transaction that is prepared; a statement of that name has AS or a parenthesis behind it.
        Some((word, [Piece::Literal(..), ..])) if word == "transaction" => Action::Other,
        Some((name, _)) => Action::Prepare(name),
        None => Action::Other,
    }
}

pub(super) fn drop_tables(rest: &[Piece]) -> Action {
    let Some((table, rest)) = rest.split_first() else {
        return Action::Other;
    };
    let mut rest = skip(rest, &["if", "exists"]);
    let mut names = Vec::new();
    while let Some((found, after)) = name(rest) {
        names.push(found);
        match after.split_first() {
            Some((Piece::Symbol(b','), after)) => rest = after,
            Some((Piece::Symbol(_), _)) => return Action::Other,
            _ => break,
        }
    }
    match table.is("table") && !names.is_empty() {
        true => Action::DropTables(names),
        false => Action::Other,
    }
}

pub(super) fn rollback(rest: &[Piece]) -> Action {
    let rest = skip(rest, &["work", "transaction"]);
    match rest.split_first() {
        Some((to, rest)) if to.is("to") => {
            let rest = match rest {
                [savepoint, named, ..]
                    if savepoint.is("savepoint") && name(std::slice::from_ref(named)).is_some() =>
                {
                    &rest[1..]
                }
                _ => rest,
            };
            name(rest).map_or(Action::Other, |(name, _)| Action::RollbackTo(name))
        }
        _ => Action::Other,
    }
}

/// Words that make a block leave something, or that may run what does.
const IN_BLOCK: [&[u8]; 11] = [
    b"set",
    b"reset",
    b"set_config",
    b"temp",
    b"temporary",
    b"listen",
    b"load",
    b"hold",
    b"execute",
    b"perform",
    b"call",
];

/// Those of them that a block may have done, or may have run a function that did, when it fails after all: locks stay, and
/// what was committed does.
const SURVIVE: [&[u8]; 4] = [b"commit", b"execute", b"perform", b"call"];

/// A DO block. Its body is a literal, which is looked into here: coarsely, and when in doubt it leaves something.
pub(super) fn block(rest: &[Piece]) -> Action {
    let (mut suspicious, mut survives) = (false, false);
    for piece in rest {
        let Piece::Literal(body, whole) = piece else {
            continue;
        };
        suspicious |= !whole;
        survives |= !whole;
        let mut lexer = Lexer::default();
        let mut look = |token: Token<'_>| {
            let (leaves, lasts) = match token {
                Token::Word(word) | Token::Quoted(word) => {
                    let locks = memchr::memmem::find(word, b"advisory").is_some();
                    let leaves = IN_BLOCK.contains(&word) || word.starts_with(b"pg_temp");
                    (leaves || locks, locks || SURVIVE.contains(&word))
                }
                Token::Escaped => (true, true),
                _ => (false, false),
            };
            suspicious |= leaves;
            survives |= lasts;
        };
        lexer.feed(body.as_bytes(), &mut look);
        lexer.finish(&mut look);
    }
    if suspicious {
        Action::Do { survives }
    } else {
        Action::Other
    }
}
