//! What a text leaves behind in its session.
//!
//! A light look, not a parser: the first words of each statement, and names of functions wherever they are called. Words in
//! literals and comments do not count. What is not understood is said to be so, by [`Action::Other`]: whoever asks goes by
//! the command tag then, and counts an unknown one as leaving something. What a function of the database hides is seen
//! by nobody.

use super::calls::{Call, Calls};
use super::lexer::{Lexer, Token};
use super::plain::is_plain;

/// The first tokens of a statement tell what it does.
const HEAD: usize = 24;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it does.
    pub action: Action,
    /// What the functions do that it calls.
    pub calls: Vec<Call>,
    /// It names temporary objects where new ones are looked for first: what is created later may be temporary.
    pub temporary_path: bool,
}

/// What a statement does to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing that lasts, or nothing that is known of here.
    Other,
    /// Sets a parameter for the session. The name is in lower case.
    Set(String),
    /// Sets a parameter, or leaves others as they are, for the transaction only.
    SetLocal,
    /// SET SESSION CHARACTERISTICS: some parameters.
    SetCharacteristics,
    /// Gives a parameter its default.
    Reset(String),
    /// Gives all their defaults.
    ResetAll,
    /// LISTEN.
    Listen(String),
    /// UNLISTEN, of all without a name.
    Unlisten(Option<String>),
    /// Makes a temporary object; a table of this name.
    Temporary(Option<String>),
    /// Makes another object, which is temporary if the search path begins with that schema.
    Create,
    /// Drops tables of these names.
    DropTables(Vec<String>),
    /// DECLARE … WITH HOLD.
    HoldCursor(String),
    /// CLOSE, of all without a name.
    Close(Option<String>),
    /// PREPARE.
    Prepare(String),
    /// DEALLOCATE, of all without a name.
    Deallocate(Option<String>),
    /// LOAD.
    Load,
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD TEMP.
    DiscardTemporary,
    /// SAVEPOINT.
    Savepoint(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// DO, with a body that says a word of the kind that leaves something.
    Do,
}

/// What was found in a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Its statements.
    pub statements: Vec<Statement>,
    /// With `standard_conforming_strings` off the text says something else.
    pub backslash: bool,
}

impl Found {
    fn leaves_nothing(&self) -> bool {
        let nothing = |statement: &Statement| {
            statement.action == Action::Other
                && statement.calls.is_empty()
                && !statement.temporary_path
        };
        self.statements.iter().all(nothing) && !self.backslash
    }

    /// Itself, if it says anything.
    fn worth_telling(self) -> Option<Self> {
        (!self.leaves_nothing()).then_some(self)
    }
}

/// What a whole text leaves, with or without the NUL behind it; `None` for one that leaves nothing by its words.
pub fn classify(text: &[u8]) -> Option<Found> {
    if is_plain(text) {
        return None;
    }
    let mut scan = Scan::default();
    scan.feed(text);
    scan.finish()
}

/// The same look at a text that comes in pieces.
#[derive(Debug, Default)]
pub struct Scan {
    lexer: Lexer,
    text: Text,
}

impl Scan {
    /// Looks at the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let text = &mut self.text;
        self.lexer.feed(piece, &mut |token| text.token(token));
    }

    /// What the whole of it leaves.
    pub fn finish(mut self) -> Option<Found> {
        let text = &mut self.text;
        self.lexer.finish(&mut |token| text.token(token));
        text.end();
        let found = Found {
            statements: std::mem::take(&mut text.statements),
            backslash: self.lexer.had_backslash(),
        };
        found.worth_telling()
    }
}

/// The statements of a text, as its tokens come.
#[derive(Debug, Default)]
struct Text {
    statements: Vec<Statement>,
    current: Current,
}

/// The statement under way.
#[derive(Debug, Default)]
struct Current {
    head: Vec<Piece>,
    calls: Calls,
    depth: u32,
    /// The last two words, to know a few phrases by.
    last: [Phrase; 2],
    /// The table of a SELECT INTO is temporary.
    into_temporary: bool,
    on_commit_drop: bool,
    with_hold: bool,
    /// An identifier, or a literal, that begins with `pg_temp`.
    names_temporary: bool,
    /// TEMP or TEMPORARY after CREATE, anywhere.
    creates_temporary: bool,
    /// How deep in BEGIN ATOMIC … END.
    atomic: u32,
}

/// A token that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Word(String),
    Quoted(String),
    Literal(String, bool),
    Symbol(u8),
    Opaque,
}

/// A word of a phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phrase {
    #[default]
    Other,
    Insert,
    Into,
    On,
    Commit,
    With,
    Create,
    /// LOCAL or GLOBAL.
    Scope,
    Begin,
}

impl Phrase {
    fn of(word: &[u8]) -> Self {
        match word {
            b"insert" | b"merge" => Phrase::Insert,
            b"into" => Phrase::Into,
            b"on" => Phrase::On,
            b"commit" => Phrase::Commit,
            b"with" => Phrase::With,
            b"create" => Phrase::Create,
            b"local" | b"global" => Phrase::Scope,
            b"begin" => Phrase::Begin,
            _ => Phrase::Other,
        }
    }
}

