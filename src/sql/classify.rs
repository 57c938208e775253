//! What a text leaves behind in its session.
//!
//! A light look, not a parser: the first words of each statement, and names of functions wherever they are called. Words in
//! literals and comments do not count. What is not understood is said to be so, by [`Action::Other`]: whoever asks goes by
//! the command tag then, and counts an unknown one as leaving something. What a function of the database hides is seen
//! by nobody.

use super::calls::{Call, Calls};
use super::head::{
    Piece, block, drop_tables, name, one_or_all, prepare, reset, rollback, set, skip,
};
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
    /// SET ROLE NONE.
    NoRole,
    /// SAVEPOINT.
    Savepoint(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// DO, with a body that says a word of the kind that leaves something.
    Do {
        /// Or one by which some of it may be there though the block failed.
        survives: bool,
    },
}

/// What was found in a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Its statements.
    pub statements: Vec<Statement>,
    /// With `standard_conforming_strings` off the text says something else.
    pub backslash: bool,
    /// Where the second byte of a character may be a backslash, the text says something else.
    pub trailing: bool,
}

impl Found {
    fn leaves_nothing(&self) -> bool {
        let nothing = |statement: &Statement| {
            statement.action == Action::Other
                && statement.calls.is_empty()
                && !statement.temporary_path
        };
        self.statements.iter().all(nothing) && !self.backslash && !self.trailing
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
            trailing: self.lexer.had_trailing_backslash(),
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
            self.into_temporary |= temporary || word.starts_with(b"pg_temp");
        }
        // LOCAL alone is a table's name.
        self.into_temporary |= temporary && before == Phrase::Into && last == Phrase::Scope;
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
        let later =
            matches!(self.head.first(), Some(verb) if verb.is("prepare") || verb.is("declare"));
        let mut calls = self.calls.finish();
        if later && !calls.is_empty() {
            calls = vec![Call::Later];
        }
        Statement {
            action,
            calls,
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

#[cfg(test)]
mod tests;
