//! Calls of functions that leave something: `set_config` and the advisory locks of sessions.

use super::lexer::Token;

/// What a call of one of these functions does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `set_config(…, false)`: of this parameter, in lower case, or of one whose name is not in the text.
    SetConfig(Option<String>),
    /// `pg_advisory_lock` and its relatives, the `pg_try_…` ones included.
    Lock(Option<LockKey>),
    /// `pg_advisory_unlock` and its relative.
    Unlock(Option<LockKey>),
    /// `pg_advisory_unlock_all`.
    UnlockAll,
    /// Some of these, when a statement that is prepared is executed or rows of a cursor are fetched.
    Later,
}

/// Which advisory lock, as it is written: the same in two texts is the same lock, if the parameters are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockKey {
    /// The arguments' tokens, and whether it is shared.
    pub text: Vec<u8>,
    /// The arguments name parameters of the statement.
    pub parameters: bool,
}

/// Words that arguments may have and still be the same each time.
const STEADY: [&[u8]; 10] = [
    b"bigint",
    b"int",
    b"integer",
    b"int4",
    b"int8",
    b"text",
    b"varchar",
    b"hashtext",
    b"hashtextextended",
    b"pg_catalog",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    SetConfig,
    Lock { shared: bool },
    Unlock { shared: bool },
    UnlockAll,
}

impl Function {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"set_config" => Function::SetConfig,
            b"pg_advisory_lock" | b"pg_try_advisory_lock" => Function::Lock { shared: false },
            b"pg_advisory_lock_shared" | b"pg_try_advisory_lock_shared" => {
                Function::Lock { shared: true }
            }
            b"pg_advisory_unlock" => Function::Unlock { shared: false },
            b"pg_advisory_unlock_shared" => Function::Unlock { shared: true },
            b"pg_advisory_unlock_all" => Function::UnlockAll,
            _ => return None,
        })
    }
}

/// The calls of one statement.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) found: Vec<Call>,
    /// A name that could be a function's, if a parenthesis follows.
    named: Option<Function>,
    open: Option<Open>,
    /// A word was seen by which what stands in the statement need not be run once, and as it is.
    pub(super) unsteady: bool,
    /// The next word is a name that the statement gives.
    naming: bool,
    /// A name was written with escapes: it is any function's, if a parenthesis follows.
    escaped: bool,
    /// `set_config` is called, for the session or the transaction.
    pub(super) configures: bool,
}

/// A call under way.
#[derive(Debug)]
struct Open {
    function: Function,
    depth: u32,
    argument: usize,
    /// Tokens of this argument so far.
    tokens: usize,
    /// The first argument, if it is a literal and nothing else.
    first: Option<String>,
    /// The argument is the word `true` so far.
    is_true: bool,
    text: Vec<u8>,
    steady: bool,
    parameters: bool,
    /// Functions of these that are called among the arguments.
    nested: Vec<Function>,
}

impl Calls {
    pub(super) fn token(&mut self, token: Token<'_>) {
        if let Some(open) = &mut self.open {
            if open.token(token) {
                return;
            }
            if let Some(open) = self.open.take() {
                open.finish(&mut self.found);
            }
            return;
        }
        if std::mem::take(&mut self.escaped) && token == Token::Symbol(b'(') {
            self.found.extend([Call::SetConfig(None), Call::Lock(None)]);
            self.configures = true;
        }
        if let Some(function) = self.named.take() {
            if token == Token::Symbol(b'(') {
                self.configures |= function == Function::SetConfig;
                self.open = Some(Open::new(function));
                return;
            }
            self.unsteady = true;
        }
        match token {
            Token::Word(name) | Token::Quoted(name) => self.name(name),
            Token::Symbol(b',' | b'.' | b'(' | b')') => {}
            Token::Escaped if std::mem::take(&mut self.naming) => {}
            _ => {
                self.escaped = token == Token::Escaped;
                self.unsteady = true;
            }
        }
    }

    fn name(&mut self, name: &[u8]) {
        if std::mem::take(&mut self.naming) {
            return;
        }
        self.named = Function::named(name);
        self.naming = name == b"as";
        let known = self.named.is_some() || matches!(name, b"select" | b"as" | b"pg_catalog");
        self.unsteady |= !known;
    }

    /// The statement is over.
    pub(super) fn finish(mut self) -> Vec<Call> {
        if let Some(open) = self.open.take() {
            open.finish(&mut self.found);
        }
        let unsteady = self.unsteady;
        if unsteady {
            // How often a lock is taken or let go of cannot be told.
            for call in &mut self.found {
                if let Call::Lock(key) | Call::Unlock(key) = call {
                    *key = None;
                }
            }
            self.found.retain(|call| *call != Call::UnlockAll);
        }
        self.found
    }
}

impl Open {
    fn new(function: Function) -> Self {
        Self {
            function,
            depth: 0,
            argument: 0,
            tokens: 0,
            first: None,
            is_true: false,
            text: if shared(function) {
                b"shared ".to_vec()
            } else {
                Vec::new()
            },
            steady: true,
            parameters: false,
            nested: Vec::new(),
        }
    }

    /// False when the call is over.
    fn token(&mut self, token: Token<'_>) -> bool {
        match token {
            Token::Symbol(b')') if self.depth == 0 => return false,
            Token::Symbol(b',') if self.depth == 0 => {
                self.argument += 1;
                self.tokens = 0;
                self.is_true = false;
                self.text.push(b',');
                return true;
            }
            Token::Symbol(b'(') => self.depth += 1,
            Token::Symbol(b')') => self.depth -= 1,
            _ => {}
        }
        self.tokens += 1;
        self.first = match (self.argument, self.tokens, token) {
            (0, 1, Token::Literal(name, true)) => {
                Some(String::from_utf8_lossy(name).to_lowercase())
            }
            (0, ..) => None,
            _ => self.first.take(),
        };
        self.is_true = self.tokens == 1 && token == Token::Word(b"true");
        self.keep(token);
        true
    }

    fn keep(&mut self, token: Token<'_>) {
        let mut put = |kind: &[u8], text: &[u8]| {
            self.text.extend_from_slice(kind);
            self.text.extend_from_slice(text);
            self.text.push(b' ');
        };
        match token {
            Token::Literal(text, true) => put(b"'", text),
            Token::Number(text) => {
                put(b"", text);
                self.parameters |= text.first() == Some(&b'$');
            }
            Token::Symbol(symbol) => put(b"", &[symbol]),
            Token::Word(word) if STEADY.contains(&word) => put(b"", word),
            Token::Word(word) | Token::Quoted(word) => {
                self.steady = false;
                self.nested.extend(Function::named(word));
            }
            _ => self.steady = false,
        }
    }

    fn finish(self, found: &mut Vec<Call>) {
        for nested in self.nested {
            match nested {
                Function::SetConfig => found.push(Call::SetConfig(None)),
                Function::Lock { .. } => found.push(Call::Lock(None)),
                Function::Unlock { .. } | Function::UnlockAll => {}
            }
        }
        let key = self.steady.then_some(LockKey {
            text: self.text,
            parameters: self.parameters,
        });
        found.extend(match self.function {
            Function::SetConfig if self.argument == 2 && self.is_true => None,
            Function::SetConfig => Some(Call::SetConfig(self.first)),
            Function::Lock { .. } => Some(Call::Lock(key)),
            Function::Unlock { .. } => Some(Call::Unlock(key)),
            Function::UnlockAll => Some(Call::UnlockAll),
        });
    }
}

fn shared(function: Function) -> bool {
    matches!(
        function,
        Function::Lock { shared: true } | Function::Unlock { shared: true }
    )
}