impl Text {
    fn token(&mut self, token: Token<'_>) {
        let current = &mut self.current;
        match token {
            Token::Symbol(b';') if current.depth == 0 && current.atomic == 0 => return self.end(),
            Token::Symbol(b'(') => current.depth += 1,
            Token::Symbol(b')') => current.depth = current.depth.saturating_sub(1),
            _ => {}
        }
        current.token(token);
    }

    /// A statement is over. An empty one has no answer of its own.
    fn end(&mut self) {
        let current = std::mem::take(&mut self.current);
        if !current.head.is_empty() {
            self.statements.push(current.finish());
        }
    }
}

impl Current {
    fn token(&mut self, token: Token<'_>) {
        if self.head.len() < HEAD {
            self.head.push(Piece::of(token));
        }
        if !self.makes_routine() {
            self.calls.token(token);
        }
        let [before, last] = self.last;
        let phrase = match token {
            Token::Word(word) => {
                self.word(word, before, last);
                Phrase::of(word)
            }
            Token::Quoted(name) => {
                self.names_temporary |= name.starts_with(b"pg_temp");
                self.into_temporary |= last == Phrase::Into
                    && before != Phrase::Insert
                    && name.starts_with(b"pg_temp");
                Phrase::Other
            }
            Token::Escaped => {
                self.names_temporary = true;
                self.into_temporary |= last == Phrase::Into && before != Phrase::Insert;
                Phrase::Other
            }
            Token::Literal(text, _) => {
                self.names_temporary |= memchr::memmem::find(text, b"pg_temp").is_some();
                Phrase::Other
            }
            _ => Phrase::Other,
        };
        self.last = [last, phrase];
    }

    fn word(&mut self, word: &[u8], before: Phrase, last: Phrase) {
        let temporary = matches!(word, b"temp" | b"temporary");
        self.names_temporary |= word.starts_with(b"pg_temp");
        if last == Phrase::Into && before != Phrase::Insert {
            self.into_temporary |=
                temporary || matches!(word, b"local" | b"global") || word.starts_with(b"pg_temp");
        }
        let after_create =
            last == Phrase::Create || last == Phrase::Scope || self.is_after_or_replace();
        self.creates_temporary |= temporary && after_create;
        match word {
            b"drop" => self.on_commit_drop |= before == Phrase::On && last == Phrase::Commit,
            b"hold" => self.with_hold |= last == Phrase::With,
            // A body in SQL (PostgreSQL 14) has semicolons of its own.
            b"atomic" if last == Phrase::Begin && self.makes_routine() => self.atomic = 1,
            b"begin" | b"case" if self.atomic > 0 => self.atomic += 1,
            b"end" => self.atomic = self.atomic.saturating_sub(1),
            _ => {}
        }
    }

    fn is_after_or_replace(&self) -> bool {
        // The word itself stands in the head already.
        matches!(self.head.as_slice(), [_, or, replace, _] if or.is("or") && replace.is("replace"))
    }

    /// CREATE FUNCTION and the like: what its body calls is not called now.
    fn makes_routine(&self) -> bool {
        let mut head = self.head.iter();
        if !head.next().is_some_and(|word| word.is("create")) {
            return false;
        }
        let mut kind = head.next();
        if kind.is_some_and(|word| word.is("or")) {
            kind = head.nth(1);
        }
        kind.is_some_and(|word| word.is("function") || word.is("procedure"))
    }

    fn finish(self) -> Statement {
        let (action, temporary_path) = self.action();
        Statement {
            action,
            calls: self.calls.finish(),
            temporary_path,
        }
    }

    fn action(&self) -> (Action, bool) {
        let head = &self.head[..];
        let Some(Piece::Word(verb)) = head.first() else {
            return (self.query(), false);
        };
        let rest = &head[1..];
        let action = match verb.as_str() {
            "set" => set(rest),
            "reset" => reset(rest),
            "listen" => name(rest).map_or(Action::Other, |(name, _)| Action::Listen(name)),
            "unlisten" => Action::Unlisten(name(rest).map(|(name, _)| name)),
            "load" => Action::Load,
            "prepare" => prepare(rest),
            "deallocate" => {
                let rest = rest.strip_prefix(&[Piece::word("prepare")]).unwrap_or(rest);
                one_or_all(rest, Action::Deallocate)
            }
            "close" => one_or_all(rest, Action::Close),
            "declare" if self.with_hold => match name(rest) {
                Some((name, _)) => Action::HoldCursor(name),
                None => Action::Other,
            },
            "discard" => match rest.first() {
                Some(word) if word.is("all") => Action::DiscardAll,
                Some(word) if word.is("temp") || word.is("temporary") => Action::DiscardTemporary,
                _ => Action::Other,
            },
            "create" => self.create(rest),
            "drop" => drop_tables(rest),
            "savepoint" => name(rest).map_or(Action::Other, |(name, _)| Action::Savepoint(name)),
            "release" => {
                let rest = skip(rest, &["savepoint"]);
                name(rest).map_or(Action::Other, |(name, _)| Action::Release(name))
            }
            "rollback" | "abort" => rollback(rest),
            "do" => block(rest),
            _ => self.query(),
        };
        let path = self.names_temporary && (verb == "set" || self.calls.configures);
        (action, path)
    }

    /// What reads and writes rows, and all that is not known.
    fn query(&self) -> Action {
        if self.into_temporary || self.creates_temporary {
            Action::Temporary(None)
        } else {
            Action::Other
        }
    }

    fn create(&self, rest: &[Piece]) -> Action {
        if self.makes_routine() && !self.names_temporary {
            return Action::Other;
        }
        if !self.creates_temporary && !self.names_temporary {
            return Action::Create;
        }
        if self.on_commit_drop {
            return Action::Other;
        }
        let rest = skip(rest, &["global", "local", "temp", "temporary"]);
        let Some((table, rest)) = rest.split_first() else {
            return Action::Temporary(None);
        };
        let rest = skip(rest, &["if", "not", "exists"]);
        let named = name(rest).filter(|(_, rest)| rest.first() != Some(&Piece::Symbol(b'.')));
        match named {
            Some((name, _)) if table.is("table") && self.creates_temporary => {
                Action::Temporary(Some(name))
            }
            _ => Action::Temporary(None),
        }
    }
}

impl Piece {
    fn of(token: Token<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match token {
            Token::Word(word) => Piece::Word(text(word)),
            Token::Quoted(name) => Piece::Quoted(text(name)),
            Token::Literal(literal, whole) => Piece::Literal(text(literal), whole),
            Token::Symbol(symbol) => Piece::Symbol(symbol),
            Token::Escaped | Token::Number(_) => Piece::Opaque,
        }
    }

    fn word(word: &str) -> Self {
        Piece::Word(word.to_owned())
    }

    fn is(&self, word: &str) -> bool {
        matches!(self, Piece::Word(found) if found == word)
    }
}

/// Skips any of these words.
fn skip<'a>(mut pieces: &'a [Piece], words: &[&str]) -> &'a [Piece] {
    while let Some((first, rest)) = pieces.split_first() {
        if !words.iter().any(|word| first.is(word)) {
            break;
        }
        pieces = rest;
    }
    pieces
}

/// A name that stands in front, as PostgreSQL knows it, and what follows.
fn name(pieces: &[Piece]) -> Option<(String, &[Piece])> {
    let (first, rest) = pieces.split_first()?;
    match first {
        Piece::Word(name) | Piece::Quoted(name) => Some((name.clone(), rest)),
        // `U&"…"`: not known, and like no other.
        Piece::Opaque => Some(("\0".to_owned(), rest)),
        _ => None,
    }
}

/// A parameter's name, which may have dots.
fn parameter(pieces: &[Piece]) -> Option<(String, &[Piece])> {
    let (mut found, mut rest) = name(pieces)?;
    while let Some((Piece::Symbol(b'.'), after)) = rest.split_first() {
        let (part, after) = name(after)?;
        found = format!("{found}.{part}");
        rest = after;
    }
    Some((found.to_lowercase(), rest))
}

fn one_or_all(rest: &[Piece], action: fn(Option<String>) -> Action) -> Action {
    match name(rest) {
        Some(_) if rest[0].is("all") => action(None),
        Some((name, _)) => action(Some(name)),
        None => Action::Other,
    }
}

fn set(rest: &[Piece]) -> Action {
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
            of("role", after, &["none", "default"])
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

fn reset(rest: &[Piece]) -> Action {
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

fn prepare(rest: &[Piece]) -> Action {
    match name(rest) {
        // A transaction that is prepared; a statement of that name has AS or a parenthesis behind it.
        Some((word, [Piece::Literal(..), ..])) if word == "transaction" => Action::Other,
        Some((name, _)) => Action::Prepare(name),
        None => Action::Other,
    }
}

fn drop_tables(rest: &[Piece]) -> Action {
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

fn rollback(rest: &[Piece]) -> Action {
    let rest = skip(rest, &["work", "transaction"]);
    match rest.split_first() {
        Some((to, rest)) if to.is("to") => {
            let rest = match rest {
                [savepoint, named, ..]
                    if savepoint.is("savepoint") && name(&[named.clone()]).is_some() =>
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

/// A DO block. Its body is a literal, which is looked into here: coarsely, and when in doubt it leaves something.
fn block(rest: &[Piece]) -> Action {
    let mut suspicious = false;
    for piece in rest {
        let Piece::Literal(body, whole) = piece else {
            continue;
        };
        suspicious |= !whole;
        let mut lexer = Lexer::default();
        let mut look = |token: Token<'_>| {
            suspicious |= match token {
                Token::Word(word) | Token::Quoted(word) => {
                    IN_BLOCK.contains(&word)
                        || word.starts_with(b"pg_temp")
                        || memchr::memmem::find(word, b"advisory").is_some()
                }
                Token::Escaped => true,
                _ => false,
            };
        };
        lexer.feed(body.as_bytes(), &mut look);
        lexer.finish(&mut look);
    }
    if suspicious {
        Action::Do
    } else {
        Action::Other
    }
}

#[cfg(test)]
mod tests;
